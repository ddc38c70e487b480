//! Credentials of functions' roles: workers are given them with the functions that they follow, and new ones long before the old
//! ones end. They are a session of the role as AssumeRole would make it, named after the function.
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html>

use std::collections::{BTreeMap, BTreeSet};

use hearth_core::function::Function;
use hearth_core::iam::{IamEntity, IamKind, LAMBDA_SERVICE, role_named};
use hearth_core::ids::AccountId;
use hearth_core::policy::Policy;
use hearth_node::Seams;
use hearth_node::credentials::{Session, Vault, Whose};
use hearth_proto::internal::v1 as pb;

use crate::state::iam::Iam;

/// Life of credentials. A sandbox has half of it at least.
const LIFE_MS: u64 = 12 * 3_600_000;
/// New ones are given when so much is left.
const RENEWED_BEFORE_MS: u64 = LIFE_MS / 2;

/// Makes credentials, if the operator gave this controller the key for it.
pub(crate) struct Issuer {
    vault: Option<Vault>,
    seams: Seams,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").finish_non_exhaustive()
    }
}

/// What a reader was given for one role of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// Unique id of the role; of one that is made anew it is another.
    role_id: String,
    expires_ms: u64,
}

/// By the role's ARN.
pub(super) type AllGiven = BTreeMap<String, Given>;

impl Issuer {
    /// With an empty key functions get no credentials.
    pub(crate) fn new(key: &str, cluster_id: &str, seams: Seams) -> Self {
        let vault = (!key.is_empty()).then(|| Vault::new([key], cluster_id));
        Self { vault, seams }
    }

    pub(super) fn is_on(&self) -> bool {
        self.vault.is_some()
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.seams.clock.monotonic_ms()
    }

    /// Credentials that a reader is to get now for a function that it follows, beside what it was given before.
    pub(super) fn due(
        &self,
        function: &Function,
        iam: &Iam,
        given: &mut AllGiven,
    ) -> Vec<pb::RoleCredentials> {
        let Some(vault) = &self.vault else {
            return Vec::new();
        };
        let now_ms = self.seams.clock.unix_ms();
        let published = function.versions.values().map(|v| &v.snapshot);
        let current = std::iter::once(&function.latest).chain(&function.serving);
        let roles = current.chain(published).map(|v| v.config.role.as_str());
        let roles: BTreeSet<&str> = roles.collect();
        given.retain(|role, _| roles.contains(role.as_str()));
        let mut due = Vec::new();
        for arn in roles {
            let Some(role) = trusting(iam, &function.account, arn) else {
                given.remove(arn);
                continue;
            };
            let is_good = given.get(arn).is_some_and(|given| {
                given.role_id == role.id && given.expires_ms > now_ms + RENEWED_BEFORE_MS
            });
            if is_good {
                continue;
            }
            let whose = Whose::Role {
                name: role.name.clone(),
                id: role.id.clone(),
                session: function.name.to_string(),
                policy: None,
                arns: Vec::new(),
            };
            let owner = (function.account.to_string(), whose);
            let issued = Session::issue(owner, now_ms + LIFE_MS, vault, &self.seams.random);
            let Some(issued) = issued else { continue };
            let new = Given {
                role_id: role.id.clone(),
                expires_ms: issued.expires_ms,
            };
            given.insert(arn.to_owned(), new);
            due.push(pb::RoleCredentials {
                function: Some(pb::FunctionKey {
                    account: function.account.to_string(),
                    name: function.name.to_string(),
                }),
                role: arn.to_owned(),
                access_key_id: issued.access_key_id,
                secret_access_key: issued.secret,
                session_token: issued.token,
                expires_ms: issued.expires_ms,
            });
        }
        due
    }
}

