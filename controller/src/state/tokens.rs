//! Join tokens: each lets one node in, once, until its time is over. The state holds their hashes alone: who reads a
//! snapshot cannot join with it.

use std::collections::{BTreeMap, BTreeSet};

use hearth_core::error::{Error, ErrorCode, Result};
use hearth_core::ids::{NodeId, UnixMs};
use serde::{Deserialize, Serialize};

use super::command::Command;
use super::{Outcome, State, done};

/// Tokens at a time; used and expired ones count until they are swept.
const TOKENS_MAX: usize = 1_000;
/// Used and expired tokens are remembered so long, for a better answer than "unknown".
const REMEMBERED_MS: u64 = 24 * 3_600_000;
/// Names of nodes that are remembered as taken.
const JOINED_MAX: usize = 100_000;

/// A token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct JoinToken {
    /// `controller`, `worker` or `gateway`.
    role: String,
    /// The one node that may use it.
    node: Option<u64>,
    /// Good until then.
    expires_at: UnixMs,
    /// By whom it was used.
    used: Option<TokenUse>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TokenUse {
    node: u64,
    /// Hash of the request for a certificate.
    request: String,
}

/// Who wants to join, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Joining<'a> {
    /// SHA-256 of the token's secret, hex.
    pub hash: &'a str,
    /// What the node is.
    pub role: &'a str,
    /// Its id.
    pub node: u64,
    /// Hash of its request for a certificate.
    pub request: &'a str,
    /// Now, as the proposer fixed it.
    pub at: UnixMs,
}

/// All tokens, and the nodes that have joined with one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokens {
    /// By hash.
    tokens: BTreeMap<String, JoinToken>,
    /// `role/id`: no second node takes the name by a token for any.
    joined: BTreeSet<String>,
}

fn denied<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::new(ErrorCode::AccessDenied, text))
}

impl JoinTokens {
    /// Whether nothing was ever made.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.joined.is_empty()
    }

    pub(super) fn create(
        &mut self,
        hash: &str,
        role: &str,
        node: Option<u64>,
        expires_at: UnixMs,
        at: UnixMs,
    ) -> Result<()> {
        self.tokens
            .retain(|_, token| token.expires_at.0.saturating_add(REMEMBERED_MS) > at.0);
        if self.tokens.len() >= TOKENS_MAX {
            return Err(Error::new(
                ErrorCode::PreconditionFailed,
                format!(
                    "there are {TOKENS_MAX} join tokens already; they go a day after their expiry"
                ),
            ));
        }
        let token = JoinToken {
            role: role.to_owned(),
            node,
            expires_at,
            used: None,
        };
        self.tokens.insert(hash.to_owned(), token);
        Ok(())
    }

    /// Lets one node in. The same request again is let in again, as its first answer may have been lost; it brings the
    /// same key and nothing new.
    pub(super) fn admit(&mut self, joining: &Joining<'_>, is_known: bool) -> Result<()> {
        let Joining {
            hash,
            role,
            node,
            request,
            at,
        } = *joining;
        let name = format!("{role}/{node}");
        let is_taken = is_known || self.joined.contains(&name);
        let Some(token) = self.tokens.get_mut(hash) else {
            return denied(
                "the join token is unknown to this cluster; make one with `hearth token create`",
            );
        };
        if let Some(used) = &token.used {
            if used.node == node && used.request == request && token.role == role {
                return Ok(());
            }
            return denied(format!(
                "the join token was used already, by {} {}",
                token.role, used.node
            ));
        }
        if at.0 >= token.expires_at.0 {
            return denied("the join token has expired; make one with `hearth token create`");
        }
        if token.role != role {
            return denied(format!(
                "the join token is for a {}, not for a {role}",
                token.role
            ));
        }
        match token.node {
            Some(wanted) if wanted != node => {
                return denied(format!(
                    "the join token is for {role} {wanted}, not for {node}"
                ));
            }
            None if is_taken => {
                return denied(format!(
                    "there is a {role} {node} already; give the new node another id, or make a token with --id {node}"
                ));
            }
            Some(_) | None => {}
        }
        token.used = Some(TokenUse {
            node,
            request: request.to_owned(),
        });
        if self.joined.len() < JOINED_MAX {
            self.joined.insert(name);
        }
        Ok(())
    }
}

