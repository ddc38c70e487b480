//! Tables of what changes of versions, aliases and provisioned concurrency answer.

use std::collections::BTreeMap;

use hearth_core::ErrorCode;
use hearth_core::control::VersionChange;
use hearth_core::function::{State as FunctionState, StateReason};
use hearth_core::ids::{PoolKey, UnixMs, Version};
use hearth_core::versions::Weight;

use super::State;
use super::command::{Command, Settled};
use super::reply::Reply;
use super::tests::{
    ARN, account, configured, create, error, function, grow, name, register, reserve, settle,
    update_code, update_timeout,
};

pub(super) fn change(text: &str, change: VersionChange) -> Command {
    Command::ChangeVersions {
        account: account(),
        name: name(text),
        change: Box::new(change),
        revision_id: "r-version".into(),
        latest_revision_id: "r-latest".into(),
        at: UnixMs(9),
    }
}

pub(super) fn published() -> VersionChange {
    VersionChange::Publish {
        code_sha256: None,
        description: None,
        revision_id: None,
    }
}

pub(super) fn alias_to(alias: &str, version: Version) -> VersionChange {
    VersionChange::CreateAlias {
        alias: alias.to_owned(),
        version,
        description: String::new(),
        weights: BTreeMap::new(),
    }
}

fn put(qualifier: &str, requested: u32) -> VersionChange {
    VersionChange::PutProvisioned {
        qualifier: qualifier.parse().unwrap(),
        requested,
    }
}

/// An alias' change, each of `weighted` with a tenth of the invocations.
fn update_alias(alias: &str, version: Option<u64>, weighted: &[u64]) -> VersionChange {
    let weight = Weight::new(0.1).unwrap();
    let weights: BTreeMap<_, _> = weighted.iter().map(|n| (*n, weight)).collect();
    VersionChange::UpdateAlias {
        alias: alias.to_owned(),
        version: version.map(Version::Number),
        description: None,
        weights: Some(weights),
        revision_id: None,
    }
}

/// A state with an active function `f`, and the index of the next command.
struct Log {
    state: State,
    index: u64,
}

impl Log {
    fn new() -> Self {
        let mut log = Self {
            state: configured(),
            index: 1,
        };
        log.apply(&create("f"));
        log.apply(&settle("f", 2, Settled::Successful));
        log
    }

    fn apply(&mut self, command: &Command) -> (Reply, Vec<super::reply::Effect>) {
        self.index += 1;
        self.state.apply(self.index, command)
    }

    fn change(&mut self, what: VersionChange) -> (Reply, Vec<super::reply::Effect>) {
        self.apply(&change("f", what))
    }

    /// As it is after a change of code that has settled.
    fn updated(&mut self) {
        self.apply(&update_code("f", None));
        self.apply(&settle("f", self.index, Settled::Successful));
    }

    fn limit(&self, pool: &PoolKey) -> Option<u32> {
        self.state.grants.table().limit(pool)
    }
}

fn provisioned(version: u64) -> PoolKey {
    PoolKey::provisioned(&account(), &name("f"), version)
}

#[test]
fn numbers_are_never_given_twice_and_nothing_new_gives_the_same_version() {
    let mut log = Log::new();
    let first = function(log.change(published()));
    assert_eq!(first.last_version, 1);
    assert_eq!(first.latest.revision_id, "r-latest");
    assert_eq!(first.versions[&1].snapshot.revision_id, "r-version");
    assert_eq!(first.versions[&1].state, FunctionState::Active);
    let again = log.change(published());
    assert_eq!(
        (function(again.clone()).last_version, again.1.len()),
        (1, 0)
    );
    log.updated();
    assert_eq!(function(log.change(published())).last_version, 2);
    let deleted = function(log.change(VersionChange::Delete { version: 2 }));
    assert_eq!(deleted.versions.len(), 1);
    assert_eq!(function(log.change(published())).last_version, 3);
    let absent = log.change(VersionChange::Delete { version: 2 });
    assert_eq!(absent.1, [], "it is gone already");
}

