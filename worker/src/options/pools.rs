//! Options of what is prepared for cold starts.

use serde::{Deserialize, Serialize};

/// Share of the memory offered, percent.
const SHARE_PERCENT: u64 = 2;

/// Most of it unless the options say more.
const MEMORY_MAX_MIB: u64 = 512;

/// See the sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolsOptions {
    /// Sandboxes of one kind that are ready at most; 0: none. Default 4.
    pub each: u32,
    /// Memory that all of them may take, MB. Default 2 % of the memory offered, at most 512.
    pub memory_mib: Option<u64>,
}

impl Default for PoolsOptions {
    fn default() -> Self {
        Self {
            each: 4,
            memory_mib: None,
        }
    }
}

impl PoolsOptions {
    /// Memory of all, the worker offering `offered_mib` to functions.
    pub(crate) fn memory_mib(&self, offered_mib: u64) -> u64 {
        self.memory_mib
            .unwrap_or_else(|| (offered_mib * SHARE_PERCENT / 100).min(MEMORY_MAX_MIB))
    }
}
