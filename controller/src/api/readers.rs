//! Gateways that read the catalog from this controller: how operators get to know of them, as gateways register nowhere.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_proto::internal::v1 as pb;

/// Longest text a reader may say of itself.
const TEXT_MAX: usize = 256;

/// A clonable handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readers {
    readers: Arc<Mutex<BTreeMap<u64, pb::GatewayReader>>>,
    next: Arc<AtomicU64>,
}

/// A gateway's place; it is not listed any more when this is dropped.
#[derive(Debug)]
pub(crate) struct Reading {
    readers: Readers,
    number: u64,
}

impl Readers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, pb::GatewayReader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A gateway begins to read. Their number is limited by whoever calls.
    pub(crate) fn begin(&self, request: &pb::WatchCatalogRequest) -> Reading {
        let text = |text: &str| text.chars().take(TEXT_MAX).collect();
        let reader = pb::GatewayReader {
            id: request.node_id,
            addr: text(&request.addr),
            release: text(&request.release),
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, reader);
        Reading {
            readers: self.clone(),
            number,
        }
    }

    /// Those that read now.
    pub(crate) fn all(&self) -> Vec<pb::GatewayReader> {
        self.lock().values().cloned().collect()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.readers.lock().remove(&self.number);
    }
}
