//! What every root has and no package brings: directories, users, names, the bundle of certificates, a shell.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::install::{InstallError, disk, write};

/// Directories a root must have, as a sandbox's root is read-only and cannot grow any.
const DIRECTORIES: [&str; 14] = [
    "dev",
    "etc",
    "home",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "usr",
    "var/task",
    "var/runtime",
];

/// `/usr` is merged in Debian since 12, and the links are made by its installer, not by a package.
pub(super) const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// What a root can do without: it is never changed, and nobody reads manuals in it.
const USELESS: [&str; 5] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/lintian",
];

/// Extensions listen for telemetry at the sandbox's own names.
pub(super) const HOSTS: &str =
    "127.0.0.1 localhost sandbox sandbox.localdomain sandbox.local\n::1 localhost\n";

/// Users of a sandbox.
const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/bash\nsbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nsbx_group:x:990:\n";

/// An empty root that packages can be unpacked into.
pub(super) fn make_skeleton(root: &Path) -> Result<(), InstallError> {
    for dir in DIRECTORIES {
        let path = root.join(dir);
        fs::create_dir_all(&path).map_err(disk(&path))?;
    }
    for name in MERGED {
        let (link, target) = (root.join(name), format!("usr/{name}"));
        let real = root.join(&target);
        fs::create_dir_all(&real).map_err(disk(&real))?;
        symlink(&target, &link).map_err(disk(&link))?;
    }
    Ok(())
}

/// What the packages' scripts, which are not run, would have left.
pub(super) fn settle(root: &Path) -> Result<(), InstallError> {
    for (path, content) in [
        ("etc/passwd", PASSWD),
        ("etc/group", GROUP),
        ("etc/hosts", HOSTS),
        ("etc/nsswitch.conf", "hosts: files dns\n"),
        ("etc/hostname", "lambda\n"),
    ] {
        write(&root.join(path), content.as_bytes())?;
    }
    // A mount of the host's own needs something to be mounted on.
    write(&root.join("etc/resolv.conf"), b"")?;
    // As on Amazon Linux; `os.system` of any language runs it.
    link_if_free(root, "usr/bin/sh", "bash")?;
    bundle_certificates(root)
}

/// Makes a link unless something is there.
fn link_if_free(root: &Path, path: &str, target: &str) -> Result<(), InstallError> {
    let link = root.join(path);
    if fs::symlink_metadata(&link).is_ok() {
        return Ok(());
    }
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent).map_err(disk(parent))?;
    }
    symlink(target, &link).map_err(disk(&link))
}

/// Removes what only people read.
pub(super) fn slim(root: &Path) -> Result<(), InstallError> {
    for useless in USELESS {
        let path = root.join(useless);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(disk(&path))?;
        }
    }
    Ok(())
}

/// As `update-ca-certificates` would.
fn bundle_certificates(root: &Path) -> Result<(), InstallError> {
    let dir = root.join("usr/share/ca-certificates/mozilla");
    let Ok(entries) = fs::read_dir(&dir) else {
        return Ok(());
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut bundle = Vec::new();
    for path in paths {
        bundle.extend(fs::read(&path).map_err(disk(&path))?);
        if bundle.last() != Some(&b'\n') {
            bundle.push(b'\n');
        }
    }
    write(&root.join("etc/ssl/certs/ca-certificates.crt"), &bundle)?;
    // Where Debian's OpenSSL looks when nobody tells it another place.
    link_if_free(
        root,
        "usr/lib/ssl/cert.pem",
        "/etc/ssl/certs/ca-certificates.crt",
    )
}

/// A root whose `/lib64` is no link does not start.
pub(super) fn keep_merged(root: &Path) -> Result<(), InstallError> {
    for name in MERGED {
        let path = root.join(name);
        let meta = fs::symlink_metadata(&path).map_err(disk(&path))?;
        if !meta.is_symlink() {
            return Err(InstallError::Step {
                step: format!("unpacking into {}", root.display()),
                output: format!("/{name} became a directory"),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_has_what_a_sandbox_needs() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        make_skeleton(root).unwrap();
        write(&root.join("usr/share/ca-certificates/mozilla/b.crt"), b"B").unwrap();
        write(
            &root.join("usr/share/ca-certificates/mozilla/a.crt"),
            b"A\n",
        )
        .unwrap();
        write(&root.join("usr/bin/bash"), b"").unwrap();
        write(&root.join("usr/share/doc/x"), b"").unwrap();
        settle(root).unwrap();
        slim(root).unwrap();
        for path in [
            "proc",
            "dev",
            "tmp",
            "var/task",
            "opt",
            "etc/passwd",
            "lib64/../lib",
            "bin/sh",
        ] {
            assert!(root.join(path).exists(), "{path}");
        }
        assert!(!root.join("usr/share/doc").exists());
        keep_merged(root).unwrap();
        let bundle = fs::read(root.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
        assert_eq!(bundle, b"A\nB\n");
    }
}
