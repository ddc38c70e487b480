//! Memory promised to sandboxes. What is stopped to make room is decided by `hearth_core::pool`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// All memory this worker offers, and how much of it is reserved.
#[derive(Debug)]
pub(crate) struct Memory {
    total_mib: u64,
    reserved_mib: AtomicU64,
}

/// Memory of one sandbox; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct MemoryHold {
    memory: Arc<Memory>,
    mib: u64,
}

impl Memory {
    pub(crate) fn new(total_mib: u64) -> Arc<Self> {
        Arc::new(Self {
            total_mib,
            reserved_mib: AtomicU64::new(0),
        })
    }

    pub(crate) fn free_mib(&self) -> u64 {
        self.total_mib
            .saturating_sub(self.reserved_mib.load(Ordering::Acquire))
    }

    pub(crate) fn reserve(self: &Arc<Self>, mib: u64) -> Option<MemoryHold> {
        let taken = |reserved: u64| {
            let after = reserved.checked_add(mib)?;
            (after <= self.total_mib).then_some(after)
        };
        self.reserved_mib
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, taken)
            .ok()?;
        Some(MemoryHold {
            memory: Arc::clone(self),
            mib,
        })
    }
}

impl Drop for MemoryHold {
    fn drop(&mut self) {
        self.memory
            .reserved_mib
            .fetch_sub(self.mib, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_promised_than_there_is_and_all_of_it_comes_back() {
        let memory = Memory::new(256);
        let first = memory.reserve(128).unwrap();
        let second = memory.reserve(128).unwrap();
        assert!(memory.reserve(1).is_none());
        assert!(memory.reserve(u64::MAX).is_none());
        drop(first);
        assert_eq!(memory.free_mib(), 128);
        drop(second);
        assert_eq!(memory.free_mib(), 256);
    }
}
