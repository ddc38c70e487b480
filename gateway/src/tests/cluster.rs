//! A gateway with a scripted controller and scripted workers around it, and a client that signs.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use hearth_aws_api::sigv4::{SecretKey, Signer, sign};
use hearth_core::control::{AccountSummary, ControlReply, ControlRequest};
use hearth_core::error::{Error, ErrorCode, NOT_DONE};
use hearth_core::function::Function;
use hearth_core::name::FunctionName;
use hearth_node::Seams;
use hearth_proto::convert::{decode_request, encode_answer, encode_function};
use hearth_proto::internal::v1 as pb;
use http::{Request as HttpRequest, Response as HttpResponse};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use pb::blobs_server::{Blobs, BlobsServer};
use pb::catalog_server::{Catalog, CatalogServer};
use pb::control_server::{Control, ControlServer};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

use super::worker::{ACCOUNT, FakeWorker};
use crate::testing::function;
use crate::{Gateway, Options, Secret, start};

pub(crate) const KEY: &str = "AKIDEXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI";

/// The controller's part.
#[derive(Debug)]
pub(crate) struct FakeController {
    pub(crate) functions: Mutex<BTreeMap<String, Function>>,
    pub(crate) blobs: Mutex<BTreeMap<Vec<u8>, Bytes>>,
    pub(crate) workers: Vec<(Arc<FakeWorker>, String)>,
    /// What NeedCapacity grants; none: the limit is reached.
    pub(crate) grants: Option<u32>,
    pub(crate) asked: AtomicU32,
    pub(crate) gets: AtomicU32,
    /// Writes are carried out once by their tokens, and controllers say so.
    pub(crate) takes_once: AtomicBool,
    /// Answers to writes by their tokens.
    once: Mutex<BTreeMap<String, Result<ControlReply, Error>>>,
    /// Writes that are carried out and whose answers are lost.
    pub(crate) lost_answers: AtomicU32,
    /// Operations that are not carried out and answered so, as by a controller without a leader.
    pub(crate) not_done: AtomicU32,
}

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct Shared(Arc<FakeController>);

/// As the controllers word it.
fn missing(name: &FunctionName) -> Error {
    let arn = format!("arn:aws:lambda:us-east-1:000000000000:function:{name}");
    Error::new(ErrorCode::NotFound, format!("Function not found: {arn}"))
}

impl FakeController {
    fn execute(&self, request: ControlRequest) -> Result<ControlReply, Error> {
        let mut functions = self.functions.lock().unwrap();
        match request {
            ControlRequest::CreateFunction {
                name,
                config,
                code,
                tags,
                ..
            } => {
                if functions.contains_key(name.as_str()) {
                    let text = format!("Function already exist: {name}");
                    return Err(Error::new(ErrorCode::ResourceConflict, text));
                }
                let mut made = function(name.as_str(), 1);
                (made.latest.config, made.latest.code, made.tags) = (config, code, tags);
                functions.insert(name.to_string(), made.clone());
                Ok(ControlReply::Function(Box::new(made)))
            }
            ControlRequest::GetFunction { name, .. } => {
                self.gets.fetch_add(1, SeqCst);
                let found = functions
                    .get(name.as_str())
                    .cloned()
                    .ok_or_else(|| missing(&name))?;
                Ok(ControlReply::Function(Box::new(found)))
            }
            ControlRequest::ListFunctions { after, limit, .. } => {
                let names = functions
                    .values()
                    .filter(|f| after.as_ref().is_none_or(|a| f.name > *a));
                let mut page: Vec<Function> = names.take(limit + 1).cloned().collect();
                let more = page.len() > limit;
                page.truncate(limit);
                Ok(ControlReply::Functions {
                    functions: page,
                    more,
                })
            }
            ControlRequest::UpdateFunctionConfiguration { name, patch, .. } => {
                let found = functions
                    .get_mut(name.as_str())
                    .ok_or_else(|| missing(&name))?;
                patch.apply_to(&mut found.latest.config);
                Ok(ControlReply::Function(Box::new(found.clone())))
            }
            ControlRequest::DeleteFunction { name, .. } => {
                functions
                    .remove(name.as_str())
                    .ok_or_else(|| missing(&name))?;
                Ok(ControlReply::Done)
            }
            ControlRequest::SetReservedConcurrency { name, reserved, .. } => {
                let found = functions
                    .get_mut(name.as_str())
                    .ok_or_else(|| missing(&name))?;
                found.reserved_concurrency = reserved;
                Ok(ControlReply::Function(Box::new(found.clone())))
            }
            ControlRequest::GetAccount { .. } => Ok(ControlReply::Account(AccountSummary {
                concurrency_limit: 1_000,
                ..AccountSummary::default()
            })),
            other => Err(Error::new(
                ErrorCode::Internal,
                format!("not scripted: {other:?}"),
            )),
        }
    }
}

