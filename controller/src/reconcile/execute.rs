//! Carries out what `plan` decides: orders to workers and proposals.

use std::collections::BTreeMap;

use hearth_core::function::Function;
use hearth_proto::internal::v1 as pb;
use pb::worker_order::Order;

use super::plan::{Action, Wanted};
use crate::leader::{Done, Term};
use crate::state::command::Command;

/// Functions looked at besides those under way, when thousands wait: those that can be settled, or given up, make room.
const LOOKED_AT: usize = 512;

/// What a function waits for.
fn wanted(function: &Function) -> Wanted {
    Wanted {
        key: function.version_key(&function.latest),
        runtime: function.latest.config.runtime.clone(),
        memory_mib: function.latest.config.memory_mib,
    }
}

impl Term {
    /// Compares what is wanted with what was reported, and acts.
    pub(crate) fn reconcile(&mut self) {
        let now = self.now();
        let preparations = &self.preparations;
        let unsettled: Vec<Wanted> = self.deps.consensus.read(|m| {
            let functions = &m.state().functions;
            let under_way = preparations.under_way().filter_map(|key| {
                let is_same = |f: &&Function| f.latest.generation == key.generation;
                functions
                    .unsettled_of(&key.account, &key.function)
                    .filter(is_same)
            });
            let next = functions.unsettled().take(LOOKED_AT);
            let all = under_way.chain(next).map(wanted);
            let all: BTreeMap<_, _> = all.map(|w| (w.key.clone(), w)).collect();
            all.into_values().collect()
        });
        // Of a thousand workers this is not made for nothing.
        let hosts = if unsettled.is_empty() {
            Vec::new()
        } else {
            self.observed.hosts(self.heard_since(now))
        };
        for action in self.preparations.plan(&unsettled, &hosts, now) {
            self.act(action);
        }
        self.provision();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Prepare { worker, key } => {
                let order = pb::Prepare {
                    account: key.account.as_str().to_owned(),
                    function: key.function.as_str().to_owned(),
                    version: key.version.to_string(),
                    generation: key.generation,
                };
                self.order(worker, Order::Prepare(order));
            }
            Action::Settle { key, outcome } => {
                tracing::info!(%key, ?outcome, "function settles");
                let command = Command::SettleFunction {
                    account: key.account,
                    name: key.function,
                    generation: key.generation,
                    outcome,
                    revision_id: self.deps.random.uuid(),
                };
                self.propose(&command, |result| Done::Proposed {
                    what: "settlement",
                    result,
                });
            }
        }
    }
}
