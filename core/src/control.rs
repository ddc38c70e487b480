//! Metadata operations as gateways ask them of controllers and get them answered.
//! They travel as JSON inside one gRPC method (docs/adr/0002); apply-time commands are the controller's own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::function::{CodeRef, ConfigPatch, Function, FunctionConfig};
use crate::ids::AccountId;
use crate::name::FunctionName;

/// A metadata operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlRequest {
    /// Answered by [`ControlReply::Function`].
    CreateFunction {
        /// The owner.
        account: AccountId,
        /// The name, which must be free.
        name: FunctionName,
        /// Complete configuration.
        config: FunctionConfig,
        /// Code, already in the blob store.
        code: CodeRef,
        /// Tags.
        tags: BTreeMap<String, String>,
    },
    /// Answered by [`ControlReply::Function`].
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
        revision_id: Option<String>,
        /// Check everything and change nothing.
        dry_run: bool,
    },
    /// Answered by [`ControlReply::Function`].
    UpdateFunctionConfiguration {
        /// The owner.
        account: AccountId,
        /// The function.
        name: FunctionName,
        /// Members sent.
        patch: ConfigPatch,
        /// Refuse unless this is the revision.
        revision_id: Option<String>,
    },
    /// Answered by [`ControlReply::Done`].
    DeleteFunction {
        /// The owner.
        account: AccountId,
        /// The function.
        name: FunctionName,
    },
    /// Answered by [`ControlReply::Function`]; a linearizable read.
    GetFunction {
        /// The owner.
        account: AccountId,
        /// The function.
        name: FunctionName,
    },
    /// Answered by [`ControlReply::Functions`]; ordered by name.
    ListFunctions {
        /// The owner.
        account: AccountId,
        /// Names after this one.
        after: Option<FunctionName>,
        /// At most so many.
        limit: usize,
    },
    /// Answered by [`ControlReply::Function`]; `None` takes the reservation away.
    SetReservedConcurrency {
        /// The owner.
        account: AccountId,
        /// The function.
        name: FunctionName,
        /// The limit.
        reserved: Option<u32>,
    },
    /// Answered by [`ControlReply::Done`].
    TagFunction {
        /// The owner.
        account: AccountId,
        /// The function.
        name: FunctionName,
        /// Tags to set.
        set: BTreeMap<String, String>,
        /// Tags to take away.
        remove: Vec<String>,
    },
    /// Answered by [`ControlReply::Account`].
    GetAccount {
        /// Which.
        account: AccountId,
    },
    /// Answered by [`ControlReply::Cluster`].
    ClusterStatus,
}

/// The answer to a [`ControlRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlReply {
    /// The function after the operation.
    Function(Box<Function>),
    /// A page.
    Functions {
        /// The functions.
        functions: Vec<Function>,
        /// Whether there are more after the last one.
        more: bool,
    },
    /// Account limits and usage.
    Account(AccountSummary),
    /// The cluster.
    Cluster(ClusterSummary),
    /// Nothing to say.
    Done,
}

/// Limits and usage of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSummary {
    /// Concurrent executions the account may have.
    pub concurrency_limit: u32,
    /// What is left of them after reservations.
    pub unreserved: u32,
    /// Code storage the account may use, bytes.
    pub code_storage_limit_bytes: u64,
    /// Code it uses, bytes.
    pub code_bytes: u64,
    /// Functions it has.
    pub functions: u64,
}

/// The cluster as the answering controller sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSummary {
    /// The cluster's id.
    pub cluster_id: String,
    /// The leader's node id, when known.
    pub leader: Option<u64>,
    /// Raft term.
    pub term: u64,
    /// Applied log index.
    pub applied: u64,
    /// The nodes.
    pub nodes: Vec<NodeSummary>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSummary {
    /// Node id.
    pub id: u64,
    /// `controller`, `worker` or `gateway`.
    pub role: String,
    /// Where it listens.
    pub addr: String,
    /// Whether the leader heard of it lately.
    pub alive: bool,
    /// Sandboxes it runs (workers).
    pub sandboxes: u32,
    /// Memory not given to sandboxes, MB (workers).
    pub free_memory_mib: u64,
    /// Memory for sandboxes, MB (workers).
    #[serde(default)]
    pub memory_mib: u64,
    /// Invocations in flight (workers).
    #[serde(default)]
    pub in_flight: u32,
    /// It finishes and takes no more, or is to.
    #[serde(default)]
    pub draining: bool,
    /// Milliseconds since the leader heard it last; none when it never did in its term, or of other roles.
    #[serde(default)]
    pub silent_ms: Option<u64>,
    /// Its release, as far as it is known.
    #[serde(default)]
    pub release: String,
}
