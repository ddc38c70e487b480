//! Tables of what each command answers, and properties of all histories.

use std::collections::BTreeMap;

use hearth_core::ErrorCode;
use hearth_core::function::{
    CodeRef, ConfigPatch, Function, FunctionConfig, State as FunctionState, StateReason,
    UpdateStatus,
};
use hearth_core::ids::{AccountId, Digest, GrantSequence, Incarnation, NodeId, PoolKey, UnixMs};
use hearth_core::name::FunctionName;
use hearth_core::permits::GrantChange;
use proptest::prelude::*;

use super::State;
use super::command::{Command, Registration, Settled};
use super::reply::{Effect, Reply};
use super::snapshot::Snapshot;

const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:f";

fn account() -> AccountId {
    "123456789012".parse().unwrap()
}

fn name(text: &str) -> FunctionName {
    text.parse().unwrap()
}

fn code(byte: u8) -> CodeRef {
    CodeRef {
        digest: Digest([byte; 32]),
        size_bytes: u64::from(byte),
    }
}

fn configured() -> State {
    let mut state = State::default();
    let command = Command::Configure {
        region: "us-east-1".into(),
        concurrency_limit: 1_000,
        code_storage_bytes: 1_000,
    };
    assert_eq!(state.apply(1, &command).0, Reply::Done);
    state
}

fn create(text: &str) -> Command {
    Command::CreateFunction {
        account: account(),
        name: name(text),
        config: Box::new(FunctionConfig::with_defaults(
            "arn:aws:iam::123456789012:role/r".into(),
        )),
        code: code(1),
        tags: BTreeMap::new(),
        revision_id: "r-created".into(),
        at: UnixMs(5),
    }
}

fn settle(text: &str, generation: u64, outcome: Settled) -> Command {
    Command::SettleFunction {
        account: account(),
        name: name(text),
        generation,
        outcome,
        revision_id: format!("r-settled-{generation}"),
    }
}

