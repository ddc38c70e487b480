//! The one that writes. It takes what has queued up, writes each group's part with one call, tells the index and then those who
//! listen, and tends what is on disk: makes it durable, closes segments, deletes what is too old or too much. Nobody waits for
//! it. What it cannot write is counted as dropped and said in the node's own log.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hearth_core::ids::UnixMs;
use hearth_node::blocking;
use tokio::sync::broadcast;
use tracing::{debug, error, warn};

use crate::active::{Active, Numbered};
use crate::event::{GroupKey, lost_line, next_number};
use crate::files;
use crate::index::Segment;
use crate::path;
use crate::plan::{self, Excess, Place};
use crate::queue::Taken;
use crate::record::{HEADER_BYTES, Header};
use crate::room;
use crate::store::Shared;
use crate::table::Table;
use crate::tail::{Chunk, chunks};

/// Bytes of records that are put together before they are written.
const FLUSH_BYTES: u64 = 1 << 20;
/// Between two looks at what has expired. Days are what retention is counted in.
const SWEEP_MS: u64 = 60_000;
/// Between two words in the node's own log about what cannot be written.
const SAY_MS: u64 = 60_000;

/// Writes what is appended to a [`LogStore`](crate::LogStore). If it is dropped, the store drops what is appended further.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    tail: broadcast::Sender<Chunk>,
    active: BTreeMap<GroupKey, Active>,
    /// Those of them with an open file, by their last use.
    open: BTreeMap<u64, GroupKey>,
    uses: u64,
    last_seq: u64,
    last_ingested: u64,
    synced_ms: u64,
    swept_ms: u64,
    /// When it was said last that something cannot be written.
    said_ms: Option<u64>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, tail: broadcast::Sender<Chunk>, last_seq: u64) -> Self {
        let now_ms = shared.clock.monotonic_ms();
        let last_ingested = shared.index().last_ingested();
        Self {
            shared,
            tail,
            active: BTreeMap::new(),
            open: BTreeMap::new(),
            uses: 0,
            last_seq,
            last_ingested,
            synced_ms: now_ms,
            swept_ms: now_ms,
            said_ms: None,
        }
    }

    /// Writes until the store is closed; what was appended before is on disk when this returns.
    pub async fn run(self) {
        let mut writer = self;
        let period = Duration::from_millis(writer.shared.options.sync_interval_ms.max(1));
        loop {
            writer.shared.queue.wait(period).await;
            let stepped = blocking::run(move || {
                let is_closed = writer.step();
                (writer, is_closed)
            });
            match stepped.await {
                Ok((_, true)) => return,
                Ok((next, false)) => writer = next,
                Err(error) => {
                    error!(%error, "log store has ended: what functions print is no longer kept");
                    return;
                }
            }
        }
    }

    /// Writes what has queued up and tends what is on disk. Blocks. True if the store was closed: everything is written, and
    /// nothing comes any more.
    pub fn step(&mut self) -> bool {
        let taken = self.shared.queue.take();
        let is_closed = taken.is_closed;
        let mut groups = self.number(taken);
        self.make_room(&groups);
        for (key, events) in &mut groups {
            if let Err((written, error)) = self.write(key, events) {
                let lost = events.len() - written;
                self.shared.queue.count_dropped(lost as u64);
                events.truncate(written);
                self.say_failed("write", &error);
            }
        }
        if self.tail.receiver_count() > 0 {
            for chunk in chunks(groups, self.shared.options.source) {
                // Whoever listened may just have gone.
                let _ = self.tail.send(chunk);
            }
        }
        if is_closed {
            self.close_where(|_| true);
        } else {
            self.tend();
        }
        is_closed
    }

    /// Events of each group in the order they came, with numbers; after those of a stream the line that says what it has lost.
    fn number(&mut self, taken: Taken) -> BTreeMap<GroupKey, Vec<Numbered>> {
        let now_ms = self.shared.clock.unix_ms();
        let mut groups: BTreeMap<GroupKey, Vec<Numbered>> = BTreeMap::new();
        let mut add = |key, stream, timestamp_ms, message| {
            self.last_ingested = next_number(self.last_ingested, now_ms);
            let event = Numbered {
                timestamp_ms,
                ingested: self.last_ingested,
                stream,
                message,
            };
            groups.entry(key).or_default().push(event);
        };
        for batch in taken.batches {
            for (timestamp_ms, message) in batch.events {
                add(
                    batch.group.clone(),
                    batch.stream.clone(),
                    timestamp_ms,
                    message,
                );
            }
        }
        for ((key, stream), events) in taken.lost {
            add(key, stream, now_ms, Bytes::from(lost_line(events)));
        }
        groups
    }

    /// Writes events of a group. On an error: so many of them were written.
    fn write(&mut self, key: &GroupKey, events: &[Numbered]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        for (n, event) in events.iter().enumerate() {
            if self.is_full_for(key, event) {
                self.flush(key).map_err(|error| (written, error))?;
                written = n;
                self.close(key);
            }
            let active = self.active_of(key).map_err(|error| (written, error))?;
            active.put(event);
            if active.pending_bytes() >= FLUSH_BYTES {
                self.flush(key).map_err(|error| (written, error))?;
                written = n + 1;
            }
        }
        self.flush(key).map_err(|error| (written, error))?;
        self.touch(key);
        Ok(())
    }

    fn is_full_for(&self, key: &GroupKey, event: &Numbered) -> bool {
        self.active.get(key).is_some_and(|active| {
            let table = active.table();
            let fill = plan::Fill {
                bytes: active.put_end() + table.footer_bytes(),
                table_bytes: table.bytes(),
                is_empty: table.total().events == 0,
            };
            plan::is_full(fill, active.bytes_of(event), &self.shared.options)
        })
    }

    /// The group's segment; a new one if there is none.
    fn active_of(&mut self, key: &GroupKey) -> io::Result<&mut Active> {
        if !self.active.contains_key(key) {
            let seq = self.last_seq + 1;
            let opened_ms = self.shared.clock.unix_ms();
            let header = Header {
                opened_ms,
                salt: self.shared.random.u64(),
            };
            let path = path::segment(&self.shared.dir, key, seq);
            // A number is used once, also if this fails.
            self.last_seq = seq;
            let active = Active::create(path, seq, header)?;
            let segment = Segment {
                end: HEADER_BYTES,
                opened_ms,
                is_active: true,
                table: Table::default(),
            };
            self.shared.index().insert(key, seq, segment);
            self.active.insert(key.clone(), active);
            self.touch(key);
        }
        Ok(self
            .active
            .get_mut(key)
            .expect("it is there or was inserted"))
    }

    /// Notes that a group's file was used, and closes that which was not for the longest time if they are too many.
    fn touch(&mut self, key: &GroupKey) {
        let Some(active) = self.active.get_mut(key) else {
            return;
        };
        self.open.remove(&active.used);
        self.uses += 1;
        active.used = self.uses;
        self.open.insert(self.uses, key.clone());
        if self.open.len() > self.shared.options.open_files
            && let Some((_, oldest)) = self.open.pop_first()
            && let Some(active) = self.active.get_mut(&oldest)
        {
            active.drop_file();
        }
    }

    /// Writes what was put to a group's segment, and tells the index.
    fn flush(&mut self, key: &GroupKey) -> io::Result<()> {
        let Some(active) = self.active.get_mut(key) else {
            return Ok(());
        };
        match active.flush() {
            Ok((end, rows)) => {
                self.shared.index().grow(key, active.seq, end, &rows);
                Ok(())
            }
            Err(error) => {
                let index = self.shared.index();
                let known = index.segment(key, active.seq);
                active.roll_back(known.map(|known| known.table.clone()).unwrap_or_default());
                Err(error)
            }
        }
    }

    /// Closes a group's segment; the next event begins another.
    fn close(&mut self, key: &GroupKey) {
        let Some(active) = self.active.remove(key) else {
            return;
        };
        self.open.remove(&active.used);
        if active.table().total().events == 0 {
            self.delete(key, active.seq);
            return;
        }
        self.shared.index().close(key, active.seq);
        if let Err(error) = active.seal() {
            // It is read as it is; the next start closes it.
            self.say_failed("close", &error);
        }
    }

    fn close_where(&mut self, is_meant: impl Fn(&Active) -> bool) {
        let meant = self.active.iter().filter(|(_, active)| is_meant(active));
        let keys: Vec<GroupKey> = meant.map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.close(key));
    }

    /// What is to be done from time to time.
    fn tend(&mut self) {
        let shared = Arc::clone(&self.shared);
        let (now, options) = (UnixMs(shared.clock.unix_ms()), &shared.options);
        let monotonic_ms = shared.clock.monotonic_ms();
        if monotonic_ms.saturating_sub(self.synced_ms) >= options.sync_interval_ms {
            self.synced_ms = monotonic_ms;
            self.close_where(|active| plan::is_aged(active.header.opened_ms, now, options));
            self.sync();
        }
        if monotonic_ms.saturating_sub(self.swept_ms) >= SWEEP_MS {
            self.swept_ms = monotonic_ms;
            let (keys, facts) = shared.index().facts();
            for (group, segment) in plan::expired(&facts, now) {
                self.delete(&keys[group], facts[group].segments[segment].seq);
            }
        }
    }

    fn sync(&mut self) {
        let mut failure = None;
        for active in self.active.values_mut().filter(|active| active.is_dirty) {
            let is_counted = active.has_file();
            if let Err(error) = active.sync() {
                failure = Some(error);
            }
            if !is_counted {
                active.drop_file();
            }
        }
        if let Some(error) = failure {
            self.say_failed("sync", &error);
        }
    }

    /// Deletes what is too much once these events are written.
    fn make_room(&mut self, groups: &BTreeMap<GroupKey, Vec<Numbered>>) {
        let options = &self.shared.options;
        let more = room::of_groups(groups, options);
        let limits = Excess {
            bytes: options.max_bytes,
            index_bytes: options.index_bytes,
        };
        let (keys, facts, places): (_, _, Vec<Place>) = {
            let index = self.shared.index();
            let excess = index.excess(more, limits);
            if excess == Excess::default() {
                return;
            }
            let (keys, facts) = index.facts();
            let places = plan::surplus(&facts, excess).into_iter().collect();
            (keys, facts, places)
        };
        debug!(
            segments = places.len(),
            "oldest segments of logs are deleted for new ones"
        );
        for (group, segment) in places {
            self.delete(&keys[group], facts[group].segments[segment].seq);
        }
    }

    /// Deletes a segment: nobody finds it any more, then its file goes.
    fn delete(&mut self, key: &GroupKey, seq: u64) {
        if self.active.get(key).is_some_and(|active| active.seq == seq)
            && let Some(active) = self.active.remove(key)
        {
            self.open.remove(&active.used);
        }
        self.shared.index().remove(key, seq);
        let path = path::segment(&self.shared.dir, key, seq);
        if let Err(error) = files::delete(&self.shared.dir, &path) {
            warn!(path = %path.display(), %error, "segment of logs cannot be deleted");
        }
    }

    /// Once in a while: a full disk fails many times a second.
    fn say_failed(&mut self, operation: &'static str, error: &io::Error) {
        let now_ms = self.shared.clock.monotonic_ms();
        let is_due = |said_ms: u64| now_ms.saturating_sub(said_ms) >= SAY_MS;
        if self.said_ms.is_none_or(is_due) {
            self.said_ms = Some(now_ms);
            error!(operation, %error, "logs cannot be written: what functions print is lost");
        }
    }
}
