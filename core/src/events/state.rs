//! The replicated state of one group of the event log: `apply` is synchronous, total and deterministic. Each command is
//! judged by the time that it brings; a proposer whose clock is wrong spoils its own commands and no later ones.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::command::{EventCommand, EventRefusal, EventReply, LeaseId, LeaseOutcome, Settlement};
use super::entry::{EventEntry, FunctionKey, PayloadRef, Phase};
use super::index::{ByTime, Index};
use super::retry::Progress;
use super::turn::Turn;
use crate::ids::{NodeId, UnixMs};
use crate::limits::{
    EVENT_BYTES_PER_GROUP_DEFAULT, EVENT_REQUEST_ID_MAX_BYTES, EVENTS_PER_FUNCTION_DEFAULT,
};
use crate::name::Qualifier;

/// How much a group takes. In the state rather than in the program, so that controllers of two versions agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLimits {
    /// Events of one function that may wait or be under way.
    pub events_per_function: u32,
    /// Payloads that may still be needed, and all entries, bytes.
    pub bytes: u64,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self {
            events_per_function: EVENTS_PER_FUNCTION_DEFAULT,
            bytes: EVENT_BYTES_PER_GROUP_DEFAULT,
        }
    }
}

/// See the module's text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct EventGroup {
    pub(super) limits: EventLimits,
    /// Number of the newest entry.
    newest: u64,
    /// Of the newest lease; never used again, not even for an event that comes again after it was forgotten.
    epoch: u64,
    turn: Turn,
    /// By number.
    pub(super) entries: BTreeMap<u64, EventEntry>,
    /// Follows from `entries`.
    pub(super) index: Index,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    limits: EventLimits,
    newest: u64,
    epoch: u64,
    turn: Turn,
    entries: Vec<EventEntry>,
}

impl From<EventGroup> for Stored {
    fn from(group: EventGroup) -> Self {
        Self {
            limits: group.limits,
            newest: group.newest,
            epoch: group.epoch,
            turn: group.turn,
            entries: group.entries.into_values().collect(),
        }
    }
}

impl From<Stored> for EventGroup {
    fn from(stored: Stored) -> Self {
        Self {
            limits: stored.limits,
            newest: stored.newest,
            epoch: stored.epoch,
            turn: stored.turn,
            index: Index::of(stored.entries.iter()),
            entries: stored.entries.into_iter().map(|e| (e.number, e)).collect(),
        }
    }
}

impl EventGroup {
    /// Applies a command. Total: one that cannot be carried out is answered.
    pub fn apply(&mut self, command: &EventCommand) -> EventReply {
        match command {
            EventCommand::Configure { limits } => {
                self.limits = *limits;
                EventReply::Configured
            }
            EventCommand::Append {
                request_id,
                function,
                qualifier,
                payload,
                now,
            } => self
                .append(request_id, function, qualifier.as_ref(), *payload, *now)
                .unwrap_or_else(EventReply::Refused),
            EventCommand::Lease {
                holder,
                count,
                until,
                skip,
                now,
            } => self.lease(*holder, *count, *until, skip, *now),
            EventCommand::Settle { settlements, now } => {
                let outcomes = settlements.iter().map(|one| self.settle(one, *now));
                EventReply::Outcomes(outcomes.collect())
            }
            EventCommand::Renew { leases, until } => {
                let outcomes = leases.iter().map(|lease| self.renew(lease, *until));
                EventReply::Outcomes(outcomes.collect())
            }
            EventCommand::Redrive { request_ids, now } => self.redrive(request_ids, *now),
            EventCommand::Sweep {
                keep_done_ms,
                keep_failed_ms,
                most,
                now,
            } => self.sweep(*keep_done_ms, *keep_failed_ms, *most, *now),
        }
    }

    fn append(
        &mut self,
        request_id: &str,
        function: &FunctionKey,
        qualifier: Option<&Qualifier>,
        payload: PayloadRef,
        now: UnixMs,
    ) -> Result<EventReply, EventRefusal> {
        check_request_id(request_id)?;
        if let Some(known) = self.entry(request_id) {
            // A payload that was sent again is another record of the log, and as long.
            let is_same = known.function == *function
                && known.qualifier.as_ref() == qualifier
                && known.payload.bytes == payload.bytes;
            return if is_same {
                Ok(EventReply::AlreadyAppended)
            } else {
                let request_id = request_id.to_owned();
                Err(EventRefusal::RequestIdTaken { request_id })
            };
        }
        let entry = EventEntry {
            number: self.newest.saturating_add(1),
            request_id: request_id.to_owned(),
            function: function.clone(),
            qualifier: qualifier.cloned(),
            payload,
            accepted: now,
            progress: Progress {
                counted_from: now,
                attempts: 0,
                setbacks: 0,
            },
            epoch: 0,
            phase: Phase::Queued { due: now },
        };
        self.check_line(function)?;
        let limit = self.limits.bytes;
        if self.index.bytes.saturating_add(entry.bytes()) > limit {
            return Err(EventRefusal::GroupFull { limit });
        }
        self.newest = entry.number;
        self.index.place(&entry);
        self.index
            .numbers
            .insert(entry.request_id.clone(), entry.number);
        self.entries.insert(entry.number, entry);
        Ok(EventReply::Appended)
    }

