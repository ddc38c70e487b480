//! Functions as this worker needs them: those it was asked to run or to prepare, each with its versions and what these draw
//! from. It follows them at a controller ([`follow`]) and keeps what it was told last while none answers. Functions that
//! nobody asked for are not here, nor are their environments. Rules of what a version is are in
//! `hearth_core::function`; nothing here decides whether it may run.

mod follow;
mod roles;
mod wishes;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use hearth_core::function::{Function, FunctionVersion};
use hearth_core::ids::{AccountId, MonotonicMs, PoolKey, Version, VersionKey};
use hearth_core::name::FunctionName;
use hearth_core::versions::Pools;
use hearth_node::clock::SharedClock;
use hearth_proto::convert::decode_function;
use hearth_proto::internal::v1 as pb;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tracing::warn;

pub(crate) use follow::run as follow;
pub(crate) use roles::RoleCredentials;
use wishes::Wishes;

/// Functions kept: documents of some kilobytes each. Beyond it those that run nothing are let go, the longest unused first.
const FUNCTIONS_MAX: usize = 8_192;
/// Beyond this nothing new is followed until some were let go.
const FOLLOWED_MAX: usize = 2 * FUNCTIONS_MAX;
/// A function that does not exist is asked about no more after this long.
const ABSENT_MS: u64 = 60_000;
/// A document that has not come by then from a controller that answers is one the controller does not have yet: another
/// one is asked. Milliseconds.
const BEHIND: Duration = Duration::from_millis(400);

/// A version that may be run here.
#[derive(Debug)]
pub(crate) struct Runnable {
    pub(crate) version: Arc<FunctionVersion>,
    /// What its invocations are counted over.
    pub(crate) pools: Pools,
    /// What its function's tags ask for.
    pub(crate) wishes: Wishes,
}

type FunctionKey = (AccountId, FunctionName);

/// A clonable handle.
#[derive(Debug, Clone)]
pub(crate) struct Catalog {
    state: Arc<RwLock<State>>,
    clock: SharedClock,
    /// Rings when something was learned.
    learned: Arc<Notify>,
    /// Rings when something else is to be followed.
    wanted: Arc<Notify>,
    /// Rings when the controller that is followed lacks something.
    behind: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    runnable: HashMap<VersionKey, Arc<Runnable>>,
    functions: HashMap<FunctionKey, Known>,
    /// Not yet said to the controller that is followed.
    to_follow: Vec<FunctionKey>,
    to_leave: Vec<FunctionKey>,
}

/// A function that is followed.
#[derive(Debug, Default)]
struct Known {
    /// Keys of the versions it has now, and of those before, which gateways may still ask for.
    now: Vec<VersionKey>,
    before: Vec<VersionKey>,
    /// SHA-256 of its document; empty until one has come.
    digest: Vec<u8>,
    /// Log index of the newest change of it that is known.
    news: u64,
    /// When somebody asked for it last.
    wanted_at: MonotonicMs,
    /// A controller has told how it is, or that there is none.
    is_told: bool,
    /// Credentials of its roles, by their ARNs.
    roles: BTreeMap<String, Arc<RoleCredentials>>,
}

/// Whose function a version is of.
pub(crate) fn function_of(key: &VersionKey) -> (AccountId, FunctionName) {
    (key.account.clone(), key.function.clone())
}

impl Catalog {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self {
            state: Arc::default(),
            clock,
            learned: Arc::default(),
            wanted: Arc::default(),
            behind: Arc::default(),
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, key: &VersionKey) -> Option<Arc<Runnable>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.runnable.get(key).cloned()
    }

    /// The version whose provisioned concurrency a pool is; if it is not known, it soon is.
    pub(crate) fn find_provisioned(&self, pool: &PoolKey) -> Option<(VersionKey, Arc<Runnable>)> {
        let name = (pool.account.clone(), pool.function.clone()?);
        let version = Version::Number(pool.provisioned?);
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let known = state.functions.get(&name);
        let mut keys = known.into_iter().flat_map(|known| &known.now);
        if let Some(key) = keys.find(|key| key.version == version) {
            let runnable = state.runnable.get(key)?;
            return Some((key.clone(), Arc::clone(runnable)));
        }
        drop(state);
        self.want(name);
        None
    }

    pub(crate) fn contains(&self, key: &VersionKey) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.runnable.contains_key(key)
    }

    /// Somebody needs the function: it is followed from now on.
    pub(crate) fn want(&self, function: FunctionKey) {
        let now = MonotonicMs(self.clock.monotonic_ms());
        let mut state = self.write();
        if let Some(known) = state.functions.get_mut(&function) {
            known.wanted_at = now;
            return;
        }
        if state.functions.len() >= FOLLOWED_MAX {
            return;
        }
        state.to_follow.push(function.clone());
        let known = Known {
            wanted_at: now,
            ..Known::default()
        };
        state.functions.insert(function, known);
        drop(state);
        self.wanted.notify_one();
    }

    /// The version, once a controller has told of it; `None` if none did within `limit`.
    pub(crate) async fn wait_for(
        &self,
        key: &VersionKey,
        limit: Duration,
    ) -> Option<Arc<Runnable>> {
        self.want(function_of(key));
        let waiting = async {
            loop {
                // Listens before it looks.
                let mut learned = std::pin::pin!(self.learned.notified());
                learned.as_mut().enable();
                if let Some(runnable) = self.find(key) {
                    return runnable;
                }
                if tokio::time::timeout(BEHIND, learned).await.is_err() {
                    self.note_behind(&function_of(key));
                }
            }
        };
        tokio::time::timeout(limit, waiting).await.ok()
    }

    /// A controller that told of the function has not told what somebody waits for.
    fn note_behind(&self, function: &FunctionKey) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if state.functions.get(function).is_some_and(|k| k.is_told) {
            self.behind.notify_one();
        }
    }

    /// Lets go of what is not needed. `running` names the functions of which something runs here.
    pub(crate) fn trim(&self, running: impl FnOnce() -> HashSet<FunctionKey>) {
        let now = MonotonicMs(self.clock.monotonic_ms());
        let mut state = self.write();
        let is_absent = |known: &Known| {
            known.is_told && known.now.is_empty() && now.since(known.wanted_at) >= ABSENT_MS
        };
        let functions = state.functions.iter();
        let mut gone: Vec<FunctionKey> = functions
            .filter(|(_, known)| is_absent(known))
            .map(|(key, _)| key.clone())
            .collect();
        let surplus = (state.functions.len() - gone.len()).saturating_sub(FUNCTIONS_MAX);
        if surplus > 0 {
            let running = running();
            let unused = state.functions.iter();
            let mut unused: Vec<(MonotonicMs, &FunctionKey)> = unused
                .filter(|(key, known)| !is_absent(known) && !running.contains(*key))
                .map(|(key, known)| (known.wanted_at, key))
                .collect();
            unused.sort_unstable();
            gone.extend(unused.into_iter().take(surplus).map(|(_, key)| key.clone()));
        }
        if gone.is_empty() {
            return;
        }
        for key in gone {
            state.delete(&key);
            state.functions.remove(&key);
            state.to_leave.push(key);
        }
        drop(state);
        self.wanted.notify_one();
    }

    /// Takes a function as it is now.
    pub(crate) fn put(&self, function: &Function) {
        self.write().put(function);
        self.learned.notify_waiters();
    }

    fn apply(&self, update: &pb::FollowUpdate) {
        let mut state = self.write();
        for bytes in &update.functions {
            match decode_function(bytes) {
                Ok(function) => state.take(&function, bytes),
                Err(error) => warn!(%error, "function of the catalog skipped"),
            }
        }
        for role in &update.roles {
            state.take_role(role);
        }
        for absent in &update.absent {
            if let (Ok(account), Ok(name)) = (absent.account.parse(), absent.name.parse()) {
                state.take_absence(&(account, name), update.index);
            }
        }
        drop(state);
        self.learned.notify_waiters();
    }
}