fn update_code(text: &str, expected: Option<&str>) -> Command {
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

fn update_timeout(text: &str, timeout_s: u32) -> Command {
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

fn reserve(text: &str, reserved: Option<u32>) -> Command {
    Command::SetReservedConcurrency {
        account: account(),
        name: name(text),
        reserved,
        revision_id: "r-reserved".into(),
    }
}

fn register(id: u64, incarnation: u64) -> Command {
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

fn grow(id: u64, incarnation: u64, function: Option<&str>, n: u32) -> Command {
    Command::ChangeGrants {
        changes: vec![GrantChange::Grow {
            worker: NodeId(id),
            pool: pool(function),
            n,
            incarnation: Incarnation(incarnation),
        }],
    }
}

fn pool(function: Option<&str>) -> PoolKey {
    PoolKey {
        account: account(),
        function: function.map(name),
    }
}

fn function(reply: (Reply, Vec<Effect>)) -> Function {
    match reply.0 {
        Reply::Function(function) => *function,
        other => panic!("{other:?}"),
    }
}

fn error(reply: (Reply, Vec<Effect>)) -> (ErrorCode, String) {
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
fn active() -> State {
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
    assert_eq!(state.functions.digests().len(), 2);

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

#[test]
fn refusals_have_the_texts_of_aws() {
    let pending = {
        let mut state = configured();
        function(state.apply(2, &create("f")));
        state
    };
    let updating = {
        let mut state = active();
        function(state.apply(4, &update_timeout("f", 5)));
        state
    };
    let missing = format!("Function not found: {ARN}");
    let in_progress = format!(
        "The operation cannot be performed at this time. An update is in progress for resource: {ARN}"
    );
    let many: BTreeMap<_, _> = (0..51).map(|i| (i.to_string(), String::new())).collect();
    let tag = Command::TagFunction {
        account: account(),
        name: name("f"),
        set: many,
        remove: vec![],
    };
    let delete = Command::DeleteFunction {
        account: account(),
        name: name("f"),
    };
    let table = [
        (
            active(),
            create("f"),
            ErrorCode::ResourceConflict,
            "Function already exist: f",
        ),
        (configured(), delete, ErrorCode::NotFound, &missing),
        (
            configured(),
            update_code("f", None),
            ErrorCode::NotFound,
            &missing,
        ),
        (
            configured(),
            update_timeout("f", 5),
            ErrorCode::NotFound,
            &missing,
        ),
        (
            configured(),
            reserve("f", Some(1)),
            ErrorCode::NotFound,
            &missing,
        ),
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
        (
            active(),
            reserve("f", Some(901)),
            ErrorCode::InvalidParameterValue,
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].",
        ),
        (
            active(),
            tag,
            ErrorCode::InvalidParameterValue,
            "Number of tags exceeds resource tag limit.",
        ),
    ];
    for (mut state, command, code, text) in table {
        let before = state.clone();
        let (reply, effects) = state.apply(100, &command);
        assert_eq!(effects, vec![], "{command:?}");
        assert_eq!(
            error((reply, effects)),
            (code, text.to_owned()),
            "{command:?}"
        );
        assert_eq!(state, before, "a refusal changes nothing");
    }
}

#[test]
fn pools_follow_reservations() {
    let mut state = active();
    assert_eq!(state.grants.table().limit(&pool(None)), Some(1_000));
    function(state.apply(4, &reserve("f", Some(300))));
    assert_eq!(state.grants.table().limit(&pool(None)), Some(700));
    assert_eq!(state.grants.table().limit(&pool(Some("f"))), Some(300));
    assert_eq!(state.account(&account()).unreserved, 700);
    assert_eq!(state.pool_of(&account(), &name("f")), Some(pool(Some("f"))));

    function(state.apply(5, &reserve("f", None)));
    assert_eq!(state.grants.table().limit(&pool(None)), Some(1_000));
    assert_eq!(state.grants.table().limit(&pool(Some("f"))), None);

    function(state.apply(6, &reserve("f", Some(0))));
    assert_eq!(state.grants.table().limit(&pool(Some("f"))), Some(0));
    let delete = Command::DeleteFunction {
        account: account(),
        name: name("f"),
    };
    assert_eq!(state.apply(7, &delete).0, Reply::Done);
    assert_eq!(state.grants.table().limit(&pool(Some("f"))), None);
    assert_eq!(state.account(&account()).code_bytes, 0);
}

#[test]
fn longest_timeout_is_never_forgotten_while_it_may_matter() {
    let mut state = active();
    function(state.apply(4, &update_timeout("f", 60)));
    function(state.apply(5, &settle("f", 4, Settled::Successful)));
    function(state.apply(6, &reserve("f", Some(10))));
    function(state.apply(7, &update_timeout("f", 2)));
    for pool in [pool(None), pool(Some("f"))] {
        assert_eq!(state.grants.longest_timeout_ms(&pool), 60_000, "{pool}");
    }
}

#[test]
fn a_new_life_of_a_worker_frees_what_the_old_one_held() {
    let mut state = active();
    assert_eq!(state.apply(4, &register(1, 7)).0, Reply::Done);
    let (Reply::Grants(outcomes), _) = state.apply(5, &grow(1, 7, None, 10)) else {
        panic!("not grants");
    };
    assert_eq!(outcomes[0].as_ref().unwrap().sequence, GrantSequence(5));
    assert_eq!(state.apply(6, &register(1, 7)).0, Reply::Done);
    assert_eq!(state.grants.table().granted_sum(&pool(None)), 10);
    assert_eq!(state.apply(7, &register(1, 8)).0, Reply::Done);
    assert_eq!(state.grants.table().granted_sum(&pool(None)), 0);
    assert_eq!(state.apply(8, &register(1, 7)), (Reply::Superseded, vec![]));
    assert_eq!(
        state
            .apply(9, &Command::ForgetWorker { worker: NodeId(1) })
            .1,
        vec![Effect::Worker(NodeId(1))]
    );
    assert_eq!(state.apply(10, &register(1, 8)).0, Reply::Superseded);
}

#[test]
fn health_of_an_older_life_is_void() {
    let mut state = configured();
    state.apply(2, &register(1, 2));
    let health = |incarnation, reachable| Command::SetWorkerHealth {
        worker: NodeId(1),
        incarnation: Incarnation(incarnation),
        reachable,
        draining: false,
    };
    assert_eq!(state.apply(3, &health(1, false)).1, vec![]);
    assert_eq!(
        state.apply(4, &health(2, false)).1,
        vec![Effect::Worker(NodeId(1))]
    );
    assert_eq!(state.apply(5, &health(2, false)).1, vec![]);
    assert!(!state.nodes.worker(NodeId(1)).unwrap().reachable);
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
            },
            tags: BTreeMap::new(),
            revision_id: "r".into(),
            at: UnixMs(0),
        }
    };
    function(state.apply(2, &big("a", "123456789012")));
    let (code, _) = error(state.apply(3, &big("b", "123456789012")));
    assert_eq!(code, ErrorCode::CodeStorageExceeded);
    function(state.apply(4, &big("b", "210987654321")));
}

fn commands() -> impl Strategy<Value = Command> {
    let text = prop::sample::select(vec!["a", "b", "c"]);
    let worker = (1_u64..4, 1_u64..4);
    let function = prop::option::of(text.clone());
    prop_oneof![
        text.clone().prop_map(create),
        text.clone().prop_map(|t| update_code(t, None)),
        (text.clone(), 1_u32..900).prop_map(|(t, s)| update_timeout(t, s)),
        (text.clone(), 1_u64..40).prop_map(|(t, g)| settle(t, g, Settled::Successful)),
        (text.clone(), prop::option::of(0_u32..950)).prop_map(|(t, r)| reserve(t, r)),
        text.prop_map(|t| Command::DeleteFunction {
            account: account(),
            name: name(t)
        }),
        worker.clone().prop_map(|(id, life)| register(id, life)),
        (1_u64..4).prop_map(|id| Command::ForgetWorker { worker: NodeId(id) }),
        (worker, function.clone(), 0_u32..1_200)
            .prop_map(|((id, life), f, n)| grow(id, life, f, n)),
        (1_u64..4, function, 0_u32..400, 1_u64..40).prop_map(|(id, f, n, base)| {
            Command::ChangeGrants {
                changes: vec![GrantChange::Shrink {
                    worker: NodeId(id),
                    pool: pool(f),
                    n,
                    base: GrantSequence(base),
                }],
            }
        }),
    ]
}

proptest! {
    #[test]
    fn same_commands_give_the_same_state_and_snapshots_keep_it(
        history in prop::collection::vec(commands(), 0..40), cut in 0_usize..40,
    ) {
        let (mut a, mut b) = (configured(), configured());
        for (index, command) in (2..).zip(&history) {
            if index as usize == cut + 2 {
                let json = serde_json::to_vec(&Snapshot::of(&b)).unwrap();
                let restored: Snapshot = serde_json::from_slice(&json).unwrap();
                b = restored.into_state().unwrap();
            }
            prop_assert_eq!(a.apply(index, command), b.apply(index, command));
        }
        prop_assert_eq!(a, b);
    }

    #[test]
    fn commands_survive_the_log(command in commands()) {
        let json = serde_json::to_vec(&command).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Command>(&json).unwrap(), command);
    }

    /// A sum is above its limit only because the limit was lowered, and then it can only fall.
    #[test]
    fn grants_never_rise_above_the_limit(history in prop::collection::vec(commands(), 0..60)) {
        let mut state = configured();
        for (index, command) in (2..).zip(&history) {
            let before = state.clone();
            state.apply(index, command);
            state.grants.table().check();
            for (pool, limit) in state.grants.table().pools() {
                let sum = state.grants.table().granted_sum(pool);
                let was = before.grants.table().granted_sum(pool);
                prop_assert!(sum <= u64::from(limit).max(was), "{}: {} of {}", pool, sum, limit);
            }
            let reserved = state.functions.reserved(&account());
            prop_assert!(reserved <= 900);
        }
    }
}
