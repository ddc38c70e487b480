//! Looks into an image's tree as a program inside would: absolute links lead to the tree's own root, never to the host's.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, fstat};

fn stat(root: &Path, path: &str) -> Option<FileStat> {
    let root = File::open(root).ok()?;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let found = openat2(root.as_fd(), path, how).ok()?;
    fstat(&found).ok()
}

/// Whether an absolute path is a directory in the tree.
pub(crate) fn has_directory(root: &Path, path: &str) -> bool {
    stat(root, path).is_some_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// Where a program is, as a shell would find it: a name with a slash is a path, another is looked for in `PATH`. `Err`: the text of
/// what is wrong, as Go words it. Whether a path can be executed is the kernel's to say.
pub(crate) fn find_program(
    root: &Path,
    program: &str,
    search: &str,
    working_dir: &str,
) -> Result<String, String> {
    if program.starts_with('/') {
        return Ok(program.to_owned());
    }
    if program.contains('/') {
        return Ok(format!("{}/{program}", working_dir.trim_end_matches('/')));
    }
    let directories = search
        .split(':')
        .filter(|directory| directory.starts_with('/'));
    let mut candidates =
        directories.map(|directory| format!("{}/{program}", directory.trim_end_matches('/')));
    let is_program = |path: &String| {
        stat(root, path).is_some_and(|stat| {
            stat.st_mode & libc::S_IFMT == libc::S_IFREG && stat.st_mode & 0o111 != 0
        })
    };
    candidates
        .find(is_program)
        .ok_or_else(|| format!("exec: \"{program}\": executable file not found in $PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn links_lead_within_the_tree_and_names_are_searched_for() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::create_dir_all(root.join("opt/deep")).unwrap();
        fs::write(root.join("opt/deep/python"), "").unwrap();
        fs::write(root.join("usr/bin/text"), "").unwrap();
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(root.join("opt/deep/python"), executable).unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        symlink("/opt/deep/python", root.join("usr/bin/python")).unwrap();
        // The host has these.
        symlink("/bin/sh", root.join("usr/bin/sh")).unwrap();
        symlink("../../../../../../../../etc", root.join("out")).unwrap();
        let find = |program: &str| find_program(root, program, "relative:/none:/bin/", "/w/");
        assert_eq!(find("python").unwrap(), "/bin/python");
        assert_eq!(find("/any/where").unwrap(), "/any/where");
        assert_eq!(find("./run").unwrap(), "/w/./run");
        for missing in ["sh", "text", "ruby", ""] {
            let error = find(missing).unwrap_err();
            assert!(
                error.ends_with("executable file not found in $PATH"),
                "{error}"
            );
        }
        assert!(has_directory(root, "/opt/deep") && has_directory(root, "/bin"));
        for none in ["/out", "/etc", "/usr/bin/text", "/proc/self/root"] {
            assert!(!has_directory(root, none), "{none}");
        }
    }
}