impl State {
    /// A document as it was sent. One that was let go meanwhile, or is older than what is known, changes nothing.
    fn take(&mut self, function: &Function, bytes: &[u8]) {
        let name = (function.account.clone(), function.name.clone());
        let known = self.functions.get(&name);
        if known.is_some_and(|known| known.news <= function.news()) {
            self.put(function);
        }
        if let Some(known) = self.functions.get_mut(&name) {
            known.is_told = true;
            if known.news == function.news() {
                known.digest = Sha256::digest(bytes).to_vec();
            }
        }
    }

    /// A controller that has the log up to `index` knows no such function: one that is behind says nothing by that.
    fn take_absence(&mut self, name: &FunctionKey, index: u64) {
        let Some(known) = self.functions.get_mut(name) else {
            return;
        };
        known.is_told = true;
        if known.news <= index {
            self.delete(name);
        }
    }

    fn put(&mut self, function: &Function) {
        let name = (function.account.clone(), function.name.clone());
        let published = function.versions.values().map(|v| &v.snapshot);
        let versions = std::iter::once(&function.latest)
            .chain(&function.serving)
            .chain(published);
        let wishes = Wishes::of(&function.tags);
        let mut now: Vec<VersionKey> = Vec::new();
        for version in versions {
            let key = function.version_key(version);
            self.put_version(&key, version, function.pools(key.version), &wishes);
            now.push(key);
        }
        let roles: HashSet<&str> = now
            .iter()
            .filter_map(|key| self.runnable.get(key))
            .map(|runnable| runnable.version.config.role.as_str())
            .collect();
        let known = self.functions.entry(name).or_default();
        known.roles.retain(|role, _| roles.contains(role.as_str()));
        known.news = function.news();
        if known.now != now {
            let older =
                std::mem::replace(&mut known.before, std::mem::replace(&mut known.now, now));
            let stale = older
                .iter()
                .filter(|key| !known.now.contains(key) && !known.before.contains(key));
            for key in stale {
                self.runnable.remove(key);
            }
        }
        // The pool may have changed for the generation before as well.
        for key in &known.before {
            if let Some(old) = self.runnable.get_mut(key) {
                *old = Arc::new(Runnable {
                    version: Arc::clone(&old.version),
                    pools: function.pools(key.version),
                    wishes: wishes.clone(),
                });
            }
        }
    }

    /// A published version is never another under the same key, and mostly in the same pools.
    fn put_version(
        &mut self,
        key: &VersionKey,
        version: &FunctionVersion,
        pools: Pools,
        wishes: &Wishes,
    ) {
        let is_same = |known: &Arc<Runnable>| {
            known.pools == pools && known.wishes == *wishes && *known.version == *version
        };
        if self.runnable.get(key).is_some_and(is_same) {
            return;
        }
        let runnable = Runnable {
            version: Arc::new(version.clone()),
            pools,
            wishes: wishes.clone(),
        };
        self.runnable.insert(key.clone(), Arc::new(runnable));
    }

    /// Nothing of the function may run any more. It is followed still: it may be made again.
    fn delete(&mut self, name: &FunctionKey) {
        if let Some(known) = self.functions.get_mut(name) {
            for key in known.now.drain(..).chain(known.before.drain(..)) {
                self.runnable.remove(&key);
            }
            known.digest.clear();
            known.roles.clear();
        }
    }
}

#[cfg(test)]
mod tests;
