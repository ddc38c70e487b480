//! Signing keys: derived from a secret, a date, a region and a service, and remembered, because
//! deriving takes four HMACs and a client uses one key all day.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::{SecretKey, TERMINATOR};

/// HMAC-SHA256 of a text.
pub(super) fn hmac(key: &[u8], text: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

/// What a signing key is for: `<date>/<region>/<service>`.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyScope<'a> {
    /// `YYYYMMDD`.
    pub(super) date: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

impl fmt::Display for KeyScope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}/{TERMINATOR}",
            self.date, self.region, self.service
        )
    }
}

/// A derived key. Its Debug form does not show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct SigningKey([u8; 32]);

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningKey(***)")
    }
}

impl SigningKey {
    pub(super) fn derive(secret: &SecretKey, scope: KeyScope<'_>) -> Self {
        let start = format!("AWS4{}", secret.expose());
        let key = hmac(start.as_bytes(), scope.date);
        let key = hmac(&key, scope.region);
        let key = hmac(&key, scope.service);
        Self(hmac(&key, TERMINATOR))
    }

    pub(super) fn sign(&self, string_to_sign: &str) -> [u8; 32] {
        hmac(&self.0, string_to_sign)
    }
}

/// Derived keys in two generations of bounded size: when the young one is full it becomes the old
/// one, and what was not used since is forgotten.
#[derive(Debug)]
pub(super) struct KeyCache {
    capacity: usize,
    generations: Mutex<[HashMap<String, Entry>; 2]>,
}

#[derive(Debug, Clone)]
struct Entry {
    /// The secret the key was derived from: a rotated secret must not find the old key.
    secret: SecretKey,
    key: SigningKey,
}

impl KeyCache {
    /// A cache of at most twice `capacity` keys.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            generations: Mutex::default(),
        }
    }

    pub(super) fn key(
        &self,
        access_key_id: &str,
        secret: &SecretKey,
        scope: KeyScope<'_>,
    ) -> SigningKey {
        let name = format!("{access_key_id}/{scope}");
        // A poisoned lock guards whole entries only; they stay valid.
        let mut generations = self
            .generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *generations;
        let known = young.get(&name).or_else(|| old.get(&name));
        let known = known.filter(|entry| entry.secret == *secret).cloned();
        if let Some(entry) = &known
            && young.contains_key(&name)
        {
            return entry.key;
        }
        let entry = known.unwrap_or_else(|| Entry {
            secret: secret.clone(),
            key: SigningKey::derive(secret, scope),
        });
        let key = entry.key;
        if young.len() >= self.capacity {
            *old = std::mem::take(young);
        }
        young.insert(name, entry);
        key
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let generations = self.generations.lock().unwrap();
        generations.iter().map(HashMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: KeyScope<'_> = KeyScope {
        date: "20150830",
        region: "us-east-1",
        service: "iam",
    };

    /// The key that AWS's documentation derives step by step.
    #[test]
    fn derived_key_is_that_of_aws_documentation() {
        let secret = SecretKey::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        assert_eq!(
            hex::encode(SigningKey::derive(&secret, SCOPE).0),
            "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
        );
    }

    #[test]
    fn cache_stays_bounded_and_a_rotated_secret_gets_a_new_key() {
        let cache = KeyCache::new(8);
        let secret = SecretKey::new("one");
        for i in 0..100 {
            cache.key(&format!("AKID{i}"), &secret, SCOPE);
        }
        assert!(cache.len() <= 16, "{}", cache.len());
        let first = cache.key("AKID", &secret, SCOPE);
        assert_eq!(first, cache.key("AKID", &secret, SCOPE));
        let rotated = SecretKey::new("two");
        let second = cache.key("AKID", &rotated, SCOPE);
        assert_eq!(second, SigningKey::derive(&rotated, SCOPE));
        assert_ne!(first, second);
    }
}
