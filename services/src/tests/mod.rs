//! All services against a scripted one on loopback, which checks every signature: what is asked, what an answer is taken for, how
//! often is tried again.

mod answers;
mod requests;
mod server;

use std::sync::Arc;

use bytes::Bytes;
use hearth_core::events::document::{BUS_SOURCE, DeadLetter, bus_detail_type};
use hearth_core::events::retry::Condition;
use hearth_core::ids::UnixMs;
use hearth_node::Seams;
use hearth_node::clock::ManualClock;
use hearth_node::config::{HumanDuration, Secret};
use hearth_node::random::SeededRandom;

use self::server::{KEY_ID, NOW_MS, SECRET, Server};
use crate::{BusEvent, EndpointOptions, Service, ServiceError, Services, ServicesOptions};

const QUEUE: &str = "arn:aws:sqs:eu-west-1:123456789012:ended";
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:ended";
const BUCKET: &str = "arn:aws:s3:::ended";
const BUS: &str = "arn:aws:events:eu-west-1:123456789012:event-bus/ended";
const FUNCTION: &str = "arn:aws:lambda:eu-west-1:123456789012:function:f:$LATEST";

const ALL: [Service; 4] = [
    Service::EventBridge,
    Service::S3,
    Service::Sns,
    Service::Sqs,
];

/// All services at one server, with a key, and little patience where silence is awaited.
fn options(server: &Server, timeout: HumanDuration) -> ServicesOptions {
    let endpoint = EndpointOptions {
        url: server.url(),
        region: String::new(),
        access_key_id: KEY_ID.to_owned(),
        secret_access_key: Secret(SECRET.to_owned()),
        timeout,
    };
    ServicesOptions {
        sqs: endpoint.clone(),
        sns: endpoint.clone(),
        s3: endpoint.clone(),
        events: endpoint,
    }
}

fn services_with(options: &ServicesOptions) -> Services {
    let seams = Seams {
        clock: Arc::new(ManualClock::new(NOW_MS)),
        random: Arc::new(SeededRandom::new(7)),
        ..Seams::system()
    };
    Services::new(options, "eu-west-1", &seams).unwrap()
}

fn services(server: &Server) -> Services {
    services_with(&options(server, HumanDuration::from_secs(30)))
}

fn dead_letter() -> DeadLetter {
    DeadLetter::new("8ea123e4", 429, "Rate & more")
}

/// What each service is for, once.
async fn tell(services: &Services, service: Service) -> Result<(), ServiceError> {
    match service {
        Service::EventBridge => {
            let event = BusEvent {
                source: BUS_SOURCE,
                detail_type: bus_detail_type(Condition::Success),
                detail: r#"{"version":"1.0"}"#,
                resources: &[BUS, FUNCTION],
                time: UnixMs(NOW_MS),
            };
            services.put_event(BUS, event).await
        }
        Service::S3 => {
            let body = Bytes::from_static(br#"{"version":"1.0"}"#);
            services.put_object(BUCKET, "f/1 $.json", body).await
        }
        Service::Sns => {
            let attributes = dead_letter().attributes();
            services.publish(TOPIC, "{\"a\": 1}", &attributes).await
        }
        Service::Sqs => {
            let attributes = dead_letter().attributes();
            services
                .send_to_queue(QUEUE, "{\"a\": 1}", &attributes)
                .await
        }
    }
}
