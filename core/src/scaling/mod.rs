//! How many sandboxes of a function version there should be, and for how long idle ones are kept. Starting one because
//! an invocation waits is in `queue`; this is about those nobody waits for. All of it is decided on a worker, for the
//! sandboxes it has.
//!
//! Three rules, each with its own file or function:
//! - [`Concurrency`]: as many are wanted as were at work at once lately (stable and panic windows, as in Knative's
//!   autoscaler and Dirigent); no policy gives up a wanted one;
//! - [`Arrivals`]: those beyond are kept for as long as the pauses between the function's invocations make worthwhile
//!   ("Serverless in the Wild", Shahrad et al., ATC 2020);
//! - [`worth`]: when memory is short, the idle sandbox that saves the least goes first.

mod arrivals;
mod concurrency;

pub use arrivals::{Arrivals, KeepAlive};
pub use concurrency::Concurrency;

/// Horizon over which the reuse of an idle sandbox is weighed, milliseconds: five minutes. Ours: about as long as the
/// memory freed by an eviction stays wanted.
pub const HORIZON_MS: u64 = 300_000;

/// What a worker is to keep of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Idle sandboxes that stay whatever their age, up to `idle_limit_ms`.
    pub wanted_idle: u32,
    /// Others are given up after this long, milliseconds.
    pub idle_ms: u64,
    /// All are given up after this long, milliseconds: the operator's word.
    pub idle_limit_ms: u64,
}

/// What to keep, of a version of which `wanted` are wanted and `busy` are at work.
pub fn keep(wanted: u32, busy: u32, keep_alive: KeepAlive, idle_limit_ms: u64) -> Keep {
    Keep {
        wanted_idle: wanted.saturating_sub(busy),
        idle_ms: keep_alive.idle_ms.min(idle_limit_ms),
        idle_limit_ms,
    }
}

/// Whether a version without a sandbox is to get one before the invocation that is expected: `quiet_ms` after its last
/// one. From the moment it is worthwhile until it would be given up again; once a pause.
pub fn prewarm_due(keep_alive: KeepAlive, quiet_ms: u64, idle_limit_ms: u64) -> bool {
    let end = keep_alive
        .prewarm_ms
        .saturating_add(keep_alive.idle_ms.min(idle_limit_ms));
    keep_alive.prewarm_ms > 0 && (keep_alive.prewarm_ms..end).contains(&quiet_ms)
}

/// What an idle sandbox saves for each MB it holds: the cold start it spares (`cold_start_us`) times the probability
/// that it does (`reuse_per_mille`, within [`HORIZON_MS`]). `beyond` says that more are idle than are wanted: then it
/// also counts for how long this one was not the one taken, since the most recently used are taken first.
pub fn worth(
    cold_start_us: u64,
    reuse_per_mille: u32,
    beyond: bool,
    idle_ms: u64,
    memory_mib: u32,
) -> u64 {
    let mut spared = cold_start_us.saturating_mul(u64::from(reuse_per_mille));
    if beyond {
        spared = spared.saturating_mul(HORIZON_MS) / HORIZON_MS.saturating_add(idle_ms);
    }
    spared / u64::from(memory_mib).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000;

    #[test]
    fn the_operators_limit_is_the_upper_bound() {
        let long = KeepAlive {
            prewarm_ms: 0,
            idle_ms: 20 * MINUTE,
        };
        let keep = keep(5, 2, long, 10 * MINUTE);
        assert_eq!((keep.wanted_idle, keep.idle_ms), (3, 10 * MINUTE));
    }

    #[test]
    fn warmed_only_while_an_invocation_is_expected() {
        let hourly = KeepAlive {
            prewarm_ms: 50 * MINUTE,
            idle_ms: 16 * MINUTE,
        };
        for (quiet, due) in [(0, false), (49, false), (50, true), (59, true), (60, false)] {
            let found = prewarm_due(hourly, quiet * MINUTE, 10 * MINUTE);
            assert_eq!(found, due, "after {quiet} minutes");
        }
        let always = KeepAlive {
            prewarm_ms: 0,
            ..hourly
        };
        assert!(!prewarm_due(always, 0, 10 * MINUTE));
    }

    proptest! {
        #[test]
        fn worth_grows_with_what_is_spared_and_falls_with_memory(
            cost in 1_000_u64..10_000_000, reuse in 1_u32..1_000, idle in 0_u64..1_000_000, memory in 128_u32..10_240,
        ) {
            let of = |cost, reuse, beyond, idle, memory| worth(cost, reuse, beyond, idle, memory);
            let it = of(cost, reuse, true, idle, memory);
            prop_assert!(of(cost * 2, reuse, true, idle, memory) >= it);
            prop_assert!(of(cost, reuse + 1, true, idle, memory) >= it);
            prop_assert!(of(cost, reuse, false, idle, memory) >= it);
            prop_assert!(of(cost, reuse, true, idle * 2, memory) <= it);
            prop_assert!(of(cost, reuse, true, idle, memory * 2) <= it);
        }
    }
}
