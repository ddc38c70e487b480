//! The pieces of the simulated world: what can be taken away, chance, messages, workers and leaders with
//! their own clocks. How they act on each other is in `world`.

use hearth_core::ids::{Incarnation, MonotonicMs, NodeId, PoolKey};
use hearth_core::permits::{
    Candidate, Grant, GrantTable, Host, LeaderPermits, Permit, PermitTiming, Renewal, RenewalReply,
    Shrink, ShrinkAnswer, WorkerPermits,
};

/// A safeguard taken away, to see that the invariants notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    None,
    /// The leader takes a silent worker's share after half of TTL_w.
    ReclaimEarly,
    /// A deposed leader answers renewals without confirming that it leads.
    UnconfirmedLeader,
    /// The network writes the worker's present session into late grants.
    ForgetSessions,
    /// The network makes old grants look new.
    ForgetSequences,
    /// Workers answer a shrink with what was asked whatever they run.
    ShrinkUnderInFlight,
    /// Workers never stop for want of renewals.
    NoFence,
    /// A pool that is carved out of another counts on its own.
    ForgetWhole,
}

pub(crate) fn host(candidate: &Candidate) -> Host {
    Host {
        worker: candidate.worker,
        incarnation: candidate.incarnation,
        room_mib: if candidate.has_room { 512 } else { 0 },
    }
}

/// TTL_w of the workers that keep it.
pub(crate) const TTL_MS: u64 = 2_000;

pub(crate) fn timing(sabotage: Sabotage) -> PermitTiming {
    let worker_ttl_ms = match sabotage {
        Sabotage::ReclaimEarly => TTL_MS / 4,
        Sabotage::None
        | Sabotage::UnconfirmedLeader
        | Sabotage::ForgetSessions
        | Sabotage::ForgetSequences
        | Sabotage::ShrinkUnderInFlight
        | Sabotage::ForgetWhole
        | Sabotage::NoFence => TTL_MS,
    };
    PermitTiming {
        worker_ttl_ms,
        margin_ms: 100,
        resend_ms: 200,
        settle_ms: 600,
    }
}

/// A reserved pool of one, a reserved pool, the unreserved pool, and a part carved out of the second.
pub(crate) fn pools() -> [PoolKey; 4] {
    let account = "123456789012".parse().expect("12 digits");
    let name = |name: &str| name.parse().expect("a name");
    [
        PoolKey::reserved(&account, &name("one")),
        PoolKey::reserved(&account, &name("many")),
        PoolKey::unreserved(&account),
        PoolKey::provisioned(&account, &name("many"), 1),
    ]
}

/// SplitMix64 (Steele, Lea, Flood 2014): a few lines, and the same on every platform.
#[derive(Debug)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.draw() % n
    }
    pub(crate) fn per_mille(&mut self, p: u64) -> bool {
        self.below(1_000) < p
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Message {
    Grant(NodeId, Grant),
    Shrink(NodeId, Shrink),
    Reply(NodeId, Incarnation, RenewalReply),
    /// To the leader with this number.
    Renewal(usize, Renewal),
    Answer(usize, ShrinkAnswer),
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) permits: WorkerPermits,
    /// Clock rate in parts per thousand.
    pub(crate) rate: u64,
    /// Crashed and not back before this moment.
    pub(crate) down_until: u64,
    /// Cut off from the leaders until this moment.
    pub(crate) cut_until: u64,
    /// Which leader it talks to; a partition may leave it with the deposed one.
    pub(crate) leader: usize,
    pub(crate) running: Vec<(PoolKey, Permit, MonotonicMs)>,
}

impl Node {
    pub(crate) fn clock(&self, now: u64) -> MonotonicMs {
        MonotonicMs(100_000 + now * self.rate / 1_000)
    }
    pub(crate) fn in_flight(&self, pool: &PoolKey) -> u32 {
        let n = self.running.iter().filter(|(p, _, _)| p == pool).count();
        u32::try_from(n).expect("few")
    }
}

#[derive(Debug)]
pub(crate) struct Leader {
    pub(crate) permits: LeaderPermits,
    pub(crate) rate: u64,
    /// Its applied state; stale once it is deposed.
    pub(crate) table: GrantTable,
}

impl Leader {
    pub(crate) fn clock(&self, now: u64) -> MonotonicMs {
        MonotonicMs(500_000 + now * self.rate / 1_000)
    }
}
