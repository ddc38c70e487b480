//! What the worker has to say on one gateway's stream, in a fair order: a response of megabytes travels in chunks
//! between the small ones. What is said is decided elsewhere.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::task::AtomicWaker;
use hearth_core::ids::VersionKey;
use hearth_core::limits::FRAME_BYTES;
use hearth_core::pool::PoolCounts;
use hearth_proto::internal::v1 as pb;
use pb::worker_frame::Frame;
use tokio::sync::Notify;
use tonic::Status;

use super::parts::Window;
use super::told::Told;
pub(crate) use super::told::{Free, Received};

/// Frames that may wait for the network before no more is read from the gateway. Ours: some milliseconds of work.
const FRAMES_MAX: usize = 4_096;

/// Response bytes that may wait for the network before no more is read from the gateway. Ours: a gateway that does not
/// read holds no more than this of a worker's memory, besides what is running.
const BYTES_MAX: usize = 128 << 20;

/// How an invocation ended.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// `Unhandled`, or empty.
    pub(crate) function_error: &'static str,
    /// The response or the error document.
    pub(crate) payload: Bytes,
    /// When asked for.
    pub(crate) log_tail: Bytes,
    /// What the invocation costs.
    pub(crate) billed_ms: u32,
    /// What was free when it ended.
    pub(crate) free: Free,
}

/// Versions whose invokes are counted on one stream before those the worker has no more are dropped.
const COUNTED_MAX: usize = 4_096;

/// The queue and its reader's alarm.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    reader: AtomicWaker,
    room: Notify,
    received: Mutex<Counted>,
    /// The gateway may have missed what an answer told.
    is_in_doubt: AtomicBool,
}

/// Invokes that came, by version.
#[derive(Debug, Default)]
struct Counted {
    by_version: HashMap<VersionKey, Received>,
    /// No count that was dropped is above this. New ones begin here, as what a gateway is told never goes back.
    floor: u64,
}

impl Counted {
    fn of(&mut self, key: &VersionKey) -> Received {
        if let Some(received) = self.by_version.get(key) {
            return received.clone();
        }
        let received = Received::new(self.floor);
        self.by_version.insert(key.clone(), received.clone());
        received
    }

    fn retain(&mut self, is_known: impl Fn(&VersionKey) -> bool) {
        let floor = &mut self.floor;
        self.by_version.retain(|key, received| {
            let is_kept = is_known(key);
            if !is_kept {
                *floor = received.count().max(*floor);
            }
            is_kept
        });
    }
}

#[derive(Debug, Default)]
struct State {
    small: VecDeque<pb::WorkerFrame>,
    /// Responses larger than a frame, the first frame of each (when not sent yet) and the rest.
    big: VecDeque<(u64, Option<pb::WorkerFrame>, Bytes)>,
    bytes: usize,
    /// Invocations whose answer is still wanted.
    wanted: HashSet<u64>,
    /// Of those whose answer is wanted in parts.
    windows: HashMap<u64, Arc<Window>>,
    /// Whose turn it is, so that neither queue starves the other.
    big_next: bool,
    closed: bool,
}

/// An answer that is wanted no more.
struct Unwanted {
    /// Parts of it were sent.
    is_streamed: bool,
}

impl State {
    /// `None` if it was not wanted.
    fn unwant(&mut self, id: u64) -> Option<Unwanted> {
        let window = self.windows.remove(&id);
        let is_streamed = window.is_some_and(|window| window.close());
        self.wanted.remove(&id).then_some(Unwanted { is_streamed })
    }

    fn is_full(&self) -> bool {
        self.small.len() >= FRAMES_MAX || self.bytes >= BYTES_MAX
    }

