//! Why a store cannot be opened. Afterwards nothing fails for who appends: what cannot be written is counted and logged.

use std::io;
use std::path::PathBuf;

use crate::options::StoreOptionsError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The options cannot work.
    #[error("options of the log store are wrong")]
    Options(#[source] StoreOptionsError),
    /// The file system refused.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
