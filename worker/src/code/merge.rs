//! The layers of a function as one tree: later ones over earlier ones, by hard links, so that a file is on disk and in the
//! page cache once however many functions have its layer.
//!
//! Every tree is the cache's own and was unpacked by its rules; no symbolic link is followed all the same.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hearth_core::function::CodeRef;
use hearth_core::ids::Digest;
use sha2::Digest as _;

/// The name of a tree of several layers: a digest of theirs, in order. Not the digest of any archive.
pub(crate) fn merged_digest(layers: &[CodeRef]) -> Digest {
    let mut hash = sha2::Sha256::new_with_prefix(b"hearth layers\n");
    for layer in layers {
        hash.update(layer.digest.0);
    }
    Digest(hash.finalize().into())
}

/// Puts the trees into the empty directory `target`, one over the other. Returns the bytes of what is seen.
pub(crate) fn merge(trees: &[PathBuf], target: &Path) -> io::Result<u64> {
    for tree in trees {
        lay_over(tree, target)?;
    }
    super::tree_bytes(target)
}

fn lay_over(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        let there = match fs::symlink_metadata(&target) {
            Ok(meta) => Some(meta),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let is_directory = there.as_ref().map(fs::Metadata::is_dir);
        match (kind.is_dir(), is_directory) {
            (_, None) | (true, Some(true)) => {}
            (false, Some(true)) => fs::remove_dir_all(&target)?,
            (_, Some(false)) => fs::remove_file(&target)?,
        }
        if kind.is_dir() {
            if is_directory != Some(true) {
                fs::create_dir(&target)?;
                fs::set_permissions(&target, entry.metadata()?.permissions())?;
            }
            lay_over(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &target)?;
        } else {
            fs::hard_link(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(dir: &Path, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = dir.join(name);
        fs::create_dir(&root).unwrap();
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn later_layers_lie_over_earlier_ones_whatever_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tree(dir.path(), "outside", &[("kept", "safe")]);
        let first = tree(
            dir.path(),
            "1",
            &[("a/x", "1"), ("a/y", "1"), ("file", "1"), ("dir/in", "1")],
        );
        std::os::unix::fs::symlink(&outside, first.join("link")).unwrap();
        let second = tree(
            dir.path(),
            "2",
            &[
                ("a/x", "22"),
                ("file/now", "2"),
                ("dir", "2"),
                ("link/kept", "2"),
            ],
        );
        let target = tree(dir.path(), "target", &[]);
        let bytes = merge(&[first.clone(), second], &target).unwrap();
        let read = |path: &str| fs::read_to_string(target.join(path)).unwrap();
        for (path, content) in [
            ("a/x", "22"),
            ("a/y", "1"),
            ("file/now", "2"),
            ("dir", "2"),
            ("link/kept", "2"),
        ] {
            assert_eq!(read(path), content, "{path}");
        }
        assert_eq!(bytes, 6);
        assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "safe");
        assert_eq!(
            fs::read_to_string(first.join("a/x")).unwrap(),
            "1",
            "a layer is never changed"
        );
    }

    #[test]
    fn the_order_is_part_of_the_name() {
        let layer = |byte| CodeRef {
            digest: Digest([byte; 32]),
            size_bytes: 1,
            unpacked_bytes: 1,
            image: None,
        };
        let (a, b) = (layer(1), layer(2));
        let ab = merged_digest(&[a.clone(), b.clone()]);
        assert_ne!(ab, merged_digest(&[b, a.clone()]));
        assert_ne!(merged_digest(std::slice::from_ref(&a)), a.digest);
    }
}
