//! What commands about roles, users, groups and policies answer.

use std::collections::BTreeMap;

use hearth_core::ErrorCode;
use hearth_core::error::Error;
use hearth_core::iam::{IamChange, IamEntity, IamKey, IamQuery};
use hearth_core::ids::UnixMs;

use crate::state::State;
use crate::state::command::Command;
use crate::state::reply::{Effect, Reply};
use crate::state::snapshot::Snapshot;
use crate::state::tests::{account, configured};

const MANAGED: &str = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole";
const OWN: &str = "arn:aws:iam::123456789012:policy/p";

fn role(name: &str) -> IamKey {
    IamKey::Role(name.into())
}

fn create(key: IamKey) -> IamChange {
    IamChange::Create {
        key,
        path: "/".into(),
        description: String::new(),
        tags: BTreeMap::new(),
        document: Some("{}".into()),
        max_session_s: 3_600,
        boundary: None,
    }
}

fn apply(state: &mut State, change: IamChange) -> (Reply, Vec<Effect>) {
    let command = Command::ChangeIam {
        account: account(),
        change: Box::new(change),
        id: "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0ff".into(),
        at: UnixMs(9),
    };
    assert_eq!(command.since_level(), 6);
    state.apply(50, &command)
}

fn done(state: &mut State, change: IamChange) -> IamEntity {
    let key = change.key();
    let (reply, effects) = apply(state, change);
    assert_eq!(effects, [Effect::Iam(account(), key)]);
    match reply {
        Reply::Iam(entity) => *entity,
        other => panic!("{other:?}"),
    }
}

fn refused(state: &mut State, change: IamChange) -> Error {
    let before = state.clone();
    let (reply, effects) = apply(state, change);
    assert_eq!((&before, effects.len()), (&*state, 0), "nothing happened");
    match reply {
        Reply::Refused(error) => error,
        other => panic!("{other:?}"),
    }
}

fn delete(key: IamKey) -> IamChange {
    IamChange::Delete { key }
}

fn attach(key: IamKey, arn: &str) -> IamChange {
    let arn = arn.into();
    IamChange::Attach { key, arn }
}

#[test]
fn names_are_taken_in_any_case_and_found_in_their_own() {
    let mut state = configured();
    done(&mut state, create(role("Worker")));
    let error = refused(&mut state, create(role("worker")));
    assert_eq!(error.code, ErrorCode::AlreadyExists);
    assert_eq!(error.message, "Role with name Worker already exists.");
    assert!(state.iam.one(&account(), &role("Worker")).is_some());
    let error = refused(&mut state, delete(role("worker")));
    assert_eq!(error.message, "The role with name worker cannot be found.");
    // Kinds have names of their own.
    done(&mut state, create(IamKey::User("worker".into())));
    done(&mut state, delete(role("Worker")));
    assert!(state.iam.one(&account(), &role("Worker")).is_none());
}

#[test]
fn what_is_attached_exists_and_what_is_in_use_stays() {
    let mut state = configured();
    done(&mut state, create(role("r")));
    let error = refused(&mut state, attach(role("r"), OWN));
    assert_eq!(
        error.message,
        format!("Policy {OWN} does not exist or is not attachable.")
    );
    done(&mut state, create(IamKey::Policy("p".into())));
    done(&mut state, attach(role("r"), OWN));
    done(&mut state, attach(role("r"), MANAGED));
    let wrong = refused(&mut state, attach(role("r"), &OWN.replace("/p", "/path/p")));
    assert_eq!(wrong.code, ErrorCode::NotFound);
    for key in [role("r"), IamKey::Policy("p".into())] {
        assert_eq!(
            refused(&mut state, delete(key)).code,
            ErrorCode::DeleteConflict
        );
    }
    let using = IamQuery::Using { arn: OWN.into() };
    let using = state.query_iam(&account(), &using).unwrap();
    assert_eq!(using.entities[0].name, "r");
    let one = IamQuery::One(IamKey::Policy("p".into()));
    assert_eq!(state.query_iam(&account(), &one).unwrap().used[OWN], (1, 0));
    for arn in [OWN, MANAGED] {
        let arn = arn.into();
        done(
            &mut state,
            IamChange::Detach {
                key: role("r"),
                arn,
            },
        );
    }
    let boundary = IamChange::SetBoundary {
        key: role("r"),
        arn: Some(OWN.into()),
    };
    done(&mut state, boundary);
    let error = refused(&mut state, delete(IamKey::Policy("p".into())));
    assert_eq!(
        error.message,
        "Cannot delete a policy attached to entities."
    );
    done(&mut state, delete(role("r")));
    done(&mut state, delete(IamKey::Policy("p".into())));
    assert!(state.iam.is_empty());
}

