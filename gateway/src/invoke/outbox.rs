//! The frames on their way to one worker. Payloads are cut here: each turn gives one piece of at most 64 KiB to each
//! invocation, so that a large event does not stall small ones.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::task::AtomicWaker;
use hearth_core::limits::FRAME_BYTES;
use hearth_proto::internal::v1::{Cancel, Chunk, GatewayFrame, Invoke, gateway_frame::Frame};

/// Items that may wait for one worker. Each invocation has one at most, so this bounds what is unsent when a worker
/// does not read; invocations beyond go elsewhere.
const ITEMS_MAX: usize = 4_096;

#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the one of every warm invocation"
)]
#[derive(Debug)]
enum Item {
    Frame(Frame),
    /// The rest of an event whose `Invoke` was sent.
    Rest {
        id: u64,
        payload: Bytes,
    },
}

impl Item {
    fn invocation(&self) -> Option<u64> {
        match self {
            Self::Frame(Frame::Invoke(invoke)) => Some(invoke.id),
            Self::Rest { id, .. } => Some(*id),
            Self::Frame(_) => None,
        }
    }
}

/// How much of an invocation was unsent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withdrawn {
    /// All: the worker will never hear of it.
    Whole,
    /// The end of its event: it cannot be begun.
    Rest,
    /// Nothing: it was handed over.
    Nothing,
}

#[derive(Debug, Default)]
struct State {
    /// Counts the streams this outbox has fed; a stream of an earlier life ends.
    life: u64,
    open: bool,
    items: VecDeque<Item>,
}

/// The worker is not connected or does not read; nothing was sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker takes no more frames now")]
pub(crate) struct NotTaken;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    waker: AtomicWaker,
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new life with `first` as first frame.
    pub(crate) fn open(self: &Arc<Self>, first: Frame) -> OutboxStream {
        let mut state = self.state();
        state.life += 1;
        state.open = true;
        state.items.clear();
        state.items.push_back(Item::Frame(first));
        OutboxStream {
            outbox: Arc::clone(self),
            life: state.life,
        }
    }

    /// Ends this life; returns the invocations that were not handed over whole: no function has taken their events.
    pub(crate) fn close(&self) -> Vec<u64> {
        let mut state = self.state();
        state.open = false;
        state.life += 1;
        let unsent = state.items.iter().filter_map(Item::invocation).collect();
        state.items.clear();
        drop(state);
        self.waker.wake();
        unsent
    }

    /// Queues a frame.
    pub(crate) fn push(&self, frame: Frame) -> Result<(), NotTaken> {
        let mut state = self.state();
        if !state.open || state.items.len() >= ITEMS_MAX {
            return Err(NotTaken);
        }
        state.items.push_back(Item::Frame(frame));
        drop(state);
        self.waker.wake();
        Ok(())
    }

    /// Takes back what is unsent of an invocation.
    pub(crate) fn withdraw(&self, id: u64) -> Withdrawn {
        let mut withdrawn = Withdrawn::Nothing;
        self.state().items.retain(|item| match item {
            Item::Frame(Frame::Invoke(invoke)) if invoke.id == id => {
                withdrawn = Withdrawn::Whole;
                false
            }
            Item::Rest { id: rest, .. } if *rest == id => {
                withdrawn = Withdrawn::Rest;
                false
            }
            Item::Frame(_) | Item::Rest { .. } => true,
        });
        withdrawn
    }

    /// Tells the worker that nobody waits for an invocation any more.
    pub(crate) fn cancel(&self, id: u64) {
        // A worker that takes no frames is about to be given up, with everything on its stream.
        let _ = self.push(Frame::Cancel(Cancel { id }));
    }

    /// Pending: nothing now; `None`: this life is over.
    fn next(&self, life: u64) -> Poll<Option<GatewayFrame>> {
        let mut state = self.state();
        if state.life != life {
            return Poll::Ready(None);
        }
        let frame = match state.items.pop_front() {
            None => return Poll::Pending,
            Some(Item::Frame(Frame::Invoke(invoke))) => cut_invoke(invoke, &mut state.items),
            Some(Item::Frame(frame)) => frame,
            Some(Item::Rest { id, payload }) => cut_rest(id, payload, &mut state.items),
        };
        Poll::Ready(Some(GatewayFrame { frame: Some(frame) }))
    }
}

/// The invocation with its first piece; the rest goes to the end of the line.
fn cut_invoke(mut invoke: Invoke, items: &mut VecDeque<Item>) -> Frame {
    let rest = invoke
        .payload
        .split_off(invoke.payload.len().min(FRAME_BYTES));
    invoke.last = rest.is_empty();
    if !rest.is_empty() {
        items.push_back(Item::Rest {
            id: invoke.id,
            payload: rest,
        });
    }
    Frame::Invoke(invoke)
}

