//! What is invocable: a copy of the cluster's functions, pushed by a controller and read without locks. What this
//! gateway changed itself is merged at once, so that a client reads its own writes here. How the copy is kept current
//! is in `watch`; what happens when a function is not in it, in `lookup`; how a function is found by a URL of its, in `urls`.

mod lookup;
mod urls;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hearth_core::attached::{EventInvokeMembers, LATEST, UrlConfig};
use hearth_core::error::{Error, ErrorCode};
use hearth_core::function::{Function, FunctionVersion, State};
use hearth_core::ids::{AccountId, Version, VersionKey};
use hearth_core::name::{FunctionName, FunctionRef, Qualifier, function_arn};
use hearth_core::policy::{self, Policy};
use hearth_core::versions::Alias;

use crate::caller::Caller;
use crate::invoke::{Quotas, Terms};
use crate::sharded::Sharded;

pub(crate) use lookup::Lookups;
pub(crate) use urls::Url;
pub(crate) use watch::{Watching, run as watch};

/// Whose function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FunctionKey {
    pub(crate) account: AccountId,
    pub(crate) name: FunctionName,
}

/// A version with what each invocation needs of it worked out.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The version; of `$LATEST` the one that serves.
    pub(crate) key: VersionKey,
    /// Pools and memory.
    pub(crate) terms: Terms,
    pub(crate) timeout_s: u32,
    /// Of the function, without a qualifier.
    pub(crate) arn: String,
    /// ARN of the queue or topic for events that failed.
    pub(crate) dead_letter: Option<String>,
    state: State,
}

impl Entry {
    fn new(
        function: &Function,
        version: &FunctionVersion,
        state: &State,
        (region, quotas): (&str, &Quotas),
    ) -> Self {
        let key = function.version_key(version);
        Self {
            terms: quotas.terms(function, key.version, version.config.memory_mib),
            key,
            timeout_s: version.config.timeout_s,
            arn: function_arn(region, &function.account, &function.name),
            dead_letter: version.config.dead_letter(),
            state: state.clone(),
        }
    }

    /// AWS's reason when its pools are exhausted.
    pub(crate) fn throttle_reason(&self) -> &'static str {
        self.terms.quota.concurrency_reason()
    }

    /// Whether it may be invoked.
    pub(crate) fn check_invocable(&self) -> Result<(), Error> {
        let state = match &self.state {
            State::Active => return Ok(()),
            State::Pending => "Pending",
            State::Failed(_) => "Failed",
        };
        Err(Error::new(
            ErrorCode::ResourceConflict,
            format!(
                "The operation cannot be performed at this time. The function is currently in the following state: {state}"
            ),
        ))
    }
}

/// A function: its versions, and what its aliases point to.
#[derive(Debug)]
pub(crate) struct Record {
    latest: Arc<Entry>,
    published: HashMap<u64, Arc<Entry>>,
    aliases: BTreeMap<String, Alias>,
    policies: BTreeMap<Qualifier, Policy>,
    urls: BTreeMap<Qualifier, Arc<UrlConfig>>,
    event_invoke: BTreeMap<Qualifier, EventInvokeMembers>,
    /// Log index of the newest change that is in here.
    generation: u64,
}

impl Record {
    fn new(function: &Function, region: &str, quotas: &Quotas) -> Self {
        let serving = function.serving.as_ref().unwrap_or(&function.latest);
        let entry = |version: &FunctionVersion, state: &State| {
            Arc::new(Entry::new(function, version, state, (region, quotas)))
        };
        let published = function.versions.iter();
        let urls = function.attached.urls.iter();
        let event_invoke = function.attached.event_invoke.iter();
        Self {
            latest: entry(serving, &function.state),
            published: published
                .map(|(n, version)| (*n, entry(&version.snapshot, &version.state)))
                .collect(),
            aliases: function.aliases.clone(),
            policies: function.attached.policies.clone(),
            urls: urls
                .map(|(of, url)| (of.clone(), Arc::new(url.clone())))
                .collect(),
            event_invoke: event_invoke
                .map(|(of, config)| (of.clone(), config.members.clone()))
                .collect(),
            generation: function.news(),
        }
    }

    /// The version that a qualifier names; of an alias by its weights. `chance` is uniform over all values.
    pub(crate) fn find(&self, qualifier: Option<&Qualifier>, chance: u64) -> Option<Arc<Entry>> {
        let version = match qualifier {
            None => Version::Latest,
            Some(Qualifier::Version(version)) => *version,
            Some(Qualifier::Alias(alias)) => self.aliases.get(alias)?.route(chance),
        };
        self.version(version)
    }

