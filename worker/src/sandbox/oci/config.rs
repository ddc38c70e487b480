//! Which OCI runtime, and how it is called.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One OCI runtime, as an operator names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OciConfig {
    /// The executable.
    pub program: PathBuf,
    /// Its global options, before the subcommand.
    #[serde(default)]
    pub args: Vec<String>,
    /// Whether each sandbox gets a user namespace with ids of its own. False for a runtime that brings its own kernel,
    /// such as gVisor. Default true.
    #[serde(default = "yes")]
    pub user_namespace: bool,
    /// Where the exit status comes from. Default [`ExitSource::Process`].
    #[serde(default)]
    pub exit_status: ExitSource,
}

fn yes() -> bool {
    true
}

/// Who tells how a program ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitSource {
    /// The process in the pid file is the program (runc, crun).
    #[default]
    Process,
    /// The process is the sandbox's kernel; the subcommand `run`, which stays until the end, ends with the status (runsc).
    Run,
}
