//! Whose session a token is: the role or user that it names, if that one is still there.

use std::sync::Arc;

use hearth_core::iam::IamKey;
use hearth_core::policy::Policy;
use hearth_node::credentials::{Session, Whose};

use super::directory::Directory;
use crate::caller::{Caller, Identity, SessionPolicies};

/// Who it is, if that one is still there.
pub(crate) fn caller(session: &Session, directory: &Directory) -> Option<Caller> {
    let account = session.account.parse().ok()?;
    let find = |key: IamKey, id: &str| {
        let found = directory.find(&account, &key);
        found.filter(|record| record.entity.id == id)
    };
    let identity = match &session.whose {
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
            session: name_of_session,
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
                session: name_of_session.clone(),
                policies: has_policies.then(|| Arc::new(SessionPolicies { inline, arns })),
            }
        }
    };
    Some(Caller {
        account,
        identity,
        source: None,
    })
}
