//! What the log says: one variant per change of the replicated state, JSON in the log entry.
//!
//! Invariant: a variant and its fields keep their meaning for as long as any log holds them. Variants, and
//! fields with a serde default, are only ever added, and proposed only when every member knows them ([`Command::since_level`]):
//! a controller that meets one it cannot read must end. Times, ids and revision ids are fixed by the proposer.

use std::collections::BTreeMap;

use hearth_core::attached::AttachedChange;
use hearth_core::control::VersionChange;
use hearth_core::function::{CodeRef, ConfigPatch, FunctionConfig, StateReason};
use hearth_core::iam::IamChange;
use hearth_core::ids::{AccountId, Incarnation, NodeId, UnixMs};
use hearth_core::layer::{LayerChange, LayerName};
use hearth_core::name::FunctionName;
use hearth_core::permits::GrantChange;
use hearth_core::resource::ResourceChange;
use serde::{Deserialize, Serialize};

/// The newest level of commands: what this release can read.
pub const LEVEL: u32 = 6;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The operator's settings, proposed by a new leader when they differ. The region is set once.
    Configure {
        /// What ARNs carry.
        region: String,
        /// Concurrent executions of an account.
        concurrency_limit: u32,
        /// Code storage of an account, bytes.
        code_storage_bytes: u64,
    },
    /// Makes a function, `Pending`.
    CreateFunction {
        /// The owner.
        account: AccountId,
        /// The name, which must be free.
        name: FunctionName,
        /// Complete configuration.
        config: Box<FunctionConfig>,
        /// Code, already in the blob store.
        code: CodeRef,
        /// Tags.
        tags: BTreeMap<String, String>,
        /// ARN of the code signing configuration that its code has to keep.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code_signing: Option<String>,
        /// The first revision.
        revision_id: String,
        /// Now.
        at: UnixMs,
    },
    /// Begins an update of the code.
    UpdateFunctionCode {
        /// The owner.
        account: AccountId,
        /// The function.
        name: FunctionName,
        /// Code, already in the blob store.
        code: CodeRef,
        /// Instruction sets, when sent.
        architectures: Option<Vec<String>>,
        /// Refuse unless this is the revision.
        expected_revision: Option<String>,
        /// The next revision.
        revision_id: String,
        /// Now.
        at: UnixMs,
    },
    /// Begins an update of the configuration.
    UpdateFunctionConfiguration {
        /// The owner.
        account: AccountId,
        /// The function.
        name: FunctionName,
        /// Members sent.
        patch: Box<ConfigPatch>,
        /// Refuse unless this is the revision.
        expected_revision: Option<String>,
        /// The next revision.
        revision_id: String,
        /// Now.
        at: UnixMs,
    },
    /// Takes a function away.
    DeleteFunction {
        /// The owner.
        account: AccountId,
        /// The function.
        name: FunctionName,
    },
    /// A creation or update has come to its end; void unless it is still the newest.
    SettleFunction {
        /// The owner.
        account: AccountId,
        /// The function.
        name: FunctionName,
        /// Which change it was.
        generation: u64,
        /// How it ended.
        outcome: Settled,
        /// The next revision.
        revision_id: String,
    },
    /// Sets reserved concurrency, or takes it away.
    SetReservedConcurrency {
        /// The owner.
        account: AccountId,
        /// The function.
        name: FunctionName,
        /// The limit.
        reserved: Option<u32>,
        /// The next revision.
        revision_id: String,
    },
    /// Changes tags.
    TagFunction {
        /// The owner.
        account: AccountId,
        /// The function.
        name: FunctionName,
        /// Tags to set.
        set: BTreeMap<String, String>,
        /// Tags to take away, before.
        remove: Vec<String>,
    },
    /// Makes or updates a function, then publishes a version of what it is.
    ThenPublish {
        /// `CreateFunction` or `UpdateFunctionCode`.
        first: Box<Self>,
        /// The version's revision.
        revision_id: String,
    },
    /// Changes a function's versions, aliases or provisioned concurrency.
    ChangeVersions {
        /// The owner.
        account: AccountId,
        /// The function.
        name: FunctionName,
        /// What is to be done.
        change: Box<VersionChange>,
        /// The next revision of what is made or changed.
        revision_id: String,
        /// The next revision of `$LATEST`, if that changes too.
        latest_revision_id: String,
        /// Now.
        at: UnixMs,
    },
    /// Begins a worker's life, or confirms it: what earlier lives held is free.
    RegisterWorker {
        /// Which.
        worker: NodeId,
        /// What is known of it.
        registration: Registration,
    },
    /// A worker fell silent, came back, or began to drain.
    SetWorkerHealth {
        /// Which.
        worker: NodeId,
        /// The life this is about.
        incarnation: Incarnation,
        /// Whether the leader hears it.
        reachable: bool,
        /// It finishes and takes no more.
        draining: bool,
    },
    /// The operator's word that a worker is dead.
    ForgetWorker {
        /// Which.
        worker: NodeId,
    },
    /// A leader begins its work: changes of grants by earlier ones are void from here on. Without this, a
    /// deposed leader's reclaim, handed on to its successor, could take the share of a worker that the
    /// successor has heard meanwhile.
    BeginTerm {
        /// The leader's Raft term.
        term: u64,
    },
    /// All changes of grants of one tick.
    ChangeGrants {
        /// The proposing leader's term; void unless it is the newest that has begun.
        term: u64,
        /// Each answered on its own.
        changes: Vec<GrantChange>,
    },
    /// Makes a token with which one node may join.
    CreateJoinToken {
        /// SHA-256 of its secret, hex.
        hash: String,
        /// `controller`, `worker` or `gateway`.
        role: String,
        /// The one node that may use it.
        node: Option<u64>,
        /// Good until then.
        expires_at: UnixMs,
        /// Now.
        at: UnixMs,
    },
    /// A node joins with a token; refused if it is not for that node, was used, or has expired.
    UseJoinToken {
        /// SHA-256 of the token's secret, hex.
        hash: String,
        /// What the node is.
        role: String,
        /// Its id.
        node: u64,
        /// SHA-256 of its request for a certificate, hex.
        request: String,
        /// Now.
        at: UnixMs,
    },
    /// A client's command, carried out once however often it is proposed.
    Once {
        /// The client's choice, different for each of its operations.
        token: String,
        /// The command.
        command: Box<Command>,
    },
    /// Changes a layer.
    ChangeLayer {
        /// The owner.
        account: AccountId,
        /// The layer.
        name: LayerName,
        /// What is to be done.
        change: Box<LayerChange>,
        /// The next revision of a policy that changes.
        revision_id: String,
        /// Now.
        at: UnixMs,
    },
    /// The operator's wish that a node finishes and takes no more, or takes work again.
    SetDrain {
        /// Its role.
        role: Role,
        /// Which.
        node: NodeId,
        /// Whether it is to drain.
        drain: bool,
    },
    /// Changes what hangs on a function.
    ChangeAttached {
        /// The owner.
        account: AccountId,
        /// The function.
        name: FunctionName,
        /// What is to be done.
        change: Box<AttachedChange>,
        /// The next revision of what changes, and the id of what is made.
        revision_id: String,
        /// Now.
        at: UnixMs,
    },
    /// Changes what an account has beside functions and layers.
    ChangeResource {
        /// The owner.
        account: AccountId,
        /// What is to be done.
        change: Box<ResourceChange>,
        /// A UUID for what is made.
        id: String,
        /// Now.
        at: UnixMs,
    },
    /// Changes who there is in an account, or what they may do.
    ChangeIam {
        /// Whose.
        account: AccountId,
        /// What is to be done.
        change: Box<IamChange>,
        /// A UUID for what is made.
        id: String,
        /// Now.
        at: UnixMs,
    },
    /// All members can read commands of this level, and none that cannot will ever be one.
    RaiseLevel {
        /// The level.
        level: u32,
    },
}

