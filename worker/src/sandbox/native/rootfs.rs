//! What a sandbox sees as its file system.
//!
//! The spawner clones the trees while it still has the host's privileges ([`prepare`]); the sandbox's init puts them
//! together in its own mount namespace ([`assemble`]). Every path of the second half is resolved *below the new root*,
//! so that a symbolic link in a hostile image leads nowhere else.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, fchmodat, makedev, mknod};
use nix::unistd::{chdir, pivot_root};

use super::step::{Named, StepError};
use super::wire::StartRequest;
use crate::sandbox::driver::{SANDBOX_GID, SANDBOX_UID};
use crate::sandbox::sys::mount::{
    ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, attach_tree, clone_tree, new_file_system,
};

/// Device files: name, major, minor.
const DEVICES: [(&str, u64, u64); 5] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
];

/// Symbolic links in `/dev`.
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Files of `/proc` that tell about the host or its other tenants; covered by `/dev/null`.
pub(crate) const MASKED_FILES: [&CStr; 17] = [
    c"/proc/cmdline",
    c"/proc/config.gz",
    c"/proc/diskstats",
    c"/proc/interrupts",
    c"/proc/kallsyms",
    c"/proc/kcore",
    c"/proc/key-users",
    c"/proc/keys",
    c"/proc/kmsg",
    c"/proc/locks",
    c"/proc/modules",
    c"/proc/partitions",
    c"/proc/sched_debug",
    c"/proc/schedstat",
    c"/proc/softirqs",
    c"/proc/sysrq-trigger",
    c"/proc/timer_list",
];

/// Directories of `/proc` likewise; covered by an empty directory.
pub(crate) const MASKED_DIRECTORIES: [&CStr; 6] = [
    c"/proc/acpi",
    c"/proc/asound",
    c"/proc/bus",
    c"/proc/fs",
    c"/proc/irq",
    c"/proc/scsi",
];

/// Size of `/dev/shm`. It is charged to the function's memory, as are all its tmpfs.
pub(crate) const SHM_MIB: u32 = 64;

/// A path as the kernel wants it.
pub(crate) fn c_string(text: &str) -> Result<CString, StepError> {
    CString::new(text).map_err(|_| StepError {
        step: format!("path with a NUL byte: {text:?}"),
        errno: Errno::EINVAL as i32,
    })
}

/// The spawner's own places in the file system.
#[derive(Debug)]
pub(crate) struct Places {
    /// A tmpfs with the device files, shared by all sandboxes.
    dev: CString,
    /// Where a new root is put before it becomes the root.
    stage: CString,
    /// What is put over which part of `/proc`.
    masks: Rc<[(&'static CStr, &'static CStr)]>,
}

