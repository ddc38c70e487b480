//! Once every member has said that it can read more, the log says so too: from then on it holds whoever is away.

use super::term::{Done, Term};
use crate::state::command::Command;

impl Term {
    /// Repeated by the tick until it shows in the state.
    pub(super) fn raise_level(&mut self) {
        let level = self.deps.consensus.level();
        let recorded = self.deps.consensus.read(|machine| machine.state().level);
        let command = Command::RaiseLevel { level };
        if level > recorded && level >= command.since_level() {
            tracing::info!(level, "every controller can read commands of this level");
            self.propose(&command, |result| Done::Proposed {
                what: "level",
                result,
            });
        }
    }
}
