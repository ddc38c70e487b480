//! `hearth.v1.Invocation`: the same invoke path as AWS's Invoke.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, stream};
use hearth_aws_api::ApiError;
use hearth_core::limits::FRAME_BYTES;
use hearth_node::telemetry::set_parent;
use hearth_proto::v1 as pb;
use pb::invocation_server::Invocation as Service;
use pb::invoke_stream_part::Part;
use tonic::{Request, Response, Status};
use tracing::{Instrument as _, debug_span};

use super::aws::status;
use super::{caller, place};
use crate::app::App;
use crate::invoke::InvokeOutcome;
use crate::lambda::invoke::{Invocation as Asked, accept, prepare, run};

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Invocation {
    app: Arc<App>,
}

impl Invocation {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    /// Does what is to be done with what was asked for; with the request id.
    async fn with<T>(
        &self,
        request: Request<pb::InvokeRequest>,
        work: impl AsyncFnOnce(&App, Asked<'_>) -> Result<T, ApiError>,
    ) -> Result<(T, String), Status> {
        let (caller, _place) = (caller(&request)?, place(&self.app)?);
        let request_id = self.app.seams.random.uuid();
        let headers = request.metadata().clone().into_headers();
        let span = debug_span!("request", request_id, operation = "Invoke");
        if let Some(parent) = headers.get("traceparent").and_then(|v| v.to_str().ok()) {
            set_parent(&span, parent);
        }
        let input = request.into_inner();
        let asked = Asked {
            caller: &caller,
            request_id: &request_id,
            function_name: &input.function_name,
            qualifier: Some(input.qualifier.as_str()).filter(|q| !q.is_empty()),
            payload: input.payload,
            client_context: input.client_context,
            log_tail: input.log_tail,
            headers: &headers,
        };
        let answer = work(&self.app, asked).instrument(span).await;
        Ok((answer.map_err(|error| status(&error))?, request_id))
    }

    async fn outcome(
        &self,
        request: Request<pb::InvokeRequest>,
    ) -> Result<(InvokeOutcome, String), Status> {
        let work = async |app: &App, asked: Asked<'_>| {
            let ready = prepare(app, asked).await?;
            run(app, ready).await
        };
        self.with(request, work).await
    }
}

fn tail(outcome: &InvokeOutcome) -> String {
    String::from_utf8_lossy(&outcome.log_tail).into_owned()
}

#[tonic::async_trait]
impl Service for Invocation {
    type InvokeStreamStream =
        Pin<Box<dyn Stream<Item = Result<pb::InvokeStreamPart, Status>> + Send>>;

    async fn invoke(
        &self,
        request: Request<pb::InvokeRequest>,
    ) -> Result<Response<pb::InvokeResponse>, Status> {
        let (outcome, request_id) = self.outcome(request).await?;
        Ok(Response::new(pb::InvokeResponse {
            log_tail: tail(&outcome),
            payload: outcome.payload,
            function_error: outcome.function_error,
            executed_version: outcome.executed_version.to_string(),
            request_id,
        }))
    }

    async fn invoke_event(
        &self,
        request: Request<pb::InvokeRequest>,
    ) -> Result<Response<pb::InvokeEventResponse>, Status> {
        let work = async |app: &App, asked: Asked<'_>| accept(app, asked).await;
        let ((), request_id) = self.with(request, work).await?;
        Ok(Response::new(pb::InvokeEventResponse { request_id }))
    }

    async fn invoke_stream(
        &self,
        request: Request<pb::InvokeRequest>,
    ) -> Result<Response<Self::InvokeStreamStream>, Status> {
        let (outcome, request_id) = self.outcome(request).await?;
        let end = pb::InvokeStreamEnd {
            log_tail: tail(&outcome),
            function_error: outcome.function_error,
            executed_version: outcome.executed_version.to_string(),
            request_id,
        };
        let mut parts = cut(outcome.payload);
        parts.push(Part::End(end));
        let parts = parts
            .into_iter()
            .map(|part| Ok(pb::InvokeStreamPart { part: Some(part) }));
        Ok(Response::new(Box::pin(stream::iter(parts))))
    }
}

/// The payload in pieces, which share its memory.
fn cut(mut payload: Bytes) -> Vec<Part> {
    let mut parts = Vec::with_capacity(payload.len() / FRAME_BYTES + 2);
    while !payload.is_empty() {
        parts.push(Part::Payload(
            payload.split_to(payload.len().min(FRAME_BYTES)),
        ));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_cut_into_parts_of_64_kib() {
        let lengths = |n: usize| -> Vec<usize> {
            let parts = cut(Bytes::from(vec![0; n])).into_iter();
            parts
                .map(|part| match part {
                    Part::Payload(bytes) => bytes.len(),
                    Part::End(_) => 0,
                })
                .collect()
        };
        assert_eq!(lengths(0), [0_usize; 0]);
        assert_eq!(lengths(FRAME_BYTES), [FRAME_BYTES]);
        assert_eq!(lengths(FRAME_BYTES + 1), [FRAME_BYTES, 1]);
    }
}
