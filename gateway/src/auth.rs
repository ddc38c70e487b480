//! Who calls: AWS's signatures on HTTP, the same credentials as Basic authorization on gRPC, or anyone on a
//! development machine. What a caller may do is not decided here. gRPC knows the operator's credentials alone.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hearth_aws_api::ApiError;
use hearth_aws_api::sigv4::{self, Pending, Scope, SecretKey, Verifier};
use hearth_core::ids::AccountId;
use hearth_node::credentials::Session;
use http::header::AUTHORIZATION;
use http::request::Parts;
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;

use crate::caller::{Caller, Identity};
use crate::iam::{Iam, access_key_purpose, session};
use crate::options::{Auth, Options};

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Authenticator {
    mode: Auth,
    root: AccountId,
    access_key_id: String,
    secret: SecretKey,
    /// `access_key_id:secret`, as gRPC clients send it.
    basic: BasicCredentials,
    iam: Arc<Iam>,
    /// One for each service: of the others' signatures no key is derived.
    verifiers: [Verifier; 3],
}

/// What a request's credentials have to be scoped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Lambda,
    Iam,
    Sts,
}

struct BasicCredentials(Vec<u8>);

impl std::fmt::Debug for BasicCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What is known of an access key.
enum Found {
    Nobody,
    /// A session that is over.
    Expired,
    Caller(Caller),
}

/// A caller whose request's body is still to be checked.
#[derive(Debug)]
#[must_use = "a caller is one when the body was checked"]
pub(crate) struct Claimed {
    caller: Caller,
    access_key_id: String,
    pending: Option<Pending>,
}

impl Claimed {
    /// The access key that the request names; empty where none has to be.
    pub(crate) fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The caller, if the body is the one that was signed.
    pub(crate) fn finish(self, body: &[u8]) -> Result<Caller, ApiError> {
        if let Some(pending) = self.pending {
            let digest = if pending.needs_body_digest() {
                sigv4::digest(body)
            } else {
                Default::default()
            };
            pending.finish(&digest)?;
        }
        Ok(self.caller)
    }
}

impl Authenticator {
    /// The options were validated.
    pub(crate) fn new(options: &Options, root: AccountId, iam: Arc<Iam>) -> Self {
        let secret = &options.secret_access_key.0;
        Self {
            mode: options.auth,
            root,
            access_key_id: options.access_key_id.clone(),
            secret: SecretKey::new(secret.clone()),
            iam,
            basic: BasicCredentials(format!("{}:{secret}", options.access_key_id).into_bytes()),
            verifiers: [
                ("lambda", Some(options.region.clone())),
                // IAM is everywhere and signs for the region of its own choice; STS is in all regions.
                ("iam", None),
                ("sts", None),
            ]
            .map(|(service, region)| {
                let service = service.to_owned();
                Verifier::new(Scope { service, region })
            }),
        }
    }

    /// Checks a request's head.
    pub(crate) fn begin(
        &self,
        service: Service,
        parts: &Parts,
        unix_ms: u64,
    ) -> Result<Claimed, ApiError> {
        if self.mode == Auth::Any {
            let access_key_id = named_key(parts);
            return Ok(Claimed {
                caller: self.account_of(access_key_id),
                access_key_id: access_key_id.to_owned(),
                pending: None,
            });
        }
        let nanos = i128::from(unix_ms) * 1_000_000;
        let now =
            OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (mut found, mut access_key_id) = (Found::Nobody, String::new());
        let lookup = |key: &str, token: Option<&str>| {
            key.clone_into(&mut access_key_id);
            let secret;
            (found, secret) = self.find(key, token, unix_ms);
            secret
        };
        let [lambda, iam, sts] = &self.verifiers;
        let verifier = match service {
            Service::Lambda => lambda,
            Service::Iam => iam,
            Service::Sts => sts,
        };
        let pending = verifier.begin(parts, lookup, now);
        let pending = pending.map_err(|error| match found {
            Found::Expired => {
                ApiError::expired_token("The security token included in the request is expired")
            }
            Found::Nobody | Found::Caller(_) => error,
        })?;
        match found {
            Found::Caller(caller) => Ok(Claimed {
                caller,
                access_key_id,
                pending: Some(pending),
            }),
            Found::Nobody | Found::Expired => Err(ApiError::unrecognized_client(
                "The security token included in the request is invalid.",
            )),
        }
    }

