//! Which version a name means, which one chance picks, and how an allocation stands.

use super::*;
use crate::function::{CodeRef, FunctionConfig, UpdateStatus};
use crate::ids::Digest;
use proptest::prelude::*;

fn snapshot(version: Version) -> FunctionVersion {
    FunctionVersion {
        version,
        generation: 1,
        config: FunctionConfig::with_defaults("role".into()),
        code: CodeRef {
            digest: Digest([0; 32]),
            size_bytes: 1,
            unpacked_bytes: 0,
            image: None,
        },
        last_modified: UnixMs(0),
        revision_id: "r".into(),
    }
}

fn alias(version: Version, weights: &[(u64, f64)]) -> Alias {
    let weights = weights.iter().map(|(n, w)| (*n, Weight::new(*w).unwrap()));
    Alias {
        version,
        description: String::new(),
        weights: weights.collect(),
        revision_id: "r".into(),
    }
}

fn function(versions: &[u64]) -> Function {
    let published = |n: &u64| PublishedVersion {
        snapshot: snapshot(Version::Number(*n)),
        source: 1,
        state: State::Active,
    };
    Function {
        account: "123456789012".parse().unwrap(),
        name: "f".parse().unwrap(),
        latest: snapshot(Version::Latest),
        serving: None,
        state: State::Active,
        update: UpdateStatus::Successful,
        reserved_concurrency: None,
        tags: BTreeMap::new(),
        versions: versions.iter().map(|n| (*n, published(n))).collect(),
        last_version: 9,
        aliases: BTreeMap::new(),
        provisioned: BTreeMap::new(),
        attached: Default::default(),
        changed: 0,
    }
}

#[test]
fn weights_are_shown_as_they_were_sent() {
    for share in [0.0, 0.1, 0.25, 0.333, 0.999, 1.0] {
        let shown = Weight::new(share).unwrap().share();
        assert!((shown - share).abs() < f64::EPSILON, "{shown} {share}");
    }
    for bad in [-0.1, 1.000_1, f64::NAN, f64::INFINITY] {
        assert!(Weight::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn an_alias_routes_the_share_of_its_weight_elsewhere() {
    let routed = alias(Version::Number(1), &[(2, 0.25)]);
    let quarter = u64::MAX / 4;
    for (chance, version) in [
        (0, 2),
        (quarter - 1_000_000_000_000, 2),
        (quarter + 1_000_000_000_000, 1),
        (u64::MAX, 1),
    ] {
        assert_eq!(routed.route(chance), Version::Number(version), "{chance}");
    }
    let all = alias(Version::Number(1), &[(2, 1.0)]);
    assert_eq!(all.route(u64::MAX), Version::Number(2));
    let none = alias(Version::Number(1), &[(2, 0.0)]);
    assert_eq!(none.route(0), Version::Number(1));
    assert!(none.refers_to(2) && none.refers_to(1) && !none.refers_to(3));
}

#[test]
fn names_mean_versions_that_exist() {
    let mut f = function(&[1, 3]);
    f.aliases
        .insert("live".into(), alias(Version::Number(3), &[]));
    f.aliases.insert("next".into(), alias(Version::Latest, &[]));
    for (qualifier, version) in [
        ("$LATEST", Some(Version::Latest)),
        ("1", Some(Version::Number(1))),
        ("2", None),
        ("live", Some(Version::Number(3))),
        ("next", Some(Version::Latest)),
        ("nobody", None),
    ] {
        let qualifier: Qualifier = qualifier.parse().unwrap();
        assert_eq!(f.version_named(Some(&qualifier)), version, "{qualifier}");
    }
    assert_eq!(f.version_named(None), Some(Version::Latest));
}

#[test]
fn provisioned_concurrency_belongs_to_the_version_that_an_alias_means() {
    let mut f = function(&[1, 2]);
    f.aliases
        .insert("live".into(), alias(Version::Number(2), &[(1, 0.5)]));
    let wanted = ProvisionedConcurrency {
        requested: 5,
        last_modified: UnixMs(0),
    };
    f.provisioned.insert("live".parse().unwrap(), wanted);
    assert_eq!(f.provisioned_by_version(), [(2, 5)].into());
    assert_eq!(f.pools(Version::Number(1)).provisioned, None);
    let pools = f.pools(Version::Number(2));
    let provisioned = PoolKey::provisioned(&f.account, &f.name, 2);
    let unreserved = PoolKey::unreserved(&f.account);
    assert_eq!(
        pools.iter().collect::<Vec<_>>(),
        [&provisioned, &unreserved]
    );
    assert_eq!(f.set_aside(), 5);
    f.reserved_concurrency = Some(20);
    assert_eq!(f.set_aside(), 20, "a part of what is reserved");
}

#[test]
fn an_allocation_is_ready_once_all_of_it_is_there() {
    let status = |available, failure: Option<&str>| ProvisionedStatus {
        allocated: 3,
        available,
        failure: failure.map(str::to_owned),
    };
    for (available, failure, expected) in [
        (0, None, Allocation::InProgress),
        (2, None, Allocation::InProgress),
        (3, None, Allocation::Ready),
        (4, None, Allocation::Ready),
        (2, Some("init"), Allocation::Failed),
        (3, Some("init"), Allocation::Ready),
    ] {
        assert_eq!(status(available, failure).of(3), expected);
    }
}

proptest! {
    #[test]
    fn an_alias_only_ever_means_its_own_versions(share in 0.0..=1.0_f64, chance: u64) {
        let routed = alias(Version::Number(1), &[(2, share)]).route(chance);
        prop_assert!(routed == Version::Number(1) || routed == Version::Number(2));
    }
}
