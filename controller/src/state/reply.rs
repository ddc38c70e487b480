//! What `apply` answers to the proposer, and the effects it reports to the node it runs on. Followers have
//! use for the effects too: every controller serves the catalog.

use hearth_core::Error;
use hearth_core::function::Function;
use hearth_core::iam::{IamEntity, IamKey};
use hearth_core::ids::{AccountId, NodeId};
use hearth_core::layer::LayerVersion;
use hearth_core::name::FunctionName;
use hearth_core::permits::{GrantError, GrantOutcome};
use hearth_core::resource::Resource;
use serde::{Deserialize, Serialize};

/// The answer to a command. Travels as JSON from the leader to the controller that asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The function after the command.
    Function(Box<Function>),
    /// The layer version after the command.
    Layer(Box<LayerVersion>),
    /// The resource after the command; as it was, of one that was taken away.
    Resource(Box<Resource>),
    /// The role, user, group or policy after the command; as it was, of one that was taken away.
    Iam(Box<IamEntity>),
    /// One answer per change, in order.
    Grants(Vec<Result<GrantOutcome, GrantError>>),
    /// Done, or void and nothing to say.
    Done,
    /// Refused; nothing happened.
    Refused(Error),
    /// Said by somebody whose time is over: an older life of a worker, or the leader of an older term.
    Superseded,
    /// This controller is older than the proposer and does not know the command.
    Unreadable,
}

/// What of the catalog a command changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A function was made, changed or deleted.
    Function(AccountId, FunctionName),
    /// A role, user, group or policy was made, changed or deleted.
    Iam(AccountId, IamKey),
    /// A worker appeared, changed or disappeared.
    Worker(NodeId),
    /// The operator wants a gateway or a controller to drain, or no more.
    Drain,
}
