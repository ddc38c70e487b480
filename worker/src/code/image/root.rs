//! What a tree needs to be a sandbox's root, whatever the image has: it is mounted read-only and can grow nothing later.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Directories that something is mounted on or put into. A link in their place would lead out of the tree while it is made.
const DIRECTORIES: [&str; 4] = ["proc", "dev", "tmp", "etc"];

/// Makes the tree complete.
pub(super) fn complete(root: &Path) -> io::Result<()> {
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    for name in DIRECTORIES {
        let path = root.join(name);
        if !kind(&path)?.is_some_and(|kind| kind.is_dir()) {
            super::overlay::remove(&path)?;
            fs::create_dir(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
    }
    // The worker's own is mounted over it, so it must be a file; images have it as a link, or not at all.
    let resolv_conf = root.join("etc/resolv.conf");
    if !kind(&resolv_conf)?.is_some_and(|kind| kind.is_file()) {
        super::overlay::remove(&resolv_conf)?;
        fs::write(&resolv_conf, "")?;
    }
    let hosts = root.join("etc/hosts");
    if kind(&hosts)?.is_none() {
        fs::write(&hosts, "127.0.0.1 localhost\n::1 localhost\n")?;
    }
    Ok(())
}

fn kind(path: &Path) -> io::Result<Option<fs::FileType>> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta.file_type())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_mounted_on_is_there_and_is_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        for path in [&root, &outside] {
            fs::create_dir(path).unwrap();
        }
        symlink(&outside, root.join("etc")).unwrap();
        symlink("/proc", root.join("proc")).unwrap();
        fs::write(root.join("tmp"), "a file").unwrap();
        complete(&root).unwrap();
        for name in DIRECTORIES {
            assert!(
                fs::symlink_metadata(root.join(name)).unwrap().is_dir(),
                "{name}"
            );
        }
        assert_eq!(
            fs::read_dir(&outside).unwrap().count(),
            0,
            "nothing is written through a link"
        );
        symlink("../run/resolv.conf", root.join("etc/link")).unwrap();
        fs::remove_file(root.join("etc/resolv.conf")).unwrap();
        symlink("/run/resolv.conf", root.join("etc/resolv.conf")).unwrap();
        fs::write(root.join("etc/hosts"), "own").unwrap();
        complete(&root).unwrap();
        assert!(
            fs::symlink_metadata(root.join("etc/resolv.conf"))
                .unwrap()
                .is_file()
        );
        assert_eq!(fs::read_to_string(root.join("etc/hosts")).unwrap(), "own");
    }
}