impl State {
    pub(super) fn create_join_token(&mut self, command: &Command) -> Result<Outcome> {
        let Command::CreateJoinToken {
            hash,
            role,
            node,
            expires_at,
            at,
        } = command
        else {
            return Ok(done());
        };
        self.join_tokens
            .create(hash, role, *node, *expires_at, *at)?;
        Ok(done())
    }

    pub(super) fn use_join_token(&mut self, command: &Command) -> Result<Outcome> {
        let Command::UseJoinToken {
            hash,
            role,
            node,
            request,
            at,
        } = command
        else {
            return Ok(done());
        };
        let is_known = role == "worker" && self.nodes.worker(NodeId(*node)).is_some();
        let joining = Joining {
            hash,
            role,
            node: *node,
            request,
            at: *at,
        };
        self.join_tokens.admit(&joining, is_known)?;
        Ok(done())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joining<'a>(
        hash: &'a str,
        role: &'a str,
        node: u64,
        request: &'a str,
        at: u64,
    ) -> Joining<'a> {
        Joining {
            hash,
            role,
            node,
            request,
            at: UnixMs(at),
        }
    }

    fn with(node: Option<u64>) -> JoinTokens {
        let mut tokens = JoinTokens::default();
        tokens
            .create("h", "worker", node, UnixMs(1_000), UnixMs(0))
            .unwrap();
        tokens
    }

    fn refusal(tokens: &mut JoinTokens, joining: &Joining<'_>) -> String {
        tokens.admit(joining, false).expect_err("refused").message
    }

    #[test]
    fn a_token_lets_one_node_in_once() {
        let mut tokens = with(None);
        tokens
            .admit(&joining("h", "worker", 7, "r", 1), false)
            .unwrap();
        // The same request again: its answer may have been lost.
        tokens
            .admit(&joining("h", "worker", 7, "r", 2), false)
            .unwrap();
        for again in [
            joining("h", "worker", 7, "other", 2),
            joining("h", "worker", 8, "r", 2),
            joining("h", "gateway", 7, "r", 2),
        ] {
            assert!(refusal(&mut tokens, &again).contains("used already, by worker 7"));
        }
    }

    #[test]
    fn what_a_token_is_not_for_is_refused_and_does_not_use_it() {
        let mut tokens = with(None);
        for (wrong, text) in [
            (joining("x", "worker", 7, "r", 1), "unknown"),
            (joining("h", "controller", 7, "r", 1), "is for a worker"),
            (joining("h", "worker", 7, "r", 1_000), "expired"),
        ] {
            assert!(refusal(&mut tokens, &wrong).contains(text));
        }
        let taken = tokens.admit(&joining("h", "worker", 7, "r", 1), true);
        assert!(taken.expect_err("taken").message.contains("--id 7"));
        tokens
            .admit(&joining("h", "worker", 8, "r", 1), false)
            .unwrap();
        let mut bound = with(Some(7));
        let other = joining("h", "worker", 8, "r", 1);
        assert!(refusal(&mut bound, &other).contains("is for worker 7"));
        bound
            .admit(&joining("h", "worker", 7, "r", 1), true)
            .unwrap();
    }

    #[test]
    fn a_name_that_joined_is_taken_for_tokens_without_an_id() {
        let mut tokens = with(None);
        tokens
            .admit(&joining("h", "worker", 7, "r", 1), false)
            .unwrap();
        tokens
            .create("i", "worker", None, UnixMs(1_000), UnixMs(1))
            .unwrap();
        let second = joining("i", "worker", 7, "s", 2);
        assert!(refusal(&mut tokens, &second).contains("worker 7 already"));
    }

    #[test]
    fn old_tokens_are_swept_and_their_number_is_limited() {
        let mut tokens = JoinTokens::default();
        let create = |tokens: &mut JoinTokens, n: usize, at: u64| {
            tokens.create(&n.to_string(), "worker", None, UnixMs(at + 10), UnixMs(at))
        };
        for n in 0..TOKENS_MAX {
            create(&mut tokens, n, 0).unwrap();
        }
        assert!(create(&mut tokens, TOKENS_MAX, 5).is_err());
        create(&mut tokens, TOKENS_MAX, REMEMBERED_MS + 10).unwrap();
        assert_eq!(tokens.tokens.len(), 1);
    }
}
