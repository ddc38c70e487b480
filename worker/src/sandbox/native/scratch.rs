//! `/tmp` on a disk image of its own: an ext4 file system in a sparse, already deleted file behind a loop device.
//!
//! A tmpfs would be charged to the function's memory, which AWS does not do; project quotas are absent from many
//! kernels. Everything hangs on one descriptor: when it and the sandbox's mount are gone, the kernel frees the loop
//! device and the file, also when the worker crashed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::prefab::Prefab;
use crate::sandbox::driver::{SANDBOX_GID, SANDBOX_UID};
use crate::sandbox::sys;
use crate::sandbox::sys::mount::{ATTR_NODEV, ATTR_NOSUID};

/// Size AWS gives by default; images of this size are made beforehand.
/// ("The default value is 512, but can be any whole number between 512 and 10,240 MB",
/// <https://docs.aws.amazon.com/lambda/latest/api/API_EphemeralStorage.html>.)
const COMMON_MIB: u32 = 512;

/// ext4 needs some room for itself.
const SMALLEST_MIB: u32 = 8;

/// Of the files images are made in.
const EXTENSION: &str = "img";

/// Others may take the loop device found free.
const LOOP_ATTEMPTS: u32 = 32;

/// Where images come from.
#[derive(Debug)]
pub(in crate::sandbox) struct ScratchPool {
    workshop: Arc<Workshop>,
    common: Prefab<Scratch>,
}

impl ScratchPool {
    /// Tries out one image, then keeps `size` of the common size ready.
    pub(in crate::sandbox) fn start(directory: &Path, size: usize) -> io::Result<Self> {
        let workshop = Arc::new(Workshop::open(directory)?);
        drop(workshop.make(COMMON_MIB)?);
        let maker = Arc::clone(&workshop);
        let common = Prefab::start("scratch", size, move || maker.make(COMMON_MIB))?;
        Ok(Self { workshop, common })
    }

    /// A file system of this size whose root belongs to the function's user in the id range given.
    pub(in crate::sandbox) async fn take(
        &self,
        size_mib: u32,
        uid_base: u32,
    ) -> io::Result<Scratch> {
        let scratch = if size_mib == COMMON_MIB {
            self.common.take().await?
        } else {
            let workshop = Arc::clone(&self.workshop);
            tokio::task::spawn_blocking(move || workshop.make(size_mib.max(SMALLEST_MIB)))
                .await
                .map_err(io::Error::other)??
        };
        chown(
            scratch.path(),
            Some(uid_base + SANDBOX_UID),
            Some(uid_base + SANDBOX_GID),
        )?;
        Ok(scratch)
    }
}

/// An image has a name only while it is made; one that has it now is of a worker that crashed just then.
fn remove_leftovers(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == EXTENSION)
        {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Workshop {
    directory: PathBuf,
    serial: AtomicU64,
    /// A formatted image of the common size that is never mounted; copying its few blocks is cheaper than mkfs, which
    /// also syncs the disk.
    template: File,
}

impl Workshop {
    fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        remove_leftovers(directory)?;
        let path = directory.join(format!("template.{EXTENSION}"));
        let template = unnamed(&path, COMMON_MIB, format)?;
        Ok(Self {
            directory: directory.to_owned(),
            serial: AtomicU64::new(0),
            template,
        })
    }

    fn make(&self, size_mib: u32) -> io::Result<Scratch> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{serial}.{EXTENSION}"));
        let file = if size_mib == COMMON_MIB {
            let file = unnamed(&path, size_mib, |_| Ok(()))?;
            copy_blocks(&self.template, &file)?;
            file
        } else {
            unnamed(&path, size_mib, format)?
        };
        let (device, name) = attach(&file)?;
        let attributes = ATTR_NOSUID | ATTR_NODEV;
        let mount = sys::mount::new_block_file_system(c"ext4", &name, attributes)?;
        // The file system keeps the device open from here on.
        drop(device);
        let scratch = Scratch { mount };
        fs::set_permissions(scratch.path(), Permissions::from_mode(0o700))?;
        fs::remove_dir(scratch.path().join("lost+found"))?;
        Ok(scratch)
    }
}

/// A sparse file that keeps its name for as long as `prepare` works on it.
fn unnamed(
    path: &Path,
    size_mib: u32,
    prepare: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    let prepared = file
        .set_len(u64::from(size_mib) << 20)
        .and_then(|()| prepare(path));
    fs::remove_file(path)?;
    prepared.map(|()| file)
}

/// Copies what is not a hole; both files have the same length.
fn copy_blocks(from: &File, to: &File) -> io::Result<()> {
    let mut buffer = vec![0; 128 * 1024];
    let mut hole = 0;
    loop {
        let data = match lseek(from, hole, Whence::SeekData) {
            Err(Errno::ENXIO) => return Ok(()),
            other => other?,
        };
        hole = lseek(from, data, Whence::SeekHole)?;
        let (mut at, end) = (data.cast_unsigned(), hole.cast_unsigned());
        while at < end {
            let length = buffer
                .len()
                .min(usize::try_from(end - at).unwrap_or(usize::MAX));
            from.read_exact_at(&mut buffer[..length], at)?;
            to.write_all_at(&buffer[..length], at)?;
            at += length as u64;
        }
    }
}

/// No journal, no zeroed inode tables: nothing of it is to outlive a crash.
fn format(path: &Path) -> io::Result<()> {
    let output = Command::new("mkfs.ext4")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .args([
            "-q",
            "-F",
            "-m",
            "0",
            "-O",
            "^has_journal",
            "-E",
            "lazy_itable_init=1,nodiscard",
        ])
        .arg(path)
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "mkfs.ext4: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

/// A loop device that shows `file`, and its path.
fn attach(file: &File) -> io::Result<(File, std::ffi::CString)> {
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")?;
    let mut last = io::Error::from(io::ErrorKind::ResourceBusy);
    for _ in 0..LOOP_ATTEMPTS {
        let name = format!("/dev/loop{}", sys::block::free_loop_device(&control)?);
        let device = OpenOptions::new().read(true).write(true).open(&name)?;
        match sys::block::configure_loop_device(&device, file) {
            Ok(()) => return Ok((device, std::ffi::CString::new(name)?)),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// A detached mount of an empty file system.
#[derive(Debug)]
pub(in crate::sandbox) struct Scratch {
    mount: OwnedFd,
}

impl Scratch {
    /// For the spawner.
    pub(in crate::sandbox) fn descriptor(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    /// Its root as this process reaches it.
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.mount.as_raw_fd()).into()
    }

    /// Throws the contents away, so that the unmount has nothing to write.
    pub(in crate::sandbox) fn discard(&self) -> io::Result<()> {
        sys::block::discard_ext4(File::open(self.path())?)
    }
}
