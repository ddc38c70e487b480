//! A function that the catalog does not know is asked for at a controller before the answer is 404: the push may be
//! on its way. One question at a time per function however many requests wait for it, and a short memory of "no such
//! function", both bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use hearth_core::control::{ControlReply, ControlRequest};
use hearth_core::error::{Error, ErrorCode};
use hearth_core::ids::MonotonicMs;
use hearth_core::name::FunctionRef;

use super::{Catalog, FunctionKey, Record, not_found};
use crate::controllers::Controllers;

/// How long "no such function" is taken as still true.
const MISSING_TTL_MS: u64 = 200;
/// Functions remembered as missing, or being asked for. A flood of made-up names is answered without memory beyond.
const KEYS_MAX: usize = 4_096;

type Asking = Shared<BoxFuture<'static, Result<Arc<Record>, Error>>>;

#[derive(Debug)]
enum Slot {
    Asking(Asking),
    Missing { until: MonotonicMs },
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Lookups {
    catalog: Arc<Catalog>,
    controllers: Arc<Controllers>,
    slots: Mutex<HashMap<FunctionKey, Slot>>,
}

impl Lookups {
    pub(crate) fn new(catalog: Arc<Catalog>, controllers: Arc<Controllers>) -> Self {
        Self {
            catalog,
            controllers,
            slots: Mutex::default(),
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<FunctionKey, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The function: from the catalog, else from a controller, which may know of a version or alias that has not come
    /// here yet.
    pub(crate) async fn find(
        &self,
        function: &FunctionRef,
        now: MonotonicMs,
    ) -> Result<Arc<Record>, Error> {
        let key = FunctionKey {
            account: function.account.clone(),
            name: function.name.clone(),
        };
        if let Some(record) = self.catalog.find(&key)
            && record.find(function.qualifier.as_ref(), 0).is_some()
        {
            return Ok(record);
        }
        let missing = || not_found(function, &self.catalog.region);
        if self.catalog.is_deleted(&key) {
            return Err(missing());
        }
        let asking = {
            let mut slots = self.slots();
            match slots.get(&key) {
                Some(Slot::Missing { until }) if now < *until => return Err(missing()),
                Some(Slot::Asking(asking)) => asking.clone(),
                Some(Slot::Missing { .. }) | None => {
                    let asking = self.ask(&key);
                    make_room(&mut slots, now);
                    if slots.len() < KEYS_MAX {
                        slots.insert(key.clone(), Slot::Asking(asking.clone()));
                    }
                    asking
                }
            }
        };
        let found = asking.clone().await;
        let mut slots = self.slots();
        if matches!(slots.get(&key), Some(Slot::Asking(current)) if current.ptr_eq(&asking)) {
            slots.remove(&key);
            if matches!(&found, Err(error) if error.code == ErrorCode::NotFound) {
                slots.insert(
                    key,
                    Slot::Missing {
                        until: now.plus(MISSING_TTL_MS),
                    },
                );
            }
        }
        found.map_err(|error| {
            if error.code == ErrorCode::NotFound {
                missing()
            } else {
                error
            }
        })
    }

    /// A function made here is not missing any more.
    pub(crate) fn made_here(&self, key: &FunctionKey) {
        self.slots().remove(key);
    }

    fn ask(&self, key: &FunctionKey) -> Asking {
        let (catalog, controllers) = (Arc::clone(&self.catalog), Arc::clone(&self.controllers));
        let request = ControlRequest::GetFunction {
            account: key.account.clone(),
            name: key.name.clone(),
        };
        let ask = async move {
            match controllers.execute(&request).await? {
                ControlReply::Function(function) => {
                    catalog.merge([&*function]);
                    Ok(Arc::new(Record::new(
                        &function,
                        &catalog.region,
                        &catalog.quotas,
                    )))
                }
                other => Err(Error::new(
                    ErrorCode::Internal,
                    format!("a controller answered GetFunction with {other:?}"),
                )),
            }
        };
        ask.boxed().shared()
    }
}

fn make_room(slots: &mut HashMap<FunctionKey, Slot>, now: MonotonicMs) {
    if slots.len() >= KEYS_MAX {
        slots.retain(|_, slot| match slot {
            Slot::Asking(asking) => asking.peek().is_none(),
            Slot::Missing { until } => now < *until,
        });
    }
}