    /// How the version or alias that a qualifier names wants its events to be tried, and who is told of their ends.
    pub(crate) fn event_invoke(
        &self,
        qualifier: Option<&Qualifier>,
    ) -> Option<&EventInvokeMembers> {
        self.event_invoke.get(qualifier.unwrap_or(&LATEST))
    }

    /// The policy of the version or alias that a qualifier names.
    pub(crate) fn policy(&self, qualifier: Option<&Qualifier>) -> Option<&Policy> {
        self.policies.get(qualifier.unwrap_or(&LATEST))
    }

    /// Whether a policy lets somebody of another account do this: that of the version or alias that it names.
    pub(crate) fn lets(
        &self,
        caller: &Caller,
        action: &str,
        function: &FunctionRef,
        region: &str,
    ) -> bool {
        let (arn, role_arn) = (caller.arn(), caller.role_arn());
        let callers: Vec<&str> = std::iter::once(&*arn).chain(role_arn.as_deref()).collect();
        let request = policy::Request {
            callers: &callers,
            action,
            resource: &function.arn(region),
            context: &[("aws:principalaccount", caller.account.as_str())],
        };
        self.allows(function.qualifier.as_ref(), &request)
    }

    /// Whether the policy of a version or alias allows this.
    pub(crate) fn allows(
        &self,
        qualifier: Option<&Qualifier>,
        request: &policy::Request<'_>,
    ) -> bool {
        self.policy(qualifier)
            .is_some_and(|policy| policy.allows(request))
    }

    fn version(&self, version: Version) -> Option<Arc<Entry>> {
        match version {
            Version::Latest => Some(Arc::clone(&self.latest)),
            Version::Number(n) => self.published.get(&n).cloned(),
        }
    }
}

/// AWS's text for a function that does not exist.
pub(crate) fn not_found(function: &FunctionRef, region: &str) -> Error {
    Error::new(
        ErrorCode::NotFound,
        format!("Function not found: {}", function.arn(region)),
    )
}

#[derive(Clone, Debug)]
enum Known {
    Live(Arc<Record>),
    /// Deleted through this gateway; older news of it are not believed.
    Deleted {
        generation: u64,
    },
}

impl Known {
    fn generation(&self) -> u64 {
        match self {
            Self::Live(record) => record.generation,
            Self::Deleted { generation } => generation.saturating_add(1),
        }
    }
}

/// Ids of a function's URLs.
fn urls_of(known: Option<&Known>, key: &FunctionKey) -> Vec<(String, FunctionKey)> {
    match known {
        Some(Known::Live(record)) => record.url_ids().map(|id| (id, key.clone())).collect(),
        Some(Known::Deleted { .. }) | None => Vec::new(),
    }
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) region: String,
    /// Rates of the functions in it.
    pub(crate) quotas: Quotas,
    functions: Sharded<FunctionKey, Known>,
    urls: urls::Index,
}

impl Catalog {
    pub(crate) fn new(region: String) -> Self {
        Self {
            region,
            quotas: Quotas::default(),
            functions: Sharded::default(),
            urls: urls::Index::default(),
        }
    }

    /// The function, if it is known.
    pub(crate) fn find(&self, key: &FunctionKey) -> Option<Arc<Record>> {
        match self.functions.get(key)? {
            Known::Live(record) => Some(record),
            Known::Deleted { .. } => None,
        }
    }

    /// What serves under a version's name now; `None` when it is gone.
    pub(crate) fn serving(&self, version: &VersionKey) -> Option<Arc<Entry>> {
        let function = FunctionKey {
            account: version.account.clone(),
            name: version.function.clone(),
        };
        self.find(&function)?.version(version.version)
    }

    /// Whether this gateway deleted it and has heard nothing newer.
    fn is_deleted(&self, key: &FunctionKey) -> bool {
        matches!(self.functions.get(key), Some(Known::Deleted { .. }))
    }

