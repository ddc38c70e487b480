//! Tables of what each command answers. Properties of all histories are in `properties`.

use std::collections::BTreeMap;

use hearth_core::ErrorCode;
use hearth_core::function::{
    CodeRef, ConfigPatch, Function, FunctionConfig, State as FunctionState, StateReason,
    UpdateStatus,
};
use hearth_core::ids::{AccountId, Digest, Incarnation, NodeId, PoolKey, UnixMs};
use hearth_core::name::FunctionName;
use hearth_core::permits::GrantChange;

use super::State;
use super::command::{Command, Registration, Settled};
use super::reply::{Effect, Reply};

pub(super) const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:f";

pub(super) fn account() -> AccountId {
    "123456789012".parse().unwrap()
}

pub(super) fn name(text: &str) -> FunctionName {
    text.parse().unwrap()
}

fn code(byte: u8) -> CodeRef {
    CodeRef {
        digest: Digest([byte; 32]),
        size_bytes: u64::from(byte),
        unpacked_bytes: 0,
        image: None,
    }
}

pub(super) fn configured() -> State {
    let mut state = State::default();
    let command = Command::Configure {
        region: "us-east-1".into(),
        concurrency_limit: 1_000,
        code_storage_bytes: 1_000,
    };
    assert_eq!(state.apply(1, &command).0, Reply::Done);
    state
}

pub(super) fn create(text: &str) -> Command {
    Command::CreateFunction {
        account: account(),
        name: name(text),
        config: Box::new(FunctionConfig::with_defaults(
            "arn:aws:iam::123456789012:role/r".into(),
        )),
        code: code(1),
        tags: BTreeMap::new(),
        code_signing: None,
        revision_id: "r-created".into(),
        at: UnixMs(5),
    }
}

pub(super) fn settle(text: &str, generation: u64, outcome: Settled) -> Command {
    Command::SettleFunction {
        account: account(),
        name: name(text),
        generation,
        outcome,
        revision_id: format!("r-settled-{generation}"),
    }
}

pub(super) fn update_code(text: &str, expected: Option<&str>) -> Command {
    Command::UpdateFunctionCode {
        account: account(),
        name: name(text),
        code: code(2),
        architectures: None,
        expected_revision: expected.map(str::to_owned),
        revision_id: "r-updated".into(),
        at: UnixMs(6),
    }
}

pub(super) fn update_timeout(text: &str, timeout_s: u32) -> Command {
    Command::UpdateFunctionConfiguration {
        account: account(),
        name: name(text),
        patch: Box::new(ConfigPatch {
            timeout_s: Some(timeout_s),
            ..ConfigPatch::default()
        }),
        expected_revision: None,
        revision_id: "r-config".into(),
        at: UnixMs(7),
    }
}

pub(super) fn reserve(text: &str, reserved: Option<u32>) -> Command {
    Command::SetReservedConcurrency {
        account: account(),
        name: name(text),
        reserved,
        revision_id: "r-reserved".into(),
    }
}

pub(super) fn register(id: u64, incarnation: u64) -> Command {
    Command::RegisterWorker {
        worker: NodeId(id),
        registration: Registration {
            incarnation: Incarnation(incarnation),
            addr: format!("worker-{id}:9000"),
            memory_mib: 4_096,
            runtimes: vec!["python3.11".into()],
            labels: BTreeMap::new(),
        },
    }
}

pub(super) fn grow(id: u64, incarnation: u64, function: Option<&str>, n: u32) -> Command {
    Command::ChangeGrants {
        term: 0,
        changes: vec![GrantChange::Grow {
            worker: NodeId(id),
            pool: pool(function),
            n,
            incarnation: Incarnation(incarnation),
        }],
    }
}

pub(super) fn pool(function: Option<&str>) -> PoolKey {
    PoolKey {
        account: account(),
        function: function.map(name),
        provisioned: None,
    }
}

pub(super) fn function(reply: (Reply, Vec<Effect>)) -> Function {
    match reply.0 {
        Reply::Function(function) => *function,
        other => panic!("{other:?}"),
    }
}

pub(super) fn error(reply: (Reply, Vec<Effect>)) -> (ErrorCode, String) {
    match reply.0 {
        Reply::Refused(error) => (error.code, error.message),
        other => panic!("{other:?}"),
    }
}

