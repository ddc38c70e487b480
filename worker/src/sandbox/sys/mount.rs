//! The mount calls of Linux 5.2 to 5.12: `open_tree`, `mount_setattr`, `fsopen`, `fsmount`, `move_mount`.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Mount attributes, as `mount_setattr` counts them (they are not the `MS_` flags).
pub(crate) const ATTR_RDONLY: u64 = 0x1;
/// Ignore set-uid bits.
pub(crate) const ATTR_NOSUID: u64 = 0x2;
/// No device files.
pub(crate) const ATTR_NODEV: u64 = 0x4;
/// No programs.
pub(crate) const ATTR_NOEXEC: u64 = 0x8;

const OPEN_TREE_CLONE: libc::c_uint = 1;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A detached, private copy of the mount that holds `path` (from `path` down, without the mounts below it), with
/// these attributes set.
pub(crate) fn clone_tree(path: &CStr, attributes: u64) -> io::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned();
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    let tree = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).map_err(io::Error::other)?) };
    let attr = MountAttr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the path is an empty C string, `attr` is a valid `mount_attr` of the size given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(tree)
}

/// A new, detached instance of a file system that needs no options.
pub(crate) fn new_file_system(kind: &CStr, attributes: u64) -> io::Result<OwnedFd> {
    mount_new(kind, None, attributes)
}

/// A detached mount of the file system on a block device.
pub(crate) fn new_block_file_system(
    kind: &CStr,
    device: &CStr,
    attributes: u64,
) -> io::Result<OwnedFd> {
    mount_new(kind, Some(device), attributes)
}

fn mount_new(kind: &CStr, source: Option<&CStr>, attributes: u64) -> io::Result<OwnedFd> {
    let owned = |fd: libc::c_long| -> io::Result<OwnedFd> {
        // SAFETY: called with descriptors the kernel has just returned, which nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).map_err(io::Error::other)?) })
    };
    // SAFETY: `kind` is a NUL-terminated string that outlives the call.
    let context = owned(check(unsafe {
        libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC)
    })?)?;
    if let Some(source) = source {
        let (command, key) = (FSCONFIG_SET_STRING, c"source".as_ptr());
        // SAFETY: FSCONFIG_SET_STRING takes two NUL-terminated strings, which outlive the call.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                context.as_raw_fd(),
                command,
                key,
                source.as_ptr(),
                0,
            )
        })?;
    }
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: FSCONFIG_CMD_CREATE takes neither key nor value.
    check(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            none,
            none,
            0,
        )
    })?;
    // SAFETY: integers only.
    owned(check(unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            attributes,
        )
    })?)
}

/// Attaches a detached tree at `target`.
pub(crate) fn attach_tree(tree: impl AsFd, target: &CStr) -> io::Result<()> {
    // SAFETY: both paths are NUL-terminated strings that outlive the call; the descriptor is borrowed.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}