#[test]
fn users_leave_their_groups_before_either_goes() {
    let mut state = configured();
    let (user, group) = (IamKey::User("u".into()), IamKey::Group("g".into()));
    let join = || IamChange::Join {
        user: "u".into(),
        group: "g".into(),
    };
    done(&mut state, create(user.clone()));
    let error = refused(&mut state, join());
    assert_eq!(error.message, "The group with name g cannot be found.");
    done(&mut state, create(group.clone()));
    done(&mut state, join());
    for key in [&user, &group] {
        assert_eq!(
            refused(&mut state, delete(key.clone())).code,
            ErrorCode::DeleteConflict
        );
    }
    let members = IamQuery::Members {
        group: "g".into(),
        after: String::new(),
        limit: 5,
    };
    let page = state.query_iam(&account(), &members).unwrap();
    assert_eq!(
        page.entities
            .iter()
            .map(|e| e.name.as_str())
            .collect::<Vec<_>>(),
        ["g", "u"]
    );
    done(
        &mut state,
        IamChange::Leave {
            user: "u".into(),
            group: "g".into(),
        },
    );
    let key = IamChange::CreateKey {
        user: "u".into(),
        id: "AKIA".into(),
        sealed: "s".into(),
    };
    done(&mut state, key);
    let error = refused(&mut state, delete(user.clone()));
    assert_eq!(
        error.message,
        "Cannot delete entity, must delete access keys first."
    );
    done(
        &mut state,
        IamChange::DeleteKey {
            user: "u".into(),
            id: "AKIA".into(),
        },
    );
    done(&mut state, delete(group));
    done(&mut state, delete(user));
}

#[test]
fn pages_follow_each_other_and_snapshots_hold_everybody() {
    let mut state = configured();
    for n in 0..5 {
        done(&mut state, create(role(&format!("R{n}"))));
    }
    let page = |after: &str| {
        let query = IamQuery::After {
            after: role(after),
            path_prefix: "/".into(),
            limit: 2,
        };
        let page = state.query_iam(&account(), &query).unwrap();
        let names: Vec<String> = page.entities.into_iter().map(|e| e.name).collect();
        (names.join(" "), page.more)
    };
    assert_eq!(page(""), ("R0 R1".into(), true));
    assert_eq!(page("R1"), ("R2 R3".into(), true));
    assert_eq!(page("R3"), ("R4".into(), false));
    assert_eq!(state.iam.news().count(), 5);
    let stored = serde_json::to_string(&Snapshot::of(&state)).unwrap();
    let read: Snapshot = serde_json::from_str(&stored).unwrap();
    assert_eq!(read.into_state().unwrap(), state);
    let other = IamQuery::One(role("R1"));
    let nobody = "210987654321".parse().unwrap();
    assert!(state.query_iam(&nobody, &other).is_err());
}

#[test]
fn a_repeated_change_is_answered_with_what_is_there() {
    let mut state = configured();
    let once = Command::Once {
        token: "t".into(),
        command: Box::new(Command::ChangeIam {
            account: account(),
            change: Box::new(create(role("r"))),
            id: "0".into(),
            at: UnixMs(9),
        }),
    };
    let (first, _) = state.apply(50, &once);
    assert!(matches!(first, Reply::Iam(_)));
    assert_eq!(state.apply(51, &once).0, first);
}
