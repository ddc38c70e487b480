//! What this host lacks for native sandboxes.

use std::fs;

use super::{access, cgroup};
use crate::sandbox::driver::Diagnosis;

/// Oldest kernel with `mount_setattr`.
const KERNEL_MIN: (u32, u32) = (5, 12);

/// Looks at the host; changes nothing. `no_cgroups` is what [`cgroup::detect`] said, if it failed.
pub(super) fn diagnose(no_cgroups: Option<&str>, allow_no_cgroups: bool) -> Vec<Diagnosis> {
    let mut found = Vec::new();
    let mut add = |fatal, message: String| found.push(Diagnosis { fatal, message });
    if !nix::unistd::geteuid().is_root() {
        add(
            true,
            "not root: the native driver needs root (or CAP_SYS_ADMIN and its kin) on the host"
                .to_owned(),
        );
    }
    if let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease")
        && kernel_version(&release).is_some_and(|version| version < KERNEL_MIN)
    {
        add(
            true,
            format!("kernel {} is older than 5.12", release.trim()),
        );
    }
    match fs::read_to_string("/proc/sys/user/max_user_namespaces") {
        Ok(text) if text.trim() != "0" => {}
        Ok(_) => add(
            true,
            "user namespaces are switched off: set sysctl user.max_user_namespaces > 0".to_owned(),
        ),
        Err(_) => add(true, "the kernel has no user namespaces".to_owned()),
    }
    if !std::path::Path::new("/proc/sys/kernel/seccomp").exists() {
        add(true, "the kernel has no seccomp filters".to_owned());
    }
    if !access::is_available() {
        let message = "the kernel has no Landlock, or it is not switched on (boot option lsm=): one wall fewer";
        add(false, message.to_owned());
    }
    if let Some(reason) = no_cgroups {
        let suffix = if allow_no_cgroups {
            "; running WITHOUT memory, process and CPU limits"
        } else {
            "; --allow-no-cgroups (allow_no_cgroups) runs without limits, for development only"
        };
        add(!allow_no_cgroups, format!("{reason}{suffix}"));
    }
    found
}

/// For a host on which no driver was opened yet. Tries to make the worker's cgroup directories, and removes them.
#[must_use]
pub fn diagnose_host(worker_id: &str, allow_no_cgroups: bool) -> Vec<Diagnosis> {
    let hierarchy = cgroup::detect(worker_id).map(|hierarchy| hierarchy.retire());
    diagnose(hierarchy.err().as_deref(), allow_no_cgroups)
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_compare_as_numbers() {
        assert_eq!(kernel_version("6.18.44-fc-v669\n"), Some((6, 18)));
        assert!(kernel_version("5.9.1").unwrap() < KERNEL_MIN);
        assert_eq!(kernel_version("x"), None);
    }

    #[test]
    fn missing_cgroups_are_fatal_unless_allowed() {
        let fatal = |allowed| {
            diagnose(Some("none"), allowed)
                .iter()
                .any(|d| d.fatal && d.message.starts_with("none"))
        };
        assert!(fatal(false));
        assert!(!fatal(true));
    }
}
