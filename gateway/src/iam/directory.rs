//! Who there is in all accounts, with their policies read: pushed by a controller like functions, and asked by each request that an
//! access key or a session of a role signed. What this gateway changed itself is merged at once.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use hearth_core::iam::{IamEntity, IamKey, IamKind, IamNews, aws_policies, policy_named};
use hearth_core::ids::AccountId;
use hearth_core::policy::Policy;

use crate::sharded::Sharded;

/// Whose entity, by its name in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    account: AccountId,
    key: IamKey,
}

impl Place {
    pub(crate) fn new(account: &AccountId, key: &IamKey) -> Self {
        Self {
            account: account.clone(),
            key: key.folded(),
        }
    }
}

/// An entity, and what its documents say. A document that cannot be read says nothing.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) entity: IamEntity,
    /// Of an identity its own policies, of a policy the version that counts.
    pub(crate) policies: Vec<Policy>,
    /// Whom a role trusts.
    pub(crate) trust: Option<Policy>,
}

impl Record {
    fn new(entity: IamEntity) -> Self {
        let own = entity.rights().into_iter().flat_map(|r| r.inline.values());
        let default = entity.document().map(|version| &version.document);
        let read = |document: &String| Policy::of_identity(document).ok();
        let policies = own.chain(default).filter_map(read).collect();
        let trust = match &entity.kind {
            IamKind::Role { trust, .. } => Policy::of_trust(trust).ok(),
            IamKind::User { .. } | IamKind::Group { .. } | IamKind::Policy { .. } => None,
        };
        Self {
            entity,
            policies,
            trust,
        }
    }
}

#[derive(Clone, Debug)]
enum Known {
    Live(Arc<Record>),
    /// Deleted through this gateway; older news of it are not believed.
    Deleted {
        changed: u64,
    },
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    entities: Sharded<Place, Known>,
    /// The user of an access key. One that is gone is found out when its user is looked at.
    keys: Sharded<String, Place>,
}

impl Directory {
    /// One of them, by its very name.
    pub(crate) fn find(&self, account: &AccountId, key: &IamKey) -> Option<Arc<Record>> {
        let record = self.at(&Place::new(account, key))?;
        (record.entity.name == key.name()).then_some(record)
    }

    fn at(&self, place: &Place) -> Option<Arc<Record>> {
        match self.entities.get(place)? {
            Known::Live(record) => Some(record),
            Known::Deleted { .. } => None,
        }
    }

    /// The user of an access key that may be used, and its sealed secret.
    pub(crate) fn user_of(&self, key_id: &str) -> Option<(AccountId, Arc<Record>, String)> {
        let place = self.keys.get(&key_id.to_owned())?;
        let record = self.at(&place)?;
        let IamKind::User { keys, .. } = &record.entity.kind else {
            return None;
        };
        let key = keys.get(key_id).filter(|key| key.is_active)?;
        let sealed = key.sealed.clone();
        Some((place.account, record, sealed))
    }

    /// The policies that an ARN names.
    pub(crate) fn policy(&self, account: &AccountId, arn: &str) -> Option<Arc<Record>> {
        if let Some(policy) = of_aws().get(arn) {
            return Some(Arc::clone(policy));
        }
        let record = self.find(account, &policy_named(account, arn)?)?;
        (record.entity.arn(account) == arn).then_some(record)
    }

    /// The records whose policies say what an identity may do: its own, attached ones, and those of a user's groups.
    pub(crate) fn records_of(
        &self,
        account: &AccountId,
        identity: &Arc<Record>,
    ) -> Vec<Arc<Record>> {
        let groups = identity.entity.groups();
        let groups = groups.filter_map(|name| self.find(account, &IamKey::Group(name.clone())));
        let mut found = vec![Arc::clone(identity)];
        found.extend(groups);
        let attached: Vec<Arc<Record>> = found
            .iter()
            .filter_map(|record| record.entity.rights())
            .flat_map(|rights| &rights.attached)
            .filter_map(|arn| self.policy(account, arn))
            .collect();
        found.extend(attached);
        found
    }

