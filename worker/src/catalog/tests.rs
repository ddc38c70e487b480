//! Pictures and changes of the catalog.

use hearth_node::clock::ManualClock;
use hearth_proto::convert::encode_function;

use super::*;
use crate::test_support::{ACCOUNT, function, version};

fn update(index: u64, functions: &[Function], absent: &[&str]) -> pb::FollowUpdate {
    let named = |name: &&str| pb::FunctionKey {
        account: ACCOUNT.into(),
        name: (*name).to_owned(),
    };
    pb::FollowUpdate {
        index,
        functions: functions.iter().map(encode_function).collect(),
        absent: absent.iter().map(named).collect(),
        ..Default::default()
    }
}

fn catalog() -> (Catalog, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(1));
    (Catalog::new(clock.clone()), clock)
}

/// A catalog that wants `f`.
fn wanting() -> Catalog {
    let (catalog, _) = catalog();
    catalog.want(function_of(&version("f", 1).0));
    catalog
}

fn at(name: &str, generation: u64) -> (VersionKey, Function) {
    let (key, version) = version(name, generation);
    (key, function(name, version))
}

#[test]
fn the_generation_before_stays_and_the_one_before_it_goes() {
    let catalog = wanting();
    let keys: Vec<VersionKey> = (1..=3)
        .map(|generation| {
            let (key, function) = at("f", generation);
            catalog.apply(&update(generation, &[function], &[]));
            key
        })
        .collect();
    let known: Vec<bool> = keys.iter().map(|key| catalog.contains(key)).collect();
    assert_eq!(known, [false, true, true]);
}

#[test]
fn a_reservation_moves_all_generations_to_the_functions_own_pool() {
    let catalog = wanting();
    let (old, function) = at("f", 1);
    catalog.put(&function);
    let (new, mut function) = at("f", 2);
    function.reserved_concurrency = Some(5);
    catalog.put(&function);
    for key in [old, new] {
        let pool = &catalog.find(&key).unwrap().pools.on_demand;
        assert_eq!(pool.function.as_ref(), Some(&function.name));
    }
}

#[test]
fn what_was_not_wanted_is_not_kept() {
    let catalog = wanting();
    let (key, function) = at("other", 1);
    catalog.apply(&update(1, &[function], &[]));
    assert!(!catalog.contains(&key));
}

#[test]
fn a_controller_that_is_behind_takes_nothing_back() {
    let catalog = wanting();
    let (old, older) = at("f", 4);
    let (new, newer) = at("f", 5);
    catalog.apply(&update(5, &[newer], &[]));
    catalog.apply(&update(4, &[older], &[]));
    catalog.apply(&update(4, &[], &["f"]));
    assert!(catalog.contains(&new) && !catalog.contains(&old));
    catalog.apply(&update(6, &[], &["f"]));
    assert!(!catalog.contains(&new));
}

#[tokio::test]
async fn who_waits_for_a_version_is_woken_by_its_document() {
    let (catalog, _) = catalog();
    let (key, function) = at("f", 3);
    let second = Duration::from_secs(60);
    let mut waiting = std::pin::pin!(catalog.wait_for(&key, second));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    let asked = catalog.newly_wanted();
    assert_eq!(asked[0].follow[0].key.as_ref().unwrap().name, "f");
    catalog.apply(&update(2, &[at("f", 2).1], &[]));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    catalog.apply(&update(3, &[function], &[]));
    assert_eq!(waiting.await.unwrap().version.generation, 3);
    let known = catalog.all_wanted();
    assert_eq!(known[0].follow[0].digest.len(), 32, "not sent again");
}

#[test]
fn the_longest_unused_functions_that_run_nothing_are_let_go() {
    let (catalog, clock) = catalog();
    let keys: Vec<VersionKey> = (0..FUNCTIONS_MAX + 3)
        .map(|n| {
            let (key, function) = at(&format!("f{n}"), 1);
            catalog.want(function_of(&key));
            catalog.apply(&update(1, &[function], &[]));
            clock.advance_ms(1);
            key
        })
        .collect();
    catalog.want(function_of(&keys[1]));
    catalog.newly_wanted();
    catalog.trim(|| HashSet::from([function_of(&keys[2])]));
    let gone: Vec<usize> = (0..keys.len())
        .filter(|n| !catalog.contains(&keys[*n]))
        .collect();
    assert_eq!(gone, [0, 3, 4]);
    catalog.want(function_of(&keys[3]));
    let said = catalog.newly_wanted();
    let (left, followed) = (&said[0].leave, &said[1].follow);
    assert_eq!((left.len(), followed.len()), (2, 1));
    assert!(followed[0].digest.is_empty(), "its document is gone here");
}

#[test]
fn a_function_that_does_not_exist_is_followed_for_a_while_only() {
    let (catalog, clock) = catalog();
    catalog.want(function_of(&version("f", 1).0));
    catalog.apply(&update(1, &[], &["f"]));
    catalog.trim(HashSet::new);
    assert_eq!(catalog.all_wanted()[0].follow.len(), 1);
    clock.advance_ms(ABSENT_MS);
    catalog.trim(HashSet::new);
    assert!(catalog.all_wanted().is_empty());
}

#[test]
fn a_published_version_is_runnable_and_draws_from_its_provisioned_pool_first() {
    use hearth_core::function::State;
    use hearth_core::versions::{ProvisionedConcurrency, PublishedVersion};

    let catalog = wanting();
    let (_, mut function) = at("f", 7);
    let mut snapshot = function.latest.clone();
    (snapshot.version, snapshot.generation) = (Version::Number(1), 5);
    let key = function.version_key(&snapshot);
    let version = PublishedVersion {
        snapshot,
        source: 4,
        state: State::Active,
    };
    function.versions.insert(1, version);
    catalog.apply(&update(8, &[function.clone()], &[]));
    let pool = PoolKey::provisioned(&function.account, &function.name, 1);
    let pools = |catalog: &Catalog| catalog.find(&key).map(|r| r.pools.provisioned.clone());
    assert_eq!(pools(&catalog), Some(None));
    let wanted = ProvisionedConcurrency {
        requested: 2,
        last_modified: hearth_core::ids::UnixMs(0),
    };
    function.provisioned.insert("1".parse().unwrap(), wanted);
    catalog.apply(&update(8, &[function.clone()], &[]));
    assert_eq!(pools(&catalog), Some(Some(pool.clone())));
    assert_eq!(catalog.find_provisioned(&pool).unwrap().0, key);
    function.versions.clear();
    catalog.apply(&update(9, &[function], &[]));
    assert!(catalog.find_provisioned(&pool).is_none());
}
