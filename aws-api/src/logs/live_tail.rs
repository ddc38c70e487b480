//! The answer to `StartLiveTail`: [`initial_response`], then one [`session_start`], then a [`session_update`] each second, and an
//! [`end`] unless the client goes first. Its content type is [`crate::event_stream::CONTENT_TYPE`]. Which events are shown and when
//! a session ends are rules of `hearth_core::logs::tail`.

use bytes::Bytes;
use serde::Serialize;

use super::{LiveTailSessionStart, LiveTailSessionUpdate};
use crate::event_stream;

pub use crate::event_stream::initial_response;

/// Why a session ends before the client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionEnd {
    /// `SessionStreamingException`: the service failed.
    Streaming,
    /// `SessionTimeoutException`: the session has lasted as long as one may.
    Timeout,
}

impl SessionEnd {
    /// Name of the exception in the model.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Streaming => "SessionStreamingException",
            Self::Timeout => "SessionTimeoutException",
        }
    }
}

/// The members of both exceptions.
#[derive(Serialize)]
struct Exception<'a> {
    message: &'a str,
}

/// The event that says what the session is about.
#[must_use]
pub fn session_start(start: &LiveTailSessionStart) -> Bytes {
    event_stream::json_event("sessionStart", start)
}

/// The event with the lines of a second, which may be none.
#[must_use]
pub fn session_update(update: &LiveTailSessionUpdate) -> Bytes {
    event_stream::json_event("sessionUpdate", update)
}

/// The last message.
#[must_use]
pub fn end(end: SessionEnd, message: &str) -> Bytes {
    event_stream::exception(end.name(), &Exception { message })
}
