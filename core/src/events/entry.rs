//! One event of a group and its way from queued to settled. Which entries there are is `state`'s, in what order they are
//! leased `turn`'s.

use serde::{Deserialize, Serialize};

use super::retry::{Condition, Decision, Progress};
use crate::attached::LATEST;
use crate::ids::{AccountId, NodeId, UnixMs};
use crate::limits::EVENT_ENTRY_BYTES;
use crate::name::{FunctionName, Qualifier, function_arn};

/// Whose events wait in one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FunctionKey {
    /// The owner.
    pub account: AccountId,
    /// The function.
    pub function: FunctionName,
}

/// Where the log has a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadRef {
    /// Index of the log's record.
    pub index: u64,
    /// Its length.
    pub bytes: u32,
}

/// An event of the log, and what it has been through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventEntry {
    /// Which one since the group began, from 1: the order of acceptance.
    pub number: u64,
    /// What the client was answered, and what every attempt carries.
    pub request_id: String,
    /// What is invoked.
    pub function: FunctionKey,
    /// Version or alias as asked for; an alias is resolved at each attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qualifier: Option<Qualifier>,
    /// Its payload.
    pub payload: PayloadRef,
    /// When it was promised.
    pub accepted: UnixMs,
    /// How far it has come.
    pub progress: Progress,
    /// Of its newest lease; zero before the first. What is said under another one is stale.
    pub epoch: u64,
    /// What it waits for.
    pub phase: Phase,
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It waits to be leased.
    Queued {
        /// Not before this.
        due: UnixMs,
    },
    /// A dispatcher has it.
    Leased {
        /// Which.
        holder: NodeId,
        /// Until when nobody else gets it.
        until: UnixMs,
    },
    /// It is over.
    Settled {
        /// Since when.
        at: UnixMs,
        /// How it ended.
        end: End,
    },
}

/// How an event ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// Those were told that the function names.
    Delivered(Condition),
    /// Nobody was told.
    Dropped,
}

impl EventEntry {
    /// The ARN of what was asked for, as records carry it: recorded from AWS, with `$LATEST` where nothing was.
    pub fn arn(&self, region: &str) -> String {
        let arn = function_arn(region, &self.function.account, &self.function.function);
        let qualifier = self.qualifier.as_ref().unwrap_or(&LATEST);
        format!("{arn}:{qualifier}")
    }

    /// Whether it is not over.
    pub fn is_open(&self) -> bool {
        match self.phase {
            Phase::Queued { .. } | Phase::Leased { .. } => true,
            Phase::Settled { .. } => false,
        }
    }

    /// Whether it is over without a success, so that it can be taken up again.
    pub fn has_failed(&self) -> bool {
        match self.phase {
            Phase::Settled {
                end: End::Delivered(condition),
                ..
            } => condition.is_failure(),
            Phase::Settled {
                end: End::Dropped, ..
            }
            | Phase::Queued { .. }
            | Phase::Leased { .. } => false,
        }
    }

    /// Whether its payload may still be asked for.
    pub fn needs_payload(&self) -> bool {
        self.is_open() || self.has_failed()
    }

    /// What it takes of its group's bytes.
    pub fn bytes(&self) -> u64 {
        let payload = u64::from(self.payload.bytes);
        EVENT_ENTRY_BYTES + if self.needs_payload() { payload } else { 0 }
    }

    pub(super) fn lease(&mut self, holder: NodeId, until: UnixMs, epoch: u64) {
        self.progress.attempts = self.progress.attempts.saturating_add(1);
        self.epoch = epoch;
        self.phase = Phase::Leased { holder, until };
    }

    /// Whether this is its newest lease, and nothing has ended it.
    pub(super) fn is_leased_under(&self, epoch: u64) -> bool {
        matches!(self.phase, Phase::Leased { .. }) && self.epoch == epoch
    }

    /// The attempt under its lease is over.
    pub(super) fn settle(&mut self, decision: Decision, now: UnixMs) {
        self.progress = self.progress.after(&decision);
        let end = match decision {
            Decision::RetryAt { at, .. } => {
                self.phase = Phase::Queued { due: at };
                return;
            }
            Decision::Deliver { condition, .. } => End::Delivered(condition),
            Decision::Drop => End::Dropped,
        };
        self.phase = Phase::Settled { at: now, end };
    }

    /// Its lease is over and nobody has settled it. The attempt stays counted: it may have run.
    pub(super) fn lapse(&mut self) {
        match self.phase {
            Phase::Leased { until, .. } => self.phase = Phase::Queued { due: until },
            // It has no lease.
            Phase::Queued { .. } | Phase::Settled { .. } => {}
        }
    }

    /// An operator has it tried again, as if it had just been accepted. The epoch stays, so that old leases stay stale.
    pub(super) fn redrive(&mut self, now: UnixMs) {
        self.progress = Progress {
            counted_from: now,
            attempts: 0,
            setbacks: 0,
        };
        self.phase = Phase::Queued { due: now };
    }
}
