//! Errors of the spawner and of a sandbox's init: which step, and what the kernel said.

use std::io;

use nix::errno::Errno;

/// A failed step.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {}", io::Error::from_raw_os_error(*.errno))]
pub(crate) struct StepError {
    pub(crate) step: String,
    pub(crate) errno: i32,
}

/// Names the step that failed.
pub(crate) trait Named<T> {
    /// The text is made only on failure.
    fn step(self, name: impl FnOnce() -> String) -> Result<T, StepError>;
}

impl<T> Named<T> for nix::Result<T> {
    fn step(self, name: impl FnOnce() -> String) -> Result<T, StepError> {
        self.map_err(|errno| StepError {
            step: name(),
            errno: errno as i32,
        })
    }
}

impl<T> Named<T> for io::Result<T> {
    fn step(self, name: impl FnOnce() -> String) -> Result<T, StepError> {
        self.map_err(|error| StepError {
            step: name(),
            errno: error.raw_os_error().unwrap_or(Errno::EIO as i32),
        })
    }
}
