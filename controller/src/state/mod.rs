//! The replicated state: pure data and `apply`. No clock, no randomness, no IO, no hash maps: every
//! controller that applies the same commands holds the same state. JSON and Raft are in `crate::machine`.

pub mod accounts;
mod attached;
#[cfg(test)]
mod attached_tests;
pub mod command;
pub mod functions;
pub mod grants;
pub mod iam;
#[cfg(test)]
mod images_tests;
pub mod layers;
#[cfg(test)]
mod layers_tests;
#[cfg(test)]
mod limits_tests;
pub mod nodes;
pub mod once;
#[cfg(test)]
mod properties;
mod provisioned;
mod published;
pub mod reply;
pub mod resources;
#[cfg(test)]
mod resources_tests;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod tests;
pub mod tokens;
#[cfg(test)]
mod versions_tests;

use std::collections::BTreeSet;

use hearth_core::control::AccountSummary;
use hearth_core::error::{Error, Result};
use hearth_core::function::{CodeRef, Function};
use hearth_core::ids::{AccountId, GrantSequence, NodeId, PoolKey};
use hearth_core::layer;
use hearth_core::name::FunctionName;
use hearth_core::permits::GrantChange;
use serde::{Deserialize, Serialize};

use accounts::AccountLimits;
use command::{Command, Registration, Role};
use functions::{Change, Functions};
use grants::Grants;
use iam::Iam;
use layers::Layers;
use nodes::Nodes;
use once::Once;
use reply::{Effect, Reply};
use resources::Resources;
use tokens::JoinTokens;

/// Everything the controllers agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What ARNs carry; empty until the first leader has configured the cluster.
    pub region: String,
    /// What each account may use.
    pub limits: AccountLimits,
    /// Functions.
    pub functions: Functions,
    /// Pools and grants.
    pub grants: Grants,
    /// Workers.
    pub nodes: Nodes,
    /// The newest term whose leader has begun its work.
    pub leader_term: u64,
    /// Outcomes of the newest commands that are carried out once.
    #[serde(default, skip_serializing_if = "Once::is_empty")]
    pub once: Once,
    /// Tokens with which nodes join.
    #[serde(default, skip_serializing_if = "JoinTokens::is_empty")]
    pub join_tokens: JoinTokens,
    /// Layers.
    #[serde(default, skip_serializing_if = "Layers::is_empty")]
    pub layers: Layers,
    /// Code signing configurations and event source mappings.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// Roles, users, groups and their policies.
    #[serde(default, skip_serializing_if = "Iam::is_empty")]
    pub iam: Iam,
    /// The highest level of commands that all members can read, since [`Command::RaiseLevel`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub level: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference to it"
)]
fn is_zero(level: &u32) -> bool {
    *level == 0
}

/// Answer and effects of one command.
type Outcome = (Reply, Vec<Effect>);

fn done() -> Outcome {
    (Reply::Done, Vec::new())
}

fn refused(error: Error) -> Outcome {
    (Reply::Refused(error), Vec::new())
}

fn changed(function: Function) -> Outcome {
    let effect = Effect::Function(function.account.clone(), function.name.clone());
    (Reply::Function(Box::new(function)), vec![effect])
}

impl State {
    /// Applies the command at log index `index`. Total: a command that cannot be carried out is answered.
    pub fn apply(&mut self, index: u64, command: &Command) -> (Reply, Vec<Effect>) {
        let outcome = self.try_apply(index, command).unwrap_or_else(refused);
        self.grants.forget_gone();
        outcome
    }

