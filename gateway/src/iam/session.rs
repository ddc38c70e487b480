//! Temporary credentials: an access key id, a secret, and a token that any gateway of the cluster can read. Nothing of them is
//! written anywhere, so a session cannot be ended before its time; its role's policies count at each request.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hearth_core::iam::{IamKey, unique_id};
use hearth_core::ids::AccountId;
use hearth_core::policy::Policy;
use hearth_node::random::SharedRandom;
use serde::{Deserialize, Serialize};

use super::directory::Directory;
use super::vault::Vault;
use crate::caller::{Caller, Identity, SessionPolicies};

/// Bytes of a secret: 40 characters, as AWS's have.
const SECRET_BYTES: usize = 30;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) account: AccountId,
    pub(crate) whose: Whose,
    pub(crate) expires_ms: u64,
    secret: String,
}

/// Whose session it is; ids, so that who is made anew under the same name is somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Whose {
    /// The account's.
    Root,
    /// A user's.
    User { name: String, id: String },
    /// A role's.
    Role {
        name: String,
        id: String,
        session: String,
        /// A document that the session was made with.
        policy: Option<String>,
        /// ARNs of policies that it was made with.
        arns: Vec<String>,
    },
}

/// Temporary credentials as a client gets them.
pub(crate) struct Issued {
    pub(crate) access_key_id: String,
    pub(crate) secret: String,
    pub(crate) token: String,
    pub(crate) expires_ms: u64,
}

/// A new id of an access key: `AKIA` for users, `ASIA` for sessions.
pub(crate) fn new_key_id(prefix: &str, random: &SharedRandom) -> String {
    let mut id = unique_id(prefix, &random.uuid());
    // "AKIA" and 16 letters and digits.
    id.truncate(20);
    id
}

/// A new secret.
pub(crate) fn new_secret(random: &SharedRandom) -> String {
    STANDARD_NO_PAD.encode(random.bytes(SECRET_BYTES))
}

fn purpose(access_key_id: &str) -> String {
    format!("session\n{access_key_id}")
}

impl Session {
    /// Makes one; `None` if it cannot be sealed.
    pub(crate) fn issue(
        (account, whose): (AccountId, Whose),
        expires_ms: u64,
        vault: &Vault,
        random: &SharedRandom,
    ) -> Option<Issued> {
        let session = Self {
            account,
            whose,
            expires_ms,
            secret: new_secret(random),
        };
        let access_key_id = new_key_id("ASIA", random);
        let plain = serde_json::to_vec(&session).ok()?;
        let token = vault.seal(&purpose(&access_key_id), &plain, random)?;
        Some(Issued {
            access_key_id,
            secret: session.secret,
            token,
            expires_ms,
        })
    }

    /// The session of a token, expired or not.
    pub(crate) fn open(access_key_id: &str, token: &str, vault: &Vault) -> Option<Self> {
        let plain = vault.open(&purpose(access_key_id), token)?;
        serde_json::from_slice(&plain).ok()
    }

    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    /// Who it is, if that one is still there.
    pub(crate) fn caller(&self, directory: &Directory) -> Option<Caller> {
        let find = |key: IamKey, id: &str| {
            let found = directory.find(&self.account, &key);
            found.filter(|record| record.entity.id == id)
        };
        let identity = match &self.whose {
            Whose::Root => Identity::Root,
            Whose::User { name, id } => {
                let user = find(IamKey::User(name.clone()), id)?;
                Identity::User {
                    name: name.clone(),
                    path: user.entity.path.clone(),
                    id: id.clone(),
                    is_session: true,
                }
            }
            Whose::Role {
                name,
                id,
                session,
                policy,
                arns,
            } => {
                let role = find(IamKey::Role(name.clone()), id)?;
                let inline = match policy {
                    Some(document) => Some(Policy::of_identity(document).ok()?),
                    None => None,
                };
                let has_policies = inline.is_some() || !arns.is_empty();
                let arns = arns.clone();
                Identity::Role {
                    name: name.clone(),
                    path: role.entity.path.clone(),
                    id: id.clone(),
                    session: session.clone(),
                    policies: has_policies.then(|| Arc::new(SessionPolicies { inline, arns })),
                }
            }
        };
        Some(Caller {
            account: self.account.clone(),
            identity,
            source: None,
        })
    }
}
