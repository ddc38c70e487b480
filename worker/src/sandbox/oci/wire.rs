//! What a worker says to the shim of a sandbox. The shim answers with the native driver's [`InitReport`]s.
//!
//! Worker and shim are the same executable, so the format needs no versions.
//!
//! [`InitReport`]: crate::sandbox::native::wire::InitReport

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::config::OciConfig;
use crate::sandbox::native::wire::StartRequest;

/// First message. Descriptors: network namespace, output pipe, then, if `start.scratch`, the mount for `/tmp`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ShimRequest {
    pub(super) runtime: OciConfig,
    /// Name of the container.
    pub(super) id: String,
    /// Directory of this sandbox alone; made and removed by the shim.
    pub(super) directory: PathBuf,
    /// The group's place below the root of each hierarchy; none on a host without groups.
    pub(super) group: Option<PathBuf>,
    /// `cgroup.procs` of the group that the runtime joins, and of one that it does not know.
    pub(super) join: Option<(PathBuf, PathBuf)>,
    /// What to write where before a kill: a frozen gVisor hears nobody, and its worker may be gone.
    pub(super) thaw: Option<(PathBuf, String)>,
    pub(super) start: StartRequest,
}

/// Every later message: kill the sandbox. The end of the connection means: kill it and clear away.
pub(super) const KILL: &[u8] = b"kill";
