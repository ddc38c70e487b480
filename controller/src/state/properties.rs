//! Properties of all histories of commands.

use hearth_core::control::VersionChange;
use hearth_core::ids::{GrantSequence, NodeId, PoolKey, Version};
use hearth_core::name::Qualifier;
use hearth_core::permits::GrantChange;
use proptest::prelude::*;

use super::command::{Command, Settled};
use super::snapshot::Snapshot;
use super::tests::{
    account, configured, create, grow, name, pool, register, reserve, settle, update_code,
    update_timeout,
};
use super::versions_tests::{alias_to, change, published};

fn version_changes() -> impl Strategy<Value = VersionChange> {
    let alias = || prop::sample::select(vec!["live", "next"]).prop_map(str::to_owned);
    let version = || (1_u64..4).prop_map(Version::Number);
    let qualifier = || {
        prop_oneof![
            version().prop_map(Qualifier::Version),
            alias().prop_map(Qualifier::Alias),
        ]
    };
    prop_oneof![
        Just(published()),
        (1_u64..4).prop_map(|version| VersionChange::Delete { version }),
        (alias(), version()).prop_map(|(alias, version)| alias_to(&alias, version)),
        (alias(), version()).prop_map(|(alias, version)| VersionChange::UpdateAlias {
            alias,
            version: Some(version),
            description: None,
            weights: None,
            revision_id: None,
        }),
        alias().prop_map(|alias| VersionChange::DeleteAlias { alias }),
        (qualifier(), 1_u32..600).prop_map(|(qualifier, requested)| {
            VersionChange::PutProvisioned {
                qualifier,
                requested,
            }
        }),
        qualifier().prop_map(|qualifier| VersionChange::DeleteProvisioned { qualifier }),
    ]
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
        (text.clone(), version_changes()).prop_map(|(t, c)| change(t, c)),
        text.clone().prop_map(|t| Command::ThenPublish {
            first: Box::new(create(t)),
            revision_id: "r-published".into(),
        }),
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
                term: 0,
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
        history in prop::collection::vec(commands(), 0..40), cut in 0_u64..40,
    ) {
        let (mut a, mut b) = (configured(), configured());
        for (index, command) in (2..).zip(&history) {
            if index == cut + 2 {
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

    /// Limits of a function's own pools add up to what is set aside for it, those of an account's to what it may use,
    /// and what was carved out of a pool is granted only as far as the pool itself has drained.
    #[test]
    fn pools_add_up_whatever_is_published_and_provisioned(
        history in prop::collection::vec(commands(), 0..60),
    ) {
        let mut state = configured();
        for (index, command) in (2..).zip(&history) {
            state.apply(index, command);
            let table = state.grants.table();
            let limit = |pool: &PoolKey| u64::from(table.limit(pool).unwrap_or(0));
            let account = account();
            let mut sum = limit(&PoolKey::unreserved(&account));
            for function in state.functions.of(&account) {
                let own = table.pools_of(&account, &function.name);
                let own: u64 = own.iter().map(limit).sum();
                prop_assert_eq!(own, function.set_aside());
                prop_assert!(function.provisioned_total() <= function.set_aside());
                sum += own;
            }
            if state.functions.of(&account).next().is_some() {
                prop_assert_eq!(sum, 1_000);
            }
            let stored = serde_json::to_string(&state.functions).unwrap();
            let counted: crate::state::functions::Functions = serde_json::from_str(&stored).unwrap();
            prop_assert_eq!(&counted, &state.functions, "sums follow from the functions");
        }
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
            let reserved = state.functions.set_aside(&account());
            prop_assert!(reserved <= 900);
        }
    }
}