/// One of everything, for the golden file.
pub(crate) fn history() -> Vec<Command> {
    let configure = Command::Configure {
        region: "us-east-1".into(),
        concurrency_limit: 1_000,
        code_storage_bytes: 1_000,
    };
    vec![
        configure,
        create("f"),
        settle("f", 2, Settled::Successful),
        update_code("f", None),
        create("g"),
        reserve("f", Some(300)),
        register(1, 7),
        grow(1, 7, Some("f"), 150),
        grow(1, 7, None, 87),
        Command::BeginTerm { term: 4 },
        register(2, 1),
        Command::SetWorkerHealth {
            worker: NodeId(2),
            incarnation: Incarnation(1),
            reachable: false,
            draining: true,
        },
        Command::TagFunction {
            account: account(),
            name: name("g"),
            set: BTreeMap::from([("team".into(), "a".into())]),
            remove: vec![],
        },
    ]
}

/// A state with `f` active since index 3.
pub(super) fn active() -> State {
    let mut state = configured();
    function(state.apply(2, &create("f")));
    function(state.apply(3, &settle("f", 2, Settled::Successful)));
    state
}

#[test]
fn creation_is_pending_until_it_settles_under_a_new_revision() {
    let mut state = configured();
    let created = function(state.apply(2, &create("f")));
    assert_eq!(created.state, FunctionState::Pending);
    assert_eq!(created.update, UpdateStatus::None);
    assert_eq!((created.latest.generation, created.serving), (2, None));
    assert_eq!(state.functions.unsettled().count(), 1);

    let settled = function(state.apply(3, &settle("f", 2, Settled::Successful)));
    assert_eq!(settled.state, FunctionState::Active);
    assert_eq!(settled.update, UpdateStatus::Successful);
    assert_eq!(settled.serving.as_ref(), Some(&settled.latest));
    assert_eq!(settled.latest.revision_id, "r-settled-2");
    assert_eq!(settled.latest.generation, 2);
    assert_eq!(state.functions.unsettled().count(), 0);
    assert_eq!(
        state.apply(4, &settle("f", 2, Settled::Successful)),
        (Reply::Done, vec![]),
        "a second end says nothing"
    );
}

#[test]
fn the_old_version_serves_until_the_update_settles() {
    let mut state = active();
    let updated = function(state.apply(4, &update_code("f", Some("r-settled-2"))));
    assert_eq!(updated.update, UpdateStatus::InProgress);
    assert_eq!(updated.latest.code, code(2));
    assert_eq!(updated.latest.generation, 4);
    assert_eq!(updated.serving.as_ref().unwrap().code, code(1));
    assert_eq!(state.digests().len(), 2);

    assert_eq!(
        state.apply(5, &settle("f", 2, Settled::Successful)).0,
        Reply::Done,
        "the end of an older change is void"
    );
    let reason = StateReason {
        code: "InvalidZipFileException".into(),
        message: "no".into(),
    };
    let failed = function(state.apply(6, &settle("f", 4, Settled::Failed(reason.clone()))));
    assert_eq!(failed.update, UpdateStatus::Failed(reason));
    assert_eq!(failed.state, FunctionState::Active);
    assert_eq!(failed.serving.as_ref().unwrap().code, code(1));

    function(state.apply(7, &update_code("f", None)));
    let settled = function(state.apply(8, &settle("f", 7, Settled::Successful)));
    assert_eq!(settled.serving.unwrap().code, code(2));
}

#[test]
fn a_creation_that_failed_can_be_mended_by_an_update() {
    let mut state = configured();
    function(state.apply(2, &create("f")));
    let reason = StateReason {
        code: "InvalidRuntime".into(),
        message: "no".into(),
    };
    let failed = function(state.apply(3, &settle("f", 2, Settled::Failed(reason.clone()))));
    assert_eq!(failed.state, FunctionState::Failed(reason));
    function(state.apply(4, &update_code("f", None)));
    let mended = function(state.apply(5, &settle("f", 4, Settled::Successful)));
    assert_eq!(mended.state, FunctionState::Active);
}

