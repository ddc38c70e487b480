//! Metadata operations as gateways ask them of controllers and get them answered.
//! They travel as JSON inside one gRPC method (docs/adr/0002); apply-time commands are the controller's own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::attached::AttachedChange;
use crate::function::{CodeRef, ConfigPatch, Function, FunctionConfig};
use crate::iam::{IamChange, IamPage, IamQuery};
use crate::ids::{AccountId, Version};
use crate::layer::{LayerChange, LayerName, LayerQuery, LayerVersion};
use crate::name::{FunctionName, Qualifier};
use crate::resource::{ResourceChange, ResourcePage, ResourceQuery};
use crate::versions::{ProvisionedStatus, Weight};

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
        /// ARN of the code signing configuration that its code has to keep.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code_signing: Option<String>,
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
    /// Makes or updates a function and publishes a version of what it then is: answered as `first` is.
    ThenPublish {
        /// `CreateFunction` or `UpdateFunctionCode`.
        first: Box<Self>,
    },
    /// Answered by [`ControlReply::Function`].
    ChangeVersions {
        /// The owner.
        account: AccountId,
        /// The function.
        name: FunctionName,
        /// What is to be done.
        change: VersionChange,
    },
    /// Answered by [`ControlReply::Function`].
    ChangeAttached {
        /// The owner.
        account: AccountId,
        /// The function.
        name: FunctionName,
        /// What is to be done.
        change: Box<AttachedChange>,
    },
    /// Answered by [`ControlReply::Layers`] with the version, or by [`ControlReply::Done`].
    ChangeLayer {
        /// The owner.
        account: AccountId,
        /// The layer.
        name: LayerName,
        /// What is to be done.
        change: LayerChange,
    },
    /// Answered by [`ControlReply::Layers`].
    QueryLayers {
        /// The owner.
        account: AccountId,
        /// What is asked.
        query: LayerQuery,
    },
    /// Answered by [`ControlReply::Resources`] with the one that was changed or taken away.
    ChangeResource {
        /// The owner.
        account: AccountId,
        /// What is to be done.
        change: Box<ResourceChange>,
    },
    /// Answered by [`ControlReply::Resources`].
    QueryResources {
        /// The owner.
        account: AccountId,
        /// What is asked.
        query: ResourceQuery,
    },
    /// Answered by [`ControlReply::Iam`] with the one that was changed or taken away.
    ChangeIam {
        /// The owner.
        account: AccountId,
        /// What is to be done.
        change: Box<IamChange>,
    },
    /// Answered by [`ControlReply::Iam`].
    QueryIam {
        /// The owner.
        account: AccountId,
        /// What is asked.
        query: IamQuery,
    },
    /// Answered by [`ControlReply::Provisioned`], with what the leader knows of the workers.
    GetProvisioned {
        /// The owner.
        account: AccountId,
        /// The function.
        name: FunctionName,
    },
    /// Answered by [`ControlReply::Account`].
    GetAccount {
        /// Which.
        account: AccountId,
    },
    /// Answered by [`ControlReply::Cluster`].
    ClusterStatus,
}

/// A change of a function's versions, aliases or provisioned concurrency. It stands in the log as it is: variants and
/// fields keep their meaning, and are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionChange {
    /// Publishes `$LATEST`, unless nothing has changed since the last time.
    Publish {
        /// Refuse unless the code has this digest, in base64.
        code_sha256: Option<String>,
        /// In place of the function's own.
        description: Option<String>,
        /// Refuse unless this is the revision.
        revision_id: Option<String>,
    },
    /// Takes a version away; one that does not exist is gone already.
    Delete {
        /// Its number.
        version: u64,
    },
    /// Makes an alias.
    CreateAlias {
        /// The name, which must be free.
        alias: String,
        /// The version it points to.
        version: Version,
        /// Free text.
        description: String,
        /// Shares of other versions.
        weights: BTreeMap<u64, Weight>,
    },
    /// Changes what was sent of an alias.
    UpdateAlias {
        /// Its name.
        alias: String,
        /// The version it points to.
        version: Option<Version>,
        /// Free text.
        description: Option<String>,
        /// Shares of other versions.
        weights: Option<BTreeMap<u64, Weight>>,
        /// Refuse unless this is the revision.
        revision_id: Option<String>,
    },
    /// Takes an alias away; one that does not exist is gone already.
    DeleteAlias {
        /// Its name.
        alias: String,
    },
    /// Has sandboxes of a version kept initialised.
    PutProvisioned {
        /// A version or alias.
        qualifier: Qualifier,
        /// How many.
        requested: u32,
    },
    /// Has none kept any more.
    DeleteProvisioned {
        /// A version or alias.
        qualifier: Qualifier,
    },
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
    /// Layer versions.
    Layers {
        /// The versions.
        versions: Vec<LayerVersion>,
        /// Whether there are more after the last one.
        more: bool,
    },
    /// Code signing configurations or event source mappings.
    Resources(ResourcePage),
    /// Roles, users, groups or policies.
    Iam(IamPage),
    /// Provisioned concurrency.
    Provisioned {
        /// The function, with what was asked for.
        function: Box<Function>,
        /// How it stands, by version.
        status: BTreeMap<u64, ProvisionedStatus>,
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
