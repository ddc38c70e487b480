//! Reads a request's body: at most so many bytes, never silent for long, and within the memory that all bodies
//! share. What a body that broke a limit is answered with is here too; limits by operation are in `service`.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hearth_aws_api::ApiError;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::budget::{Budget, Share};

/// What is read and thrown away of a body whose request was refused, so that a client which sends all before it
/// reads gets the answer and not a reset connection.
const DRAIN_MAX_BYTES: u64 = 80 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// A client that is silent for so long is waiting for the answer, or gone.
const DRAIN_IDLE: Duration = Duration::from_millis(200);

/// The limits of one body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) max_bytes: usize,
    pub(super) idle: Duration,
    pub(super) total: Duration,
}

/// A body, and the memory it takes until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    memory: Share,
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    TooLarge,
    /// The client was silent or slow for too long.
    Slow,
    /// The connection ended, or the framing was broken.
    Truncated,
    /// Other bodies take all memory.
    NoMemory,
}

impl BodyError {
    /// The answer; `too_large` is the text for a body over its limit.
    pub(super) fn answer(self, too_large: String) -> ApiError {
        match self {
            Self::TooLarge => ApiError::request_entity_too_large(too_large),
            Self::Slow => ApiError::request_timeout("The request's body did not arrive in time."),
            Self::Truncated => ApiError::invalid_request_content("The request's body ended early."),
            Self::NoMemory => {
                ApiError::service_unavailable("Too many large requests are in flight. Try again.")
                    .with_retry_after(1)
            }
        }
    }

    /// Whether more of the body may be on its way.
    pub(super) fn has_rest(self) -> bool {
        match self {
            Self::TooLarge | Self::NoMemory => true,
            Self::Slow | Self::Truncated => false,
        }
    }
}

/// Reads all of it.
pub(super) async fn read(
    body: &mut Incoming,
    limits: Limits,
    memory: &Arc<Budget>,
) -> Result<Held, BodyError> {
    if body.size_hint().lower() > limits.max_bytes as u64 {
        return Err(BodyError::TooLarge);
    }
    tokio::time::timeout(limits.total, read_frames(body, limits, memory))
        .await
        .unwrap_or(Err(BodyError::Slow))
}

async fn read_frames(
    body: &mut Incoming,
    limits: Limits,
    memory: &Arc<Budget>,
) -> Result<Held, BodyError> {
    let mut held = Held {
        bytes: Bytes::new(),
        memory: memory.empty_share(),
    };
    let mut grown: Option<BytesMut> = None;
    while let Some(frame) = tokio::time::timeout(limits.idle, body.frame())
        .await
        .map_err(|_| BodyError::Slow)?
    {
        let frame = frame.map_err(|_| BodyError::Truncated)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let so_far = grown.as_ref().map_or(held.bytes.len(), BytesMut::len);
        if so_far + data.len() > limits.max_bytes {
            return Err(BodyError::TooLarge);
        }
        if !held.memory.grow(data.len()) {
            return Err(BodyError::NoMemory);
        }
        match &mut grown {
            Some(grown) => grown.extend_from_slice(&data),
            // Most bodies come in one frame and are not copied.
            None if held.bytes.is_empty() => held.bytes = data,
            None => {
                let rest = usize::try_from(body.size_hint().lower()).unwrap_or_default();
                let mut buffer =
                    BytesMut::with_capacity(so_far + data.len() + rest.min(limits.max_bytes));
                buffer.extend_from_slice(&held.bytes);
                buffer.extend_from_slice(&data);
                held.bytes = Bytes::new();
                grown = Some(buffer);
            }
        }
    }
    if let Some(grown) = grown {
        held.bytes = grown.freeze();
    }
    Ok(held)
}

/// Reads on without keeping anything, within limits. Returns whether the whole body was read.
pub(super) async fn drain(body: &mut Incoming) -> bool {
    let draining = async {
        let mut left = DRAIN_MAX_BYTES;
        loop {
            let frame = match tokio::time::timeout(DRAIN_IDLE, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return true,
                Ok(Some(Err(_))) | Err(_) => return false,
            };
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(length) {
                Some(less) => left = less,
                None => return false,
            }
        }
    };
    tokio::time::timeout(DRAIN_TIMEOUT, draining)
        .await
        .unwrap_or(false)
}
