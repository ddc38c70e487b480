//! Who calls, as far as it was proved. What a caller may do is `iam::authority`'s to say.

use std::net::IpAddr;
use std::sync::Arc;

use hearth_core::ids::AccountId;
use hearth_core::policy::Policy;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) account: AccountId,
    pub(crate) identity: Identity,
    /// Where the request came from, for conditions; not known of gRPC.
    pub(crate) source: Option<IpAddr>,
}

/// What of the account a caller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The account itself: the operator's credentials.
    Root,
    /// A user, by an access key or a session.
    User {
        name: String,
        path: String,
        id: String,
        is_session: bool,
    },
    /// A session of a role.
    Role {
        name: String,
        path: String,
        id: String,
        session: String,
        /// What the session was made with: it may do what these allow, too.
        policies: Option<Arc<SessionPolicies>>,
    },
}

/// Policies of a session.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionPolicies {
    /// The one that came with the request.
    pub(crate) inline: Option<Policy>,
    /// ARNs of managed ones.
    pub(crate) arns: Vec<String>,
}

impl Caller {
    /// The account itself.
    pub(crate) fn root(account: AccountId) -> Self {
        Self {
            account,
            identity: Identity::Root,
            source: None,
        }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.identity == Identity::Root
    }

    /// Its ARN.
    pub(crate) fn arn(&self) -> String {
        let account = self.account.as_str();
        match &self.identity {
            Identity::Root => format!("arn:aws:iam::{account}:root"),
            Identity::User { name, path, .. } => format!("arn:aws:iam::{account}:user{path}{name}"),
            Identity::Role { name, session, .. } => {
                format!("arn:aws:sts::{account}:assumed-role/{name}/{session}")
            }
        }
    }

    /// ARN of the role whose session it is.
    pub(crate) fn role_arn(&self) -> Option<String> {
        match &self.identity {
            Identity::Role { name, path, .. } => {
                let account = self.account.as_str();
                Some(format!("arn:aws:iam::{account}:role{path}{name}"))
            }
            Identity::Root | Identity::User { .. } => None,
        }
    }

    /// What STS calls its user id.
    pub(crate) fn user_id(&self) -> String {
        match &self.identity {
            Identity::Root => self.account.as_str().to_owned(),
            Identity::User { id, .. } => id.clone(),
            Identity::Role { id, session, .. } => format!("{id}:{session}"),
        }
    }
}
