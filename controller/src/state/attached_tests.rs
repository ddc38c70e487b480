//! What commands about what hangs on functions answer, and what goes with a function, a version or an alias.

use hearth_core::ErrorCode;
use hearth_core::attached::{
    AttachedChange, Destinations, EventInvokeMembers, UrlAuth, UrlMembers,
};
use hearth_core::control::VersionChange;
use hearth_core::function::Function;
use hearth_core::ids::{UnixMs, Version};
use hearth_core::name::Qualifier;
use hearth_core::policy::{Permission, Statement};

use super::State;
use super::command::{Command, Settled};
use super::reply::{Effect, Reply};
use super::snapshot::Snapshot;
use super::tests::{ARN, account, configured, create, name, settle};
use super::versions_tests::{alias_to, change, published};

fn attach(change: AttachedChange) -> Command {
    Command::ChangeAttached {
        account: account(),
        name: name("f"),
        change: Box::new(change),
        revision_id: "r-attached".into(),
        at: UnixMs(9),
    }
}

fn statement() -> Box<Statement> {
    let permission = Permission {
        statement_id: "s".into(),
        action: "lambda:InvokeFunction".into(),
        principal: "*".into(),
        ..Permission::default()
    };
    Box::new(permission.statement(ARN.into()).unwrap())
}

fn permit(qualifier: Option<Qualifier>) -> Command {
    attach(AttachedChange::Permit {
        qualifier,
        statement: statement(),
        revision_id: None,
    })
}

fn url(qualifier: Option<Qualifier>) -> Command {
    attach(AttachedChange::CreateUrl {
        qualifier,
        members: UrlMembers {
            auth: Some(UrlAuth::None),
            ..UrlMembers::default()
        },
    })
}

fn live() -> Option<Qualifier> {
    Some(Qualifier::Alias("live".into()))
}

fn version(n: u64) -> Option<Qualifier> {
    Some(Qualifier::Version(Version::Number(n)))
}

/// An active function with version 1 and the alias `live`.
fn state() -> State {
    let mut state = configured();
    state.apply(2, &create("f"));
    state.apply(3, &settle("f", 2, Settled::Successful));
    state.apply(4, &change("f", published()));
    state.apply(5, &change("f", alias_to("live", Version::Number(1))));
    state
}

fn done(state: &mut State, index: u64, command: &Command) -> Function {
    match state.apply(index, command) {
        (Reply::Function(function), effects) => {
            assert_eq!(effects, [Effect::Function(account(), name("f"))]);
            *function
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_is_news_and_gives_a_revision_to_what_it_is_of() {
    let mut state = state();
    let before = state.functions.function(&account(), &name("f")).cloned();
    let before = before.unwrap();
    let function = done(&mut state, 9, &permit(live()));
    assert_eq!((function.changed, function.news()), (9, 9));
    assert_eq!(function.aliases["live"].revision_id, "r-attached");
    assert_eq!(function.latest.revision_id, before.latest.revision_id);
    let function = done(&mut state, 10, &permit(None));
    assert_eq!(function.latest.revision_id, "r-attached");
    let missing = Command::ChangeAttached {
        account: account(),
        name: name("g"),
        change: Box::new(AttachedChange::SetRecursion { allow: true }),
        revision_id: "r".into(),
        at: UnixMs(0),
    };
    assert_eq!(missing.since_level(), 5);
    assert!(
        matches!(state.apply(11, &missing).0, Reply::Refused(e) if e.code == ErrorCode::NotFound)
    );
}

#[test]
fn what_hangs_on_a_version_or_alias_goes_with_it() {
    let mut state = state();
    let mut index = 10;
    for command in [
        permit(None),
        permit(live()),
        permit(version(1)),
        url(live()),
        url(None),
    ] {
        index += 1;
        done(&mut state, index, &command);
    }
    let delete = VersionChange::DeleteAlias {
        alias: "live".into(),
    };
    let function = done(&mut state, 20, &change("f", delete));
    let left: Vec<String> = function
        .attached
        .policies
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(left, ["$LATEST", "1"]);
    assert_eq!(function.attached.urls.len(), 1);
    let function = done(
        &mut state,
        21,
        &change("f", VersionChange::Delete { version: 1 }),
    );
    assert_eq!(function.attached.policies.len(), 1);
    state.apply(
        22,
        &Command::DeleteFunction {
            account: account(),
            name: name("f"),
        },
    );
    state.apply(23, &create("f"));
    let made = state.functions.function(&account(), &name("f")).unwrap();
    assert!(
        made.attached.is_empty(),
        "made anew, with nothing of the old"
    );
}

#[test]
fn events_go_to_functions_that_exist() {
    let mut state = state();
    let to = |arn: String| {
        attach(AttachedChange::SetEventInvoke {
            qualifier: None,
            members: EventInvokeMembers {
                destinations: Some(Destinations {
                    on_success: Some(arn),
                    on_failure: None,
                }),
                ..EventInvokeMembers::default()
            },
            is_update: false,
        })
    };
    let other = ARN.replace("function:f", "function:g");
    assert!(matches!(
        state.apply(9, &to(other.clone())).0,
        Reply::Refused(_)
    ));
    state.apply(10, &create("g"));
    done(&mut state, 11, &to(other));
}

#[test]
fn it_is_kept_in_snapshots() {
    let mut state = state();
    done(&mut state, 9, &permit(live()));
    done(&mut state, 10, &url(None));
    let stored = serde_json::to_vec(&Snapshot::of(&state)).unwrap();
    let restored: Snapshot = serde_json::from_slice(&stored).unwrap();
    assert_eq!(restored.into_state().unwrap(), state);
}
