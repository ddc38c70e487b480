//! Where a group's segments are: `<account>/<group>/<number>.log`. The group's name is percent-encoded, all of it but letters,
//! digits, `-` and `_`, so that no name is `..` or has a separator. One that is longer than a file's name may be is several
//! folders; all but the last end with `+`, which no encoded name has, so that no group's folder is within another's.

use std::path::{Path, PathBuf};

use hearth_core::logs::GroupName;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::event::GroupKey;

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');
/// Bytes of an encoded name in one folder's: file systems have 255 at most.
const FOLDER_BYTES: usize = 200;
/// Of a folder whose name goes on in the next.
pub(crate) const CONTINUED: char = '+';
const EXTENSION: &str = ".log";

/// The folder of a group's segments.
pub(crate) fn group(root: &Path, key: &GroupKey) -> PathBuf {
    let encoded = utf8_percent_encode(key.group.as_str(), ESCAPED).to_string();
    let mut path = root.join(key.account.as_str());
    let mut rest = encoded.as_str();
    // Encoded names are ASCII.
    while let Some((folder, left)) = rest.split_at_checked(FOLDER_BYTES)
        && !left.is_empty()
    {
        path.push(format!("{folder}{CONTINUED}"));
        rest = left;
    }
    path.push(rest);
    path
}

/// A segment's file.
pub(crate) fn segment(root: &Path, key: &GroupKey, seq: u64) -> PathBuf {
    group(root, key).join(format!("{seq:016x}{EXTENSION}"))
}

/// The number of a segment, if it is the name of one.
pub(crate) fn seq_of(file: &str) -> Option<u64> {
    let digits = file.strip_suffix(EXTENSION)?;
    let seq = u64::from_str_radix(digits, 16).ok()?;
    (format!("{seq:016x}") == digits).then_some(seq)
}

/// The group whose encoded name the folders have, if they are as they were made here.
pub(crate) fn name_of(folders: &[String]) -> Option<GroupName> {
    let (last, continued) = folders.split_last()?;
    let mut encoded = String::new();
    for folder in continued {
        encoded.push_str(folder.strip_suffix(CONTINUED)?);
    }
    encoded.push_str(last);
    let name = percent_decode_str(&encoded).decode_utf8().ok()?;
    (utf8_percent_encode(&name, ESCAPED).to_string() == encoded)
        .then(|| name.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(name: &str) -> GroupKey {
        GroupKey {
            account: "123456789012".parse().unwrap(),
            group: name.parse().unwrap(),
        }
    }

    /// Folders below the account's.
    fn folders(name: &str) -> Vec<String> {
        let path = group(Path::new("/r"), &key(name));
        let below = path.strip_prefix("/r/123456789012").unwrap();
        let part = |part: std::path::Component<'_>| {
            assert!(matches!(part, std::path::Component::Normal(_)));
            part.as_os_str().to_str().unwrap().to_owned()
        };
        below.components().map(part).collect()
    }

    #[test]
    fn hostile_names_stay_within_the_directory() {
        assert_eq!(folders("/aws/lambda/f_1-a"), ["%2Faws%2Flambda%2Ff_1-a"]);
        assert_eq!(folders(".."), ["%2E%2E"]);
        assert_eq!(folders("../../etc/passwd").len(), 1);
        assert_eq!(folders(&"/".repeat(512)).len(), 8);
        // One that is as long as a folder's name may be, and one that goes on.
        let (short, long) = ("a".repeat(200), "a".repeat(201));
        assert_eq!(folders(&short), [short]);
        assert_eq!(
            folders(&long),
            [format!("{}+", "a".repeat(200)), "a".into()]
        );
    }

    #[test]
    fn segments_have_numbers() {
        let path = segment(Path::new("/r"), &key("g"), 255);
        assert_eq!(path, Path::new("/r/123456789012/g/00000000000000ff.log"));
        assert_eq!(seq_of("00000000000000ff.log"), Some(255));
        for other in [
            "ff.log",
            "00000000000000FF.log",
            "x",
            "0000000000000000",
            ".log",
        ] {
            assert_eq!(seq_of(other), None, "{other}");
        }
    }

    #[test]
    fn foreign_folders_are_no_groups() {
        for foreign in [
            &["a.b"][..],
            &["%2e"],
            &["a", "b"],
            &["%FF"],
            &[""],
            &["a+"],
            &[],
        ] {
            let foreign: Vec<String> = foreign.iter().map(|&name| name.into()).collect();
            assert_eq!(name_of(&foreign), None, "{foreign:?}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_written(name in "[-._/#A-Za-z0-9]{1,512}") {
            let folders = folders(&name);
            prop_assert!(folders.iter().all(|folder| folder.len() <= 255));
            let read = name_of(&folders).unwrap();
            prop_assert_eq!(read.as_str(), name);
        }
    }
}
