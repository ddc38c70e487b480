//! Whether a worker keeps up, judged by a gateway from the worker's own answers. What counts is the platform's share:
//! how soon an invocation is acknowledged as taken and how steadily pulses come. How long a function runs is the
//! user's affair and says nothing here.
//!
//! ```text
//!             slow, and it can be spared              well for a while
//!     Well ------------------------------> Ejected --------------------> Probing --> Well
//!       ^                                    ^                              |   well for longer
//!       +------ cannot be spared any more ---+------------- slow -----------+
//! ```
//!
//! The second rule here is the lease under which a worker begins invocations. A worker that was stopped finds, when it
//! goes on, frames that are old; another worker may do them sooner, or nobody waits any more. So a worker begins nothing
//! unless the gateway answered a pulse that was sent within the lease, and refuses what it reads without; what it
//! refused surely did not run. That no acknowledgement has come says nothing of the kind: it may be on its way.
//!
//! How often a worker shows itself is the gateway's wish, by how many workers it has ([`Pace`]): a thousand that pulse ten times a
//! second keep a core busy with nothing else.

use crate::ids::{MonotonicMs, NodeId};

/// A worker sends a pulse to a gateway this often until it is told otherwise, and never more often.
pub const PULSE_MS: u64 = 100;

/// And never more seldom: a worker that is stopped is to lose its traffic within two seconds.
const PULSE_MAX_MS: u64 = 500;

/// A worker begins invocations for so many pulses after it sent the newest one that the gateway answered. Four: a hiccup of the
/// scheduler costs nothing.
const LEASE_PULSES: u64 = 4;

/// The lease of the shortest pulse.
pub const LEASE_MS: u64 = PULSE_MS * LEASE_PULSES;

/// A gateway reads so many pulses a second at most, as long as they need not come more seldom than [`PULSE_MAX_MS`]: a tenth of a core,
/// answers included.
const PULSES_PER_S: u64 = 2_000;

/// How often a worker shows itself to a gateway, and for how long an answer lets it begin invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Milliseconds between pulses.
    pub pulse_ms: u64,
    /// Milliseconds from a pulse on.
    pub lease_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self::of_pulse(PULSE_MS)
    }
}

impl Pace {
    fn of_pulse(pulse_ms: u64) -> Self {
        Self {
            pulse_ms,
            lease_ms: pulse_ms * LEASE_PULSES,
        }
    }

    /// What a gateway with so many workers wishes.
    pub fn of_workers(count: usize) -> Self {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let wished = count.saturating_mul(1_000) / PULSES_PER_S;
        Self::of_pulse(wished.clamp(PULSE_MS, PULSE_MAX_MS))
    }

    /// As it was told: a gateway of an earlier release says nothing (0), and what is out of range is not done.
    pub fn told(pulse_ms: u64) -> Self {
        Self::of_pulse(pulse_ms.clamp(PULSE_MS, PULSE_MAX_MS))
    }
}

/// Beyond the lease, what a gateway waits for clocks that run apart.
const LEASE_MARGIN_MS: u64 = 100;

/// A worker that lags so far is slow whatever the others do.
const SLOW_MS: u64 = 250;

/// Below this a lag is noise, however much better the others are.
const OUTLIER_MIN_MS: u64 = 50;

/// A worker that lags so many times more than the median of the others is slow.
const OUTLIER_FACTOR: u64 = 5;

/// An ejected worker is probed once it was well for so long; doubled with every relapse.
const REST_MS: u64 = 250;

/// The longest rest.
const REST_MAX_MS: u64 = 8_000;

/// A worker that is well for so long while it is probed is trusted again.
const PROBE_MS: u64 = 500;

/// A worker that is well for so long has its relapses forgotten.
const FORGIVEN_AFTER_MS: u64 = 30_000;

/// Whether a worker is sent to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// As any other.
    #[default]
    Well,
    /// One invocation at a time, to see how it does.
    Probing,
    /// Not at all.
    Ejected,
}

/// What a gateway noted of a worker's answers on one stream. Averages are kept in sixteenths of a millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    heard_at: MonotonicMs,
    /// None until the first pulse: a worker of an earlier release sends none and acknowledges nothing.
    pulse_at: Option<MonotonicMs>,
    /// The longest lease that an answer gave ends here.
    lease_until: MonotonicMs,
    /// What the answers before and after the newest pulse told: the worker may do either.
    paces: [Pace; 2],
    lateness: u64,
    taken: u64,
    /// Acknowledgements came since the last pulse.
    is_sampled: bool,
}

impl Answers {
    /// The stream is up.
    pub fn new(now: MonotonicMs) -> Self {
        Self {
            heard_at: now,
            pulse_at: None,
            lease_until: now,
            paces: [Pace::default(); 2],
            lateness: 0,
            taken: 0,
            is_sampled: false,
        }
    }

    /// Anything came.
    pub fn on_heard(&mut self, now: MonotonicMs) {
        self.heard_at = now;
    }

    /// A pulse came, and is answered at once with the wish for this pace.
    pub fn on_pulse(&mut self, pace: Pace, now: MonotonicMs) {
        if let Some(before) = self.pulse_at {
            let late = now.since(before).saturating_sub(self.pulse_ms());
            self.lateness = average(self.lateness, late, 4);
        }
        // What is not sent to is not measured, and old measurements fade.
        if !std::mem::take(&mut self.is_sampled) {
            self.taken = average(self.taken, 0, 4);
        }
        self.pulse_at = Some(now);
        self.lease_until = self.lease_until.max(now.plus(pace.lease_ms));
        self.paces = [self.paces[1], pace];
    }

    /// The longest that may lie between two pulses of a worker that is well.
    fn pulse_ms(&self) -> u64 {
        self.paces[0].pulse_ms.max(self.paces[1].pulse_ms)
    }

