//! Sandboxes made by an OCI runtime (runc, crun, gVisor's runsc, Kata's): any program with that command line.
//!
//! ```text
//! worker process                          shim process (one a sandbox)              sandbox
//!   OciDriver ==== seqpacket ====> shim -- create, start ----> OCI runtime --> program
//!     parts of the native driver       mounts, config.json, exit status
//! ```
//!
//! What a sandbox is made of (network namespace with the Runtime API's listener, control group, `/tmp`) is the native
//! driver's, so limits, freezing, the network and the memory report are the same; only the walls are another's. A shim
//! dies with its worker and takes its sandbox along.

mod bundle;
mod config;
mod driver;
pub mod shim;
mod wire;

pub use config::{ExitSource, OciConfig};
pub use driver::OciDriver;