    /// Who has these credentials, and their secret.
    fn find(&self, key: &str, token: Option<&str>, unix_ms: u64) -> (Found, Option<SecretKey>) {
        let (directory, vault) = (&self.iam.directory, &self.iam.vault);
        if let Some(token) = token {
            let Some(session) = Session::open(key, token, &self.iam.sessions) else {
                return (Found::Nobody, None);
            };
            if session.expires_ms <= unix_ms {
                return (Found::Expired, None);
            }
            let secret = SecretKey::new(session.secret());
            return match session::caller(&session, directory) {
                Some(caller) => (Found::Caller(caller), Some(secret)),
                None => (Found::Nobody, None),
            };
        }
        let is_root = key.as_bytes().ct_eq(self.access_key_id.as_bytes());
        if bool::from(is_root) {
            let caller = Caller::root(self.root.clone());
            return (Found::Caller(caller), Some(self.secret.clone()));
        }
        let Some((account, user, sealed)) = directory.user_of(key) else {
            return (Found::Nobody, None);
        };
        let secret = vault.open(&access_key_purpose(&account, key), &sealed);
        let Some(secret) = secret.and_then(|bytes| String::from_utf8(bytes).ok()) else {
            return (Found::Nobody, None);
        };
        let caller = Caller {
            account,
            identity: Identity::User {
                name: user.entity.name.clone(),
                path: user.entity.path.clone(),
                id: user.entity.id.clone(),
                is_session: false,
            },
            source: None,
        };
        (Found::Caller(caller), Some(SecretKey::new(secret)))
    }

    /// As emulators do: an access key of 12 digits is the account.
    fn account_of(&self, key: &str) -> Caller {
        Caller::root(key.parse().unwrap_or_else(|_| self.root.clone()))
    }

    /// The caller of a gRPC method, by the value of `authorization`.
    pub(crate) fn basic(&self, authorization: Option<&str>) -> Option<Caller> {
        let encoded = authorization.and_then(|text| text.strip_prefix("Basic "));
        let given = encoded.and_then(|text| STANDARD.decode(text.trim()).ok());
        match self.mode {
            Auth::Any => {
                let text = String::from_utf8(given.unwrap_or_default()).unwrap_or_default();
                Some(self.account_of(text.split(':').next().unwrap_or_default()))
            }
            Auth::Sigv4 => {
                let is_root = given?.ct_eq(&self.basic.0);
                bool::from(is_root).then(|| Caller::root(self.root.clone()))
            }
        }
    }
}

/// The access key of a signature that is not checked.
fn named_key(parts: &Parts) -> &str {
    let header = parts
        .headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let of_header = header
        .and_then(|text| text.split_once("Credential="))
        .map(|(_, rest)| rest);
    let query = parts.uri.query().unwrap_or_default();
    let of_query = query.split_once("X-Amz-Credential=").map(|(_, rest)| rest);
    let credential = of_header.or(of_query).unwrap_or_default();
    credential.split(['/', '%']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_node::config::Secret;
    use hearth_node::credentials::Vault;

    fn authenticator(auth: Auth) -> Authenticator {
        let options = Options {
            auth,
            access_key_id: "AKID".into(),
            secret_access_key: Secret("hush".into()),
            ..Options::default()
        };
        let iam = Arc::new(Iam {
            directory: Arc::default(),
            vault: Vault::new(["k"], "c"),
            sessions: Vault::new(["k"], "c"),
        });
        Authenticator::new(&options, "000000000000".parse().unwrap(), iam)
    }

    fn parts(authorization: &str) -> Parts {
        http::Request::builder()
            .header(AUTHORIZATION, authorization)
            .body(())
            .unwrap()
            .into_parts()
            .0
    }

    #[test]
    fn any_takes_twelve_digits_as_the_account() {
        let auth = authenticator(Auth::Any);
        let account = |text: &str| {
            let claimed = auth.begin(Service::Lambda, &parts(text), 0).unwrap();
            claimed.finish(b"").unwrap().account.to_string()
        };
        assert_eq!(
            account("AWS4-HMAC-SHA256 Credential=123456789012/2026/x, S=1"),
            "123456789012"
        );
        assert_eq!(
            account("AWS4-HMAC-SHA256 Credential=test/2026/x"),
            "000000000000"
        );
        assert_eq!(account("nothing"), "000000000000");
    }

    #[test]
    fn basic_wants_the_very_credentials() {
        let auth = authenticator(Auth::Sigv4);
        let basic = |text: &str| {
            auth.basic(Some(&format!("Basic {}", STANDARD.encode(text))))
                .is_some()
        };
        assert!(basic("AKID:hush"));
        assert!(!basic("AKID:hus"));
        assert!(!basic(":"));
        assert!(auth.basic(None).is_none());
        let any = authenticator(Auth::Any);
        let caller = any
            .basic(Some(&format!(
                "Basic {}",
                STANDARD.encode("123456789012:x")
            )))
            .unwrap();
        assert_eq!(caller.account.as_str(), "123456789012");
        assert!(any.basic(None).is_some());
    }
}
