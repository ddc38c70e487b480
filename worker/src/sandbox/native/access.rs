//! Which files a sandbox may write, told to the kernel a second time: Landlock.
//!
//! The mount namespace says it first (read-only mounts, masks). This wall holds on its own: it is made by another part
//! of the kernel, and it goes on refusing should a mount ever be writable or a mask be lifted. With it come, for the
//! whole sandbox, no changes of mounts whatever the capabilities, and no abstract sockets beyond it; for programs of the
//! owner no signals either.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};
use nix::errno::Errno;

use super::step::StepError;

/// What the rules below were written for; an older kernel enforces what it knows of it.
const WRITTEN_FOR: ABI = ABI::V7;

/// Where anything may be made but device files.
const WRITABLE: [&str; 2] = ["/tmp", "/dev/shm"];

/// Everything but writing.
fn reading() -> BitFlags<AccessFs> {
    AccessFs::from_read(WRITTEN_FOR)
}

/// Everything but device files, and `ioctl` on them.
fn writing() -> BitFlags<AccessFs> {
    let devices = make_bitflags!(AccessFs::{MakeChar | MakeBlock | IoctlDev});
    AccessFs::from_all(WRITTEN_FOR) & !devices
}

/// Whether this kernel has any of it.
pub(super) fn is_available() -> bool {
    let created = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create);
    created.is_ok()
}

/// Whom the confined may signal, besides what comes from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signals {
    Nobody,
    /// Who is in the same pid namespace. A stem was confined before its init was: to Landlock it is a stranger, to whom
    /// init could not hand on a SIGTERM.
    Namespace,
}

/// Confines the calling thread and all that comes from it; `writable` are mounts of the sandbox besides the usual.
/// False on a kernel without Landlock.
pub(super) fn confine<'a>(
    writable: impl Iterator<Item = &'a Path>,
    signals: Signals,
) -> Result<bool, StepError> {
    restrict(writable, signals).map_err(|error| StepError {
        step: format!("confine by Landlock: {error}"),
        errno: Errno::EIO as i32,
    })
}

fn restrict<'a>(
    writable: impl Iterator<Item = &'a Path>,
    signals: Signals,
) -> Result<bool, ConfineError> {
    let scope = match signals {
        Signals::Nobody => Scope::from_all(WRITTEN_FOR),
        Signals::Namespace => Scope::from_all(WRITTEN_FOR) & !Scope::Signal,
    };
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(WRITTEN_FOR))?
        .scope(scope)?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new("/")?, reading()))?
        // Null and its like; /proc has no such rule, so no sysctl is ever opened for writing.
        .add_rule(PathBeneath::new(
            PathFd::new("/dev")?,
            make_bitflags!(AccessFs::{WriteFile | Truncate}),
        ))?;
    for place in WRITABLE.into_iter().map(Path::new).chain(writable) {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(place)?, writing()))?;
    }
    let status = rules.restrict_self()?;
    Ok(!matches!(
        status.landlock,
        LandlockStatus::NotImplemented | LandlockStatus::NotEnabled
    ))
}

#[derive(Debug, thiserror::Error)]
enum ConfineError {
    #[error(transparent)]
    Ruleset(#[from] RulesetError),
    #[error(transparent)]
    Path(#[from] landlock::PathFdError),
}
