//! Pictures and changes of the catalog.

use hearth_proto::convert::encode_function;

use super::*;
use crate::test_support::{ACCOUNT, function, version};

fn update(functions: &[Function]) -> pb::CatalogUpdate {
    pb::CatalogUpdate {
        functions: functions.iter().map(encode_function).collect(),
        ..Default::default()
    }
}

fn at(name: &str, generation: u64) -> (VersionKey, Function) {
    let (key, version) = version(name, generation);
    (key, function(name, version))
}

#[test]
fn the_generation_before_stays_and_the_one_before_it_goes() {
    let catalog = Catalog::default();
    let keys: Vec<VersionKey> = (1..=3)
        .map(|generation| {
            let (key, function) = at("f", generation);
            catalog.apply(&update(&[function]));
            key
        })
        .collect();
    let known: Vec<bool> = keys.iter().map(|key| catalog.contains(key)).collect();
    assert_eq!(known, [false, true, true]);
}

#[test]
fn a_reservation_moves_all_generations_to_the_functions_own_pool() {
    let catalog = Catalog::default();
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
fn a_full_picture_forgets_what_it_does_not_name_only_when_complete() {
    let catalog = Catalog::default();
    let (kept, one) = at("kept", 1);
    let (gone, two) = at("gone", 1);
    catalog.apply(&update(&[one.clone(), two]));
    let mut picture = update(&[one]);
    picture.restart = true;
    catalog.apply(&picture);
    assert!(catalog.contains(&gone), "the picture is not complete");
    catalog.apply(&pb::CatalogUpdate {
        complete: true,
        ..Default::default()
    });
    assert!(catalog.contains(&kept) && !catalog.contains(&gone));
    catalog.apply(&pb::CatalogUpdate {
        deleted_functions: vec![pb::FunctionKey {
            account: ACCOUNT.into(),
            name: "kept".into(),
        }],
        ..Default::default()
    });
    assert!(!catalog.contains(&kept));
}

#[test]
fn a_published_version_is_runnable_and_draws_from_its_provisioned_pool_first() {
    use hearth_core::function::State;
    use hearth_core::versions::{ProvisionedConcurrency, PublishedVersion};

    let catalog = Catalog::default();
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
    catalog.apply(&update(&[function.clone()]));
    let pool = PoolKey::provisioned(&function.account, &function.name, 1);
    let pools = |catalog: &Catalog| catalog.find(&key).map(|r| r.pools.provisioned.clone());
    assert_eq!(pools(&catalog), Some(None));
    let wanted = ProvisionedConcurrency {
        requested: 2,
        last_modified: hearth_core::ids::UnixMs(0),
    };
    function.provisioned.insert("1".parse().unwrap(), wanted);
    catalog.apply(&update(&[function.clone()]));
    assert_eq!(pools(&catalog), Some(Some(pool.clone())));
    assert_eq!(catalog.find_provisioned(&pool).unwrap().0, key);
    function.versions.clear();
    catalog.apply(&update(&[function]));
    assert!(catalog.find_provisioned(&pool).is_none());
}
