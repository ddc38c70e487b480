//! Gateways' streams: frames in, invocations run, frames out. Which sandbox runs what is [`crate::pool`]'s; the order
//! in which answers leave is [`outbox`]'s, of one that is streamed [`parts`]'s; what is said of load is [`load`]'s; whether anything may be begun is
//! [`pulse`]'s.

mod exchange;
mod load;
pub(crate) use load::pool_use;
pub(crate) mod outbox;
pub(crate) mod parts;
mod pulse;
mod told;

use std::sync::Arc;

use hearth_node::grpc::ServerOptions;
use hearth_proto::internal::v1 as pb;
use pb::invocations_server::{Invocations, InvocationsServer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::pool::Engine;
use outbox::{Outbox, OutboxStream};

/// The service.
#[derive(Debug)]
pub(crate) struct InvocationService {
    engine: Arc<Engine>,
    tasks: TaskTracker,
    /// Falls when the worker has drained: streams end.
    token: CancellationToken,
}

impl InvocationService {
    pub(crate) fn server(
        engine: Arc<Engine>,
        options: &ServerOptions,
        tasks: TaskTracker,
        token: CancellationToken,
    ) -> InvocationsServer<Self> {
        let largest = options.max_message_size.as_usize();
        let service = Self {
            engine,
            tasks,
            token,
        };
        InvocationsServer::new(service)
            .max_decoding_message_size(largest)
            .max_encoding_message_size(largest)
    }
}

#[tonic::async_trait]
impl Invocations for InvocationService {
    type ExchangeStream = OutboxStream;

    async fn exchange(
        &self,
        request: Request<Streaming<pb::GatewayFrame>>,
    ) -> Result<Response<OutboxStream>, Status> {
        let outbox = Arc::new(Outbox::default());
        let caller = request.extensions().clone();
        let frames = request.into_inner();
        let engine = Arc::clone(&self.engine);
        // First of all, so that its answer is here before the first invocation.
        pulse::say(&engine, &outbox);
        let terms = Arc::new(pulse::Terms::default());
        let (token, to) = (self.token.clone(), Arc::clone(&outbox));
        self.tasks.spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = exchange::run(Arc::clone(&engine), &caller, frames, Arc::clone(&to), Arc::clone(&terms)) => {}
                () = load::report(Arc::clone(&engine), Arc::clone(&to)) => {}
                () = load::refusals(&engine, &to) => {}
                () = pulse::send(&engine, &to, &terms) => {}
            }
            // Nothing is read any more, and all that was begun has been told.
            to.say(pb::worker_frame::Frame::Closing(pb::Closing {}));
            to.close();
        });
        Ok(Response::new(OutboxStream(outbox)))
    }
}
