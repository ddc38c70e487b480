//! Commands that are carried out once however often they are proposed: the outcome of the newest ones by the token their
//! client chose. A client that did not hear the answer proposes again with the same token.

use std::collections::VecDeque;

use hearth_core::Error;
use hearth_core::iam::IamKey;
use hearth_core::ids::AccountId;
use hearth_core::layer::LayerName;
use hearth_core::name::FunctionName;
use hearth_core::resource::ResourceKey;
use serde::{Deserialize, Serialize};

use super::State;
use super::command::Command;
use super::reply::Reply;

/// Outcomes kept. A client tries again within seconds, and a cluster commits some hundred commands a second.
const KEPT_MAX: usize = 1_024;
/// Longest token that is kept; a UUID has 36 characters.
pub(crate) const TOKEN_MAX: usize = 64;

/// What is kept of an answer. A function, layer or resource is not: its document is in the state already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Outcome {
    Function(AccountId, FunctionName),
    Layer(AccountId, LayerName, u64),
    Resource(AccountId, ResourceKey),
    Iam(AccountId, IamKey),
    Done,
    Refused(Error),
}

/// See the module's text. The oldest come first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once(VecDeque<(String, Outcome)>);

impl Once {
    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The answer to a command that was carried out before. A function is answered as it is now, and one that is gone by
    /// now as done.
    pub(super) fn reply(&self, token: &str, state: &State) -> Option<Reply> {
        let (_, outcome) = self.0.iter().rev().find(|(kept, _)| kept == token)?;
        Some(match outcome {
            Outcome::Function(account, name) => state
                .functions
                .function(account, name)
                .map_or(Reply::Done, |f| Reply::Function(Box::new(f.clone()))),
            Outcome::Layer(account, name, version) => state
                .layers
                .version(account, name, *version)
                .map_or(Reply::Done, |v| Reply::Layer(Box::new(v.clone()))),
            Outcome::Resource(account, key) => state
                .resources
                .one(account, key)
                .map_or(Reply::Done, |one| Reply::Resource(Box::new(one))),
            Outcome::Iam(account, key) => state
                .iam
                .one(account, key)
                .map_or(Reply::Done, |one| Reply::Iam(Box::new(one.clone()))),
            Outcome::Done => Reply::Done,
            Outcome::Refused(error) => Reply::Refused(error.clone()),
        })
    }

    /// Keeps an answer. Those that no client is given are not kept.
    pub(super) fn keep(&mut self, token: &str, command: &Command, reply: &Reply) {
        let outcome = match reply {
            Reply::Function(f) => Outcome::Function(f.account.clone(), f.name.clone()),
            Reply::Layer(v) => Outcome::Layer(v.account.clone(), v.name.clone(), v.version),
            Reply::Resource(one) => match command {
                Command::ChangeResource { account, .. } => {
                    Outcome::Resource(account.clone(), one.key())
                }
                _ => return,
            },
            Reply::Iam(one) => match command {
                Command::ChangeIam { account, .. } => Outcome::Iam(account.clone(), one.key()),
                _ => return,
            },
            Reply::Done => Outcome::Done,
            Reply::Refused(error) => Outcome::Refused(error.clone()),
            Reply::Grants(_) | Reply::Superseded | Reply::Unreadable => return,
        };
        if token.len() > TOKEN_MAX {
            return;
        }
        if self.0.len() >= KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back((token.to_owned(), outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::command::Settled;
    use crate::state::tests::{create, history, settle, update_timeout};

    fn once(token: &str, command: Command) -> Command {
        Command::Once {
            token: token.to_owned(),
            command: Box::new(command),
        }
    }

    #[test]
    fn a_command_with_a_known_token_changes_nothing_and_is_answered_as_before() {
        let mut state = State::default();
        state.apply(1, &history()[0]);
        let (first, effects) = state.apply(2, &once("a", create("f")));
        assert_eq!(effects.len(), 1);
        let before = state.clone();
        let (second, effects) = state.apply(3, &once("a", create("f")));
        assert_eq!((&second, effects.len()), (&first, 0));
        assert_eq!(state, before);
        let (refused, _) = state.apply(4, &once("b", create("f")));
        assert!(matches!(refused, Reply::Refused(_)), "another client's");
        assert_eq!(state.apply(5, &once("b", create("f"))).0, refused);
    }

    /// The case that plain repetition cannot solve: the second update would meet the first, in progress.
    #[test]
    fn an_update_in_progress_is_no_conflict_for_its_own_repetition() {
        let mut state = State::default();
        state.apply(1, &history()[0]);
        state.apply(2, &create("f"));
        state.apply(3, &settle("f", 2, Settled::Successful));
        let (first, _) = state.apply(50, &once("u", update_timeout("f", 9)));
        assert!(matches!(first, Reply::Function(_)), "{first:?}");
        assert_eq!(state.apply(51, &once("u", update_timeout("f", 9))).0, first);
        let (other, _) = state.apply(52, &update_timeout("f", 9));
        assert!(matches!(other, Reply::Refused(_)));
    }

    /// Entries as the first release of level 1 wrote them; a log on somebody's disk looks like this.
    #[test]
    fn entries_of_level_1_stay_readable() {
        let tag = r#"{"Once":{"token":"t","command":{"BeginTerm":{"term":3}}}}"#;
        let wanted = once("t", Command::BeginTerm { term: 3 });
        assert_eq!(serde_json::from_str::<Command>(tag).unwrap(), wanted);
        let drain = r#"{"SetDrain":{"role":"Worker","node":101,"drain":true}}"#;
        let mut state = State::default();
        let command: Command = serde_json::from_str(drain).unwrap();
        assert_eq!(state.apply(1, &command).0, Reply::Done);
        state.apply(2, &wanted);
        let kept = r#"{"workers":{},"drains":[["Worker",101]]}"#;
        assert_eq!(serde_json::to_string(&state.nodes).unwrap(), kept);
        assert_eq!(
            serde_json::to_string(&state.once).unwrap(),
            r#"[["t","Done"]]"#
        );
        let stored = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&stored).unwrap(), state);
    }

    #[test]
    fn only_the_newest_are_kept() {
        let mut kept = Once::default();
        let command = Command::BeginTerm { term: 1 };
        for n in 0..=KEPT_MAX {
            kept.keep(&n.to_string(), &command, &Reply::Done);
        }
        assert_eq!(kept.0.len(), KEPT_MAX);
        let state = State::default();
        assert_eq!(kept.reply("0", &state), None);
        assert_eq!(kept.reply("1", &state), Some(Reply::Done));
        kept.keep(&"x".repeat(TOKEN_MAX + 1), &command, &Reply::Done);
        assert_eq!(kept.0.len(), KEPT_MAX, "nor is a token that is too long");
    }
}