    fn try_apply(&mut self, index: u64, command: &Command) -> Result<Outcome> {
        match command {
            Command::Configure { .. } => Ok(self.configure(index, command)),
            Command::CreateFunction { .. } => self.create_function(index, command),
            Command::UpdateFunctionCode { .. } => self.update_code(index, command),
            Command::UpdateFunctionConfiguration { .. } => self.update_config(index, command),
            Command::DeleteFunction { account, name } => self.delete_function(index, account, name),
            Command::SettleFunction { .. } => Ok(self.settle_function(command)),
            Command::SetReservedConcurrency { .. } => self.set_reserved(index, command),
            Command::TagFunction {
                account,
                name,
                set,
                remove,
            } => {
                self.functions
                    .tag(&self.region, account, name, set, remove)?;
                let effect = Effect::Function(account.clone(), name.clone());
                Ok((Reply::Done, vec![effect]))
            }
            Command::ThenPublish { first, revision_id } => {
                self.then_publish(index, first, revision_id)
            }
            Command::ChangeVersions { .. } => self.change_versions(index, command),
            Command::ChangeLayer { .. } => self.change_layer(command),
            Command::ChangeAttached { .. } => self.change_attached(index, command),
            Command::ChangeResource { .. } => self.change_resource(command),
            Command::ChangeIam { .. } => self.change_iam(index, command),
            Command::RegisterWorker {
                worker,
                registration,
            } => Ok(self.register_worker(index, *worker, registration)),
            Command::SetWorkerHealth { .. } => Ok(self.set_worker_health(command)),
            Command::ForgetWorker { worker } => Ok(self.forget_worker(index, *worker)),
            Command::BeginTerm { term } => Ok(self.begin_term(*term)),
            Command::ChangeGrants { term, changes } if *term == self.leader_term => {
                Ok(self.change_grants(index, changes))
            }
            Command::ChangeGrants { .. } => Ok((Reply::Superseded, Vec::new())),
            Command::Once { token, command } => Ok(self.apply_once(index, token, command)),
            Command::SetDrain { role, node, drain } => Ok(self.set_drain(*role, *node, *drain)),
            Command::CreateJoinToken { .. } => self.create_join_token(command),
            Command::UseJoinToken { .. } => self.use_join_token(command),
            Command::RaiseLevel { level } => {
                self.level = self.level.max(*level);
                Ok(done())
            }
        }
    }

    fn configure(&mut self, index: u64, command: &Command) -> Outcome {
        let Command::Configure {
            region,
            concurrency_limit,
            code_storage_bytes,
        } = command
        else {
            return done();
        };
        if self.region.is_empty() {
            self.region.clone_from(region);
        }
        self.limits = AccountLimits {
            concurrency: *concurrency_limit,
            code_storage_bytes: *code_storage_bytes,
        };
        let accounts: Vec<AccountId> = self.functions.accounts().cloned().collect();
        for account in accounts {
            self.set_unreserved(index, &account);
        }
        done()
    }

    fn create_function(&mut self, index: u64, command: &Command) -> Result<Outcome> {
        let Command::CreateFunction {
            account,
            name,
            config,
            code,
            tags,
            code_signing,
            revision_id,
            at,
        } = command
        else {
            return Ok(done());
        };
        if let Some(arn) = code_signing {
            self.check_signing_exists(account, arn)?;
            self.check_signing(account, Some(arn))?;
        }
        if self.functions.function(account, name).is_none() {
            let before = self.code_bytes(account);
            let after = before.saturating_add(code.size_bytes);
            self.limits.check_code(before, after)?;
        }
        let change = Change {
            generation: index,
            at: *at,
            revision_id,
        };
        let mut function = functions::new_function(account, name, config, code, tags);
        function.latest.config.layer_contents = self.layer_contents(account, config, code)?;
        function.attached.code_signing.clone_from(code_signing);
        let function = self.functions.create(function, &change)?;
        self.set_unreserved(index, account);
        self.grants.raise_timeout(&function);
        Ok(changed(function))
    }

    fn update_code(&mut self, index: u64, command: &Command) -> Result<Outcome> {
        let Command::UpdateFunctionCode {
            account,
            name,
            code,
            architectures,
            expected_revision,
            revision_id,
            at,
        } = command
        else {
            return Ok(done());
        };
        self.check_code_update(account, name, code, expected_revision.as_deref())?;
        let change = Change {
            generation: index,
            at: *at,
            revision_id,
        };
        let function = self
            .functions
            .begin_update(account, name, &change, |latest| {
                latest.code = code.clone();
                if let Some(architectures) = architectures {
                    latest.config.architectures.clone_from(architectures);
                }
            });
        Ok(function.map_or_else(done, changed))
    }