#[test]
fn conditions_of_a_publication_are_told_in_awss_words() {
    let mut log = Log::new();
    let publish = |sha: Option<&str>, revision: Option<&str>| VersionChange::Publish {
        code_sha256: sha.map(str::to_owned),
        description: Some("first".into()),
        revision_id: revision.map(str::to_owned),
    };
    let right = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    assert_eq!(
        error(log.change(publish(Some("x"), None))),
        (
            ErrorCode::InvalidParameterValue,
            format!(
                "CodeSHA256 (x) is different from current CodeSHA256 in $LATEST ({right}). Please try again with the CodeSHA256 in $LATEST."
            )
        )
    );
    let (code, _) = error(log.change(publish(None, Some("other"))));
    assert_eq!(code, ErrorCode::PreconditionFailed);
    let done = function(log.change(publish(Some(right), Some("r-settled-2"))));
    assert_eq!(done.versions[&1].snapshot.config.description, "first");
    log.apply(&update_code("f", None));
    let (code, text) = error(log.change(publish(None, None)));
    assert_eq!(code, ErrorCode::ResourceConflict);
    assert_eq!(
        text,
        format!(
            "The operation cannot be performed at this time. An update is in progress for resource: {ARN}"
        )
    );
}

#[test]
fn what_is_published_with_a_change_ends_as_the_change_does() {
    let mut log = Log::new();
    let with = |first| Command::ThenPublish {
        first: Box::new(first),
        revision_id: "r-published".into(),
    };
    let made = function(log.apply(&with(create("g"))));
    assert_eq!(made.versions[&1].state, FunctionState::Pending);
    let settled = function(log.apply(&settle("g", log.index, Settled::Successful)));
    assert_eq!(settled.versions[&1].state, FunctionState::Active);
    function(log.apply(&with(update_code("g", None))));
    let reason = StateReason {
        code: "InvalidZipFileException".into(),
        message: "broken".into(),
    };
    let failed = Settled::Failed(reason.clone());
    let settled = function(log.apply(&settle("g", log.index, failed)));
    assert_eq!(settled.versions[&2].state, FunctionState::Failed(reason));
    let (code, _) = error(log.apply(&with(create("g"))));
    assert_eq!(code, ErrorCode::ResourceConflict, "it exists");
}

#[test]
fn code_of_versions_counts_and_is_kept() {
    let mut log = Log::new();
    log.change(published());
    log.updated();
    let digests = log.state.digests();
    assert_eq!(digests.len(), 2, "the version's and $LATEST's");
    assert_eq!(log.state.account(&account()).code_bytes, 3);
    log.change(VersionChange::Delete { version: 1 });
    assert_eq!(log.state.digests().len(), 1);
    assert_eq!(log.state.account(&account()).code_bytes, 2);
}

#[test]
fn aliases_are_refused_in_awss_words() {
    let mut log = Log::new();
    log.change(published());
    log.updated();
    log.change(published());
    assert_eq!(
        error(log.change(alias_to("live", Version::Number(7)))).1,
        format!("Function not found: {ARN}:7")
    );
    function(log.change(alias_to("live", Version::Number(1))));
    assert_eq!(
        error(log.change(alias_to("live", Version::Number(1)))),
        (
            ErrorCode::ResourceConflict,
            format!("Alias already exists: {ARN}:live")
        )
    );
    for (version, weights, text) in [
        (
            None,
            vec![1],
            "Invalid function version 1. Function version 1 is already included in routing configuration.",
        ),
        (
            None,
            vec![2, 3],
            "Number of items in AdditionalVersionWeights cannot be greater than 1",
        ),
        (
            Some(9),
            vec![],
            "Function not found: arn:aws:lambda:us-east-1:123456789012:function:f:9",
        ),
        (
            None,
            vec![9],
            "Function not found: arn:aws:lambda:us-east-1:123456789012:function:f:9",
        ),
    ] {
        assert_eq!(
            error(log.change(update_alias("live", version, &weights))).1,
            text
        );
    }
    assert_eq!(
        error(log.change(update_alias("gone", None, &[]))).1,
        format!("Alias not found: {ARN}:gone")
    );
    function(log.change(update_alias("live", None, &[2])));
    for version in [1, 2] {
        assert_eq!(
            error(log.change(VersionChange::Delete { version })),
            (
                ErrorCode::ResourceConflict,
                "Unable to delete version because the following aliases reference it: [live]"
                    .to_owned()
            )
        );
    }
    function(log.change(alias_to("next", Version::Latest)));
    assert_eq!(
        error(log.change(update_alias("next", None, &[2]))).1,
        "$LATEST is not supported for an alias pointing to more than 1 version"
    );
    let alias = || VersionChange::DeleteAlias {
        alias: "live".into(),
    };
    assert_eq!(function(log.change(alias())).aliases.len(), 1);
    assert_eq!(log.change(alias()).1, [], "it is gone already");
}

