//! Makes code ready before the first invocation, on the leader's wish: fetched, unpacked, its runtime there.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hearth_core::ids::VersionKey;
use hearth_proto::convert::version_key;
use hearth_proto::internal::v1 as pb;
use pb::worker_report::Report;
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, warn};

use super::report;
use crate::code::causes;
use crate::pool::Engine;
use crate::pool::package::{self, Package};

/// Packages prepared at a time; fetching and unpacking is disk work.
const AT_A_TIME: usize = 4;

/// Wishes waiting; the leader repeats what is dropped.
const WAITING_MAX: usize = 1_000;

/// The document comes on another stream: how long it is waited for.
const DOCUMENT_LIMIT: Duration = Duration::from_secs(10);

/// Preparations of one session.
#[derive(Debug, Clone)]
pub(super) struct Preparing {
    engine: Arc<Engine>,
    reports: mpsc::Sender<pb::WorkerReport>,
    running: Arc<Mutex<HashSet<VersionKey>>>,
    places: Arc<Semaphore>,
}

impl Preparing {
    pub(super) fn new(engine: Arc<Engine>, reports: mpsc::Sender<pb::WorkerReport>) -> Self {
        Self {
            engine,
            reports,
            running: Arc::default(),
            places: Arc::new(Semaphore::new(AT_A_TIME)),
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashSet<VersionKey>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins, unless it has begun.
    pub(super) fn begin(&self, wish: pb::Prepare) {
        let key = match version_key(
            &wish.account,
            &wish.function,
            &wish.version,
            wish.generation,
        ) {
            Ok(key) => key,
            Err(error) => return warn!(%error, "preparation skipped"),
        };
        {
            let mut running = self.running();
            if running.len() >= WAITING_MAX || !running.insert(key.clone()) {
                return;
            }
        }
        let this = self.clone();
        self.engine.tasks.spawn(async move {
            let prepared = this.prepare(&key).await;
            this.running().remove(&key);
            if let Some(outcome) = prepared {
                this.answer(wish, outcome).await;
            }
        });
    }

    async fn answer(&self, wish: pb::Prepare, outcome: Result<(), (String, String)>) {
        let (reason_code, reason) = outcome.clone().err().unwrap_or_default();
        let prepared = pb::Prepared {
            account: wish.account,
            function: wish.function,
            version: wish.version,
            generation: wish.generation,
            ok: outcome.is_ok(),
            reason_code,
            reason,
        };
        if self
            .reports
            .send(report(Report::Prepared(prepared)))
            .await
            .is_err()
        {
            debug!("the session of a preparation is over");
        }
    }

    /// `None` when nothing can be said of it: no controller tells of it.
    async fn prepare(&self, key: &VersionKey) -> Option<Result<(), (String, String)>> {
        let _place = self.places.acquire().await.ok()?;
        let catalog = &self.engine.catalog;
        let runnable = catalog.wait_for(key, DOCUMENT_LIMIT).await?;
        let config = &runnable.version.config;
        if let Err(error) = package::check_runtime(&self.engine.runtimes, config) {
            return Some(Err(("InvalidRuntime".into(), error.to_string())));
        }
        let ensured = Package::ensure(&self.engine.code, &runnable.version).await;
        if let Ok(package) = &ensured {
            self.engine.compiling.want(config, package);
            self.engine.stock.wake();
        }
        Some(ensured.map(drop).map_err(|error| {
            let (code, for_good) = error.reason_code();
            let chain: Vec<String> = causes(&*error).map(ToString::to_string).collect();
            warn!(version = %key, for_good, reason = chain.join(": "), "code could not be prepared");
            (code.to_owned(), error.told())
        }))
    }
}

#[cfg(test)]
mod tests {
    use crate::code::CodeError;

    #[test]
    fn a_full_disk_is_told_by_its_cause_and_not_by_its_path() {
        let source = std::io::Error::from_raw_os_error(libc::ENOSPC);
        let path = "/var/lib/hearth/code".into();
        let error = CodeError::Disk { path, source };
        assert!(error.to_string().contains("/var/lib"));
        assert_eq!(error.told(), "No space left on device (os error 28)");
    }
}