    /// Whether the code may be replaced by `code`; the whole of what a dry run asks.
    pub fn check_code_update(
        &self,
        account: &AccountId,
        name: &FunctionName,
        code: &CodeRef,
        expected_revision: Option<&str>,
    ) -> Result<&Function> {
        let function =
            self.functions
                .check_update(&self.region, account, name, expected_revision)?;
        functions::check_kind(function, code)?;
        self.check_signing(account, function.attached.code_signing.as_ref())?;
        let before = self.code_bytes(account);
        let after = before
            .saturating_sub(function.latest.code.size_bytes)
            .saturating_add(code.size_bytes);
        self.limits.check_code(before, after)?;
        layer::check_unpacked(code, &function.latest.config.layer_contents)?;
        Ok(function)
    }

    fn update_config(&mut self, index: u64, command: &Command) -> Result<Outcome> {
        let Command::UpdateFunctionConfiguration {
            account,
            name,
            patch,
            expected_revision,
            revision_id,
            at,
        } = command
        else {
            return Ok(done());
        };
        let function = self.functions.check_update(
            &self.region,
            account,
            name,
            expected_revision.as_deref(),
        )?;
        functions::check_patch(function, patch)?;
        let mut config = function.latest.config.clone();
        patch.apply_to(&mut config);
        if patch.layers.is_some() {
            if !config.layers.is_empty() {
                self.check_signing(account, function.attached.code_signing.as_ref())?;
            }
            config.layer_contents = self.layer_contents(account, &config, &function.latest.code)?;
        }
        let change = Change {
            generation: index,
            at: *at,
            revision_id,
        };
        let function = self
            .functions
            .begin_update(account, name, &change, |latest| {
                latest.config = config;
            });
        let Some(function) = function else {
            return Ok(done());
        };
        self.grants.raise_timeout(&function);
        Ok(changed(function))
    }

    fn delete_function(
        &mut self,
        index: u64,
        account: &AccountId,
        name: &FunctionName,
    ) -> Result<Outcome> {
        let function = self.functions.delete(&self.region, account, name)?;
        let has_own_pools = function.set_aside() > 0 || function.reserved_concurrency.is_some();
        if function.reserved_concurrency.is_some() {
            self.grants
                .set_reserved(account, name, None, GrantSequence(index));
        }
        if !function.provisioned.is_empty() {
            self.set_pools(index, account, name);
        }
        if has_own_pools {
            self.set_unreserved(index, account);
        }
        Ok((
            Reply::Done,
            vec![Effect::Function(account.clone(), name.clone())],
        ))
    }

    fn settle_function(&mut self, command: &Command) -> Outcome {
        let Command::SettleFunction {
            account,
            name,
            generation,
            outcome,
            revision_id,
        } = command
        else {
            return done();
        };
        self.functions
            .settle(account, name, *generation, outcome, revision_id)
            .map_or_else(done, changed)
    }

    fn set_reserved(&mut self, index: u64, command: &Command) -> Result<Outcome> {
        let Command::SetReservedConcurrency {
            account,
            name,
            reserved,
            revision_id,
        } = command
        else {
            return Ok(done());
        };
        let function = self.functions.find(&self.region, account, name)?;
        let provisioned = function.provisioned_total();
        let before = self.functions.set_aside(account);
        let wanted = reserved.map_or(provisioned, u64::from);
        let after = before - function.set_aside() + wanted;
        self.limits
            .check_set_aside("ReservedConcurrentExecutions", before, after)?;
        provisioned::check_reserved(*reserved, provisioned)?;
        let function = self
            .functions
            .set_reserved(account, name, *reserved, revision_id);
        let Some(function) = function else {
            return Ok(done());
        };
        let on_demand = reserved.map(|n| {
            let provisioned = u32::try_from(provisioned).unwrap_or(u32::MAX);
            n.saturating_sub(provisioned)
        });
        self.grants
            .set_reserved(account, name, on_demand, GrantSequence(index));
        if !function.provisioned.is_empty() {
            self.set_pools(index, account, name);
        }
        self.set_unreserved(index, account);
        self.grants.raise_timeout(&function);
        Ok(changed(function))
    }

