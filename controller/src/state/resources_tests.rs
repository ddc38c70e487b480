//! What commands about code signing configurations and event source mappings answer.

use std::collections::BTreeMap;

use hearth_core::ErrorCode;
use hearth_core::attached::AttachedChange;
use hearth_core::error::Error;
use hearth_core::ids::UnixMs;
use hearth_core::mapping::MappingMembers;
use hearth_core::resource::{Resource, ResourceChange, ResourceKey, ResourceQuery};
use hearth_core::signing::{SigningMembers, signing_arn};

use super::State;
use super::command::{Command, Settled};
use super::reply::Reply;
use super::snapshot::Snapshot;
use super::tests::{account, configured, create, name, settle, update_code};

fn change(id: &str, change: ResourceChange) -> Command {
    Command::ChangeResource {
        account: account(),
        change: Box::new(change),
        id: id.into(),
        at: UnixMs(9),
    }
}

fn done(state: &mut State, index: u64, command: &Command) -> Resource {
    match state.apply(index, command).0 {
        Reply::Resource(resource) => *resource,
        other => panic!("{other:?}"),
    }
}

fn refused(state: &mut State, command: &Command) -> Error {
    match state.apply(90, command).0 {
        Reply::Refused(error) => error,
        other => panic!("{other:?}"),
    }
}

fn signing(id: &str, enforces: bool) -> Command {
    let members = SigningMembers {
        publishers: Some(vec!["p".into()]),
        enforces: Some(enforces),
        ..SigningMembers::default()
    };
    let tags = BTreeMap::new();
    change(id, ResourceChange::CreateSigning { members, tags })
}

fn keep(arn: Option<String>) -> Command {
    Command::ChangeAttached {
        account: account(),
        name: name("f"),
        change: Box::new(AttachedChange::SetCodeSigning { arn }),
        revision_id: "r".into(),
        at: UnixMs(9),
    }
}

fn mapping(id: &str, function: &str, queue: &str) -> Command {
    let members = Box::new(MappingMembers {
        function: Some((name(function), None)),
        source_arn: Some(format!("arn:aws:sqs:us-east-1:123456789012:{queue}")),
        ..MappingMembers::default()
    });
    let tags = BTreeMap::from([("a".into(), "b".into())]);
    change(id, ResourceChange::CreateMapping { members, tags })
}

fn state() -> State {
    let mut state = configured();
    state.apply(2, &create("f"));
    state.apply(3, &settle("f", 2, Settled::Successful));
    state
}

fn delete(key: ResourceKey) -> Command {
    change("", ResourceChange::Delete { key })
}

#[test]
fn a_configuration_that_enforces_keeps_unsigned_code_out() {
    let mut state = state();
    let Resource::Signing(config) = done(&mut state, 4, &signing("11111111-1111-1111-1", true))
    else {
        panic!("another resource");
    };
    assert_eq!(config.id, "csc-11111111111111111");
    let arn = signing_arn("us-east-1", &account(), &config.id);
    let nowhere = arn.replace("csc-1", "csc-2");
    let unknown = refused(&mut state, &keep(Some(nowhere))).code;
    assert_eq!(unknown, ErrorCode::CodeSigningConfigNotFound);
    assert!(matches!(
        state.apply(5, &keep(Some(arn.clone()))).0,
        Reply::Function(_)
    ));
    let code = refused(&mut state, &update_code("f", None)).code;
    assert_eq!(code, ErrorCode::CodeVerificationFailed);
    let mut made = create("g");
    if let Command::CreateFunction { code_signing, .. } = &mut made {
        *code_signing = Some(arn);
    }
    assert_eq!(made.since_level(), 5);
    assert_eq!(
        refused(&mut state, &made).code,
        ErrorCode::CodeVerificationFailed
    );
    let key = ResourceKey::Signing(config.id.clone());
    let used = refused(&mut state, &delete(key.clone())).code;
    assert_eq!(used, ErrorCode::ResourceConflict);
    let warn = ResourceChange::UpdateSigning {
        id: config.id.clone(),
        members: SigningMembers {
            enforces: Some(false),
            ..SigningMembers::default()
        },
    };
    done(&mut state, 6, &change("", warn));
    state.apply(7, &made);
    let functions = ResourceQuery::SignedFunctions {
        id: config.id,
        after: None,
        limit: 1,
    };
    let found = state.query_resources(&account(), &functions).unwrap();
    assert_eq!((found.functions, found.more), (vec![name("f")], true));
    for function in ["f", "g"] {
        state.apply(
            8,
            &Command::DeleteFunction {
                account: account(),
                name: name(function),
            },
        );
    }
    done(&mut state, 9, &delete(key.clone()));
    assert_eq!(refused(&mut state, &delete(key)).code, ErrorCode::NotFound);
    assert!(state.resources.is_empty());
}