fn cut_rest(id: u64, mut payload: Bytes, items: &mut VecDeque<Item>) -> Frame {
    let rest = payload.split_off(payload.len().min(FRAME_BYTES));
    let last = rest.is_empty();
    if !last {
        items.push_back(Item::Rest { id, payload: rest });
    }
    Frame::Chunk(Chunk { id, payload, last })
}

/// The frames as tonic reads them; ends with the life it was opened for.
#[derive(Debug)]
pub(crate) struct OutboxStream {
    outbox: Arc<Outbox>,
    life: u64,
}

impl Stream for OutboxStream {
    type Item = GatewayFrame;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<GatewayFrame>> {
        if let Poll::Ready(frame) = self.outbox.next(self.life) {
            return Poll::Ready(frame);
        }
        self.outbox.waker.register(cx.waker());
        // Once more: a frame may have come before the waker was in place.
        self.outbox.next(self.life)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, StreamExt};
    use hearth_proto::internal::v1::GatewayHello;

    fn invoke(id: u64, length: usize) -> Frame {
        let payload = Bytes::from(vec![7; length]);
        Frame::Invoke(Invoke {
            id,
            payload,
            ..Invoke::default()
        })
    }

    fn next(stream: &mut OutboxStream) -> Option<(u64, usize, bool)> {
        match stream.next().now_or_never()??.frame? {
            Frame::Invoke(i) => Some((i.id, i.payload.len(), i.last)),
            Frame::Chunk(c) => Some((c.id, c.payload.len(), c.last)),
            Frame::Hello(_) => Some((0, 0, true)),
            Frame::Cancel(c) => Some((c.id, 0, true)),
            Frame::Start(_) | Frame::PulseAnswer(_) | Frame::Credit(_) => None,
        }
    }

    fn opened() -> (Arc<Outbox>, OutboxStream) {
        let outbox = Arc::new(Outbox::default());
        let mut stream = outbox.open(Frame::Hello(GatewayHello {
            gateway_id: 1,
            answers_pulses: true,
        }));
        assert_eq!(next(&mut stream), Some((0, 0, true)));
        (outbox, stream)
    }

    #[test]
    fn a_large_event_takes_turns_with_small_ones() {
        let (outbox, mut stream) = opened();
        outbox.push(invoke(1, 3 * FRAME_BYTES)).unwrap();
        outbox.push(invoke(2, 10)).unwrap();
        outbox.push(invoke(3, FRAME_BYTES)).unwrap();
        let sent: Vec<_> = std::iter::from_fn(|| next(&mut stream)).collect();
        let whole = FRAME_BYTES;
        assert_eq!(
            sent,
            [
                (1, whole, false),
                (2, 10, true),
                (3, whole, true),
                (1, whole, false),
                (1, whole, true)
            ]
        );
    }

    #[test]
    fn what_was_not_handed_over_whole_is_named_at_the_end() {
        let (outbox, mut stream) = opened();
        outbox.push(invoke(1, 3 * FRAME_BYTES)).unwrap();
        outbox.push(invoke(2, 10)).unwrap();
        outbox.push(invoke(3, 10)).unwrap();
        next(&mut stream);
        next(&mut stream);
        let mut unsent = outbox.close();
        unsent.sort_unstable();
        assert_eq!(unsent, [1, 3]);
        assert_eq!(
            stream.next().now_or_never(),
            Some(None),
            "the old stream ends"
        );
        assert_eq!(outbox.push(invoke(4, 1)), Err(NotTaken));
    }

    #[test]
    fn a_cancelled_invocation_is_sent_no_further() {
        let (outbox, mut stream) = opened();
        outbox.push(invoke(1, 2 * FRAME_BYTES)).unwrap();
        assert_eq!(next(&mut stream), Some((1, FRAME_BYTES, false)));
        assert_eq!(outbox.withdraw(1), Withdrawn::Rest);
        outbox.cancel(1);
        assert_eq!(next(&mut stream), Some((1, 0, true)), "the cancel frame");
        assert_eq!(next(&mut stream), None);
        outbox.push(invoke(2, 1)).unwrap();
        assert_eq!(outbox.withdraw(2), Withdrawn::Whole);
        assert_eq!(outbox.withdraw(2), Withdrawn::Nothing);
        assert_eq!(next(&mut stream), None);
    }

    #[test]
    fn a_worker_that_does_not_read_gets_no_more() {
        let (outbox, _stream) = opened();
        let taken = (0..)
            .take_while(|id| outbox.push(invoke(*id, 1)).is_ok())
            .count();
        assert_eq!(taken, ITEMS_MAX);
    }
}
