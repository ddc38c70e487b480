//! A response on its way while the function still makes it. How much may be under way is the gateway's to say, so that
//! a client that reads slowly stops its own function and nobody else.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hearth_core::limits::FRAME_BYTES;
use tokio::sync::Notify;

use super::outbox::Outbox;

/// Most bytes of one response that a gateway may have under way, whatever it asks for. Ours: it is the worker's memory.
const WINDOW_MAX_BYTES: usize = 4 << 20;

/// Bytes of one response that may be sent.
#[derive(Debug)]
pub(crate) struct Window {
    state: Mutex<State>,
    /// One waits at most: a response is sent by one task.
    more: Notify,
}

#[derive(Debug)]
struct State {
    left: usize,
    /// Something was sent.
    is_used: bool,
    is_closed: bool,
}

impl Window {
    pub(super) fn new(bytes: u32) -> Arc<Self> {
        let left = usize::try_from(bytes).unwrap_or(usize::MAX);
        Arc::new(Self {
            state: Mutex::new(State {
                left: left.min(WINDOW_MAX_BYTES),
                is_used: false,
                is_closed: false,
            }),
            more: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for at most `wanted` bytes as soon as there is some. `None`: nobody waits for the response any more.
    async fn take(&self, wanted: usize) -> Option<usize> {
        loop {
            let more = self.more.notified();
            {
                let mut state = self.state();
                if state.is_closed {
                    return None;
                }
                if state.left > 0 {
                    let taken = state.left.min(wanted);
                    state.left -= taken;
                    state.is_used = true;
                    return Some(taken);
                }
            }
            more.await;
        }
    }

    /// The gateway passed so many bytes on.
    pub(super) fn add(&self, bytes: u32) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut state = self.state();
        state.left = state.left.saturating_add(bytes).min(WINDOW_MAX_BYTES);
        drop(state);
        self.more.notify_one();
    }

    /// The response is over, or nobody waits for it. Whether a part of it was sent.
    pub(super) fn close(&self) -> bool {
        let mut state = self.state();
        state.is_closed = true;
        let is_used = state.is_used;
        drop(state);
        self.more.notify_one();
        is_used
    }
}

/// Where a sandbox sends the parts of its response.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) id: u64,
    pub(crate) window: Arc<Window>,
}

impl Parts {
    /// Sends a part, in pieces and when there is room for them. Without effect once nobody waits for it.
    pub(crate) async fn send(&self, mut payload: Bytes, content_type: &str) {
        while !payload.is_empty() {
            let Some(room) = self.window.take(payload.len().min(FRAME_BYTES)).await else {
                return;
            };
            self.outbox
                .part(self.id, payload.split_to(room), content_type);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn no_more_is_taken_than_was_given_and_a_closed_window_gives_nothing() {
        let window = Window::new(10);
        assert_eq!(window.take(4).now_or_never(), Some(Some(4)));
        assert_eq!(window.take(100).now_or_never(), Some(Some(6)));
        assert_eq!(window.take(1).now_or_never(), None);
        window.add(3);
        assert_eq!(window.take(100).now_or_never(), Some(Some(3)));
        assert!(window.close());
        window.add(3);
        assert_eq!(window.take(1).now_or_never(), Some(None));
        assert!(!Window::new(1).close(), "nothing was sent");
    }

    #[test]
    fn a_gateway_cannot_make_a_worker_hold_more_than_its_limit() {
        let window = Window::new(u32::MAX);
        window.add(u32::MAX);
        assert_eq!(
            window.take(usize::MAX).now_or_never(),
            Some(Some(WINDOW_MAX_BYTES))
        );
    }
}
