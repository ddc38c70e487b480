//! What an answer is taken for, and how often is asked.

use hearth_node::config::HumanDuration;
use tokio::net::TcpSocket;

use super::server::{Answer, Server, done, queue_url, says};
use super::*;
use crate::client::ANSWER_MAX_BYTES;

/// What a refusal is like in the protocol of a service.
fn refusal(service: Service, status: u16, code: &str) -> Answer {
    let body = match service {
        Service::EventBridge => format!(r#"{{"__type":"{code}","message":"No."}}"#),
        Service::Sqs => format!(r#"{{"__type":"com.amazonaws.sqs#{code}","message":"No."}}"#),
        Service::Sns => format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>No.</Message></Error></ErrorResponse>"
        ),
        Service::S3 => format!("<Error><Code>{code}</Code><Message>No.</Message></Error>"),
    };
    says(status, body)
}

fn refused(service: Service, status: u16, code: &str) -> ServiceError {
    crate::refusal::refused(service, status, code, "No.")
}

#[tokio::test]
async fn a_refusal_is_told_with_its_code_and_not_repeated() {
    for service in ALL {
        let server = Server::start([refusal(service, 403, "AccessDenied")]).await;
        let error = tell(&services(&server), service).await.unwrap_err();
        assert_eq!(error, refused(service, 403, "AccessDenied"));
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn faults_and_throttles_are_tried_again_and_signed_again() {
    for service in ALL {
        let passing = [
            refusal(service, 500, "InternalError"),
            refusal(service, 400, "ThrottlingException"),
        ];
        let script = passing.into_iter().chain(done(service));
        let server = Server::start(script).await;
        tell(&services(&server), service).await.unwrap();
        assert_eq!(server.seen().len(), 2 + done(service).len());
    }
}

#[tokio::test]
async fn three_faults_are_enough() {
    for service in ALL {
        let faults = (500..).take(9).map(|status| says(status, "<html>"));
        let server = Server::start(faults).await;
        let error = tell(&services(&server), service).await.unwrap_err();
        assert_eq!(error, crate::refusal::refused(service, 502, "", ""));
        assert_eq!(server.seen().len(), 3);
    }
}

#[tokio::test]
async fn an_event_that_a_bus_did_not_take_is_refused_or_tried_again() {
    let failed = |code: &str| {
        says(
            200,
            format!(
                r#"{{"FailedEntryCount":1,"Entries":[{{"ErrorCode":"{code}","ErrorMessage":"No."}}]}}"#
            ),
        )
    };
    let script = [failed("InternalFailure"), failed("MalformedDetail")];
    let server = Server::start(script).await;
    let services = services(&server);
    let error = tell(&services, Service::EventBridge).await.unwrap_err();
    assert_eq!(error, refused(Service::EventBridge, 200, "MalformedDetail"));
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn silence_ends_at_the_timeout_of_each_attempt() {
    let server = Server::start([Answer::Silence, Answer::Silence, Answer::Silence]).await;
    let options = options(&server, HumanDuration::from_millis(50));
    let error = tell(&services_with(&options), Service::S3)
        .await
        .unwrap_err();
    assert!(error.is_retryable());
    let text = error.to_string();
    assert!(
        text.starts_with(
            "S3 cannot be reached: no answer within 50 ms. Check url in the table endpoints.s3"
        ),
        "{text}"
    );
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn who_is_not_there_cannot_be_reached() {
    let server = Server::start([]).await;
    let mut options = options(&server, HumanDuration::from_secs(30));
    // Bound, so that nobody else gets the port, but not listening.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    options.sns.url = format!("http://{}", socket.local_addr().unwrap());
    let error = tell(&services_with(&options), Service::Sns)
        .await
        .unwrap_err();
    assert!(matches!(error, ServiceError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn no_more_of_an_answer_is_read_than_any_service_says() {
    for service in ALL {
        let huge = || "x".repeat(4 * ANSWER_MAX_BYTES);
        // Once done it is not asked again; a fault is one, however long.
        let server = Server::start([says(503, huge()), says(200, huge())]).await;
        let error = tell(&services(&server), service).await.unwrap_err();
        let limit_bytes = ANSWER_MAX_BYTES;
        assert_eq!(
            error,
            ServiceError::TooLarge {
                service,
                limit_bytes
            }
        );
        assert_eq!(server.seen().len(), 2);
    }
}

#[tokio::test]
async fn redirects_are_refusals() {
    let elsewhere = Server::start([]).await;
    for service in ALL {
        let server = Server::start([Answer::Leads(elsewhere.url())]).await;
        let error = tell(&services(&server), service).await.unwrap_err();
        assert_eq!(error, crate::refusal::refused(service, 307, "", ""));
    }
    assert_eq!(elsewhere.seen().len(), 0);
}

#[tokio::test]
async fn somebody_else_at_the_endpoint_is_noticed() {
    for service in [Service::EventBridge, Service::Sns, Service::Sqs] {
        let server = Server::start([says(200, "It works!")]).await;
        let error = tell(&services(&server), service).await.unwrap_err();
        assert!(matches!(error, ServiceError::Protocol { .. }), "{error}");
        assert_eq!(server.seen().len(), 1);
    }
    let server = Server::start([queue_url("u"), says(200, "{}")]).await;
    let error = tell(&services(&server), Service::Sqs).await.unwrap_err();
    assert!(
        error.to_string().contains("it tells no MessageId"),
        "{error}"
    );
}

#[tokio::test]
async fn nothing_is_sent_to_a_service_that_is_not_configured_or_not_meant() {
    let services_of_none = services_with(&ServicesOptions::default());
    for service in ALL {
        let error = tell(&services_of_none, service).await.unwrap_err();
        assert_eq!(error, ServiceError::NotConfigured { service });
    }
    let server = Server::start([]).await;
    let services = services(&server);
    let body = Bytes::new();
    let errors = [
        services.send_to_queue(TOPIC, "", &[]).await,
        services.publish(QUEUE, "", &[]).await,
        services.put_object(BUS, "k", body.clone()).await,
    ];
    for error in errors.map(Result::unwrap_err) {
        assert!(matches!(error, ServiceError::BadArn { .. }), "{error}");
    }
    let error = services.put_object(BUCKET, "a/../b", body).await;
    assert!(matches!(error, Err(ServiceError::BadKey { .. })));
    assert_eq!(server.seen().len(), 0);
}

/// Whoever tells does so from a task of its own.
#[tokio::test]
async fn calls_can_be_made_from_any_thread() {
    let server = Server::start(ALL.into_iter().flat_map(done)).await;
    let services = Arc::new(services(&server));
    for service in ALL {
        let services = Arc::clone(&services);
        let told = tokio::spawn(async move { tell(&services, service).await });
        told.await.unwrap().unwrap();
    }
}
