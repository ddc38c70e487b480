//! The native driver: sandboxes out of Linux namespaces, cgroups and seccomp, without a container engine.
//!
//! ```text
//! worker process                                   spawner process (one)         sandbox
//!   NativeDriver -- client ==== seqpacket ====> spawner -- clone3 --> init (pid 1) --> program
//!     pools: netns + listener, cgroups            (rootfs::prepare)    (rootfs::assemble, seccomp)
//! ```
//!
//! The worker makes what can be made beforehand (network namespaces, cgroups) and hands descriptors over; the spawner
//! clones; init builds the sandbox from inside. Kill, freeze and limits go from the worker straight to the kernel.

mod access;
pub mod cgroup;
pub(in crate::sandbox) mod cleaner;
mod client;
pub(in crate::sandbox) mod config;
pub(in crate::sandbox) mod control;
mod diagnosis;
pub(in crate::sandbox) mod driver;
mod held;
mod init;
pub(in crate::sandbox) mod netns;
mod network;
mod prefab;
mod prepared;
mod processes;
pub(in crate::sandbox) mod rootfs;
pub(in crate::sandbox) mod scratch;
pub(in crate::sandbox) mod seccomp;
pub(in crate::sandbox) mod slots;
pub mod spawner;
pub(in crate::sandbox) mod step;
mod supervise;
pub(in crate::sandbox) mod wire;

pub use config::{NativeConfig, Network, SpawnerCommand};
pub use diagnosis::diagnose_host;
pub use driver::NativeDriver;
pub use network::{Destination, DestinationError, NetworkConfig};