#[test]
fn mappings_are_listed_by_function_and_source() {
    let mut state = state();
    state.apply(4, &create("g"));
    for (index, id, function, queue) in [(5, "a", "f", "q"), (6, "b", "g", "q"), (7, "c", "f", "r")]
    {
        done(&mut state, index, &mapping(id, function, queue));
    }
    assert_eq!(
        refused(&mut state, &mapping("d", "f", "q")).code,
        ErrorCode::ResourceConflict
    );
    assert_eq!(
        refused(&mut state, &mapping("d", "h", "q")).message,
        "Function does not exist"
    );
    let ids = |function: Option<&str>, queue: Option<&str>, after: Option<&str>, limit| {
        let query = ResourceQuery::Mappings {
            function: function.map(|text| (name(text), None)),
            source_arn: queue.map(|queue| format!("arn:aws:sqs:us-east-1:123456789012:{queue}")),
            after: after.map(str::to_owned),
            limit,
        };
        let found = state.query_resources(&account(), &query).unwrap();
        let keys = found.resources.iter().map(|one| match one.key() {
            ResourceKey::Mapping(id) | ResourceKey::Signing(id) => id,
        });
        (keys.collect::<String>(), found.more)
    };
    assert_eq!(ids(None, None, None, 2), ("ab".into(), true));
    assert_eq!(ids(None, None, Some("b"), 2), ("c".into(), false));
    assert_eq!(ids(Some("f"), None, None, 9), ("ac".into(), false));
    assert_eq!(ids(None, Some("q"), None, 9), ("ab".into(), false));
    assert_eq!(ids(Some("f"), None, None, 1), ("a".into(), true));
}

#[test]
fn tags_stay_within_their_limit() {
    let mut state = state();
    done(&mut state, 4, &mapping("a", "f", "q"));
    let tag = |n: usize| {
        let key = ResourceKey::Mapping("a".into());
        let set = (0..n).map(|n| (n.to_string(), String::new())).collect();
        let remove = vec!["a".to_owned()];
        change("", ResourceChange::Tag { key, set, remove })
    };
    assert_eq!(
        refused(&mut state, &tag(51)).code,
        ErrorCode::InvalidParameterValue
    );
    assert_eq!(done(&mut state, 5, &tag(50)).tags().len(), 50);
}

#[test]
fn a_repeated_command_is_answered_by_the_resource_as_it_is() {
    let mut state = state();
    let once = |command: Command| Command::Once {
        token: "t".into(),
        command: Box::new(command),
    };
    let made = done(&mut state, 4, &once(mapping("a", "f", "q")));
    assert_eq!(done(&mut state, 5, &once(mapping("a", "f", "q"))), made);
    done(&mut state, 6, &delete(made.key()));
    let again = state.apply(7, &once(mapping("a", "f", "q"))).0;
    assert_eq!(again, Reply::Done, "gone since");
}

#[test]
fn they_are_kept_in_snapshots_and_outlive_their_function() {
    let mut state = state();
    done(&mut state, 4, &mapping("a", "f", "q"));
    done(&mut state, 5, &signing("1", false));
    state.apply(
        6,
        &Command::DeleteFunction {
            account: account(),
            name: name("f"),
        },
    );
    let stored = serde_json::to_vec(&Snapshot::of(&state)).unwrap();
    let restored: Snapshot = serde_json::from_slice(&stored).unwrap();
    assert_eq!(restored.into_state().unwrap(), state);
    let key = ResourceKey::Mapping("a".into());
    assert!(state.resources.one(&account(), &key).is_some());
}
