//! Deliberately wrong rules, to see that the simulation notices (`tests/sim`). Compiled in by the feature `planted-bugs`
//! alone, which no executable of ours has; without it every question here is answered no, at compile time.

/// A rule that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// A worker takes a grant that is older than the one it has.
    StaleGrantAccepted = 1,
    /// A shrink is committed though the grant has changed since it was asked for.
    ShrinkBaseIgnored,
    /// A worker gives back permits that are in use.
    ShrinkBelowInFlight,
    /// What a heartbeat says is not in use is taken back without asking.
    ReleaseByHeartbeat,
    /// A silent worker's permits are given to others at once.
    ReuseBeforeWait,
    /// A worker goes on serving reserved pools without renewals.
    NoSelfFence,
    /// A worker takes grants that were made to its earlier life, and keeps them over a restart.
    IncarnationIgnored,
    /// A worker takes grants of an earlier session with the leader.
    SessionIgnored,
    /// The log is acknowledged before it is on disk.
    AcknowledgedBeforeFsync,
    /// A vote is answered for and not written.
    VoteNotPersisted,
    /// A leader that restarts goes on under its old vote (openraft's default).
    LeaderRestoreOn,
    /// A controller renews without asking a quorum whether it still leads.
    RenewalUnconfirmed,
    /// A sandbox may be used for another account's function of the same name.
    SandboxAcrossAccounts,
    /// Reads are answered from the local copy.
    ReadsUnconfirmed,
    /// Grants are committed without looking at the limit.
    GrantsAboveLimit,
    /// A permit of an invocation that failed is not given back.
    PermitLeaked,
    /// A function goes on being served by what it was before an update.
    OldVersionServed,
    /// The log is purged before the snapshot is durable.
    SnapshotNotSynced,
}

impl Bug {
    /// All, in the order of the table in `tests/sim/README.md`.
    pub const ALL: [Self; 18] = [
        Self::StaleGrantAccepted,
        Self::ShrinkBaseIgnored,
        Self::ShrinkBelowInFlight,
        Self::ReleaseByHeartbeat,
        Self::ReuseBeforeWait,
        Self::NoSelfFence,
        Self::IncarnationIgnored,
        Self::SessionIgnored,
        Self::AcknowledgedBeforeFsync,
        Self::VoteNotPersisted,
        Self::LeaderRestoreOn,
        Self::RenewalUnconfirmed,
        Self::SandboxAcrossAccounts,
        Self::ReadsUnconfirmed,
        Self::GrantsAboveLimit,
        Self::PermitLeaked,
        Self::OldVersionServed,
        Self::SnapshotNotSynced,
    ];
}

#[cfg(feature = "planted-bugs")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Switches one on for the rest of the process.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Bug) {
    PLANTED.store(bug as u8, std::sync::atomic::Ordering::Relaxed);
}

/// Whether the rule is broken in this process.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn is(bug: Bug) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == bug as u8
}

/// Whether the rule is broken in this process: never.
#[cfg(not(feature = "planted-bugs"))]
#[must_use]
#[inline(always)]
pub const fn is(_bug: Bug) -> bool {
    false
}
