//! What a line knows of one worker: sandboxes as reported, and what is on its way there.

use std::sync::Arc;

use hearth_core::ids::MonotonicMs;
use hearth_core::placement::Room;
use hearth_core::rate::Others;
use hearth_core::routing::Candidate;
use hearth_core::versions::Pools;

use super::super::worker::Worker;
use super::StartRefusal;

/// Free sandboxes of the version on a worker.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Free {
    pub(crate) idle: u32,
    /// Invokes of the version that had come on the stream when they were counted.
    pub(crate) received: u64,
}

/// What is known of this version on one worker.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) worker: Arc<Worker>,
    /// Tells this row from one of an earlier stream to the worker.
    pub(super) stream: u64,
    /// Free sandboxes as last reported.
    pub(super) reported: u32,
    /// Invokes that the report had seen, of all on this stream; `None` before the first report.
    pub(super) received: Option<u64>,
    /// Invokes promised or sent on this stream: those beyond `received` will take from `reported`.
    pub(super) sent: u64,
    pub(super) starting: u32,
    pub(super) busy: u32,
    /// Starts asked for that no report shows yet.
    pub(super) asked: u32,
    pub(super) asked_at: MonotonicMs,
    /// Starts of this gateway that the worker began or may have begun.
    pub(super) own_begun: u64,
    pub(super) others_begun: Others,
    pub(super) refused: Option<(StartRefusal, MonotonicMs)>,
}

impl Row {
    pub(super) fn new(worker: Arc<Worker>, stream: u64) -> Self {
        Self {
            worker,
            stream,
            reported: 0,
            received: None,
            sent: 0,
            starting: 0,
            busy: 0,
            asked: 0,
            asked_at: MonotonicMs(0),
            own_begun: 0,
            others_begun: Others::default(),
            refused: None,
        }
    }

    /// Whether nothing is lost with it: no sandbox, nothing on the way there, nothing refused lately.
    pub(super) fn is_blank(&self, now: MonotonicMs) -> bool {
        let sandboxes = self.reported + self.starting + self.busy + self.asked;
        sandboxes == 0 && self.sent <= self.received.unwrap_or(0) && self.may_start(now)
    }

    /// Free sandboxes that no invocation of this gateway is on its way to.
    pub(super) fn idle(&self) -> u32 {
        let on_the_way = self.sent.saturating_sub(self.received.unwrap_or(0));
        self.reported
            .saturating_sub(u32::try_from(on_the_way).unwrap_or(u32::MAX))
    }

    /// Takes a count over, unless a newer one came before it.
    pub(super) fn on_free(&mut self, free: Free) {
        match self.received {
            // What this line counts begins with the first report of its row.
            None => self.sent = self.sent.saturating_add(free.received),
            Some(received) if free.received < received => return,
            // The worker counts anew, from where it was at most: all of what it names came from here.
            Some(_) => self.sent = self.sent.max(free.received),
        }
        self.received = Some(free.received);
        self.reported = free.idle;
    }

    pub(super) fn candidate(&self, pools: &Pools, now: MonotonicMs) -> Candidate {
        let tables = &self.worker.tables;
        Candidate {
            worker: self.worker.id,
            idle: self.idle(),
            in_flight_own: tables.own_in_flight(),
            reported_load: tables.load(),
            permits_free: tables.permits_free(pools),
            draining: tables.is_draining(),
            standing: tables.standing(),
            // Reports come when something changes; that the worker lives is the stream's keep-alive to tell.
            last_heard: now,
        }
    }

    /// What was asked for and shows in no report will not come.
    pub(super) fn forget_asked(&mut self) {
        self.own_begun = self.own_begun.saturating_sub(u64::from(self.asked));
        self.asked = 0;
    }

    /// Room for one more sandbox: idle ones of this version do not give way to others of it.
    pub(super) fn room(&self, memory_mib: u32) -> Room {
        let has_code = self.idle() + self.busy + self.starting > 0;
        let room = self.worker.tables.room(self.worker.id, has_code);
        let own_idle = u64::from(self.reported) * u64::from(memory_mib);
        Room {
            idle_memory_mib: room.idle_memory_mib.saturating_sub(own_idle),
            ..room
        }
    }

    pub(super) fn may_start(&self, now: MonotonicMs) -> bool {
        self.refused.as_ref().is_none_or(|(_, until)| now >= *until)
    }
}
