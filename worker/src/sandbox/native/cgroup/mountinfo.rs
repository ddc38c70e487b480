//! Where the cgroup hierarchies are mounted; a pure reading of `/proc/self/mountinfo`.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The mounted hierarchies.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CgroupMounts {
    /// Version 2.
    pub(super) unified: Option<PathBuf>,
    /// Version 1, by controller.
    pub(super) v1: BTreeMap<String, PathBuf>,
}

impl CgroupMounts {
    /// Lines are `id parent dev root MOUNTPOINT options [fields] - TYPE source SUPEROPTIONS` (proc(5)).
    pub(super) fn parse(text: &str) -> Self {
        let mut mounts = Self::default();
        for line in text.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let Some(place) = left.split(' ').nth(4) else {
                continue;
            };
            let mut right = right.split(' ');
            match (right.next(), right.nth(1)) {
                (Some("cgroup2"), _) => mounts.unified = Some(place.into()),
                (Some("cgroup"), Some(options)) => {
                    for controller in options.split(',') {
                        mounts.v1.insert(controller.to_owned(), place.into());
                    }
                }
                // Every other file system.
                (_, _) => {}
            }
        }
        mounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_and_joint_controllers_are_found() {
        let text = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw shared:7 - cgroup2 cgroup2 rw\n\
                    22 27 0:21 / /proc rw,relatime - proc proc rw\n";
        let mounts = CgroupMounts::parse(text);
        assert_eq!(mounts.unified, Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mounts.v1["cpu"], PathBuf::from("/sys/fs/cgroup/cpu"));
        assert_eq!(mounts.v1["cpuacct"], PathBuf::from("/sys/fs/cgroup/cpu"));
        assert!(!mounts.v1.contains_key("memory"));
    }
}
