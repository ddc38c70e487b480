//! Takes due events from the log and has them run, as many at a time as there is room for.

use std::sync::Arc;
use std::time::Duration;

use hearth_core::error::ErrorCode;
use hearth_core::events::Settlement;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::LEASE;
use super::attempt::attempt;
use super::log::Leased;
use super::settle::{self, Running};
use crate::app::App;

/// Events taken at a time.
const BATCH: usize = 32;
/// How long the log waits for one that is due.
const WAIT: Duration = Duration::from_secs(10);
/// Pause after the log could not be asked, and while this gateway drains.
const PAUSE: Duration = Duration::from_millis(500);
/// Pause where there is no event log.
const LONG_PAUSE: Duration = Duration::from_secs(30);
/// Memory of one event until its size is known, KiB.
const LARGEST_KIB: u32 = 1_024;
/// Memory of all events that run, KiB.
const MEMORY_KIB: usize = 256 * 1_024;
/// Settlements that wait to be sent.
const SETTLEMENTS: usize = 1_024;
/// What attempts that run get when the gateway ends. Others take up later what is not settled by then.
const LAST: Duration = Duration::from_secs(4);

/// Room for attempts.
#[derive(Debug)]
struct Room {
    slots: Arc<Semaphore>,
    memory: Arc<Semaphore>,
}

/// Room of one attempt.
#[derive(Debug)]
struct Place {
    _slot: OwnedSemaphorePermit,
    memory: OwnedSemaphorePermit,
}

impl Place {
    /// Gives back what the event does not take.
    fn shrink_to(&mut self, bytes: usize) {
        let needed = bytes.div_ceil(1_024).max(1);
        drop(
            self.memory
                .split(self.memory.num_permits().saturating_sub(needed)),
        );
    }
}

impl Room {
    fn new(slots: u32) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots as usize)),
            memory: Arc::new(Semaphore::new(MEMORY_KIB)),
        }
    }

    /// Places for a batch: waits for one, and takes more as far as there are.
    async fn places(&self) -> Vec<Place> {
        let slots = Arc::clone(&self.slots).acquire_owned().await;
        let memory = Arc::clone(&self.memory)
            .acquire_many_owned(LARGEST_KIB)
            .await;
        let mut places = Vec::with_capacity(BATCH);
        let (mut slot, mut memory) = (slots.ok(), memory.ok());
        while let (Some(_slot), Some(kib)) = (slot, memory) {
            places.push(Place { _slot, memory: kib });
            if places.len() == BATCH {
                break;
            }
            slot = Arc::clone(&self.slots).try_acquire_owned().ok();
            memory = Arc::clone(&self.memory)
                .try_acquire_many_owned(LARGEST_KIB)
                .ok();
        }
        places
    }
}

/// Dispatches until `stop`.
pub(crate) async fn run(app: Arc<App>, stop: CancellationToken) {
    let log = Arc::clone(&app.events.log);
    let running = Arc::new(Running::default());
    let (settlements, queue) = mpsc::channel(SETTLEMENTS);
    let settling = settle::run(Arc::clone(&log), Arc::clone(&running), queue);
    // Attempts that go on for a moment after `stop` need no longer leases.
    let renewing = settle::renew(log, Arc::clone(&running), stop.clone());
    let polling = poll(app, running, settlements, stop);
    tokio::join!(settling, renewing, polling);
}

async fn poll(
    app: Arc<App>,
    running: Arc<Running>,
    settlements: mpsc::Sender<Settlement>,
    stop: CancellationToken,
) {
    let room = Room::new(app.options.events.max_in_flight);
    let mut attempts = JoinSet::new();
    loop {
        // Those that ended.
        while attempts.try_join_next().is_some() {}
        let taken = tokio::select! {
            () = stop.cancelled() => break,
            taken = take(&app, &room) => taken,
        };
        for (event, place) in taken {
            let attempting = running.begin(event.id());
            let (app, settlements) = (Arc::clone(&app), settlements.clone());
            attempts.spawn(async move {
                let _place = place;
                let settlement = attempt(&app, event).await;
                // The receiver goes after the last sender.
                let _ = settlements.send(settlement).await;
                attempting.decided();
            });
        }
    }
    let last = async { while attempts.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST, last).await.is_err() {
        debug!(
            left = attempts.len(),
            "attempts of events end with the gateway"
        );
    }
    attempts.shutdown().await;
}

/// Due events with a place for each.
async fn take(app: &App, room: &Room) -> Vec<(Leased, Place)> {
    if app.drain.is_on() {
        tokio::time::sleep(PAUSE).await;
        return Vec::new();
    }
    let mut places = room.places().await;
    let count = u32::try_from(places.len()).unwrap_or(u32::MAX);
    match app.events.log.lease(count, LEASE, WAIT).await {
        Ok(leased) => {
            for (event, place) in leased.iter().zip(&mut places) {
                place.shrink_to(event.payload.len());
            }
            leased.into_iter().zip(places).collect()
        }
        Err(error) => {
            debug!(%error, "no events could be leased");
            let is_off = error.code == ErrorCode::NotImplemented;
            tokio::time::sleep(if is_off { LONG_PAUSE } else { PAUSE }).await;
            Vec::new()
        }
    }
}
