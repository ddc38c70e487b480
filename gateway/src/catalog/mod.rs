//! What is invocable: a copy of the cluster's functions, pushed by a controller and read without locks. What this
//! gateway changed itself is merged at once, so that a client reads its own writes here. How the copy is kept current
//! is in `watch`; what happens when a function is not in it, in `lookup`.

mod lookup;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;

use hearth_core::error::{Error, ErrorCode};
use hearth_core::function::{Function, FunctionVersion, State};
use hearth_core::ids::{AccountId, Version, VersionKey};
use hearth_core::name::{FunctionName, FunctionRef, Qualifier, function_arn};

use crate::invoke::{Quotas, Terms};
use crate::sharded::Sharded;

pub(crate) use lookup::Lookups;
pub(crate) use watch::{Watching, run as watch};

/// Whose function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FunctionKey {
    pub(crate) account: AccountId,
    pub(crate) name: FunctionName,
}

/// A function with what each invocation needs of it worked out.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The version that serves `$LATEST`.
    pub(crate) key: VersionKey,
    /// Pool and memory.
    pub(crate) terms: Terms,
    pub(crate) timeout_s: u32,
    /// Without a qualifier.
    pub(crate) arn: String,
    state: State,
    /// Log index of the newest change that is in here.
    generation: u64,
}

impl Entry {
    fn new(function: &Function, region: &str, quotas: &Quotas) -> Self {
        let serving: &FunctionVersion = function.serving.as_ref().unwrap_or(&function.latest);
        Self {
            key: function.version_key(serving),
            terms: quotas.terms(function, serving.config.memory_mib),
            timeout_s: serving.config.timeout_s,
            arn: function_arn(region, &function.account, &function.name),
            state: function.state.clone(),
            generation: function.latest.generation,
        }
    }

    /// AWS's reason when its pool is exhausted.
    pub(crate) fn throttle_reason(&self) -> &'static str {
        self.terms.quota.concurrency_reason()
    }

    /// Whether it may be invoked under this qualifier.
    pub(crate) fn check_invocable(
        &self,
        function: &FunctionRef,
        region: &str,
    ) -> Result<(), Error> {
        match &function.qualifier {
            None | Some(Qualifier::Version(Version::Latest)) => {}
            Some(Qualifier::Version(Version::Number(_)) | Qualifier::Alias(_)) => {
                return Err(not_found(function, region));
            }
        }
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

/// AWS's text for a function that does not exist.
pub(crate) fn not_found(function: &FunctionRef, region: &str) -> Error {
    Error::new(
        ErrorCode::NotFound,
        format!("Function not found: {}", function.arn(region)),
    )
}

#[derive(Clone, Debug)]
enum Known {
    Live(Arc<Entry>),
    /// Deleted through this gateway; older news of it are not believed.
    Deleted {
        generation: u64,
    },
}

impl Known {
    fn generation(&self) -> u64 {
        match self {
            Self::Live(entry) => entry.generation,
            Self::Deleted { generation } => generation.saturating_add(1),
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) region: String,
    /// Rates of the functions in it.
    pub(crate) quotas: Quotas,
    functions: Sharded<FunctionKey, Known>,
}

impl Catalog {
    pub(crate) fn new(region: String) -> Self {
        Self {
            region,
            quotas: Quotas::default(),
            functions: Sharded::default(),
        }
    }

    /// The function, if it is known.
    pub(crate) fn find(&self, key: &FunctionKey) -> Option<Arc<Entry>> {
        match self.functions.get(key)? {
            Known::Live(entry) => Some(entry),
            Known::Deleted { .. } => None,
        }
    }

    /// What serves the function of a version now; `None` when it is gone.
    pub(crate) fn serving(&self, version: &VersionKey) -> Option<Arc<Entry>> {
        let function = FunctionKey {
            account: version.account.clone(),
            name: version.function.clone(),
        };
        self.find(&function)
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
                Arc::new(Entry::new(function, &self.region, &self.quotas)),
            )
        });
        self.functions
            .update_many(items.collect(), |map, key, entry| {
                if map
                    .get(&key)
                    .is_none_or(|known| known.generation() <= entry.generation)
                {
                    map.insert(key, Known::Live(entry));
                }
            });
    }

    /// This gateway deleted the function.
    pub(crate) fn deleted_here(&self, key: &FunctionKey) {
        self.functions.update(key, |map| {
            if let Some(Known::Live(entry)) = map.get(key) {
                let generation = entry.generation;
                map.insert(key.clone(), Known::Deleted { generation });
            }
        });
    }

    /// A controller says that the functions are gone.
    fn forget(&self, keys: Vec<FunctionKey>) {
        let items = keys.into_iter().map(|key| (key, ())).collect();
        self.functions
            .update_many(items, |map: &mut HashMap<_, _>, key, ()| {
                map.remove(&key);
            });
    }

    /// A full picture is there: what it does not name is gone.
    fn completed(&self, named: impl Fn(&FunctionKey) -> bool) {
        self.functions.retain(|key, _| named(key));
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
        catalog.find(&key()).map(|entry| entry.generation)
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
        let entry = Entry::new(&function, "us-east-1", &Quotas::default());
        assert_eq!(
            (entry.key.generation, entry.timeout_s, entry.generation),
            (3, 77, 9)
        );
    }
}