    fn check_line(&self, function: &FunctionKey) -> Result<(), EventRefusal> {
        let limit = self.limits.events_per_function;
        let open = self.index.line(function).map_or(0, |line| line.open.len());
        if u32::try_from(open).is_ok_and(|open| open < limit) {
            Ok(())
        } else {
            Err(EventRefusal::FunctionFull { limit })
        }
    }

    /// The index follows every change of an entry.
    fn change(&mut self, number: u64, change: impl FnOnce(&mut EventEntry)) {
        if let Some(entry) = self.entries.get_mut(&number) {
            self.index.displace(entry);
            change(entry);
            self.index.place(entry);
            self.turn
                .forget_without_line(&entry.function.account, &self.index);
        }
    }

    fn lease(
        &mut self,
        holder: NodeId,
        count: u32,
        until: UnixMs,
        skip: &BTreeSet<FunctionKey>,
        now: UnixMs,
    ) -> EventReply {
        if until <= now {
            return EventReply::Refused(EventRefusal::LeaseOver);
        }
        self.lapse(now);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let mut round = self.turn.round(&self.index, skip, count, now);
        let epoch = self.epoch.saturating_add(1);
        let mut leased = Vec::new();
        while leased.len() < count
            && let Some(key) = round.next()
        {
            let first_due = |index: &Index| index.line(&key).and_then(|line| line.first_due(now));
            if let Some(number) = first_due(&self.index) {
                self.change(number, |entry| entry.lease(holder, until, epoch));
                self.turn.served(&key);
                leased.extend(self.entries.get(&number).cloned());
            }
            let again = first_due(&self.index).map(|_| key.function);
            round.end_turn(again);
        }
        if !leased.is_empty() {
            self.epoch = epoch;
        }
        EventReply::Leased(leased)
    }

    /// The entry's number, if this is its newest lease and nothing has ended it. A lease that is over and was not given to
    /// anybody else counts still: the attempt was made, and nobody makes another one.
    fn held(&self, lease: &LeaseId) -> Option<u64> {
        let entry = self.entry(&lease.request_id)?;
        entry.is_leased_under(lease.epoch).then_some(entry.number)
    }

    fn settle(&mut self, settlement: &Settlement, now: UnixMs) -> LeaseOutcome {
        let Some(number) = self.held(&settlement.lease) else {
            return LeaseOutcome::Stale;
        };
        self.change(number, |entry| entry.settle(settlement.decision, now));
        LeaseOutcome::Done
    }

    fn renew(&mut self, lease: &LeaseId, longer: UnixMs) -> LeaseOutcome {
        let Some(number) = self.held(lease) else {
            return LeaseOutcome::Stale;
        };
        self.change(number, |entry| {
            if let Phase::Leased { until, .. } = &mut entry.phase {
                *until = (*until).max(longer);
            }
        });
        LeaseOutcome::Done
    }

    fn redrive(&mut self, request_ids: &[String], now: UnixMs) -> EventReply {
        let mut redriven = Vec::new();
        for request_id in request_ids {
            if self.redrive_one(request_id, now) {
                redriven.push(request_id.clone());
            }
        }
        EventReply::Redriven(redriven)
    }

    /// Whether it waits again.
    fn redrive_one(&mut self, request_id: &str, now: UnixMs) -> bool {
        let failed = self.entry(request_id).filter(|entry| entry.has_failed());
        let Some(entry) = failed else { return false };
        if self.check_line(&entry.function).is_err() {
            return false;
        }
        self.change(entry.number, |entry| entry.redrive(now));
        true
    }

    /// Makes due what has a lease that is over; how many.
    fn lapse(&mut self, now: UnixMs) -> u32 {
        let lapsed = over(&self.index.leases, 0, u32::MAX, now);
        let mut count = 0;
        for number in lapsed {
            self.change(number, EventEntry::lapse);
            count += 1;
        }
        count
    }

    fn sweep(&mut self, done_ms: u64, failed_ms: u64, most: u32, now: UnixMs) -> EventReply {
        let lapsed = self.lapse(now);
        let mut forgotten = 0;
        let over = [
            over(&self.index.done, done_ms, most, now),
            over(&self.index.failed, failed_ms, most, now),
        ];
        for number in over.into_iter().flatten() {
            self.forget(number);
            forgotten += 1;
        }
        EventReply::Swept { lapsed, forgotten }
    }

    fn forget(&mut self, number: u64) {
        if let Some(entry) = self.entries.remove(&number) {
            self.index.displace(&entry);
            self.index.numbers.remove(&entry.request_id);
            self.turn
                .forget_without_line(&entry.function.account, &self.index);
        }
    }
}

fn check_request_id(request_id: &str) -> Result<(), EventRefusal> {
    if (1..=EVENT_REQUEST_ID_MAX_BYTES).contains(&request_id.len()) {
        return Ok(());
    }
    let limit = u32::try_from(EVENT_REQUEST_ID_MAX_BYTES).unwrap_or(u32::MAX);
    Err(EventRefusal::RequestIdInvalid { limit })
}

/// Those whose time was so long ago, the oldest first.
pub(super) fn over(by_time: &ByTime, keep_ms: u64, most: u32, now: UnixMs) -> Vec<u64> {
    by_time
        .iter()
        .take(usize::try_from(most).unwrap_or(usize::MAX))
        .take_while(|(at, _)| at.0.saturating_add(keep_ms) <= now.0)
        .map(|(_, number)| *number)
        .collect()
}
