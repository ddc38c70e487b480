//! The state as it is kept between logs, with the version of its format. A golden file holds each version
//! that was ever written: it must be readable for ever.

use serde::{Deserialize, Serialize};

use super::State;

/// Raised when a change cannot be expressed by fields with defaults.
pub const FORMAT_VERSION: u32 = 1;

/// What a snapshot file holds, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// The state.
    pub state: State,
}

/// A snapshot of a later release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownFormat {
    /// The version it says.
    pub found: u32,
}

impl std::fmt::Display for UnknownFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let found = self.found;
        write!(
            f,
            "snapshot has format version {found}, newest known is {FORMAT_VERSION}"
        )
    }
}

impl std::error::Error for UnknownFormat {}

impl Snapshot {
    /// Of the state now.
    pub fn of(state: &State) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            state: state.clone(),
        }
    }

    /// The state, if this release can read it.
    pub fn into_state(self) -> Result<State, UnknownFormat> {
        if self.format_version == FORMAT_VERSION {
            Ok(self.state)
        } else {
            Err(UnknownFormat {
                found: self.format_version,
            })
        }
    }
}