#[test]
fn provisioned_concurrency_is_carved_out_of_what_the_function_draws_from() {
    let mut log = Log::new();
    log.change(published());
    let unreserved = PoolKey::unreserved(&account());
    let reserved = PoolKey::reserved(&account(), &name("f"));
    function(log.change(put("1", 10)));
    assert_eq!(log.limit(&unreserved), Some(990));
    assert_eq!(log.limit(&provisioned(1)), Some(10));
    assert_eq!(log.state.account(&account()).unreserved, 990);
    function(log.apply(&reserve("f", Some(30))));
    assert_eq!(log.limit(&unreserved), Some(970));
    assert_eq!(log.limit(&reserved), Some(20));
    function(log.change(put("1", 30)));
    assert_eq!(log.limit(&reserved), Some(0), "nothing is left to spill to");
    function(log.apply(&reserve("f", None)));
    assert_eq!(
        (log.limit(&reserved), log.limit(&unreserved)),
        (None, Some(970))
    );
    log.apply(&register(1, 1));
    log.apply(&grow(1, 1, None, 5));
    log.change(VersionChange::Delete { version: 1 });
    assert_eq!(log.limit(&provisioned(1)), None);
    assert_eq!(log.limit(&unreserved), Some(1_000));
}

#[test]
fn amounts_are_refused_in_awss_words() {
    let mut log = Log::new();
    log.change(published());
    for (requested, text) in [
        (
            901,
            "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].",
        ),
        (
            1_001,
            "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000].",
        ),
    ] {
        assert_eq!(error(log.change(put("1", requested))).1, text);
    }
    function(log.apply(&reserve("f", Some(5))));
    assert_eq!(
        error(log.change(put("1", 6))).1,
        "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
    );
    function(log.change(put("1", 5)));
    assert_eq!(
        error(log.apply(&reserve("f", Some(4)))).1,
        " ReservedConcurrentExecutions  4 should not be lower than function's total provisioned concurrency [5]."
    );
}

#[test]
fn a_version_has_one_configuration_and_an_alias_takes_its_own_along() {
    let mut log = Log::new();
    log.change(published());
    log.updated();
    log.change(published());
    log.change(alias_to("live", Version::Number(1)));
    log.change(alias_to("next", Version::Latest));
    function(log.change(put("live", 4)));
    for (qualifier, text) in [
        (
            "1",
            "Version is pointed by a Provisioned Concurrency alias".to_owned(),
        ),
        (
            "next",
            "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
                .to_owned(),
        ),
        (
            "$LATEST",
            "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
                .to_owned(),
        ),
        ("nobody", format!("Cannot find alias arn: {ARN}:nobody")),
        ("9", format!("Function not found: {ARN}:9")),
    ] {
        assert_eq!(error(log.change(put(qualifier, 1))).1, text, "{qualifier}");
    }
    log.change(alias_to("other", Version::Number(1)));
    let on_version = "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version";
    assert_eq!(error(log.change(put("other", 1))).1, on_version);
    function(log.change(update_alias("live", Some(2), &[])));
    assert_eq!(
        (log.limit(&provisioned(1)), log.limit(&provisioned(2))),
        (None, Some(4))
    );
    function(log.change(put("1", 3)));
    assert_eq!(
        error(log.change(update_alias("live", Some(1), &[]))).1,
        on_version
    );
    function(log.change(update_alias("other", None, &[2])));
    log.change(VersionChange::DeleteProvisioned {
        qualifier: "1".parse().unwrap(),
    });
    assert_eq!(
        error(log.change(put("other", 1))).1,
        "Alias with weights can not be used with Provisioned Concurrency"
    );
    log.change(VersionChange::DeleteAlias {
        alias: "live".into(),
    });
    assert_eq!(log.limit(&provisioned(2)), None);
}

#[test]
fn a_silent_worker_keeps_a_provisioned_share_for_the_longest_timeout_of_any_version() {
    let mut log = Log::new();
    log.apply(&update_timeout("f", 300));
    log.apply(&settle("f", log.index, Settled::Successful));
    log.change(published());
    log.apply(&update_timeout("f", 3));
    log.apply(&settle("f", log.index, Settled::Successful));
    log.change(put("1", 2));
    log.apply(&reserve("f", Some(10)));
    let grants = &log.state.grants;
    let reserved = PoolKey::reserved(&account(), &name("f"));
    assert_eq!(grants.longest_timeout_ms(&provisioned(1)), 300_000);
    assert_eq!(grants.longest_timeout_ms(&reserved), 300_000);
}
