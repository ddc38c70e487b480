//! Code signing configurations: who may sign code, and what happens to code that nobody signed whom one trusts. Signatures are
//! not read: every package counts as unsigned.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, UnixMs};

/// One configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningConfig {
    /// `csc-` and 17 digits.
    pub id: String,
    /// Free text, when one was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// ARNs of the versions of signing profiles.
    pub publishers: Vec<String>,
    /// Refuses untrusted code, rather than to warn of it.
    pub enforces: bool,
    /// When it was last changed.
    pub last_modified: UnixMs,
    /// Tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// What a request says of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningMembers {
    /// See [`SigningConfig::description`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// See [`SigningConfig::publishers`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publishers: Option<Vec<String>>,
    /// See [`SigningConfig::enforces`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforces: Option<bool>,
}

impl SigningConfig {
    /// A new one; its id is of a UUID that the proposer chose.
    pub fn new(uuid: &str, members: &SigningMembers, at: UnixMs) -> Self {
        let digits: String = uuid.chars().filter(|c| *c != '-').take(17).collect();
        let mut config = Self {
            id: format!("csc-{digits}"),
            description: None,
            publishers: Vec::new(),
            enforces: false,
            last_modified: at,
            tags: BTreeMap::new(),
        };
        config.update(members, at);
        config
    }

    /// What was sent takes the place of what is there.
    pub fn update(&mut self, members: &SigningMembers, at: UnixMs) {
        if members.description.is_some() {
            self.description.clone_from(&members.description);
        }
        if let Some(publishers) = &members.publishers {
            self.publishers.clone_from(publishers);
        }
        self.enforces = members.enforces.unwrap_or(self.enforces);
        self.last_modified = at;
    }
}

/// The ARN of a configuration.
pub fn signing_arn(region: &str, account: &AccountId, id: &str) -> String {
    format!("arn:aws:lambda:{region}:{account}:code-signing-config:{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_takes_the_place_of_what_is_there() {
        let members = SigningMembers {
            publishers: Some(vec!["p".into()]),
            ..SigningMembers::default()
        };
        let uuid = "5d7b5dc5-7e3c-4b5e-8d4b-000000000001";
        let mut config = SigningConfig::new(uuid, &members, UnixMs(1));
        assert_eq!(config.id, "csc-5d7b5dc57e3c4b5e8");
        assert_eq!((config.enforces, &config.description), (false, &None));
        let members = SigningMembers {
            description: Some(String::new()),
            enforces: Some(true),
            ..SigningMembers::default()
        };
        config.update(&members, UnixMs(2));
        assert_eq!(config.publishers, ["p"]);
        assert_eq!(
            (config.enforces, config.description),
            (true, Some(String::new()))
        );
        assert_eq!(config.last_modified, UnixMs(2));
    }
}
