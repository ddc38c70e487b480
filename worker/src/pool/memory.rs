//! Memory promised to sandboxes. What is stopped to make room is decided by `hearth_core::pool`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// All memory this worker offers, and how much of it is reserved.
#[derive(Debug)]
pub(crate) struct Memory {
    total_mib: u64,
    reserved_mib: AtomicU64,
    /// Of idle sandboxes, which give way; as of the last look at each version.
    idle_mib: AtomicU64,
    /// When what a sandbox uses was read from the kernel last, microseconds.
    peak_read_us: AtomicU64,
}

/// What sandboxes use is read at most this often by the whole worker, where nobody waits for it: the kernel adds it up from
/// all CPUs, which with many functions would cost more than anything else about an invocation.
const PEAK_EVERY_US: u64 = 10_000;

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
            idle_mib: AtomicU64::new(0),
            peak_read_us: AtomicU64::new(0),
        })
    }

    pub(crate) fn free_mib(&self) -> u64 {
        self.total_mib
            .saturating_sub(self.reserved_mib.load(Ordering::Acquire))
    }

    /// Memory of idle sandboxes, which give way to a start that needs it.
    pub(crate) fn idle_mib(&self) -> u64 {
        self.idle_mib.load(Ordering::Acquire)
    }

    /// A version's part of that is another than before.
    pub(super) fn on_idle_counted(&self, before: u64, mib: u64) {
        self.idle_mib.fetch_add(mib, Ordering::AcqRel);
        self.idle_mib.fetch_sub(before, Ordering::AcqRel);
    }

    /// Whether it is some sandbox's turn to have its use read; says so once.
    pub(super) fn may_read_peak(&self, now_us: u64) -> bool {
        let last = self.peak_read_us.load(Ordering::Relaxed);
        now_us.saturating_sub(last) >= PEAK_EVERY_US
            && self
                .peak_read_us
                .compare_exchange(last, now_us, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
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
    fn use_is_read_seldom_however_many_sandboxes_there_are() {
        let memory = Memory::new(256);
        let reads = (1_000_000..1_100_000).step_by(100);
        let read = reads.filter(|now| memory.may_read_peak(*now)).count();
        assert_eq!(read, 10);
    }

    #[test]
    fn idle_memory_is_what_the_versions_counted_last() {
        let memory = Memory::new(256);
        memory.on_idle_counted(0, 128);
        memory.on_idle_counted(0, 64);
        memory.on_idle_counted(128, 0);
        assert_eq!(memory.idle_mib(), 64);
    }

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
