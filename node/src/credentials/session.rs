//! Temporary credentials: an access key id, a secret, and a token that any gateway of the cluster can read. Nothing of them is
//! written anywhere, so a session cannot be ended before its time; its role's policies count at each request.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

use super::vault::Vault;
use crate::random::SharedRandom;

/// Letters and digits of an id after its prefix.
const KEY_ID_CHARS: usize = 16;
/// Bytes of a secret: 40 characters, as AWS's have.
const SECRET_BYTES: usize = 30;

/// What a token says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Id of the account.
    pub account: String,
    /// Who of it.
    pub whose: Whose,
    /// End, milliseconds since 1970.
    pub expires_ms: u64,
    secret: String,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("account", &self.account)
            .field("whose", &self.whose)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

/// Whose session it is; ids, so that who is made anew under the same name is somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whose {
    /// The account's.
    Root,
    /// A user's.
    User {
        /// Its name.
        name: String,
        /// Its unique id.
        id: String,
    },
    /// A role's.
    Role {
        /// Its name.
        name: String,
        /// Its unique id.
        id: String,
        /// `RoleSessionName`.
        session: String,
        /// A document that the session was made with.
        policy: Option<String>,
        /// ARNs of policies that it was made with.
        arns: Vec<String>,
    },
}

/// Temporary credentials as a client gets them. Not to be printed.
pub struct Issued {
    /// `ASIA...`
    pub access_key_id: String,
    /// The secret that signs.
    pub secret: String,
    /// The session token.
    pub token: String,
    /// End, milliseconds since 1970.
    pub expires_ms: u64,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("access_key_id", &self.access_key_id)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

/// A new id of an access key: `AKIA` for users, `ASIA` for sessions.
pub fn new_key_id(prefix: &str, random: &SharedRandom) -> String {
    const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let drawn = random.bytes(KEY_ID_CHARS);
    let letters = drawn
        .iter()
        .map(|byte| char::from(BASE32[usize::from(byte % 32)]));
    format!("{prefix}{}", letters.collect::<String>())
}

/// A new secret.
pub fn new_secret(random: &SharedRandom) -> String {
    STANDARD_NO_PAD.encode(random.bytes(SECRET_BYTES))
}

fn purpose(access_key_id: &str) -> String {
    format!("session\n{access_key_id}")
}

impl Session {
    /// Makes one; `None` if it cannot be sealed.
    pub fn issue(
        (account, whose): (String, Whose),
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
    pub fn open(access_key_id: &str, token: &str, vault: &Vault) -> Option<Self> {
        let plain = vault.open(&purpose(access_key_id), token)?;
        serde_json::from_slice(&plain).ok()
    }

    /// The secret that signs.
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    #[test]
    fn a_token_says_whose_it_is_to_those_who_have_the_key_and_with_its_access_key_alone() {
        let (random, vault) = (SystemRandom::shared(), Vault::new(["k"], "c"));
        let whose = Whose::User {
            name: "u".into(),
            id: "AIDA".into(),
        };
        let issue = || Session::issue(("1".into(), whose.clone()), 9, &vault, &random).unwrap();
        let (one, other) = (issue(), issue());
        let read = Session::open(&one.access_key_id, &one.token, &vault).unwrap();
        assert_eq!((&read.whose, read.expires_ms), (&whose, 9));
        assert_eq!(read.secret(), one.secret);
        assert!(!format!("{read:?}").contains(&one.secret));
        assert_eq!(
            Session::open(&other.access_key_id, &one.token, &vault),
            None
        );
        let stranger = Vault::new(["l"], "c");
        assert_eq!(
            Session::open(&one.access_key_id, &one.token, &stranger),
            None
        );
        assert_eq!((one.access_key_id.len(), one.secret.len()), (20, 40));
    }
}
