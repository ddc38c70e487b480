//! How commands get into the log: the one way for all that propose. A command that some controller could not read is refused
//! here, before anything happened.

use bytes::Bytes;

use crate::machine::{self, ReplicatedState};
use crate::raft::{Consensus, ProposeError};
use crate::state::command::Command;
use crate::state::reply::Reply;

impl Consensus<ReplicatedState> {
    /// The highest level of commands that every member can read: as the members said lately, or as the log says, in which
    /// nothing above it stands. A member that is away while this controller starts does not take away what was possible before.
    pub(crate) fn agreed_level(&self) -> u32 {
        let recorded = self.read(|machine| machine.state().level);
        self.level().max(recorded)
    }

    /// The command as it stands in the log, if all members can read it.
    pub(crate) fn admit(&self, command: &Command) -> Result<Bytes, ProposeError> {
        let (needed, agreed) = (command.since_level(), self.agreed_level());
        if needed > agreed {
            return Err(ProposeError::Level { needed, agreed });
        }
        Ok(machine::encode(command))
    }

    /// Commits a command and returns its answer.
    pub(crate) async fn commit(&self, command: &Command) -> Result<Reply, ProposeError> {
        let bytes = self.admit(command)?;
        answer(&self.propose(bytes).await?.reply)
    }

    /// As [`Consensus::commit`], for a command that may be proposed again when its fate is unknown.
    pub(crate) async fn commit_again(&self, command: &Command) -> Result<Reply, ProposeError> {
        let bytes = self.admit(command)?;
        answer(&self.propose_again(bytes).await?.reply)
    }
}

/// What the machine answered.
pub(crate) fn answer(reply: &[u8]) -> Result<Reply, ProposeError> {
    machine::decode(reply).map_err(|error| {
        ProposeError::OutcomeUnknown(format!("the leader's answer cannot be read: {error}"))
    })
}
