//! The order in which answers leave, parts within their window, and what nobody waits for.

use futures::FutureExt as _;
use futures::StreamExt as _;
use pb::refused::Reason;

use super::*;
use crate::invoke::parts::Parts;

fn outcome(bytes: usize) -> Outcome {
    Outcome {
        payload: vec![7; bytes].into(),
        ..Outcome::default()
    }
}

/// What is queued, as (id, bytes, last).
fn drain(stream: &mut OutboxStream) -> Vec<(u64, usize, bool)> {
    let mut frames = Vec::new();
    while let Some(Some(frame)) = stream.next().now_or_never() {
        frames.push(match frame.unwrap().frame.unwrap() {
            Frame::Response(r) => (r.id, r.payload.len(), r.last),
            Frame::Chunk(c) => (c.id, c.payload.len(), c.last),
            Frame::Refused(r) => (r.id, 0, true),
            Frame::Taken(t) => (t.ids[0], t.ids.len(), false),
            Frame::Part(p) => (p.id, p.payload.len(), false),
            Frame::Load(_) | Frame::StartRefused(_) | Frame::Pulse(_) | Frame::Closing(_) => {
                (0, 0, true)
            }
        });
    }
    frames
}

#[test]
fn small_answers_leave_between_the_chunks_of_large_ones() {
    let outbox = Arc::new(Outbox::default());
    let mut stream = OutboxStream(Arc::clone(&outbox));
    for id in 1..=4 {
        assert!(outbox.expect(id));
    }
    outbox.respond(1, outcome(2 * FRAME_BYTES + 1));
    outbox.respond(2, outcome(FRAME_BYTES + 1));
    outbox.respond(3, outcome(3));
    outbox.refuse(4, Reason::NoSandbox, Free::default());
    let full = FRAME_BYTES;
    let frames = drain(&mut stream);
    assert_eq!(
        frames,
        [
            (3, 3, true),
            (1, full, false),
            (4, 0, true),
            (2, full, false),
            (1, full, false),
            (2, 1, true),
            (1, 1, true),
        ]
    );
    assert_eq!(outbox.state().bytes, 0);
}

#[test]
fn parts_leave_in_order_within_their_window_and_before_their_end() {
    let outbox = Arc::new(Outbox::default());
    let mut stream = OutboxStream(Arc::clone(&outbox));
    assert!(outbox.expect(1));
    let size = u32::try_from(FRAME_BYTES).unwrap() + 10;
    let parts = Parts {
        outbox: Arc::clone(&outbox),
        id: 1,
        window: outbox.open_window(1, size),
    };
    let sending = parts.send(vec![7; 2 * FRAME_BYTES].into(), "text/plain");
    let mut sending = Box::pin(sending);
    assert!(sending.as_mut().now_or_never().is_none());
    assert_eq!(
        drain(&mut stream),
        [(1, FRAME_BYTES, false), (1, 10, false)]
    );
    outbox.credit(1, size);
    assert!(sending.now_or_never().is_some());
    outbox.respond(1, outcome(3 * FRAME_BYTES));
    let frames = drain(&mut stream);
    assert_eq!(
        frames,
        [(1, FRAME_BYTES - 10, false), (1, FRAME_BYTES, true)]
    );
    assert_eq!(outbox.state().bytes, 0);
    // Nobody waits any more: what comes is thrown away, and no sender is held up.
    assert!(
        parts
            .send(vec![7; 10 * FRAME_BYTES].into(), "")
            .now_or_never()
            .is_some()
    );
    assert_eq!(drain(&mut stream), []);
}

#[test]
fn a_sender_whose_caller_left_is_not_held_up() {
    let outbox = Arc::new(Outbox::default());
    assert!(outbox.expect(1));
    let window = outbox.open_window(1, 1);
    let parts = Parts {
        outbox: Arc::clone(&outbox),
        id: 1,
        window,
    };
    let mut sending = Box::pin(parts.send(vec![7; 9].into(), ""));
    assert!(sending.as_mut().now_or_never().is_none());
    assert!(outbox.cancel(1));
    assert!(sending.now_or_never().is_some());
    outbox.credit(1, 5);
    assert!(outbox.state().windows.is_empty());
}

#[test]
fn what_is_begun_together_is_told_in_one_frame_and_before_its_answer() {
    let outbox = Arc::new(Outbox::default());
    let mut stream = OutboxStream(Arc::clone(&outbox));
    for id in 1..=3 {
        assert!(outbox.expect(id));
        outbox.taken(id);
    }
    outbox.respond(1, outcome(5));
    outbox.taken(4);
    let frames = drain(&mut stream);
    assert_eq!(frames, [(1, 3, false), (1, 5, true), (4, 1, false)]);
}

#[test]
fn an_answer_nobody_waits_for_is_dropped_and_a_full_queue_stops_the_reader() {
    let outbox = Arc::new(Outbox::default());
    let mut stream = OutboxStream(Arc::clone(&outbox));
    assert!(outbox.expect(1) && !outbox.expect(1));
    assert!(outbox.cancel(1) && !outbox.cancel(1));
    outbox.respond(1, outcome(9));
    assert_eq!(drain(&mut stream), []);
    assert!(outbox.expect(2));
    outbox.respond(2, outcome(BYTES_MAX));
    assert!(outbox.room().now_or_never().is_none());
    drain(&mut stream);
    assert!(outbox.room().now_or_never().is_some());
    drop(stream);
    outbox.say(Frame::Load(pb::Load::default()));
    assert!(outbox.state().small.is_empty());
}