#[tonic::async_trait]
impl Control for Shared {
    async fn execute(
        &self,
        call: Request<pb::ControlCall>,
    ) -> Result<Response<pb::ControlAnswer>, Status> {
        let request = decode_request(call.get_ref()).unwrap();
        let lose = |left: u32| left.checked_sub(1);
        if self.0.not_done.fetch_update(SeqCst, SeqCst, lose).is_ok() {
            let error = Error::new(ErrorCode::Unavailable, "no leader").with_reason(NOT_DONE);
            return Ok(Response::new(encode_answer(&Err(error))));
        }
        let is_read = matches!(
            request,
            ControlRequest::GetFunction { .. }
                | ControlRequest::GetAccount { .. }
                | ControlRequest::ListFunctions { .. }
        );
        let call = call.into_inner();
        let takes_once = self.0.takes_once.load(SeqCst);
        assert!(takes_once || !call.once, "sent again to who cannot tell");
        let known = self.0.once.lock().unwrap().get(&call.token).cloned();
        let answer = match known {
            Some(answer) if call.once => answer,
            _ => self.0.execute(request),
        };
        if call.once {
            let mut once = self.0.once.lock().unwrap();
            once.insert(call.token, answer.clone());
        }
        let lost = &self.0.lost_answers;
        if !is_read && lost.fetch_update(SeqCst, SeqCst, lose).is_ok() {
            return Err(Status::unavailable("the answer was lost"));
        }
        Ok(Response::new(pb::ControlAnswer {
            takes_once,
            ..encode_answer(&answer)
        }))
    }

    async fn need_capacity(
        &self,
        _request: Request<pb::NeedCapacityRequest>,
    ) -> Result<Response<pb::NeedCapacityReply>, Status> {
        use pb::need_capacity_reply::Outcome;
        self.0.asked.fetch_add(1, SeqCst);
        let Some(permits) = self.0.grants else {
            return Ok(Response::new(pb::NeedCapacityReply {
                outcome: Outcome::AtLimit.into(),
                workers: vec![],
                reason: "ConcurrentInvocationLimitExceeded".into(),
            }));
        };
        for (worker, _) in &self.0.workers {
            worker.grant(permits).await;
        }
        Ok(Response::new(pb::NeedCapacityReply {
            outcome: Outcome::Granted.into(),
            workers: self.0.workers.iter().map(|(w, _)| w.id).collect(),
            reason: String::new(),
        }))
    }
}

#[tonic::async_trait]
impl Catalog for Shared {
    type FollowStream = Frames<pb::FollowUpdate>;

    async fn follow(
        &self,
        _request: Request<Streaming<pb::FollowRequest>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    type WatchStream = Frames<pb::CatalogUpdate>;

    async fn watch(
        &self,
        _request: Request<pb::WatchCatalogRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let functions = self.0.functions.lock().unwrap();
        let picture = pb::CatalogUpdate {
            index: 1,
            restart: true,
            complete: true,
            functions: functions.values().map(encode_function).collect(),
            workers: self
                .0
                .workers
                .iter()
                .map(|(w, addr)| pb::WorkerAddress {
                    id: w.id,
                    incarnation: 1,
                    addr: addr.clone(),
                    draining: false,
                })
                .collect(),
            ..pb::CatalogUpdate::default()
        };
        let alive = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok(pb::CatalogUpdate::default()), ()))
        });
        Ok(Response::new(Box::pin(
            stream::iter([Ok(picture)]).chain(alive),
        )))
    }
}

#[tonic::async_trait]
impl Blobs for Shared {
    type GetStream = Frames<pb::BlobChunk>;

    async fn put(
        &self,
        request: Request<Streaming<pb::PutBlobRequest>>,
    ) -> Result<Response<pb::PutBlobReply>, Status> {
        let mut parts = request.into_inner();
        let (mut digest, mut content) = (Vec::new(), Vec::new());
        while let Some(part) = parts.message().await? {
            match part.part.unwrap() {
                pb::put_blob_request::Part::Start(start) => digest = start.sha256.to_vec(),
                pb::put_blob_request::Part::Chunk(chunk) => content.extend_from_slice(&chunk),
            }
        }
        self.0.blobs.lock().unwrap().insert(digest, content.into());
        Ok(Response::new(pb::PutBlobReply {}))
    }

