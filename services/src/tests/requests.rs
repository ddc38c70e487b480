//! What each service is asked.

use hearth_node::config::{HumanDuration, Secret};
use serde_json::json;

use super::server::{KEY_ID, SECRET, Server, done, message_sent, queue_url, says};
use super::*;

#[tokio::test]
async fn a_message_goes_to_the_url_that_the_queue_has() {
    let server = Server::start(done(Service::Sqs)).await;
    tell(&services(&server), Service::Sqs).await.unwrap();
    let seen = server.seen();
    let operations: Vec<_> = seen.iter().map(|s| s.header("x-amz-target")).collect();
    assert_eq!(
        operations,
        ["AmazonSQS.GetQueueUrl", "AmazonSQS.SendMessage"]
    );
    for request in &seen {
        assert_eq!(request.header("content-type"), "application/x-amz-json-1.0");
        assert_eq!(
            (request.parts.method.as_str(), request.parts.uri.path()),
            ("POST", "/")
        );
    }
    assert_eq!(
        seen[0].json(),
        json!({"QueueName": "ended", "QueueOwnerAWSAccountId": "123456789012"})
    );
    assert_eq!(
        seen[1].json(),
        json!({
            "QueueUrl": "http://sqs.invalid/1/ended",
            "MessageBody": "{\"a\": 1}",
            "MessageAttributes": {
                "RequestID": {"DataType": "String", "StringValue": "8ea123e4"},
                "ErrorCode": {"DataType": "Number", "StringValue": "429"},
                "ErrorMessage": {"DataType": "String", "StringValue": "Rate & more"},
            },
        })
    );
}

#[tokio::test]
async fn urls_of_queues_are_remembered_until_the_queue_is_gone() {
    let gone = || {
        says(
            400,
            r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"The specified queue does not exist."}"#,
        )
    };
    let script = [
        queue_url("http://sqs.invalid/1/old"),
        message_sent(),
        message_sent(),
        // Made anew.
        gone(),
        queue_url("http://sqs.invalid/1/new"),
        message_sent(),
        // Gone for good.
        gone(),
        gone(),
    ];
    let server = Server::start(script).await;
    let services = services(&server);
    let send = || services.send_to_queue(QUEUE, "{}", &[]);
    for _ in 0..3 {
        send().await.unwrap();
    }
    let error = send().await.unwrap_err();
    assert!(
        matches!(&error, ServiceError::Refused { status: 400, code, .. } if code == "QueueDoesNotExist"),
        "{error}"
    );
    let seen = server.seen();
    let sent_to: Vec<_> = seen.iter().map(|s| s.json()["QueueUrl"].clone()).collect();
    let (old, new) = (
        json!("http://sqs.invalid/1/old"),
        json!("http://sqs.invalid/1/new"),
    );
    let asked = serde_json::Value::Null;
    assert_eq!(
        sent_to,
        [&asked, &old, &old, &old, &asked, &new, &new, &asked].map(Clone::clone)
    );
    let is_bare = seen[1].json().get("MessageAttributes").is_none();
    assert!(is_bare, "no attributes, no member");
}

#[tokio::test]
async fn a_topic_is_sent_a_form() {
    let server = Server::start(done(Service::Sns)).await;
    tell(&services(&server), Service::Sns).await.unwrap();
    let seen = server.seen();
    assert_eq!(
        seen[0].header("content-type"),
        "application/x-www-form-urlencoded; charset=utf-8"
    );
    let text = seen[0].text();
    assert!(
        text.starts_with("Action=Publish&Version=2010-03-31&TopicArn=arn%3Aaws%3Asns%3Aeu-west-1%3A123456789012%3Aended&Message=%7B%22a%22%3A%201%7D&"),
        "{text}"
    );
    assert!(
        text.ends_with("&MessageAttributes.entry.3.Name=ErrorMessage&MessageAttributes.entry.3.Value.DataType=String&MessageAttributes.entry.3.Value.StringValue=Rate%20%26%20more"),
        "{text}"
    );
}

#[tokio::test]
async fn an_object_is_put_at_its_path_whatever_its_key() {
    let keys = [
        ("f/1 $.json", "/ended/f/1%20%24.json"),
        ("//a/\u{e9}?#%2e", "/ended///a/%C3%A9%3F%23%252e"),
    ];
    let server = Server::start([says(200, ""), says(200, ""), says(200, "")]).await;
    let services_at = services(&server);
    for (key, path) in keys {
        let body = Bytes::from_static(b"{}");
        services_at.put_object(BUCKET, key, body).await.unwrap();
        let seen = server.seen();
        assert_eq!(
            (seen[0].parts.method.as_str(), seen[0].parts.uri.path()),
            ("PUT", path)
        );
        assert_eq!(seen[0].header("content-type"), "application/json");
        assert_eq!(
            seen[0].header("x-amz-content-sha256"),
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
        assert_eq!(seen[0].text(), "{}");
    }
    let mut below = options(&server, HumanDuration::from_secs(30));
    below.s3.url.push_str("/store/");
    tell(&services_with(&below), Service::S3).await.unwrap();
    assert_eq!(
        server.seen()[0].parts.uri.path(),
        "/store/ended/f/1%20%24.json"
    );
}

#[tokio::test]
async fn a_bus_is_put_one_event() {
    let server = Server::start(done(Service::EventBridge)).await;
    tell(&services(&server), Service::EventBridge)
        .await
        .unwrap();
    let seen = server.seen();
    assert_eq!(seen[0].header("content-type"), "application/x-amz-json-1.1");
    assert_eq!(seen[0].header("x-amz-target"), "AWSEvents.PutEvents");
    assert_eq!(
        seen[0].json(),
        json!({"Entries": [{
            "EventBusName": BUS,
            "Source": "lambda",
            "DetailType": "Lambda Function Invocation Result - Success",
            "Detail": "{\"version\":\"1.0\"}",
            "Resources": [BUS, FUNCTION],
            "Time": 1_574_632_367,
        }]})
    );
}

#[tokio::test]
async fn requests_are_signed_for_the_service_and_its_region_if_there_is_a_key() {
    for service in ALL {
        let server = Server::start([done(service), done(service), done(service)].concat()).await;
        let mut options = options(&server, HumanDuration::from_secs(30));
        let told = async |options: &ServicesOptions| {
            tell(&services_with(options), service).await.unwrap();
            let seen = server.seen();
            seen.into_iter().map(|s| s.signed_for).collect::<Vec<_>>()
        };
        let signed = |region: &str| Some((service.id().to_owned(), region.to_owned()));
        let only = |seen: Vec<_>, wanted| assert!(seen.iter().all(|s| *s == wanted), "{seen:?}");
        only(told(&options).await, signed("eu-west-1"));
        for endpoint in each(&mut options) {
            endpoint.region = "cn-north-1".to_owned();
        }
        only(told(&options).await, signed("cn-north-1"));
        for endpoint in each(&mut options) {
            endpoint.access_key_id.clear();
            endpoint.secret_access_key = Secret::default();
        }
        only(told(&options).await, None);
    }
}

fn each(options: &mut ServicesOptions) -> [&mut EndpointOptions; 4] {
    [
        &mut options.sqs,
        &mut options.sns,
        &mut options.s3,
        &mut options.events,
    ]
}

#[tokio::test]
async fn secrets_are_not_shown() {
    let server = Server::start([]).await;
    let options = options(&server, HumanDuration::from_secs(30));
    let shown = format!("{options:?} {:?}", services_with(&options));
    assert!(shown.contains(KEY_ID) && !shown.contains(SECRET), "{shown}");
}