    /// News about functions, from a controller or from an operation of this gateway. Older ones change nothing.
    pub(crate) fn merge<'f>(&self, functions: impl IntoIterator<Item = &'f Function>) {
        let items = functions.into_iter().map(|function| {
            let key = FunctionKey {
                account: function.account.clone(),
                name: function.name.clone(),
            };
            (
                key,
                Arc::new(Record::new(function, &self.region, &self.quotas)),
            )
        });
        let mut touched = Vec::new();
        self.functions
            .update_many(items.collect(), |map, key, record| {
                let known = map.get(&key);
                if known.is_none_or(|known| known.generation() <= record.generation) {
                    touched.extend(urls_of(known, &key));
                    touched.extend(record.url_ids().map(|id| (id, key.clone())));
                    map.insert(key, Known::Live(record));
                }
            });
        self.index_urls(touched);
    }

    /// This gateway deleted the function.
    pub(crate) fn deleted_here(&self, key: &FunctionKey) {
        let touched = self.functions.update(key, |map| {
            let touched = urls_of(map.get(key), key);
            if let Some(Known::Live(record)) = map.get(key) {
                let generation = record.generation;
                map.insert(key.clone(), Known::Deleted { generation });
            }
            touched
        });
        self.index_urls(touched);
    }

    /// A controller says that the functions are gone.
    fn forget(&self, keys: Vec<FunctionKey>) {
        let items = keys.into_iter().map(|key| (key, ())).collect();
        let mut touched = Vec::new();
        self.functions
            .update_many(items, |map: &mut HashMap<_, _>, key, ()| {
                let removed = map.remove(&key);
                touched.extend(urls_of(removed.as_ref(), &key));
            });
        self.index_urls(touched);
    }

    /// A full picture is there: what it does not name is gone.
    fn completed(&self, named: impl Fn(&FunctionKey) -> bool) {
        let mut touched = Vec::new();
        self.functions.retain(|key, known| {
            let stays = named(key);
            if !stays {
                touched.extend(urls_of(Some(known), key));
            }
            stays
        });
        self.index_urls(touched);
    }

    /// How many functions are known.
    pub(crate) fn len(&self) -> usize {
        self.functions.len()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::function;

    fn key() -> FunctionKey {
        FunctionKey {
            account: "000000000000".parse().unwrap(),
            name: "f".parse().unwrap(),
        }
    }

    fn found(catalog: &Catalog) -> Option<u64> {
        catalog.find(&key()).map(|record| record.generation)
    }

    #[test]
    fn older_news_do_not_undo_newer_ones() {
        let catalog = Catalog::new("us-east-1".into());
        catalog.merge([&function("f", 5)]);
        catalog.merge([&function("f", 4)]);
        assert_eq!(found(&catalog), Some(5));
        catalog.deleted_here(&key());
        catalog.merge([&function("f", 5)]);
        assert_eq!(
            found(&catalog),
            None,
            "a late picture of what was deleted here"
        );
        catalog.merge([&function("f", 6)]);
        assert_eq!(found(&catalog), Some(6), "made again");
    }

    #[test]
    fn a_full_picture_removes_what_it_does_not_name() {
        let catalog = Catalog::new("us-east-1".into());
        catalog.merge([&function("f", 1), &function("g", 2)]);
        catalog.completed(|key| key.name.as_str() == "g");
        assert_eq!((found(&catalog), catalog.len()), (None, 1));
    }

    #[test]
    fn the_version_that_serves_is_invoked_while_an_update_is_in_progress() {
        let mut function = function("f", 9);
        let mut old = function.latest.clone();
        old.generation = 3;
        old.config.timeout_s = 77;
        function.serving = Some(old);
        let record = Record::new(&function, "us-east-1", &Quotas::default());
        let entry = record.find(None, 0).unwrap();
        assert_eq!(
            (entry.key.generation, entry.timeout_s, record.generation),
            (3, 77, 9)
        );
    }

    #[test]
    fn qualifiers_find_versions_and_an_alias_finds_one_by_chance() {
        use hearth_core::versions::{PublishedVersion, Weight};
        let mut function = function("f", 9);
        for n in [1, 2] {
            let mut snapshot = function.latest.clone();
            (snapshot.version, snapshot.generation) = (Version::Number(n), 3 + n);
            let version = PublishedVersion {
                snapshot,
                source: 3,
                state: if n == 1 {
                    State::Active
                } else {
                    State::Pending
                },
            };
            function.versions.insert(n, version);
        }
        let alias = Alias {
            version: Version::Number(1),
            description: String::new(),
            weights: [(2, Weight::new(0.5).unwrap())].into(),
            revision_id: "r".into(),
        };
        function.aliases.insert("live".into(), alias);
        function.changed = 12;
        let record = Record::new(&function, "us-east-1", &Quotas::default());
        assert_eq!(record.generation, 12);
        let find = |qualifier: &str, chance| {
            let qualifier: Qualifier = qualifier.parse().unwrap();
            record.find(Some(&qualifier), chance).map(|e| e.key.version)
        };
        for (qualifier, chance, version) in [
            ("1", 0, Some(Version::Number(1))),
            ("3", 0, None),
            ("$LATEST", 0, Some(Version::Latest)),
            ("live", 0, Some(Version::Number(2))),
            ("live", u64::MAX, Some(Version::Number(1))),
            ("nobody", 0, None),
        ] {
            assert_eq!(find(qualifier, chance), version, "{qualifier} {chance}");
        }
        let pending = record.version(Version::Number(2)).unwrap();
        let refused = pending.check_invocable().unwrap_err();
        assert_eq!(refused.code, ErrorCode::ResourceConflict);
    }
}
