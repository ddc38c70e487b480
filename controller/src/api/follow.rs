//! Functions as workers follow them: a worker names those it runs and hears of no others. A change wakes only those who
//! follow the function, so that its cost does not grow with the number of workers; what is sent is read when it is sent,
//! so that a slow reader skips what was overtaken and never goes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hearth_core::ids::{AccountId, MonotonicMs};
use hearth_core::name::FunctionName;
use hearth_proto::convert;
use hearth_proto::internal::v1 as pb;
use sha2::{Digest as _, Sha256};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::roles::{AllGiven, Issuer};
use crate::machine::{Change, ReplicatedState};
use crate::raft::Consensus;

/// Functions one reader may follow: more than a worker keeps documents of.
const FOLLOWED_MAX: usize = 32_768;
/// Documents in one update, bytes.
const UPDATE_BYTES: usize = 256 * 1024;
/// Updates that wait for one reader. What it does not read is not made.
pub(super) const UPDATES_MAX: usize = 4;
/// "An update without content every second."
const IDLE: Duration = Duration::from_secs(1);
/// What credentials count for in that, bytes: a token, a secret and names.
const CREDENTIALS_BYTES: usize = 1_024;
/// Credentials that are to be renewed are looked for this often, milliseconds.
const ROLES_EVERY_MS: u64 = 60_000;

type Key = (AccountId, FunctionName);

/// Functions of which a reader is to hear.
#[derive(Debug, Default)]
struct Due {
    keys: Mutex<BTreeSet<Key>>,
    bell: Notify,
}

impl Due {
    fn keys(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, keys: impl IntoIterator<Item = Key>) {
        self.keys().extend(keys);
        self.bell.notify_one();
    }
}

#[derive(Debug)]
struct Follower {
    due: Arc<Due>,
    followed: BTreeSet<Key>,
}

#[derive(Debug, Default)]
struct Index {
    next: u64,
    followers: BTreeMap<u64, Follower>,
    /// Numbers of those who follow a function.
    by_function: BTreeMap<Key, BTreeSet<u64>>,
}

impl Index {
    fn leave(&mut self, number: u64, key: &Key) {
        if let Some(numbers) = self.by_function.get_mut(key) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_function.remove(key);
            }
        }
    }
}

/// Who follows what here; a clonable handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Followers {
    index: Arc<Mutex<Index>>,
    /// Grows when a role may have come, changed or gone.
    iam_changes: Arc<AtomicU64>,
}

impl Followers {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_change(&self, key: &Key) {
        let index = self.index();
        for number in index.by_function.get(key).into_iter().flatten() {
            if let Some(follower) = index.followers.get(number) {
                follower.due.add([key.clone()]);
            }
        }
    }

    /// Readers look at the roles of what they follow when they next have nothing to do.
    fn on_iam_change(&self) {
        self.iam_changes.fetch_add(1, Ordering::Release);
    }

    /// Changes were missed: everybody looks at everything.
    fn on_missed(&self) {
        for follower in self.index().followers.values() {
            follower.due.add(follower.followed.iter().cloned());
        }
    }

