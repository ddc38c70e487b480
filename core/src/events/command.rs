//! What is written into a group's log, and what is answered. Proposers fix all times.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::entry::{EventEntry, FunctionKey, PayloadRef};
use super::retry::Decision;
use super::state::EventLimits;
use crate::error::{Error, ErrorCode};
use crate::ids::{NodeId, UnixMs};
use crate::name::Qualifier;

/// A command. It stands in the log as it is: variants and fields keep their meaning, and are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventCommand {
    /// Sets how much the group takes, from its next event on.
    Configure {
        /// From now on.
        limits: EventLimits,
    },
    /// Takes an event in. Once for each request id: the same again is answered and changes nothing.
    Append {
        /// The invocation's.
        request_id: String,
        /// What is invoked.
        function: FunctionKey,
        /// Version or alias as asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        qualifier: Option<Qualifier>,
        /// Where its payload is.
        payload: PayloadRef,
        /// Now.
        now: UnixMs,
    },
    /// Gives due events to a dispatcher and counts an attempt of each.
    Lease {
        /// The dispatcher.
        holder: NodeId,
        /// At most so many.
        count: u32,
        /// Until when nobody else is given them.
        until: UnixMs,
        /// Functions that cannot be run now, so that no lease is spent on finding that out. One whose oldest event has come
        /// to its age is not to be skipped: nobody else tells that it has.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        skip: BTreeSet<FunctionKey>,
        /// Now.
        now: UnixMs,
    },
    /// Ends leases, each with what is to be done.
    Settle {
        /// Which and how.
        settlements: Vec<Settlement>,
        /// Now.
        now: UnixMs,
    },
    /// Keeps leases for longer.
    Renew {
        /// Which.
        leases: Vec<LeaseId>,
        /// Until when; a lease is never made shorter.
        until: UnixMs,
    },
    /// Takes failed events up again, with new attempts and a new age.
    Redrive {
        /// Which.
        request_ids: Vec<String>,
        /// Now.
        now: UnixMs,
    },
    /// Makes events due whose leases are over, and forgets settled ones after their time.
    Sweep {
        /// How long those stay that succeeded or were dropped, milliseconds: for as long their request ids are known again.
        keep_done_ms: u64,
        /// How long those stay that failed, milliseconds: for as long they can be taken up again.
        keep_failed_ms: u64,
        /// Forget at most so many of each kind, so that one command is short.
        most: u32,
        /// Now.
        now: UnixMs,
    },
}

/// One lease of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseId {
    /// The event's.
    pub request_id: String,
    /// Under which it was leased.
    pub epoch: u64,
}

/// The end of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// Which.
    pub lease: LeaseId,
    /// What is to be done with the event.
    pub decision: Decision,
}

/// What came of something that was said under a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseOutcome {
    /// It counts.
    Done,
    /// The lease is over: settled, given to somebody else, or swept. Nothing changed.
    Stale,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventReply {
    /// To `Configure`.
    Configured,
    /// To `Append`: it is kept.
    Appended,
    /// To `Append`: it was before.
    AlreadyAppended,
    /// To `Lease`: the events in the order in which they are to be tried, all under one epoch.
    Leased(Vec<EventEntry>),
    /// To `Settle` and `Renew`: one outcome for each, in order.
    Outcomes(Vec<LeaseOutcome>),
    /// To `Redrive`: those that wait again. The others have not failed, are gone, or find no room in their line.
    Redriven(Vec<String>),
    /// To `Sweep`.
    Swept {
        /// Leases that were over.
        lapsed: u32,
        /// Entries that are forgotten.
        forgotten: u32,
    },
    /// Nothing happened.
    Refused(EventRefusal),
}

/// Why a command is not carried out. Nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum EventRefusal {
    /// The function's line is full.
    #[error("{limit} events of the function wait already")]
    FunctionFull {
        /// How many may.
        limit: u32,
    },
    /// The group is full.
    #[error("the event log holds {limit} bytes already")]
    GroupFull {
        /// How many it may.
        limit: u64,
    },
    /// There is another event of that request id.
    #[error("another event has the request id {request_id}")]
    RequestIdTaken {
        /// Which.
        request_id: String,
    },
    /// The request id is none.
    #[error("a request id has 1 to {limit} bytes")]
    RequestIdInvalid {
        /// How long it may be.
        limit: u32,
    },
    /// A lease would be over before it begins.
    #[error("a lease ends later than it begins")]
    LeaseOver,
}

impl EventRefusal {
    /// As the client of an event invocation sees it.
    pub fn to_error(&self) -> Error {
        match self {
            // AWS's text for every rate that is exceeded: whoever sends them is to wait.
            Self::FunctionFull { .. } | Self::GroupFull { .. } => {
                Error::new(ErrorCode::Throttled, "Rate Exceeded.")
            }
            Self::RequestIdTaken { .. } | Self::RequestIdInvalid { .. } | Self::LeaseOver => {
                Error::new(ErrorCode::Internal, self.to_string())
            }
        }
    }
}
