//! What an invocation costs, in integers. How it is written into the log is in `report`.
//!
//! "Duration is calculated from the time your code begins executing until it returns or otherwise
//! terminates, rounded up to the nearest 1 ms." (AWS Lambda pricing page.)

/// Billed duration in milliseconds of a duration in microseconds: rounded up to whole milliseconds.
pub fn billed_ms(duration_us: u64) -> u64 {
    duration_us.div_ceil(1_000)
}

/// Memory in use times time, in MB-milliseconds. A GB-second is 1,024,000 of them. Exact for any function
/// that may exist; saturates beyond.
pub fn mb_ms(memory_mib: u32, billed_ms: u64) -> u64 {
    u64::from(memory_mib).saturating_mul(billed_ms)
}

/// MB-milliseconds in one GB-second.
pub const MB_MS_PER_GB_SECOND: u64 = 1_024 * 1_000;

/// What one invocation adds to the account's bill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Invocations.
    pub invocations: u64,
    /// Billed time, milliseconds.
    pub billed_ms: u64,
    /// Memory times billed time, MB-milliseconds.
    pub mb_ms: u64,
}

impl Usage {
    /// One invocation.
    pub fn of_invocation(duration_us: u64, memory_mib: u32) -> Self {
        let billed_ms = billed_ms(duration_us);
        Self {
            invocations: 1,
            billed_ms,
            mb_ms: mb_ms(memory_mib, billed_ms),
        }
    }

    /// Both together. Saturating: a bill stays at its top rather than begin again at nought.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            invocations: self.invocations.saturating_add(other.invocations),
            billed_ms: self.billed_ms.saturating_add(other.billed_ms),
            mb_ms: self.mb_ms.saturating_add(other.mb_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_is_billed_in_whole_milliseconds_rounded_up() {
        for (us, ms) in [
            (0, 0),
            (1, 1),
            (999, 1),
            (1_000, 1),
            (1_001, 2),
            (900_000_000, 900_000),
        ] {
            assert_eq!(billed_ms(us), ms, "{us} us");
        }
    }

    #[test]
    fn a_gigabyte_for_a_second_is_a_gb_second() {
        assert_eq!(mb_ms(1_024, 1_000), MB_MS_PER_GB_SECOND);
        assert_eq!(mb_ms(u32::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn usage_adds_up() {
        let usage = Usage::of_invocation(1_500, 128).plus(Usage::of_invocation(500, 256));
        let expected = Usage {
            invocations: 2,
            billed_ms: 3,
            mb_ms: 2 * 128 + 256,
        };
        assert_eq!(usage, expected);
    }
}