impl Command {
    /// The first level of releases that can read it. A new variant, or a new field that must not be overlooked, is of a new
    /// level: [`LEVEL`] is raised by one.
    pub fn since_level(&self) -> u32 {
        match self {
            // A release that does not know code signing would take any code.
            Self::CreateFunction {
                code_signing: Some(_),
                ..
            } => 5,
            // A release that does not know images would look for an archive.
            Self::CreateFunction { code, .. } | Self::UpdateFunctionCode { code, .. }
                if code.image.is_some() =>
            {
                4
            }
            // A release that does not know layers would run the function without them.
            Self::CreateFunction { config, .. } if !config.layers.is_empty() => 2,
            Self::UpdateFunctionConfiguration { patch, .. } if patch.layers.is_some() => 2,
            Self::Configure { .. }
            | Self::CreateFunction { .. }
            | Self::UpdateFunctionCode { .. }
            | Self::UpdateFunctionConfiguration { .. }
            | Self::DeleteFunction { .. }
            | Self::SettleFunction { .. }
            | Self::SetReservedConcurrency { .. }
            | Self::TagFunction { .. }
            | Self::RegisterWorker { .. }
            | Self::SetWorkerHealth { .. }
            | Self::ForgetWorker { .. }
            | Self::BeginTerm { .. } => 0,
            Self::ChangeGrants { changes, .. } => {
                let is_provisioned = |change: &GrantChange| change.key().1.provisioned.is_some();
                if changes.iter().any(is_provisioned) {
                    2
                } else {
                    0
                }
            }
            Self::Once { command, .. } => command.since_level().max(1),
            Self::SetDrain { .. } => 1,
            Self::ThenPublish { first, .. } => first.since_level().max(2),
            Self::ChangeVersions { .. }
            | Self::CreateJoinToken { .. }
            | Self::UseJoinToken { .. }
            | Self::ChangeLayer { .. } => 2,
            Self::ChangeAttached { .. } | Self::ChangeResource { .. } => 5,
            Self::ChangeIam { .. } => 6,
            Self::RaiseLevel { level } => (*level).max(3),
        }
    }
}