    /// An invocation was acknowledged so long after it was sent. Milliseconds.
    pub fn on_taken(&mut self, after_ms: u64) {
        self.taken = average(self.taken, after_ms, 8);
        self.is_sampled = true;
    }

    /// Whether the worker sends pulses and acknowledges.
    pub fn is_pulsing(&self) -> bool {
        self.pulse_at.is_some()
    }

    /// Whether the worker begins nothing any more of what is still to be handed over to it: its lease is over, whatever
    /// became of it and of the network.
    pub fn is_lease_over(&self, now: MonotonicMs) -> bool {
        self.is_pulsing() && now.0 >= self.lease_until.plus(LEASE_MARGIN_MS).0
    }

    /// How far the worker lags behind what is expected of it. Milliseconds. `oldest_untaken_ms` is the age of the oldest
    /// invocation that was handed over whole and is not acknowledged.
    pub fn lag_ms(&self, oldest_untaken_ms: u64, now: MonotonicMs) -> u64 {
        if !self.is_pulsing() {
            return 0;
        }
        let silent = now.since(self.heard_at).saturating_sub(self.pulse_ms());
        let averages = self.lateness.max(self.taken) / 16;
        oldest_untaken_ms.max(silent).max(averages)
    }
}

/// A moving average over about `weight` samples, in sixteenths.
fn average(before: u64, sample_ms: u64, weight: u64) -> u64 {
    let sample = sample_ms.saturating_mul(16);
    (before.saturating_mul(weight - 1)).saturating_add(sample) / weight
}

/// What the answers of one gateway allow, by the worker's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease(Option<MonotonicMs>);

impl Lease {
    /// The gateway answered the pulse that left then.
    pub fn on_answer(&mut self, sent_at: MonotonicMs, pace: Pace) {
        self.0 = self.0.max(Some(sent_at.plus(pace.lease_ms)));
    }

    /// Whether an invocation that is read at `now` may be begun.
    pub fn holds(self, now: MonotonicMs) -> bool {
        self.0.is_some_and(|until| now.0 < until.0)
    }
}

/// A worker's standing and how it came to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Now.
    pub standing: Standing,
    since: MonotonicMs,
    /// Since when it has not been slow.
    well_since: Option<MonotonicMs>,
    relapses: u32,
}

/// A worker to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Which.
    pub worker: NodeId,
    /// As the last judgement left it.
    pub record: Record,
    /// See [`Answers::lag_ms`].
    pub lag_ms: u64,
}

/// Judges all connected workers of a gateway. At most half of them are ejected, those that lag most, so that a fault of
/// the gateway or of the network as a whole ejects nobody for long, and the only worker is always sent to.
pub fn judge(cases: &mut [Case], now: MonotonicMs) {
    cases.sort_by_key(|case| (std::cmp::Reverse(case.lag_ms), case.worker));
    let lags: Vec<u64> = cases.iter().map(|case| case.lag_ms).collect();
    let mut spared = cases.len() / 2;
    for (index, case) in cases.iter_mut().enumerate() {
        let is_slow = is_slow(&lags, index);
        case.record.note(is_slow, now);
        let wants_out = match case.record.standing {
            Standing::Well | Standing::Probing => is_slow,
            Standing::Ejected => is_slow || !case.record.is_rested(now),
        };
        if wants_out && spared > 0 {
            spared -= 1;
            case.record.eject(now);
        } else {
            case.record.admit(wants_out, now);
        }
    }
}

/// `lags` are sorted, the largest first.
fn is_slow(lags: &[u64], index: usize) -> bool {
    let lag = lags[index];
    if lag >= SLOW_MS {
        return true;
    }
    // The better of the two in the middle of the others: of two others one may be slow as well.
    let middle = (lags.len() - 1) / 2;
    let Some(median) = lags.get(if middle < index { middle } else { middle + 1 }) else {
        return false;
    };
    lag >= OUTLIER_MIN_MS && lag >= median.saturating_mul(OUTLIER_FACTOR)
}

impl Record {
    fn note(&mut self, is_slow: bool, now: MonotonicMs) {
        if is_slow {
            self.well_since = None;
        } else if self.well_since.is_none() {
            self.well_since = Some(now);
        }
        let is_forgiven = self
            .well_since
            .is_some_and(|since| now.since(since) >= FORGIVEN_AFTER_MS);
        if is_forgiven {
            self.relapses = 0;
        }
    }

    fn well_ms(&self, now: MonotonicMs) -> u64 {
        self.well_since.map_or(0, |since| now.since(since))
    }

    fn is_rested(&self, now: MonotonicMs) -> bool {
        let doublings = self.relapses.saturating_sub(1).min(16);
        self.well_since.is_some() && self.well_ms(now) >= (REST_MS << doublings).min(REST_MAX_MS)
    }

    fn eject(&mut self, now: MonotonicMs) {
        if self.standing != Standing::Ejected {
            self.relapses = self.relapses.saturating_add(1);
            self.become_now(Standing::Ejected, now);
        }
    }

    /// `cannot_be_spared`: it is slow, or was lately, and the others are worse.
    fn admit(&mut self, cannot_be_spared: bool, now: MonotonicMs) {
        let next = match self.standing {
            _ if cannot_be_spared => Standing::Well,
            Standing::Ejected => Standing::Probing,
            Standing::Probing if now.since(self.since) >= PROBE_MS => Standing::Well,
            Standing::Probing => Standing::Probing,
            Standing::Well => Standing::Well,
        };
        if next != self.standing {
            self.become_now(next, now);
        }
    }

    fn become_now(&mut self, standing: Standing, now: MonotonicMs) {
        self.standing = standing;
        self.since = now;
    }
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