impl Places {
    /// Mounts the device tree below `state_dir`; visible in the spawner's mount namespace only.
    pub(crate) fn make(state_dir: &Path) -> Result<Self, StepError> {
        let (dev, stage) = (state_dir.join("dev"), state_dir.join("stage"));
        for place in [&dev, &stage] {
            fs::create_dir_all(place).step(|| format!("create {}", place.display()))?;
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        mount(
            Some("tmpfs"),
            &dev,
            Some("tmpfs"),
            flags,
            Some("mode=0755,size=64k"),
        )
        .step(|| "mount the device tree".to_owned())?;
        for (name, major, minor) in DEVICES {
            let path = dev.join(name);
            let mode = Mode::from_bits_truncate(0o666);
            mknod(&path, SFlag::S_IFCHR, mode, makedev(major, minor))
                .step(|| format!("make device {name}"))?;
            // The umask took bits away.
            fchmodat(
                nix::fcntl::AT_FDCWD,
                &path,
                mode,
                nix::sys::stat::FchmodatFlags::FollowSymlink,
            )
            .step(|| format!("set the mode of device {name}"))?;
        }
        for (name, to) in DEVICE_LINKS {
            symlink(to, dev.join(name)).step(|| format!("make link {name}"))?;
        }
        for directory in ["shm", "empty"] {
            fs::create_dir(dev.join(directory)).step(|| format!("create /dev/{directory}"))?;
        }
        let text = |path: PathBuf| c_string(&path.to_string_lossy());
        Ok(Self {
            dev: text(dev)?,
            stage: text(stage)?,
            masks: masks().collect(),
        })
    }
}

/// The parts of `/proc` to be covered, of those this kernel has, and what covers them.
fn masks() -> impl Iterator<Item = (&'static CStr, &'static CStr)> {
    let files = MASKED_FILES.into_iter().map(|file| (c"/dev/null", file));
    let directories = MASKED_DIRECTORIES
        .into_iter()
        .map(|directory| (c"/dev/empty", directory));
    files
        .chain(directories)
        .filter(|(_, place)| Path::new(&*place.to_string_lossy()).exists())
}

/// Everything init needs to build the root, cloned by the spawner.
#[derive(Debug)]
pub(crate) struct Trees {
    root: OwnedFd,
    dev: OwnedFd,
    mounts: Vec<(OwnedFd, CString)>,
    /// Targets of the mounts that may be written.
    writable: Vec<PathBuf>,
    stage: CString,
    masks: Rc<[(&'static CStr, &'static CStr)]>,
    tmp_mib: u32,
    /// What is to be `/tmp`, if not a tmpfs.
    scratch: Option<OwnedFd>,
}

impl Trees {
    /// Places in the sandbox that may be written, besides `/tmp` and `/dev/shm`.
    pub(crate) fn writable(&self) -> impl Iterator<Item = &Path> {
        self.writable.iter().map(PathBuf::as_path)
    }
}

/// Clones the trees of a sandbox, with the host's privileges.
pub(crate) fn prepare(
    places: &Places,
    request: &StartRequest,
    scratch: Option<OwnedFd>,
) -> Result<Trees, StepError> {
    let clone = |path: &CStr, attributes| {
        clone_tree(path, attributes).step(|| format!("clone the tree {}", path.to_string_lossy()))
    };
    let mut mounts = Vec::with_capacity(request.mounts.len());
    for wanted in &request.mounts {
        let read_only = if wanted.writable { 0 } else { ATTR_RDONLY };
        let tree = clone(
            &c_string(&wanted.source)?,
            ATTR_NOSUID | ATTR_NODEV | read_only,
        )?;
        mounts.push((tree, c_string(&wanted.target)?));
    }
    let writable = request.mounts.iter().filter(|mount| mount.writable);
    Ok(Trees {
        root: clone(
            &c_string(&request.root)?,
            ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV,
        )?,
        dev: clone(&places.dev, ATTR_RDONLY | ATTR_NOSUID | ATTR_NOEXEC)?,
        mounts,
        writable: writable.map(|mount| PathBuf::from(&mount.target)).collect(),
        stage: places.stage.clone(),
        masks: Rc::clone(&places.masks),
        tmp_mib: request.tmp_mib,
        scratch,
    })
}

/// Makes the trees the root of the calling process; runs in a fresh mount namespace.
pub(crate) fn assemble(trees: &Trees) -> Result<(), StepError> {
    // Made now and attached later: the kernel gives a user namespace a proc only while a fully visible one is in
    // sight, which is the host's. Attaching before the old root is gone would be wrong: `..` at the new root leads
    // into an old one stacked on it.
    let proc = new_file_system(c"proc", ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC)
        .step(|| "make /proc".to_owned())?;
    attach_tree(&trees.root, &trees.stage).step(|| "attach the root".to_owned())?;
    chdir(trees.stage.as_c_str()).step(|| "enter the root".to_owned())?;
    pivot_root(".", ".").step(|| "pivot_root".to_owned())?;
    umount2(".", MntFlags::MNT_DETACH).step(|| "detach the old root".to_owned())?;
    chdir("/").step(|| "enter the new root".to_owned())?;
    attach_tree(&trees.dev, c"/dev").step(|| "attach /dev".to_owned())?;
    attach_tree(&proc, c"/proc").step(|| "attach /proc".to_owned())?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_tmpfs(
        c"/dev/shm",
        plain | MsFlags::MS_NOEXEC,
        &format!("size={SHM_MIB}m,mode=1777"),
    )?;
    // Not noexec: AWS's Java client unpacks a library there and loads it.
    if let Some(scratch) = &trees.scratch {
        attach_tree(scratch, c"/tmp").step(|| "attach /tmp".to_owned())?;
    } else {
        let owner = format!(
            "size={}m,mode=0700,uid={SANDBOX_UID},gid={SANDBOX_GID}",
            trees.tmp_mib
        );
        mount_tmpfs(c"/tmp", plain, &owner)?;
    }
    for (tree, target) in &trees.mounts {
        attach_tree(tree, target).step(|| format!("attach at {}", target.to_string_lossy()))?;
    }
    mask_proc(&trees.masks)
}

fn mount_tmpfs(target: &CStr, flags: MsFlags, options: &str) -> Result<(), StepError> {
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options))
        .step(|| format!("mount a tmpfs on {}", target.to_string_lossy()))
}

fn mask_proc(masks: &[(&CStr, &CStr)]) -> Result<(), StepError> {
    // /proc/sys needs none: its files belong to a user that has no number in here, and uid 993 has no capability.
    for (cover, place) in masks {
        mount(
            Some(*cover),
            *place,
            None::<&CStr>,
            MsFlags::MS_BIND,
            None::<&CStr>,
        )
        .step(|| format!("mask {}", place.to_string_lossy()))?;
    }
    Ok(())
}
