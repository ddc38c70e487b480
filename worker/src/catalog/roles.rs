//! Credentials of functions' roles, as the controllers send them with the functions.

use std::fmt;
use std::sync::{Arc, PoisonError};

use hearth_core::ids::VersionKey;
use hearth_proto::internal::v1 as pb;

use super::{Catalog, FunctionKey, State, function_of};

/// Temporary credentials of a role.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RoleCredentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: String,
    /// Milliseconds since 1970.
    pub(crate) expires_ms: u64,
}

impl fmt::Debug for RoleCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleCredentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

impl Catalog {
    /// Those of a version's role; none if nobody gave any, or they are over.
    pub(crate) fn credentials(&self, key: &VersionKey, role: &str) -> Option<Arc<RoleCredentials>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let known = state.functions.get(&function_of(key))?;
        let found = known.roles.get(role)?;
        (found.expires_ms > self.clock.unix_ms()).then(|| Arc::clone(found))
    }
}

impl State {
    /// Credentials of a function that was let go meanwhile are of no use.
    pub(super) fn take_role(&mut self, told: &pb::RoleCredentials) {
        let Some(known) = told
            .function
            .as_ref()
            .and_then(key)
            .and_then(|key| self.functions.get_mut(&key))
        else {
            return;
        };
        let credentials = RoleCredentials {
            access_key_id: told.access_key_id.clone(),
            secret_access_key: told.secret_access_key.clone(),
            session_token: told.session_token.clone(),
            expires_ms: told.expires_ms,
        };
        known.roles.insert(told.role.clone(), Arc::new(credentials));
    }
}

fn key(key: &pb::FunctionKey) -> Option<FunctionKey> {
    Some((key.account.parse().ok()?, key.name.parse().ok()?))
}
