//! What a worker does with invocations, over a real gRPC loopback.

#[path = "worker_fixture.rs"]
mod fixture;

use std::collections::BTreeMap;

use hearth_proto::internal::v1 as pb;
use pb::gateway_frame::Frame as Tell;
use pb::worker_frame::Frame as Hear;

use super::*;
use fixture::Fixture;
pub(crate) use fixture::run_function;

#[tokio::test]
async fn cold_then_warm_with_log_tail_and_lines_as_on_aws() {
    let mut f = Fixture::new("app.handler", 1, 1_000).await;
    f.invoke(1, b"{}").await;
    assert_eq!(
        f.answer().await.unwrap_err(),
        pb::refused::Reason::NoSandbox
    );
    f.start(1).await;
    f.idle(1).await;
    let (response, payload) = f.call(2, b"print").await;
    assert_eq!(
        (
            payload.as_str(),
            response.function_error.as_str(),
            response.idle
        ),
        ("null", "", 1)
    );
    let log = String::from_utf8(response.log_tail.to_vec()).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "START RequestId: r2 Version: $LATEST",
            "hello from inside",
            "END RequestId: r2"
        ]
    );
    assert!(
        lines[3].starts_with("REPORT RequestId: r2\tDuration: ")
            && lines[3].contains("Init Duration"),
        "{log}"
    );
    let (response, payload) = f.call(3, br#"{"a":1}"#).await;
    assert_eq!(payload, r#"{"a":1}"#);
    assert!(!String::from_utf8_lossy(&response.log_tail).contains("Init Duration"));
    let log = f.worker.function_log(&f.key);
    assert!(String::from_utf8_lossy(&log).contains("hello from inside"));
    f.worker.shutdown().await;
}

#[tokio::test]
async fn a_large_event_and_response_travel_in_chunks_and_small_ones_pass_them() {
    let mut f = Fixture::new("app.handler", 2, 1_000).await;
    f.start(2).await;
    f.idle(2).await;
    let large = vec![b'7'; 6_000_000];
    f.invoke(1, &large).await;
    f.invoke(2, b"small").await;
    let mut answers = BTreeMap::new();
    for _ in 0..2 {
        let (response, payload) = f.answer().await.unwrap();
        answers.insert(response.id, payload);
    }
    assert_eq!(answers[&2], b"small");
    assert!(answers[&1] == large);
    f.worker.shutdown().await;
}

#[tokio::test]
async fn errors_of_the_function_are_its_answer_and_the_sandbox_stays() {
    let mut f = Fixture::new("app.handler", 1, 1_000).await;
    f.start(1).await;
    f.idle(1).await;
    let (response, payload) = f.call(1, b"error").await;
    assert_eq!(
        (payload.as_str(), response.function_error.as_str()),
        (r#"{"errorMessage":"boom"}"#, "Unhandled")
    );
    let (response, payload) = f.call(2, b"huge").await;
    assert_eq!(response.function_error, "Unhandled");
    assert!(
        payload.contains("Function.ResponseSizeTooLarge"),
        "{payload}"
    );
    let (_, payload) = f.call(3, b"ok").await;
    assert_eq!(payload, "ok");
    assert_eq!(f.worker.engine.metrics.cold_starts.get(), 1);
    f.worker.shutdown().await;
}

#[tokio::test]
async fn a_timeout_and_an_exit_end_the_sandbox_with_awss_words() {
    let mut f = Fixture::new("app.handler", 1, 1_000).await;
    f.start(1).await;
    f.idle(1).await;
    let (response, payload) = f.call(1, b"hang").await;
    assert!(
        payload.ends_with(r#"Z r1 Task timed out after 1.00 seconds"}"#),
        "{payload}"
    );
    assert_eq!(
        (response.function_error.as_str(), response.billed_ms / 100),
        ("Unhandled", 10)
    );
    f.idle(0).await;
    f.start(1).await;
    f.idle(1).await;
    let (_, payload) = f.call(2, b"exit").await;
    assert_eq!(
        payload,
        r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: r2 Error: Runtime exited without providing a reason"}"#
    );
    f.worker.shutdown().await;
}

#[tokio::test]
async fn an_init_error_serves_exactly_one_invocation() {
    for (handler, expected) in [
        ("init-error", r#""errorType":"Runtime.ImportModuleError""#),
        (
            "init-exit",
            r#"Error: Runtime exited with error: exit status 7"#,
        ),
    ] {
        let mut f = Fixture::new(handler, 2, 1_000).await;
        f.start(1).await;
        f.idle(1).await;
        let (response, payload) = f.call(1, b"{}").await;
        assert_eq!(response.function_error, "Unhandled");
        assert!(payload.contains(expected), "{payload}");
        f.invoke(2, b"{}").await;
        assert_eq!(
            f.answer().await.unwrap_err(),
            pb::refused::Reason::NoSandbox
        );
        f.worker.shutdown().await;
    }
}

#[tokio::test]
async fn an_init_that_takes_too_long_is_run_again_within_the_invocation() {
    let mut f = Fixture::new("init-slow", 1, 1_000).await;
    f.start(1).await;
    f.idle(1).await;
    assert_eq!(f.call(1, b"late").await.1, "late");
    assert_eq!(f.call(2, b"warm").await.1, "warm");
    f.worker.shutdown().await;
    let mut f = Fixture::new("init-hang", 1, 1_000).await;
    f.start(1).await;
    f.idle(1).await;
    let (_, payload) = f.call(1, b"{}").await;
    assert!(
        payload.contains("Task timed out after 1.00 seconds"),
        "{payload}"
    );
    f.worker.shutdown().await;
}

#[tokio::test]
async fn permits_and_memory_bound_what_runs() {
    let mut f = Fixture::new("app.handler", 1, 300).await;
    f.start(3).await;
    f.idle(2).await;
    f.invoke(1, b"hang").await;
    f.invoke(2, b"{}").await;
    assert_eq!(f.answer().await.unwrap_err(), pb::refused::Reason::NoPermit);
    f.tell(Tell::Cancel(pb::Cancel { id: 1 })).await;
    // The cancelled invocation runs on to its timeout, and its permit comes back then.
    f.idle(1).await;
    while f.worker.engine.metrics.in_flight.get() > 0 {
        f.next_frame().await;
    }
    assert_eq!(f.call(3, b"x").await.1, "x");
    f.worker.shutdown().await;
}

#[tokio::test]
async fn an_unknown_generation_and_a_worker_that_drains_are_told() {
    let mut f = Fixture::new("app.handler", 1, 1_000).await;
    f.start(1).await;
    f.idle(1).await;
    f.key.generation = 9;
    f.invoke(1, b"{}").await;
    assert_eq!(
        f.answer().await.unwrap_err(),
        pb::refused::Reason::UnknownVersion
    );
    f.worker.engine.draining.store(true, Ordering::Release);
    f.invoke(2, b"{}").await;
    assert_eq!(f.answer().await.unwrap_err(), pb::refused::Reason::Draining);
    f.worker.shutdown().await;
    let mut last = None;
    while let Some(frame) = f.hear.message().await.unwrap() {
        last = frame.frame;
    }
    assert!(
        matches!(last, Some(Hear::Closing(_))),
        "its last word: {last:?}"
    );
}

/// What a worker reads after it was stopped may have been given to another one.
#[tokio::test]
async fn nothing_is_begun_without_a_lease_where_pulses_are_answered() {
    let mut f = Fixture::new("app.handler", 2, 1_000).await;
    f.start(1).await;
    f.idle(1).await;
    f.tell(Tell::Hello(pb::GatewayHello {
        gateway_id: 1,
        answers_pulses: true,
    }))
    .await;
    f.invoke(1, b"{}").await;
    assert_eq!(f.answer().await.unwrap_err(), pb::refused::Reason::Late);
    f.answer_pulse().await;
    let (_, payload) = f.call(2, b"{}").await;
    assert_eq!(payload, "{}");
    // Pulses go on and are not answered until the lease is over.
    for _ in 0..=hearth_core::standing::LEASE_MS / hearth_core::standing::PULSE_MS + 1 {
        while !matches!(f.next_frame().await, Hear::Pulse(_)) {}
    }
    f.invoke(3, b"{}").await;
    assert_eq!(f.answer().await.unwrap_err(), pb::refused::Reason::Late);
    f.worker.shutdown().await;
}

#[tokio::test]
async fn what_is_begun_is_told_before_its_answer() {
    let mut f = Fixture::new("app.handler", 1, 1_000).await;
    f.start(1).await;
    f.idle(1).await;
    f.invoke(7, b"{}").await;
    let is_told = loop {
        match f.next_frame().await {
            Hear::Taken(taken) => break taken.ids == [7],
            Hear::Response(_) => break false,
            _ => {}
        }
    };
    assert!(is_told);
    f.worker.shutdown().await;
}
