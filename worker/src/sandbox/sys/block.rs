//! Loop devices, and dropping an ext4 file system without writing it back.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
/// The device lets go of its file when nobody uses it any more.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// `_IOR('X', 125, __u32)`.
const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587D;
/// Not even the journal is written.
const EXT4_GOING_FLAGS_NOLOGFLUSH: u32 = 2;

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of `linux/loop.h`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The number of a loop device that is free right now.
pub(crate) fn free_loop_device(control: &File) -> io::Result<i32> {
    // SAFETY: this request takes no argument.
    check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) })
}

/// Makes `device` show `file`, until it is last closed; `EBUSY` if somebody else was quicker.
pub(crate) fn configure_loop_device(device: &File, file: &File) -> io::Result<()> {
    // SAFETY: `LoopConfig` is plain data for which all zeroes is a value.
    let mut config: LoopConfig = unsafe { std::mem::zeroed() };
    config.fd = file.as_raw_fd().cast_unsigned();
    config.info.flags = LO_FLAGS_AUTOCLEAR;
    // SAFETY: the request reads one `loop_config`, which lives across the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) }).map(drop)
}

/// Ends an ext4 file system at once: what is not on disk yet never will be. `file` is any file or directory in it.
pub(crate) fn discard_ext4(file: impl AsFd) -> io::Result<()> {
    let flags = EXT4_GOING_FLAGS_NOLOGFLUSH;
    // SAFETY: the request reads one u32, which lives across the call.
    check(unsafe {
        libc::ioctl(
            file.as_fd().as_raw_fd(),
            EXT4_IOC_SHUTDOWN,
            &raw const flags,
        )
    })
    .map(drop)
}
