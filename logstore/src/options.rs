//! What an operator may say of the store.

use crate::table::TABLE_MAX_BYTES;

/// Sizes and times of a store. The process that has it maps its own options to these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Tells apart what was ingested at the same time elsewhere: the node's number. The same for the directory's life.
    pub source: u32,
    /// Bytes of all files together. Default 1 GiB; at least four segments and two queues.
    pub max_bytes: u64,
    /// A segment is closed when it has so many bytes. Default 8 MiB.
    pub segment_bytes: u64,
    /// A segment is closed when it is so old, so that retention finds whole segments to delete. Default 12 hours.
    pub segment_age_ms: u64,
    /// Bytes that may wait to be written; what comes beyond is dropped and counted. Default 16 MiB.
    pub queue_bytes: usize,
    /// Bytes of memory for what is known of segments and their streams, by estimate. Default 64 MiB.
    pub index_bytes: u64,
    /// Files that the writer keeps open. Default 64. A reader has one open at a time.
    pub open_files: usize,
    /// What was written is made durable after so long: what a power cut may take. Default 1 second.
    pub sync_interval_ms: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            source: 0,
            max_bytes: 1 << 30,
            segment_bytes: 8 << 20,
            segment_age_ms: 12 * 3_600_000,
            queue_bytes: 16 << 20,
            index_bytes: 64 << 20,
            open_files: 64,
            sync_interval_ms: 1_000,
        }
    }
}

/// Why options are no options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreOptionsError {
    /// A size is zero.
    #[error("{0} must be more than 0")]
    Zero(&'static str),
    /// The store would delete what it is about to write.
    #[error("max_bytes must be at least {least}: four segments and two queues")]
    Small {
        /// What it must be at least.
        least: u64,
    },
}

impl StoreOptions {
    /// Refuses what cannot work. Called once, when the store is opened.
    ///
    /// # Errors
    /// A size is too small.
    pub fn validate(&self) -> Result<(), StoreOptionsError> {
        let sizes = [
            ("segment_bytes", self.segment_bytes),
            ("queue_bytes", self.queue_bytes as u64),
            ("index_bytes", self.index_bytes),
            ("open_files", self.open_files as u64),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(StoreOptionsError::Zero(name));
        }
        let queues = (self.queue_bytes as u64).saturating_mul(2);
        let least = self.segment_bytes.saturating_mul(4).saturating_add(queues);
        if self.max_bytes < least {
            return Err(StoreOptionsError::Small { least });
        }
        Ok(())
    }

    /// A segment whose table of streams has so many bytes is closed, however few events it has: so that there are several to
    /// delete when the index is full.
    pub(crate) fn table_bytes(&self) -> u64 {
        (self.index_bytes / 8).clamp(1, TABLE_MAX_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_too_little_is_refused() {
        let default = StoreOptions::default();
        assert_eq!(default.validate(), Ok(()));
        let none = StoreOptions {
            segment_bytes: 0,
            ..StoreOptions::default()
        };
        assert_eq!(
            none.validate(),
            Err(StoreOptionsError::Zero("segment_bytes"))
        );
        let small = StoreOptions {
            max_bytes: 8 << 20,
            ..default
        };
        let least = 64 << 20;
        assert_eq!(small.validate(), Err(StoreOptionsError::Small { least }));
    }
}