    fn pop(&mut self) -> Option<pb::WorkerFrame> {
        let take_big = !self.big.is_empty() && (self.big_next || self.small.is_empty());
        self.big_next = !take_big;
        if !take_big {
            return self.small.pop_front().inspect(|f| {
                self.bytes = self.bytes.saturating_sub(payload_len(f));
            });
        }
        let (id, head, mut rest) = self.big.pop_front()?;
        if let Some(head) = head {
            self.bytes = self.bytes.saturating_sub(payload_len(&head));
            self.big.push_back((id, None, rest));
            return Some(head);
        }
        let payload = rest.split_to(rest.len().min(FRAME_BYTES));
        self.bytes = self.bytes.saturating_sub(payload.len());
        let last = rest.is_empty();
        if !last {
            self.big.push_back((id, None, rest));
        }
        Some(frame(Frame::Chunk(pb::Chunk { id, payload, last })))
    }
}

fn payload_len(frame: &pb::WorkerFrame) -> usize {
    match &frame.frame {
        Some(Frame::Response(response)) => response.payload.len(),
        Some(Frame::Part(part)) => part.payload.len(),
        _ => 0,
    }
}

fn frame(frame: Frame) -> pb::WorkerFrame {
    pb::WorkerFrame { frame: Some(frame) }
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An invocation was accepted for reading: its answer is wanted. False if the id is in use.
    pub(crate) fn expect(&self, id: u64) -> bool {
        self.state().wanted.insert(id)
    }

    /// The answer is wanted in parts, of which so many bytes may be under way.
    pub(crate) fn open_window(&self, id: u64, bytes: u32) -> Arc<Window> {
        let window = Window::new(bytes);
        let mut state = self.state();
        if state.wanted.contains(&id) {
            state.windows.insert(id, Arc::clone(&window));
        } else {
            window.close();
        }
        window
    }

    /// More of an answer in parts may be sent.
    pub(crate) fn credit(&self, id: u64, bytes: u32) {
        if let Some(window) = self.state().windows.get(&id) {
            window.add(bytes);
        }
    }

    /// Sends a part of an answer, if it is still wanted.
    pub(super) fn part(&self, id: u64, payload: Bytes, content_type: &str) {
        let mut state = self.state();
        if state.closed || !state.wanted.contains(&id) {
            return;
        }
        state.bytes += payload.len();
        let part = pb::Part {
            id,
            payload,
            content_type: content_type.to_owned(),
        };
        state.small.push_back(frame(Frame::Part(part)));
        drop(state);
        self.reader.wake();
    }

    /// The caller is gone. Returns whether the answer was still to come. If it was not, the gateway does not take over what it
    /// says.
    pub(crate) fn cancel(&self, id: u64) -> bool {
        let was_wanted = self.state().unwant(id).is_some();
        if !was_wanted {
            self.is_in_doubt.store(true, Ordering::Release);
        }
        was_wanted
    }

    /// Whether the gateway may have missed something since this was asked last.
    pub(super) fn take_doubt(&self) -> bool {
        self.is_in_doubt.swap(false, Ordering::AcqRel)
    }

    /// An invoke of a version came. `is_known` says which versions may still be invoked: others are not counted for ever.
    pub(crate) fn on_received(
        &self,
        key: &VersionKey,
        is_known: impl Fn(&VersionKey) -> bool,
    ) -> Received {
        let mut counted = self.counted();
        let received = counted.of(key);
        received.add_one();
        if counted.by_version.len() > COUNTED_MAX {
            counted.retain(is_known);
        }
        received
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The count of a version's invokes.
    pub(crate) fn received(&self, key: &VersionKey) -> Received {
        self.counted().of(key)
    }

    /// Sends the answer, if it is still wanted.
    pub(crate) fn respond(&self, id: u64, outcome: Outcome) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        let Some(unwanted) = state.unwant(id) else {
            return;
        };
        let (mut rest, free) = (outcome.payload, outcome.free);
        if unwanted.is_streamed {
            // What comes after parts must not overtake them, so it is one frame: a longer error is cut.
            rest.truncate(FRAME_BYTES);
        }
        let payload = rest.split_to(rest.len().min(FRAME_BYTES));
        let response = pb::Response {
            id,
            function_error: outcome.function_error.to_owned(),
            last: rest.is_empty(),
            log_tail: outcome.log_tail,
            billed_ms: outcome.billed_ms,
            idle: free.idle,
            received: free.received,
            payload,
        };
        state.bytes += response.payload.len() + rest.len();
        let head = frame(Frame::Response(response));
        if rest.is_empty() {
            free.is_told();
            state.small.push_back(head);
        } else {
            free.is_told_late();
            state.big.push_back((id, Some(head), rest));
        }
        drop(state);
        self.reader.wake();
    }

    /// Refuses, if the answer is still wanted.
    pub(crate) fn refuse(&self, id: u64, reason: pb::refused::Reason, free: Free) {
        let mut state = self.state();
        if state.closed || state.unwant(id).is_none() {
            return;
        }
        let refused = pb::Refused {
            id,
            reason: reason.into(),
            idle: free.idle,
            received: free.received,
        };
        free.is_told();
        state.small.push_back(frame(Frame::Refused(refused)));
        drop(state);
        self.reader.wake();
    }

    /// Says something that is no answer. Callers bound how often.
    pub(crate) fn say(&self, what: Frame) {
        let mut state = self.state();
        if !state.closed {
            state.small.push_back(frame(what));
        }
        drop(state);
        self.reader.wake();
    }

    /// Says how the worker stands, and of its versions what the gateway does not know yet. If `is_complete` it is told all.
    pub(super) fn say_load(&self, mut load: pb::Load, versions: Vec<(Received, pb::VersionLoad)>) {
        if load.complete {
            // What is not named is forgotten.
            let counted = self.counted();
            counted.by_version.values().for_each(Received::forget);
        }
        let mut state = self.state();
        if state.closed {
            return;
        }
        let news = versions.into_iter().filter_map(|(received, version)| {
            let counts = PoolCounts {
                idle: version.idle,
                starting: version.starting,
                busy: version.busy,
            };
            let told = Told {
                counts,
                received: version.received,
                begun: version.begun,
            };
            received.is_news(told).then_some(version)
        });
        load.versions = news.collect();
        state.small.push_back(frame(Frame::Load(load)));
        drop(state);
        self.reader.wake();
    }

    /// An invocation is begun. Those that leave together are told together.
    pub(crate) fn taken(&self, id: u64) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        let last = state.small.back_mut().and_then(|last| last.frame.as_mut());
        if let Some(Frame::Taken(taken)) = last {
            taken.ids.push(id);
        } else {
            let taken = pb::Taken { ids: vec![id] };
            state.small.push_back(frame(Frame::Taken(taken)));
        }
        drop(state);
        self.reader.wake();
    }

    /// Whether little enough waits to be sent.
    pub(crate) fn has_room(&self) -> bool {
        !self.state().is_full()
    }

    /// Waits while too much is waiting to be sent.
    pub(crate) async fn room(&self) {
        loop {
            let room = self.room.notified();
            if !self.state().is_full() {
                return;
            }
            room.await;
        }
    }

    /// Nothing more is sent; what is queued still is.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.wanted.clear();
        for (_, window) in state.windows.drain() {
            window.close();
        }
        drop(state);
        self.reader.wake();
        self.room.notify_waiters();
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<pb::WorkerFrame>> {
        self.reader.register(cx.waker());
        let mut state = self.state();
        let was_full = state.is_full();
        match state.pop() {
            Some(frame) => {
                let has_room = was_full && !state.is_full();
                drop(state);
                if has_room {
                    self.room.notify_waiters();
                }
                Poll::Ready(Some(frame))
            }
            None if state.closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// The stream tonic reads. Dropping it closes the outbox: the gateway is gone.
#[derive(Debug)]
pub(crate) struct OutboxStream(pub(crate) Arc<Outbox>);

impl Stream for OutboxStream {
    type Item = Result<pb::WorkerFrame, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll(cx).map(|frame| frame.map(Ok))
    }
}

impl Drop for OutboxStream {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