/// A role of a node. Ids of different roles may be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// A controller.
    Controller,
    /// A worker.
    Worker,
    /// A gateway.
    Gateway,
}

/// How a creation or update ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settled {
    /// A worker holds the code, unpacked and valid.
    Successful,
    /// It cannot be run.
    Failed(StateReason),
}

/// What a worker says of itself when it registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its life.
    pub incarnation: Incarnation,
    /// Where gateways reach it.
    pub addr: String,
    /// Memory it gives to sandboxes, MB.
    pub memory_mib: u64,
    /// Runtimes it has.
    pub runtimes: Vec<String>,
    /// The operator's labels.
    pub labels: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_of_the_level_of_what_it_holds() {
        let forget = Command::ForgetWorker { worker: NodeId(1) };
        let once = |command| Command::Once {
            token: "t".into(),
            command: Box::new(command),
        };
        let publish = Command::ThenPublish {
            first: Box::new(forget.clone()),
            revision_id: "r".into(),
        };
        assert_eq!(forget.since_level(), 0);
        assert_eq!(once(forget).since_level(), 1);
        assert_eq!(publish.since_level(), 2);
        assert_eq!(once(publish).since_level(), 2);
        assert_eq!(Command::RaiseLevel { level: 7 }.since_level(), 7);
        let update = |image: Option<&str>| Command::UpdateFunctionCode {
            account: "123456789012".parse().unwrap(),
            name: "f".parse().unwrap(),
            code: CodeRef {
                digest: hearth_core::ids::Digest([1; 32]),
                size_bytes: 0,
                unpacked_bytes: 0,
                image: image.map(Into::into),
            },
            architectures: None,
            expected_revision: None,
            revision_id: "r".into(),
            at: UnixMs(0),
        };
        assert_eq!(update(None).since_level(), 0);
        let publish = Command::ThenPublish {
            first: Box::new(update(Some("r.example.com/a:1"))),
            revision_id: "r".into(),
        };
        assert_eq!(once(publish).since_level(), 4);
    }

    /// The first release wrote the golden log; it could read all of it, and has no level.
    #[test]
    fn what_the_first_release_wrote_is_of_no_level() {
        for line in include_str!("golden/commands-1.jsonl").lines() {
            let command: Command = serde_json::from_str(line).unwrap();
            assert_eq!(command.since_level(), 0, "{line}");
        }
    }
}
