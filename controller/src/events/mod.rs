//! The event log: a Raft group of its own beside that of the metadata, on the same controllers, so that a flood of events
//! never delays a deploy. What happens to an event is decided in `hearth_core::events`; here it is agreed on and kept.
//!
//! - `machine`: the group's state with its payloads, as consensus sees it;
//! - `service`: what gateways and operators ask;
//! - `lease`: due events, given to one dispatcher after the other;
//! - `members`: the group has the members that the metadata has;
//! - `sweep`: what is over goes, so that the log stays small.
//!
//! Not here: who invokes the functions (`gateway/src/events`).

pub(crate) mod lease;
pub(crate) mod machine;
pub(crate) mod members;
pub(crate) mod service;
pub(crate) mod sweep;

use bytes::Bytes;
use hearth_core::error::{Error, ErrorCode, NOT_DONE};
use hearth_core::events::{EventCommand, EventReply};

use self::machine::EventMachine;
use crate::raft::{Consensus, ProposeError};

/// Path under which controllers reach each other for this group.
pub(crate) const PATH: &str = "/events";

/// Names [`PATH`] to the gRPC server.
#[derive(Debug)]
pub(crate) struct Path;

impl tonic::server::NamedService for Path {
    const NAME: &'static str = "events";
}

impl Consensus<EventMachine> {
    /// Commits a command that may be in the log several times: each of them but `Lease` does the same again, or nothing.
    pub(crate) async fn commit_event(
        &self,
        command: &EventCommand,
        payload: Bytes,
    ) -> Result<EventReply, Error> {
        let record = machine::record(command, payload);
        let proposed = match command {
            EventCommand::Lease { .. } => self.propose(record).await,
            EventCommand::Configure { .. }
            | EventCommand::Append { .. }
            | EventCommand::Settle { .. }
            | EventCommand::Renew { .. }
            | EventCommand::Redrive { .. }
            | EventCommand::Sweep { .. } => self.propose_again(record).await,
        };
        let proposed = proposed.map_err(|error| propose_error(&error))?;
        serde_json::from_slice(&proposed.reply).map_err(|error| {
            let text = format!("the event log's answer cannot be read: {error}");
            Error::new(ErrorCode::Unavailable, text)
        })
    }
}

fn propose_error(error: &ProposeError) -> Error {
    let text = error.to_string();
    match error {
        ProposeError::TooLarge { .. } => Error::new(ErrorCode::RequestTooLarge, text),
        ProposeError::Level { .. }
        | ProposeError::NotLeader { .. }
        | ProposeError::Unavailable(_) => {
            Error::new(ErrorCode::Unavailable, text).with_reason(NOT_DONE)
        }
        ProposeError::OutcomeUnknown(_) => Error::new(ErrorCode::Unavailable, text),
    }
}
