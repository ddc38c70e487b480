//! One layer over what is below it, by hard links (OCI image specification, "Applying Changesets"). Whiteouts take away what is
//! below, never what is in the same layer, so they come first.
//!
//! Layers are never changed and hold nothing that leads out: [`super::layer`] made them. No link is followed here.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A file with this before its name takes that name away.
pub(super) const WHITEOUT: &str = ".wh.";
/// A file of this name takes away everything that is below its directory.
pub(super) const OPAQUE: &str = ".wh..wh..opq";

/// What a name in a layer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// An entry of the image.
    Plain,
    /// Everything below this directory is taken away.
    Opaque,
    /// This name is taken away.
    Whiteout(&'a OsStr),
    /// Bookkeeping of a driver that nobody has any more.
    Ignored,
    /// A whiteout of nothing, or of the directory itself or its parent.
    Bad,
}

/// See [`Meaning`].
pub(super) fn meaning(name: &OsStr) -> Meaning<'_> {
    let Some(taken) = name.as_bytes().strip_prefix(WHITEOUT.as_bytes()) else {
        return Meaning::Plain;
    };
    match taken {
        _ if name == OPAQUE => Meaning::Opaque,
        _ if taken.starts_with(WHITEOUT.as_bytes()) => Meaning::Ignored,
        b"" | b"." | b".." => Meaning::Bad,
        _ => Meaning::Whiteout(OsStr::from_bytes(taken)),
    }
}

/// Lays the tree `from` over the directory `to`.
pub(super) fn lay_over(from: &Path, to: &Path) -> io::Result<()> {
    let entries = fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
    if entries.iter().any(|entry| entry.file_name() == OPAQUE) {
        for entry in fs::read_dir(to)? {
            remove(&entry?.path())?;
        }
    }
    for entry in &entries {
        if let Meaning::Whiteout(name) = meaning(&entry.file_name()) {
            remove(&to.join(name))?;
        }
    }
    for entry in &entries {
        if meaning(&entry.file_name()) == Meaning::Plain {
            put(entry, &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn put(entry: &fs::DirEntry, target: &Path) -> io::Result<()> {
    let kind = entry.file_type()?;
    if kind.is_dir() {
        let is_there = fs::symlink_metadata(target).is_ok_and(|meta| meta.is_dir());
        if !is_there {
            remove(target)?;
            fs::create_dir(target)?;
        }
        fs::set_permissions(target, entry.metadata()?.permissions())?;
        return lay_over(&entry.path(), target);
    }
    remove(target)?;
    if kind.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(entry.path())?, target);
    }
    match fs::hard_link(entry.path(), target) {
        // So many images have this very file that the file system can link it no more.
        Err(error) if error.raw_os_error() == Some(libc::EMLINK) => {
            fs::copy(entry.path(), target).map(drop)
        }
        linked => linked,
    }
}

/// Takes away whatever is there, if anything is.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn tree(dir: &Path, name: &str, files: &[(&str, &str)]) -> std::path::PathBuf {
        let root = dir.join(name);
        fs::create_dir(&root).unwrap();
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn files(root: &Path, below: &str, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(root.join(below)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{below}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                files(root, &format!("{path}/"), found);
            } else {
                found.insert(path, fs::read_to_string(entry.path()).unwrap());
            }
        }
    }

    #[test]
    fn whiteouts_take_away_what_is_below_and_never_what_is_beside_them() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let below = tree(
            dir,
            "below",
            &[
                ("a/x", "1"),
                ("a/y", "1"),
                ("b/deep/z", "1"),
                ("c", "1"),
                ("d/k", "1"),
            ],
        );
        let middle = tree(
            dir,
            "middle",
            &[
                ("a/.wh.x", ""),
                (".wh.b", ""),
                ("d/.wh..wh..opq", ""),
                ("d/new", "2"),
                (".wh..wh.plnk", ""),
                ("a/.wh.none", ""),
            ],
        );
        let top = tree(
            dir,
            "top",
            &[("b/w", "3"), (".wh.c", ""), ("c/in", "3"), ("a/y", "3")],
        );
        let root = tree(dir, "root", &[]);
        for layer in [&below, &middle, &top] {
            lay_over(layer, &root).unwrap();
        }
        let mut found = BTreeMap::new();
        files(&root, "", &mut found);
        let expected = [("a/y", "3"), ("b/w", "3"), ("c/in", "3"), ("d/new", "2")];
        assert_eq!(
            found,
            expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
        );
        assert_eq!(
            fs::read_to_string(below.join("a/y")).unwrap(),
            "1",
            "layers are never changed"
        );
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(
            inode(&top.join("a/y")),
            inode(&root.join("a/y")),
            "a file is on disk once"
        );
    }

    #[test]
    fn nothing_is_written_or_taken_away_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let outside = tree(dir, "outside", &[("kept", "safe")]);
        let below = tree(dir, "below", &[]);
        symlink(&outside, below.join("link")).unwrap();
        symlink(&outside, below.join("gone")).unwrap();
        let top = tree(
            dir,
            "top",
            &[
                ("link/kept", "bad"),
                ("link/.wh.kept", ""),
                (".wh.gone", ""),
            ],
        );
        let root = tree(dir, "root", &[]);
        for layer in [&below, &top] {
            lay_over(layer, &root).unwrap();
        }
        assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "safe");
        assert!(
            !root.join("gone").exists()
                && !fs::symlink_metadata(root.join("link"))
                    .unwrap()
                    .is_symlink()
        );
    }

    #[test]
    fn names_of_whiteouts_never_lead_out_of_their_directory() {
        let of = |name: &'static str| meaning(OsStr::new(name));
        for bad in [".wh.", ".wh..", ".wh..."] {
            assert_eq!(of(bad), Meaning::Bad, "{bad}");
        }
        assert_eq!(of(".wh...."), Meaning::Whiteout(OsStr::new("...")));
        assert_eq!(of(OPAQUE), Meaning::Opaque);
        assert_eq!(of(".wh..wh.aufs"), Meaning::Ignored);
        assert_eq!((of(".whx"), of("wh.x")), (Meaning::Plain, Meaning::Plain));
    }
}