    /// Passes on what changes, until `stop`.
    pub(crate) async fn run(
        self,
        mut changes: broadcast::Receiver<Change>,
        stop: CancellationToken,
    ) {
        loop {
            let change = tokio::select! {
                () = stop.cancelled() => return,
                change = changes.recv() => change,
            };
            match change {
                Ok(Change::Function { account, name, .. }) => self.on_change(&(account, name)),
                Ok(Change::Iam { .. }) => self.on_iam_change(),
                // Workers are not told of each other.
                Ok(Change::Worker { .. } | Change::Drain { .. }) => {}
                Ok(Change::Restored) | Err(RecvError::Lagged(_)) => {
                    self.on_iam_change();
                    self.on_missed();
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn begin(&self) -> Following {
        let mut index = self.index();
        index.next += 1;
        let number = index.next;
        let due = Arc::<Due>::default();
        let follower = Follower {
            due: Arc::clone(&due),
            followed: BTreeSet::new(),
        };
        index.followers.insert(number, follower);
        drop(index);
        Following {
            followers: self.clone(),
            number,
            due,
        }
    }
}

/// A reader's place; what it follows ends with it.
struct Following {
    followers: Followers,
    number: u64,
    due: Arc<Due>,
}

impl Following {
    fn follow(&self, keys: &[Key]) -> Result<(), Status> {
        let mut index = self.followers.index();
        let Some(follower) = index.followers.get_mut(&self.number) else {
            return Ok(());
        };
        follower.followed.extend(keys.iter().cloned());
        if follower.followed.len() > FOLLOWED_MAX {
            return Err(Status::resource_exhausted("too many functions followed"));
        }
        for key in keys {
            let numbers = index.by_function.entry(key.clone()).or_default();
            numbers.insert(self.number);
        }
        Ok(())
    }

    fn leave(&self, keys: &[Key]) {
        let mut index = self.followers.index();
        for key in keys {
            if let Some(follower) = index.followers.get_mut(&self.number) {
                follower.followed.remove(key);
            }
            index.leave(self.number, key);
        }
    }

    fn follows(&self, key: &Key) -> bool {
        let index = self.followers.index();
        let follower = index.followers.get(&self.number);
        follower.is_some_and(|follower| follower.followed.contains(key))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut index = self.followers.index();
        if let Some(follower) = index.followers.remove(&self.number) {
            for key in &follower.followed {
                index.leave(self.number, key);
            }
        }
    }
}

/// One reader.
pub(super) struct Feed {
    pub(super) consensus: Consensus<ReplicatedState>,
    pub(super) followers: Followers,
    pub(super) issuer: Arc<Issuer>,
    pub(super) updates: mpsc::Sender<Result<pb::FollowUpdate, Status>>,
}

/// What a reader was told.
#[derive(Default)]
struct Told {
    controllers: Vec<String>,
    /// Digests of the documents it has.
    documents: BTreeMap<Key, Vec<u8>>,
    /// Credentials that it was given, of functions that it follows.
    roles: BTreeMap<Key, AllGiven>,
    /// When all roles were last looked at: the count of IAM's changes, and the time.
    roles_looked_at: (u64, MonotonicMs),
}

/// What is said of one function.
enum Word {
    Document(Bytes),
    Absent,
    /// It has this document.
    Known,
}

/// The reader has gone.
struct Gone;

impl Feed {
    /// Until the reader ends the stream or breaks its rules.
    pub(super) async fn run(self, mut requests: Streaming<pb::FollowRequest>) {
        let following = self.followers.begin();
        let mut told = Told::default();
        let mut idle = tokio::time::interval(IDLE);
        idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_idle = tokio::select! {
                request = requests.message() => {
                    let Ok(Some(request)) = request else { return };
                    if let Err(status) = on_request(&following, &mut told, request) {
                        // The reader may have gone as well.
                        let _ = self.updates.send(Err(status)).await;
                        return;
                    }
                    false
                }
                () = following.due.bell.notified() => false,
                _ = idle.tick() => true,
            };
            if self.tell(&following, &mut told, is_idle).await.is_err() {
                return;
            }
        }
    }

    /// Sends what is due; an update without content if nothing is and `is_idle`.
    async fn tell(
        &self,
        following: &Following,
        told: &mut Told,
        is_idle: bool,
    ) -> Result<(), Gone> {
        let mut update = self.empty();
        if is_idle {
            self.note_controllers(told, &mut update);
            self.renew_roles(told, &mut update);
        }
        let mut due = std::mem::take(&mut *following.due.keys());
        let mut bytes = 0;
        while let Some(key) = due.pop_first() {
            if !following.follows(&key) {
                continue;
            }
            let given = update.roles.len();
            match self.word(&key, told) {
                Word::Known => self.note_roles(&key, told, &mut update),
                Word::Absent => update.absent.push(pb::FunctionKey {
                    account: key.0.as_str().to_owned(),
                    name: key.1.as_str().to_owned(),
                }),
                Word::Document(document) => {
                    bytes += document.len();
                    update.functions.push(document);
                    self.note_roles(&key, told, &mut update);
                }
            }
            bytes += (update.roles.len() - given) * CREDENTIALS_BYTES;
            if bytes >= UPDATE_BYTES {
                bytes = 0;
                let full = std::mem::replace(&mut update, self.empty());
                self.send(full).await?;
            }
        }
        let has_news =
            !update.functions.is_empty() || !update.absent.is_empty() || !update.roles.is_empty();
        if has_news || is_idle {
            self.send(update).await?;
        }
        Ok(())
    }

    /// As of now: what is read later is not older.
    fn empty(&self) -> pb::FollowUpdate {
        pb::FollowUpdate {
            index: self.consensus.read(ReplicatedState::applied),
            ..pb::FollowUpdate::default()
        }
    }

    async fn send(&self, update: pb::FollowUpdate) -> Result<(), Gone> {
        self.updates.send(Ok(update)).await.map_err(|_| Gone)
    }

    fn word(&self, key: &Key, told: &mut Told) -> Word {
        let document = self.consensus.read(|m| {
            let function = m.state().functions.function(&key.0, &key.1);
            function.map(convert::encode_function)
        });
        let Some(document) = document else {
            told.documents.remove(key);
            told.roles.remove(key);
            return Word::Absent;
        };
        let digest = Sha256::digest(&document).to_vec();
        if told.documents.get(key) == Some(&digest) {
            return Word::Known;
        }
        told.documents.insert(key.clone(), digest);
        Word::Document(document)
    }

    /// Adds credentials of a function's roles, if the reader is to have new ones.
    fn note_roles(&self, key: &Key, told: &mut Told, update: &mut pb::FollowUpdate) {
        if !self.issuer.is_on() {
            return;
        }
        let given = told.roles.entry(key.clone()).or_default();
        let due = self.consensus.read(|m| {
            let function = m.state().functions.function(&key.0, &key.1)?;
            Some(self.issuer.due(function, &m.state().iam, given))
        });
        update.roles.extend(due.unwrap_or_default());
    }

    /// The same of all that the reader follows: when roles have changed, and now and then.
    fn renew_roles(&self, told: &mut Told, update: &mut pb::FollowUpdate) {
        let changes = self.followers.iam_changes.load(Ordering::Acquire);
        let (seen, at) = told.roles_looked_at;
        let now = MonotonicMs(self.issuer.now_ms());
        if seen == changes && now.since(at) < ROLES_EVERY_MS {
            return;
        }
        let keys: Vec<Key> = told.roles.keys().cloned().collect();
        for key in keys {
            if update.roles.len() * CREDENTIALS_BYTES >= UPDATE_BYTES {
                // The rest in a second.
                return;
            }
            self.note_roles(&key, told, update);
        }
        told.roles_looked_at = (changes, now);
    }

    /// Adds where controllers are, if that has changed.
    fn note_controllers(&self, told: &mut Told, update: &mut pb::FollowUpdate) {
        let members = self.consensus.members();
        let all = members
            .voters
            .into_values()
            .chain(members.learners.into_values());
        let addrs: Vec<String> = all.collect();
        if !addrs.is_empty() && addrs != told.controllers {
            told.controllers.clone_from(&addrs);
            update.controllers = Some(pb::Controllers { addrs });
        }
    }
}

fn on_request(
    following: &Following,
    told: &mut Told,
    request: pb::FollowRequest,
) -> Result<(), Status> {
    let leave: Vec<Key> = request.leave.iter().filter_map(key).collect();
    for key in &leave {
        told.documents.remove(key);
        told.roles.remove(key);
    }
    following.leave(&leave);
    let mut follow = Vec::new();
    for followed in request.follow {
        let Some(key) = followed.key.as_ref().and_then(key) else {
            continue;
        };
        // It may have let go of the function, and of its credentials, since it was given some.
        told.roles.remove(&key);
        if followed.digest.is_empty() {
            told.documents.remove(&key);
        } else {
            told.documents.insert(key.clone(), followed.digest.to_vec());
        }
        follow.push(key);
    }
    following.follow(&follow)?;
    // Followed before they are looked at: a change in between is told too.
    following.due.add(follow);
    Ok(())
}

/// A name that no function can have is followed by nobody.
fn key(key: &pb::FunctionKey) -> Option<Key> {
    Some((key.account.parse().ok()?, key.name.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Key {
        ("123456789012".parse().unwrap(), name.parse().unwrap())
    }

    fn due(following: &Following) -> Vec<String> {
        let keys = std::mem::take(&mut *following.due.keys());
        keys.into_iter().map(|key| key.1.to_string()).collect()
    }

    #[test]
    fn a_change_reaches_those_who_follow_the_function_and_nobody_else() {
        let followers = Followers::default();
        let (a, b) = (followers.begin(), followers.begin());
        a.follow(&[named("f"), named("g")]).unwrap();
        b.follow(&[named("g")]).unwrap();
        followers.on_change(&named("f"));
        followers.on_change(&named("h"));
        assert_eq!((due(&a), due(&b)), (vec!["f".to_owned()], vec![]));
        a.leave(&[named("g")]);
        followers.on_change(&named("g"));
        assert_eq!((due(&a), due(&b)), (vec![], vec!["g".to_owned()]));
        followers.on_missed();
        assert_eq!((due(&a).len(), due(&b).len()), (1, 1));
        drop((a, b));
        let index = followers.index();
        assert!(index.followers.is_empty() && index.by_function.is_empty());
    }

    #[test]
    fn what_one_reader_follows_is_bounded() {
        let followers = Followers::default();
        let reader = followers.begin();
        let many: Vec<Key> = (0..FOLLOWED_MAX).map(|n| named(&format!("f{n}"))).collect();
        reader.follow(&many).unwrap();
        assert!(reader.follow(&[named("one-more")]).is_err());
    }
}