/// The command is refused so and changes nothing.
fn assert_refused(mut state: State, command: &Command, code: ErrorCode, text: &str) {
    let before = state.clone();
    let (reply, effects) = state.apply(100, command);
    assert_eq!(effects, vec![], "{command:?}");
    let expected = (code, text.to_owned());
    assert_eq!(error((reply, effects)), expected, "{command:?}");
    assert_eq!(state, before, "a refusal changes nothing");
}

#[test]
fn what_is_missing_or_there_already_is_refused_with_the_texts_of_aws() {
    let missing = format!("Function not found: {ARN}");
    let delete = Command::DeleteFunction {
        account: account(),
        name: name("f"),
    };
    for command in [
        delete,
        update_code("f", None),
        update_timeout("f", 5),
        reserve("f", Some(1)),
    ] {
        assert_refused(configured(), &command, ErrorCode::NotFound, &missing);
    }
    assert_refused(
        active(),
        &create("f"),
        ErrorCode::ResourceConflict,
        "Function already exist: f",
    );
}

#[test]
fn updates_are_refused_with_the_texts_of_aws() {
    let mut pending = configured();
    function(pending.apply(2, &create("f")));
    let mut updating = active();
    function(updating.apply(4, &update_timeout("f", 5)));
    let in_progress = format!(
        "The operation cannot be performed at this time. An update is in progress for resource: {ARN}"
    );
    let table = [
        (
            active(),
            update_code("f", Some("stale")),
            ErrorCode::PreconditionFailed,
            "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
        ),
        (
            pending,
            update_code("f", None),
            ErrorCode::ResourceConflict,
            "The operation cannot be performed at this time. The function is currently in the following state: Pending",
        ),
        (
            updating,
            update_code("f", None),
            ErrorCode::ResourceConflict,
            &in_progress,
        ),
    ];
    for (state, command, code, text) in table {
        assert_refused(state, &command, code, text);
    }
}

#[test]
fn limits_are_refused_with_the_texts_of_aws() {
    let many: BTreeMap<_, _> = (0..51).map(|i| (i.to_string(), String::new())).collect();
    let tag = Command::TagFunction {
        account: account(),
        name: name("f"),
        set: many,
        remove: vec![],
    };
    assert_refused(
        active(),
        &tag,
        ErrorCode::InvalidParameterValue,
        "Number of tags exceeds resource tag limit.",
    );
    assert_refused(
        active(),
        &reserve("f", Some(901)),
        ErrorCode::InvalidParameterValue,
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].",
    );
}

#[test]
fn pages_are_ordered_by_name_and_say_whether_there_is_more() {
    let mut state = configured();
    for (index, text) in (2..).zip(["c", "a", "d", "b"]) {
        function(state.apply(index, &create(text)));
    }
    let page = |after: Option<&str>, limit| {
        let after = after.map(name);
        let (functions, more) = state.functions.page(&account(), after.as_ref(), limit);
        let names: Vec<_> = functions.iter().map(|f| f.name.to_string()).collect();
        (names.join(""), more)
    };
    assert_eq!(page(None, 2), ("ab".into(), true));
    assert_eq!(page(Some("b"), 2), ("cd".into(), false));
    assert_eq!(page(Some("bb"), 1), ("c".into(), true));
    assert_eq!(page(Some("d"), 2), (String::new(), false));
}

#[test]
fn code_storage_is_counted_per_account() {
    let mut state = configured();
    let big = |text: &str, account: &str| {
        let Command::CreateFunction { config, .. } = create(text) else {
            unreachable!("create makes a CreateFunction");
        };
        Command::CreateFunction {
            account: account.parse().unwrap(),
            name: name(text),
            config,
            code: CodeRef {
                digest: Digest([9; 32]),
                size_bytes: 600,
                unpacked_bytes: 0,
                image: None,
            },
            tags: BTreeMap::new(),
            code_signing: None,
            revision_id: "r".into(),
            at: UnixMs(0),
        }
    };
    function(state.apply(2, &big("a", "123456789012")));
    let (code, _) = error(state.apply(3, &big("b", "123456789012")));
    assert_eq!(code, ErrorCode::CodeStorageExceeded);
    function(state.apply(4, &big("b", "210987654321")));
}