    /// News, from a controller or from an operation of this gateway. Older ones change nothing.
    pub(crate) fn merge(&self, all: impl IntoIterator<Item = IamNews>) {
        let mut news = Vec::new();
        for one in all {
            let place = Place::new(&one.account, &one.key);
            let ids = one.entity.iter().flat_map(keys_of);
            let ids = ids.map(|id| (id.clone(), place.clone()));
            self.keys.update_many(ids.collect(), |map, id, place| {
                map.insert(id, place);
            });
            let record = one.entity.map(|entity| Arc::new(Record::new(entity)));
            news.push((place, record));
        }
        // Keys of users that change or go: those that are not keys any more are forgotten below.
        let mut old_keys: Vec<String> = Vec::new();
        self.entities.update_many(news, |map, place, record| {
            if let Some(Known::Live(known)) = map.get(&place) {
                old_keys.extend(keys_of(&known.entity).cloned());
            }
            let Some(record) = record else {
                map.remove(&place);
                return;
            };
            let is_news = map.get(&place).is_none_or(|known| match known {
                Known::Live(known) => known.entity.changed <= record.entity.changed,
                Known::Deleted { changed } => *changed < record.entity.changed,
            });
            if is_news {
                map.insert(place, Known::Live(record));
            }
        });
        for id in old_keys {
            let is_known = |place: &Place| {
                let user = self.at(place);
                user.is_some_and(|user| keys_of(&user.entity).any(|known| *known == id))
            };
            if self.keys.get(&id).is_some_and(|place| !is_known(&place)) {
                self.keys.update(&id, |map| map.remove(&id));
            }
        }
    }

    /// This gateway took it away.
    pub(crate) fn deleted_here(&self, account: &AccountId, key: &IamKey) {
        let place = Place::new(account, key);
        self.entities.update(&place, |map: &mut HashMap<_, _>| {
            if let Some(Known::Live(record)) = map.get(&place) {
                let changed = record.entity.changed;
                map.insert(place.clone(), Known::Deleted { changed });
            }
        });
    }

    /// A full picture is there: what it does not name is gone, and so are the keys of users that are.
    pub(crate) fn completed(&self, named: impl Fn(&Place) -> bool) {
        self.entities.retain(|place, _| named(place));
        self.keys.retain(|id, place| {
            let user = self.at(place);
            user.is_some_and(|user| keys_of(&user.entity).any(|known| known == id))
        });
    }
}

/// Ids of the access keys of a user.
fn keys_of(entity: &IamEntity) -> impl Iterator<Item = &String> {
    let keys = match &entity.kind {
        IamKind::User { keys, .. } => Some(keys),
        IamKind::Role { .. } | IamKind::Group { .. } | IamKind::Policy { .. } => None,
    };
    keys.into_iter().flat_map(|keys| keys.keys())
}

fn of_aws() -> &'static HashMap<String, Arc<Record>> {
    static ALL: OnceLock<HashMap<String, Arc<Record>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let all = aws_policies();
        all.map(|(arn, policy)| (arn, Arc::new(Record::new(policy))))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_core::iam::{IamChange, Stamp};
    use hearth_core::ids::UnixMs;

    fn account() -> AccountId {
        "000000000000".parse().unwrap()
    }

    fn user(index: u64, keys: &[&str]) -> IamNews {
        let stamp = Stamp {
            index,
            id: "0",
            at: UnixMs(0),
        };
        let key = IamKey::User("U".into());
        let create = IamChange::Create {
            key: key.clone(),
            path: "/".into(),
            description: String::new(),
            tags: std::collections::BTreeMap::new(),
            document: None,
            max_session_s: 0,
            boundary: None,
        };
        let mut entity = create.made(&stamp).unwrap().unwrap();
        for id in keys {
            let (user, id, sealed) = ("U".into(), (*id).into(), "s".into());
            let change = IamChange::CreateKey { user, id, sealed };
            entity.change(&change, &stamp).unwrap();
        }
        IamNews {
            account: account(),
            key,
            entity: Some(entity),
        }
    }

    #[test]
    fn keys_are_those_of_the_newest_user() {
        let directory = Directory::default();
        directory.merge([user(5, &["A", "B"])]);
        directory.merge([user(4, &["C"])]);
        assert!(directory.user_of("A").is_some() && directory.user_of("C").is_none());
        directory.merge([user(6, &["B"])]);
        assert!(directory.user_of("A").is_none() && directory.user_of("B").is_some());
        directory.deleted_here(&account(), &IamKey::User("U".into()));
        directory.merge([user(6, &["B"])]);
        assert!(
            directory.user_of("B").is_none(),
            "a late picture of what was deleted here"
        );
        directory.merge([user(7, &["B"])]);
        assert!(
            directory
                .find(&account(), &IamKey::User("U".into()))
                .is_some()
        );
        assert!(
            directory
                .find(&account(), &IamKey::User("u".into()))
                .is_none()
        );
        directory.completed(|_| false);
        assert!(directory.user_of("B").is_none());
        assert!(directory.keys.get(&"B".to_owned()).is_none());
    }

    #[test]
    fn policies_are_found_by_their_whole_arn() {
        let directory = Directory::default();
        let basic = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole";
        assert_eq!(
            directory.policy(&account(), basic).unwrap().policies.len(),
            1
        );
        assert!(
            directory
                .policy(&account(), "arn:aws:iam::000000000000:policy/p")
                .is_none()
        );
    }
}
