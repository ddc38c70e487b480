//! Which function a URL is of. The functions say so themselves: this index only makes them found by the id of a URL, and is
//! brought in line after each change of a function.

use std::collections::HashMap;
use std::sync::Arc;

use hearth_core::attached::{LATEST, UrlConfig};
use hearth_core::name::{FunctionRef, Qualifier};

use super::{Catalog, FunctionKey, Record};
use crate::sharded::Sharded;

/// Ids of URLs and whose they are.
pub(super) type Index = Sharded<String, FunctionKey>;

/// A URL that exists.
#[derive(Debug)]
pub(crate) struct Url {
    pub(crate) record: Arc<Record>,
    /// What is invoked through it.
    pub(crate) function: FunctionRef,
    pub(crate) config: Arc<UrlConfig>,
}

impl Record {
    fn url(&self, id: &str) -> Option<(&Qualifier, &Arc<UrlConfig>)> {
        self.urls.iter().find(|(_, url)| url.id == id)
    }

    pub(super) fn url_ids(&self) -> impl Iterator<Item = String> {
        self.urls.values().map(|url| url.id.clone())
    }
}

impl Catalog {
    /// The URL with this id, if it is known.
    pub(crate) fn url(&self, id: &str) -> Option<Url> {
        let key = self.urls.get(&id.to_owned())?;
        let record = self.find(&key)?;
        let (qualifier, config) = record.url(id)?;
        Some(Url {
            function: FunctionRef {
                account: key.account,
                name: key.name,
                qualifier: Some(qualifier.clone()).filter(|q| *q != LATEST),
            },
            config: Arc::clone(config),
            record,
        })
    }

    /// The functions changed: their URLs, before and after, are looked up anew.
    pub(super) fn index_urls(&self, touched: Vec<(String, FunctionKey)>) {
        let change = |map: &mut HashMap<String, FunctionKey>, id: String, key: FunctionKey| {
            // Read under the lock of the index, so that of two changes at once the later one's state stays.
            match self.find(&key).is_some_and(|of| of.url(&id).is_some()) {
                true => drop(map.insert(id, key)),
                false => drop(map.remove(&id)),
            }
        };
        self.urls.update_many(touched, change);
    }
}

#[cfg(test)]
mod tests {
    use hearth_core::attached::{InvokeMode, UrlAuth};
    use hearth_core::function::Function;
    use hearth_core::ids::UnixMs;

    use super::*;
    use crate::testing::function;

    fn with_url(id: &str, qualifier: Qualifier, generation: u64) -> Function {
        let url = UrlConfig {
            id: id.into(),
            auth: UrlAuth::None,
            cors: None,
            mode: InvokeMode::Buffered,
            created: UnixMs(0),
            last_modified: UnixMs(0),
        };
        let mut function = function("f", generation);
        function.attached.urls.insert(qualifier, url);
        function
    }

    #[test]
    fn a_url_is_found_as_long_as_its_function_has_it() {
        let catalog = Catalog::new("us-east-1".into());
        let live = Qualifier::Alias("live".into());
        catalog.merge([&with_url("a", LATEST, 1)]);
        let found = catalog.url("a").unwrap();
        assert_eq!(
            (found.function.name.as_str(), found.function.qualifier),
            ("f", None)
        );
        catalog.merge([&with_url("b", live.clone(), 2)]);
        assert!(catalog.url("a").is_none());
        assert_eq!(catalog.url("b").unwrap().function.qualifier, Some(live));
        catalog.merge([&with_url("a", LATEST, 1)]);
        assert!(catalog.url("a").is_none(), "older news change nothing");
        let key = FunctionKey {
            account: "000000000000".parse().unwrap(),
            name: "f".parse().unwrap(),
        };
        catalog.deleted_here(&key);
        assert!(catalog.url("b").is_none());
        catalog.merge([&with_url("c", LATEST, 9)]);
        assert!(catalog.url("c").is_some());
        catalog.forget(vec![key]);
        assert!(catalog.url("c").is_none());
        catalog.merge([&with_url("d", LATEST, 10)]);
        catalog.completed(|_| false);
        assert_eq!((catalog.url("d").is_none(), catalog.urls.len()), (true, 0));
    }
}