/// The role of an ARN, if it is there and trusts Lambda.
fn trusting<'i>(iam: &'i Iam, account: &AccountId, arn: &str) -> Option<&'i IamEntity> {
    let (owner, key) = role_named(arn)?;
    let role = iam.one(&owner, &key).filter(|_| owner == *account)?;
    let IamKind::Role { trust, .. } = &role.kind else {
        return None;
    };
    let trust = Policy::of_trust(trust).ok()?;
    (role.arn(account) == arn && trust.trusts_service(LAMBDA_SERVICE, arn)).then_some(role)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hearth_core::function::{CodeRef, FunctionConfig};
    use hearth_core::iam::{IamChange, IamKey};
    use hearth_core::ids::{Digest, UnixMs};
    use hearth_node::clock::ManualClock;

    use super::*;
    use crate::state::State;
    use crate::state::command::Command;

    const UNIX_MS: u64 = 1_700_000_000_000;

    fn account() -> AccountId {
        "123456789012".parse().unwrap()
    }

    fn configured() -> State {
        let mut state = State::default();
        let configure = Command::Configure {
            region: "us-east-1".into(),
            concurrency_limit: 1_000,
            code_storage_bytes: 1_000,
        };
        let create = Command::CreateFunction {
            account: account(),
            name: "f".parse().unwrap(),
            config: Box::new(FunctionConfig::with_defaults(arn("OWN:role/r"))),
            code: CodeRef {
                digest: Digest([1; 32]),
                size_bytes: 1,
                unpacked_bytes: 0,
                image: None,
            },
            tags: BTreeMap::new(),
            code_signing: None,
            revision_id: "r".into(),
            at: UnixMs(5),
        };
        state.apply(1, &configure);
        state.apply(2, &create);
        state
    }

    fn change(state: &mut State, index: u64, change: IamChange) {
        let command = Command::ChangeIam {
            account: account(),
            change: Box::new(change),
            id: format!("0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0{index:02x}"),
            at: UnixMs(9),
        };
        state.apply(index, &command);
    }

    fn create(state: &mut State, index: u64, principal: &str) {
        let trust = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"Service":"{principal}"}},"Action":"sts:AssumeRole"}}]}}"#
        );
        let create = IamChange::Create {
            key: IamKey::Role("r".into()),
            path: "/".into(),
            description: String::new(),
            tags: BTreeMap::new(),
            document: Some(trust),
            max_session_s: 3_600,
            boundary: None,
        };
        change(state, index, create);
    }

    fn arn(rest: &str) -> String {
        format!("arn:aws:iam::{}", rest.replace("OWN", account().as_str()))
    }

    #[test]
    fn a_role_has_to_be_there_and_to_trust_lambda() {
        for (principal, role, wanted) in [
            (LAMBDA_SERVICE, "OWN:role/r", true),
            ("ec2.amazonaws.com", "OWN:role/r", false),
            (LAMBDA_SERVICE, "OWN:role/x", false),
            (LAMBDA_SERVICE, "999999999999:role/r", false),
            (LAMBDA_SERVICE, "OWN:role/path/r", false),
            (LAMBDA_SERVICE, "OWN:user/r", false),
        ] {
            let mut state = configured();
            create(&mut state, 50, principal);
            let found = trusting(&state.iam, &account(), &arn(role));
            assert_eq!(found.is_some(), wanted, "{principal} {role}");
        }
    }

    /// Not again until half of their life is over, or the role is another.
    #[test]
    fn credentials_are_given_once_and_renewed_in_time() {
        let clock = Arc::new(ManualClock::new(UNIX_MS));
        let seams = Seams {
            clock: clock.clone(),
            ..Seams::system()
        };
        let issuer = Issuer::new("key", "c", seams);
        let mut state = configured();
        create(&mut state, 50, LAMBDA_SERVICE);
        let name = "f".parse().unwrap();
        let function = state.functions.function(&account(), &name).unwrap().clone();
        let mut given = AllGiven::default();
        let due = issuer.due(&function, &state.iam, &mut given);
        let [first] = due.as_slice() else {
            panic!("{} given", due.len());
        };
        let vault = Vault::new(["key"], "c");
        let session = Session::open(&first.access_key_id, &first.session_token, &vault).unwrap();
        assert!(
            matches!(&session.whose, Whose::Role { name, session, .. } if name == "r" && session == "f")
        );
        assert_eq!(session.expires_ms, UNIX_MS + LIFE_MS);
        clock.advance_ms(LIFE_MS / 2 - 1);
        assert!(issuer.due(&function, &state.iam, &mut given).is_empty());
        clock.advance_ms(1);
        assert_eq!(issuer.due(&function, &state.iam, &mut given).len(), 1);
        let key = IamKey::Role("r".into());
        change(&mut state, 51, IamChange::Delete { key });
        assert!(issuer.due(&function, &state.iam, &mut given).is_empty());
        create(&mut state, 52, LAMBDA_SERVICE);
        assert_eq!(issuer.due(&function, &state.iam, &mut given).len(), 1);
        let off = Issuer::new("", "c", Seams::system());
        assert!(
            off.due(&function, &state.iam, &mut AllGiven::default())
                .is_empty()
        );
    }
}
