//! Tables of what commands about layers answer.

use hearth_core::ErrorCode;
use hearth_core::function::{CodeRef, ConfigPatch};
use hearth_core::ids::{AccountId, Digest, UnixMs};
use hearth_core::layer::{
    LayerChange, LayerDescription, LayerFilter, LayerName, LayerQuery, LayerStatement, LayerVersion,
};

use super::State;
use super::command::{Command, Settled};
use super::reply::Reply;
use super::tests::{account, configured, create, settle};

fn name() -> LayerName {
    "l".parse().unwrap()
}

fn content(byte: u8, size_bytes: u64) -> CodeRef {
    CodeRef {
        digest: Digest([byte; 32]),
        size_bytes,
        unpacked_bytes: 0,
        image: None,
    }
}

fn change(change: LayerChange) -> Command {
    Command::ChangeLayer {
        account: account(),
        name: name(),
        change: Box::new(change),
        revision_id: "r".into(),
        at: UnixMs(3),
    }
}

fn publish(byte: u8, size_bytes: u64, runtime: &str) -> Command {
    change(LayerChange::Publish {
        content: content(byte, size_bytes),
        description: LayerDescription {
            runtimes: Some(vec![runtime.to_owned()]),
            ..LayerDescription::default()
        },
    })
}

fn published(state: &mut State, index: u64, command: &Command) -> LayerVersion {
    match state.apply(index, command).0 {
        Reply::Layer(version) => *version,
        other => panic!("{other:?}"),
    }
}

fn refused(state: &mut State, command: &Command) -> ErrorCode {
    match state.apply(90, command).0 {
        Reply::Refused(error) => error.code,
        other => panic!("{other:?}"),
    }
}

fn numbers(state: &State, query: &LayerQuery) -> (Vec<u64>, bool) {
    let (found, more) = state.layers.query(&account(), query).unwrap();
    (found.iter().map(|v| v.version).collect(), more)
}

#[test]
fn numbers_go_up_and_are_not_given_twice() {
    let mut state = configured();
    for (index, expected) in [(2, 1), (3, 2)] {
        let made = published(&mut state, index, &publish(1, 10, "python3.11"));
        assert_eq!((made.version, made.created), (expected, UnixMs(3)));
    }
    let delete = change(LayerChange::Delete { version: 2 });
    assert_eq!(state.apply(4, &delete).0, Reply::Done);
    assert_eq!(state.apply(5, &delete).0, Reply::Done, "gone already");
    assert_eq!(
        published(&mut state, 6, &publish(1, 10, "ruby3.3")).version,
        3
    );
    let versions = |runtime: Option<&str>, below, limit| LayerQuery::Versions {
        name: name(),
        filter: LayerFilter {
            runtime: runtime.map(str::to_owned),
            architecture: None,
        },
        below,
        limit,
    };
    assert_eq!(
        numbers(&state, &versions(None, None, 9)),
        (vec![3, 1], false)
    );
    assert_eq!(numbers(&state, &versions(None, None, 1)), (vec![3], true));
    assert_eq!(
        numbers(&state, &versions(None, Some(3), 1)),
        (vec![1], false)
    );
    assert_eq!(
        numbers(&state, &versions(Some("python3.11"), None, 9)),
        (vec![1], false)
    );
    let layers = LayerQuery::Layers {
        filter: LayerFilter::default(),
        after: None,
        limit: 5,
    };
    assert_eq!(numbers(&state, &layers), (vec![3], false));
    let stored = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<State>(&stored).unwrap(), state);
}

#[test]
fn archives_count_and_are_kept_while_anything_names_them() {
    let mut state = configured();
    published(&mut state, 2, &publish(7, 600, "python3.11"));
    assert_eq!(state.account(&account()).code_bytes, 600);
    assert_eq!(
        refused(&mut state, &publish(8, 500, "x")),
        ErrorCode::CodeStorageExceeded
    );
    state.apply(3, &create("f"));
    state.apply(4, &settle("f", 3, Settled::Successful));
    let layers = |arns: &[&str]| Command::UpdateFunctionConfiguration {
        account: account(),
        name: "f".parse().unwrap(),
        patch: Box::new(ConfigPatch {
            layers: Some(arns.iter().map(ToString::to_string).collect()),
            ..ConfigPatch::default()
        }),
        expected_revision: None,
        revision_id: "r".into(),
        at: UnixMs(7),
    };
    let arn = "arn:aws:lambda:us-east-1:123456789012:layer:l:1";
    let missing = layers(&[&arn.replace("l:1", "l:2")]);
    assert_eq!(
        refused(&mut state, &missing),
        ErrorCode::InvalidParameterValue
    );
    let Reply::Function(function) = state.apply(5, &layers(&[arn])).0 else {
        panic!("the layer is there");
    };
    assert_eq!(function.latest.config.layer_contents, [content(7, 600)]);
    state.apply(6, &settle("f", 5, Settled::Successful));
    state.apply(7, &change(LayerChange::Delete { version: 1 }));
    let blob = Digest([7; 32]);
    assert_eq!(state.blobs().get(&blob), Some(&600), "the function has it");
    state.apply(8, &layers(&[]));
    assert!(
        state.digests().contains(&blob),
        "what serves has it until the update has settled"
    );
    state.apply(9, &settle("f", 8, Settled::Successful));
    assert!(!state.digests().contains(&blob));
}

#[test]
fn other_accounts_need_a_statement_and_policies_have_revisions() {
    let mut state = configured();
    published(&mut state, 2, &publish(7, 60, "python3.11"));
    let other: AccountId = "210987654321".parse().unwrap();
    let permit = |id: &str, revision: Option<&str>| {
        change(LayerChange::Permit {
            version: 1,
            id: id.to_owned(),
            statement: LayerStatement {
                principal: other.as_str().to_owned(),
                organization: None,
            },
            revision_id: revision.map(str::to_owned),
        })
    };
    let revoke = |id: &str, version| {
        change(LayerChange::Revoke {
            version,
            id: id.to_owned(),
            revision_id: None,
        })
    };
    assert!(published(&mut state, 3, &permit("a", None)).allows(&other));
    for (command, expected) in [
        (permit("a", None), ErrorCode::ResourceConflict),
        (permit("b", Some("old")), ErrorCode::PreconditionFailed),
        (revoke("b", 1), ErrorCode::NotFound),
        (revoke("a", 2), ErrorCode::NotFound),
    ] {
        assert_eq!(refused(&mut state, &command), expected, "{command:?}");
    }
    assert!(published(&mut state, 4, &permit("b", Some("r"))).allows(&other));
    state.apply(5, &revoke("a", 1));
    assert!(!published(&mut state, 6, &revoke("b", 1)).allows(&other));
}

#[test]
fn a_layer_is_published_once_however_often_it_is_asked_for() {
    let mut state = configured();
    let once = Command::Once {
        token: "t".into(),
        command: Box::new(publish(7, 60, "python3.11")),
    };
    let first = published(&mut state, 2, &once);
    assert_eq!(published(&mut state, 3, &once), first);
    let all = LayerQuery::Layers {
        filter: LayerFilter::default(),
        after: None,
        limit: 5,
    };
    assert_eq!(numbers(&state, &all).0, [1]);
}