    async fn get(
        &self,
        request: Request<pb::GetBlobRequest>,
    ) -> Result<Response<Self::GetStream>, Status> {
        let found = self
            .0
            .blobs
            .lock()
            .unwrap()
            .get(&request.get_ref().sha256[..])
            .cloned();
        let data = found.ok_or_else(|| Status::not_found("no such blob"))?;
        Ok(Response::new(Box::pin(stream::iter([Ok(pb::BlobChunk {
            data,
        })]))))
    }

    async fn has(
        &self,
        _request: Request<pb::HasBlobRequest>,
    ) -> Result<Response<pb::HasBlobReply>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) gateway: Gateway,
    pub(crate) controller: Arc<FakeController>,
    client: Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>,
}

/// Starts a cluster with these functions in its catalog; ready when it returns.
pub(crate) async fn cluster(
    functions: &[&str],
    workers: Vec<FakeWorker>,
    grants: Option<u32>,
) -> Cluster {
    cluster_with(functions, workers, grants, |_| {}).await
}

pub(crate) async fn cluster_with(
    functions: &[&str],
    workers: Vec<FakeWorker>,
    grants: Option<u32>,
    change: impl FnOnce(&mut Options),
) -> Cluster {
    let mut served = Vec::new();
    for worker in workers {
        let worker = Arc::new(worker);
        let addr = Arc::clone(&worker).serve().await;
        served.push((worker, addr));
    }
    let controller = Arc::new(FakeController {
        functions: Mutex::new(
            functions
                .iter()
                .map(|name| ((*name).to_owned(), function(name, 1)))
                .collect(),
        ),
        blobs: Mutex::default(),
        workers: served,
        grants,
        asked: AtomicU32::new(0),
        gets: AtomicU32::new(0),
        takes_once: AtomicBool::new(true),
        once: Mutex::default(),
        lost_answers: AtomicU32::new(0),
        not_done: AtomicU32::new(0),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(ControlServer::new(Shared(Arc::clone(&controller))))
        .add_service(CatalogServer::new(Shared(Arc::clone(&controller))))
        .add_service(BlobsServer::new(Shared(Arc::clone(&controller))));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let mut options = Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        controllers: vec![addr.to_string()],
        access_key_id: KEY.into(),
        secret_access_key: Secret(SECRET.into()),
        account_id: ACCOUNT.into(),
        drain_grace: hearth_node::config::HumanDuration::from_millis(0),
        ..Options::default()
    };
    change(&mut options);
    let gateway = start(options, Seams::system()).await.unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let cluster = Cluster {
        gateway,
        controller,
        client,
    };
    cluster.until_ready().await;
    cluster
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

impl Cluster {
    /// Waits for the conditions of readiness.
    async fn until_ready(&self) {
        let url = format!("http://{}/readyz", self.gateway.admin_addr);
        let ready = async {
            loop {
                let request = HttpRequest::get(&url).body(Full::default()).unwrap();
                if self
                    .client
                    .request(request)
                    .await
                    .is_ok_and(|r| r.status() == 200)
                {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ready)
            .await
            .expect("ready in time");
    }

    /// Signs with the right secret and sends.
    pub(crate) async fn send(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send_with(method, path, body, &[], SECRET).await
    }

    pub(crate) async fn send_with(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
        headers: &[(&'static str, &str)],
        secret: &str,
    ) -> Answer {
        let body = body.into();
        let mut request = HttpRequest::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.gateway.addr))
            .header("host", self.gateway.addr.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let secret = SecretKey::new(secret);
        let signer = Signer {
            access_key_id: KEY,
            secret: &secret,
            session_token: None,
            region: "us-east-1",
            service: "lambda",
        };
        let now = Seams::system().clock.unix_ms();
        let now =
            time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(now) * 1_000_000).unwrap();
        sign(&mut parts, &body, signer, now).unwrap();
        self.request(HttpRequest::from_parts(parts, Full::new(body)))
            .await
    }

    pub(crate) async fn request(&self, request: HttpRequest<Full<Bytes>>) -> Answer {
        let response = self.client.request(request).await.unwrap();
        let (parts, body) = HttpResponse::into_parts(response);
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub(crate) async fn invoke(&self, function: &str, payload: impl Into<Bytes>) -> Answer {
        let path = format!("/2015-03-31/functions/{function}/invocations");
        self.send("POST", &path, payload).await
    }

    pub(crate) fn worker(&self, index: usize) -> &FakeWorker {
        &self.controller.workers[index].0
    }
}
