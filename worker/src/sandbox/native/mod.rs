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
mod cleaner;
mod client;
mod config;
mod control;
mod diagnosis;
mod driver;
mod init;
mod netns;
mod network;
mod prefab;
mod rootfs;
mod scratch;
mod seccomp;
mod slots;
pub mod spawner;
mod step;
mod wire;

pub use config::{NativeConfig, Network, SpawnerCommand};
pub use diagnosis::diagnose_host;
pub use driver::NativeDriver;
pub use network::{Destination, DestinationError, NetworkConfig};
