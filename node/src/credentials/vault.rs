//! Sealing with a key that some nodes share: AES-256-GCM, with the purpose authenticated. What is sealed may be on any disk.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::random::SharedRandom;

/// Bytes that say with which key something is sealed.
const KEY_ID_BYTES: usize = 8;

struct Key {
    id: [u8; KEY_ID_BYTES],
    key: LessSafeKey,
}

/// Seals with the first key, and opens with any.
pub struct Vault(Vec<Key>);

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

fn derived(secret: &str, cluster_id: &str, what: &str) -> [u8; 32] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("hearth iam {what}\n{cluster_id}").as_bytes());
    mac.finalize().into_bytes().into()
}

/// The key that sessions are sealed with where no other is given: made of the gateways' secret, so that who has to have the one (a
/// controller) need not have the other.
pub fn session_key(secret: &str) -> String {
    hex::encode(derived(secret, "", "session key"))
}

impl Vault {
    /// Each secret is one that those share who seal and open; there is at least one.
    pub fn new<'s>(secrets: impl IntoIterator<Item = &'s str>, cluster_id: &str) -> Self {
        let key = |secret: &str| {
            let mut id = [0; KEY_ID_BYTES];
            id.copy_from_slice(&derived(secret, cluster_id, "id")[..KEY_ID_BYTES]);
            let key = UnboundKey::new(&AES_256_GCM, &derived(secret, cluster_id, "key"))
                .expect("the key has the length of the algorithm's");
            Key {
                id,
                key: LessSafeKey::new(key),
            }
        };
        Self(secrets.into_iter().map(key).collect())
    }

    /// Seals; only `open` with the same `purpose` gives it back. `None` if there is no key.
    pub fn seal(&self, purpose: &str, plain: &[u8], random: &SharedRandom) -> Option<String> {
        let Key { id, key } = self.0.first()?;
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce);
        let mut sealed = plain.to_vec();
        let aad = Aad::from(purpose.as_bytes());
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .ok()?;
        let whole = [id.as_slice(), &nonce, &sealed].concat();
        Some(URL_SAFE_NO_PAD.encode(whole))
    }

    /// What was sealed for this purpose with one of the keys.
    pub fn open(&self, purpose: &str, sealed: &str) -> Option<Vec<u8>> {
        let whole = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (id, rest) = whole.split_at_checked(KEY_ID_BYTES)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let Key { key, .. } = self.0.iter().find(|key| key.id == id)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut opened = sealed.to_vec();
        let plain = key
            .open_in_place(nonce, Aad::from(purpose.as_bytes()), &mut opened)
            .ok()?;
        Some(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    #[test]
    fn what_is_sealed_opens_with_its_key_and_for_its_purpose_alone() {
        let random = SystemRandom::shared();
        let vault = Vault::new(["one"], "c");
        let sealed = vault.seal("p", b"secret", &random).unwrap();
        assert_ne!(sealed, vault.seal("p", b"secret", &random).unwrap());
        assert_eq!(vault.open("p", &sealed).unwrap(), b"secret");
        let rotated = Vault::new(["two", "one"], "c");
        assert_eq!(rotated.open("p", &sealed).unwrap(), b"secret");
        for (vault, purpose) in [
            (&vault, "q"),
            (&Vault::new(["two"], "c"), "p"),
            (&Vault::new(["one"], "other"), "p"),
        ] {
            assert_eq!(vault.open(purpose, &sealed), None);
        }
        let mut changed = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(vault.open("p", &URL_SAFE_NO_PAD.encode(changed)), None);
        for text in ["", "a", "%%", &sealed[..20]] {
            assert_eq!(vault.open("p", text), None, "{text}");
        }
    }
}