    fn register_worker(
        &mut self,
        index: u64,
        worker: NodeId,
        registration: &Registration,
    ) -> Outcome {
        let registered = self.grants.table.register_worker(
            worker,
            registration.incarnation,
            GrantSequence(index),
        );
        if registered.is_err() {
            return (Reply::Superseded, Vec::new());
        }
        self.nodes.register(worker, registration.clone());
        (Reply::Done, vec![Effect::Worker(worker)])
    }

    fn set_worker_health(&mut self, command: &Command) -> Outcome {
        let Command::SetWorkerHealth {
            worker,
            incarnation,
            reachable,
            draining,
        } = command
        else {
            return done();
        };
        let changed = self
            .nodes
            .set_health(*worker, *incarnation, *reachable, *draining);
        let effect = changed.then_some(Effect::Worker(*worker));
        (Reply::Done, effect.into_iter().collect())
    }

    fn forget_worker(&mut self, index: u64, worker: NodeId) -> Outcome {
        // A worker that is unknown is as good as forgotten.
        let _unknown = self
            .grants
            .table
            .forget_worker(worker, GrantSequence(index));
        let effect = self.nodes.forget(worker).then_some(Effect::Worker(worker));
        (Reply::Done, effect.into_iter().collect())
    }

    fn apply_once(&mut self, index: u64, token: &str, command: &Command) -> Outcome {
        if let Some(reply) = self.once.reply(token, self) {
            return (reply, Vec::new());
        }
        let outcome = self.apply(index, command);
        self.once.keep(token, command, &outcome.0);
        outcome
    }

    fn set_drain(&mut self, role: Role, node: NodeId, drain: bool) -> Outcome {
        if !self.nodes.set_drain(role, node, drain) {
            return done();
        }
        let effect = match role {
            Role::Worker => Effect::Worker(node),
            Role::Controller | Role::Gateway => Effect::Drain,
        };
        (Reply::Done, vec![effect])
    }

    fn begin_term(&mut self, term: u64) -> Outcome {
        if term < self.leader_term {
            return (Reply::Superseded, Vec::new());
        }
        self.leader_term = term;
        done()
    }

    fn change_grants(&mut self, index: u64, changes: &[GrantChange]) -> Outcome {
        let table = &mut self.grants.table;
        let apply = |change| table.apply(change, GrantSequence(index));
        (
            Reply::Grants(changes.iter().map(apply).collect()),
            Vec::new(),
        )
    }

    /// Lets go of the nodes of a cluster that is gone: its workers are forgotten, which frees what they held, and cannot
    /// come back in the same life. Functions and limits stay. For a restored backup; never applied from the log.
    pub fn detach(&mut self, index: u64, term: u64) {
        let known = self.grants.table.workers().map(|(worker, _)| worker);
        let workers = known.chain(self.nodes.workers().map(|(worker, _)| worker));
        for worker in workers.collect::<BTreeSet<NodeId>>() {
            drop(self.forget_worker(index, worker));
        }
        self.leader_term = term;
    }

    fn set_unreserved(&mut self, index: u64, account: &AccountId) {
        let limit = self.limits.unreserved(self.functions.set_aside(account));
        self.grants
            .set_unreserved(account, limit, GrantSequence(index));
    }

    /// Limits and usage of an account.
    pub fn account(&self, account: &AccountId) -> AccountSummary {
        AccountSummary {
            concurrency_limit: self.limits.concurrency,
            unreserved: self.limits.unreserved(self.functions.set_aside(account)),
            code_storage_limit_bytes: self.limits.code_storage_bytes,
            code_bytes: self.code_bytes(account),
            functions: self.functions.of(account).map(|_| 1).sum(),
        }
    }

    /// The pool a function's invocations draw from; `None` for an unknown function.
    pub fn pool_of(&self, account: &AccountId, name: &FunctionName) -> Option<PoolKey> {
        self.functions.function(account, name).map(Function::pool)
    }
}
