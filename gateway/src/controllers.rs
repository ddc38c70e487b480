//! The client to the controllers: any of them answers; the next is asked as well when one does not answer soon, and
//! those that do not are asked last (`core::hedge`). What surely did not happen, reads, and writes that the controllers
//! carry out once by their token are sent again within a deadline. Any other write that may have happened is not, not
//! even one that is the same when done twice: between its two times somebody else may have written, and been told so.
//! Code packages travel in `blobs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use hearth_core::control::{ControlReply, ControlRequest};
use hearth_core::error::{Error, ErrorCode, Result};
use hearth_core::hedge::{self, ASKED_MAX, HEDGE_AFTER_MS, Known};
use hearth_core::ids::{AccountId, MonotonicMs};
use hearth_node::Seams;
use hearth_node::grpc::ClusterChannel as Channel;
use hearth_proto::convert::{decode_answer, encode_request};
use hearth_proto::internal::v1 as pb;
use pb::catalog_client::CatalogClient;
use pb::control_client::ControlClient;
use tonic::{Code, Status};
use tracing::info;

use crate::channel::{Dialer, MESSAGE_MAX_BYTES};

/// One attempt at one controller: longer than a commit under load, shorter than an SDK's patience.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// The leader's word on permits; invocations wait for it.
const CAPACITY_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before the controllers are asked all over again, while they elect a leader.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
const HEDGE_AFTER: Duration = Duration::from_millis(HEDGE_AFTER_MS);
/// Controllers known; a cluster has at most five, some learners, and those that the options name.
const CONTROLLERS_MAX: usize = 32;

/// One controller.
#[derive(Debug)]
pub(crate) struct Controller {
    addr: String,
    channel: Channel,
    /// When it did not answer, on the gateway's clock and one more; 0 when it did.
    failed_at: AtomicU64,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Controllers {
    known: ArcSwap<Vec<Arc<Controller>>>,
    /// Those that the options name; they are never forgotten.
    configured: Vec<String>,
    dialer: Dialer,
    seams: Seams,
    /// The one that answered last.
    preferred: AtomicUsize,
    /// For an operation as a whole.
    timeout: Duration,
    /// The controllers carry an operation out once however often it is sent.
    take_once: AtomicBool,
}

/// What is known of a failed attempt.
enum Failed {
    /// The controller did not do it.
    NotDone,
    /// It cannot promise to do it once, and did not do it.
    NotOnce,
    /// It may have done it.
    Unknown(Error),
}

impl Controllers {
    /// Connects when first used.
    pub(crate) fn new(
        addrs: &[String],
        dialer: &Dialer,
        seams: &Seams,
        timeout: Duration,
    ) -> Result<Self, Status> {
        let controllers = Self {
            known: ArcSwap::default(),
            configured: addrs.to_vec(),
            dialer: dialer.clone(),
            seams: seams.clone(),
            preferred: AtomicUsize::new(0),
            timeout,
            take_once: AtomicBool::new(false),
        };
        let known = addrs.iter().map(|addr| controllers.controller(addr));
        let known = known.collect::<Result<_, _>>()?;
        controllers.known.store(Arc::new(known));
        Ok(controllers)
    }

    fn controller(&self, addr: &str) -> Result<Arc<Controller>, Status> {
        Ok(Arc::new(Controller {
            addr: addr.to_owned(),
            channel: self.dialer.controller(addr)?,
            failed_at: AtomicU64::new(0),
        }))
    }

    /// The catalog tells which controllers there are. Those of the options stay whatever it says.
    pub(crate) fn learn(&self, addrs: &[String]) {
        let mut wanted = self.configured.clone();
        wanted.extend(
            addrs
                .iter()
                .filter(|a| !self.configured.contains(a))
                .cloned(),
        );
        wanted.truncate(CONTROLLERS_MAX);
        let known = self.known.load();
        if wanted.iter().eq(known.iter().map(|c| &c.addr)) {
            return;
        }
        let of = |addr: &String| {
            let old = known.iter().find(|c| c.addr == *addr).cloned();
            old.or_else(|| self.controller(addr).ok())
        };
        info!(controllers = ?wanted, "controllers learned");
        self.known
            .store(Arc::new(wanted.iter().filter_map(of).collect()));
    }

    fn now(&self) -> MonotonicMs {
        MonotonicMs(self.seams.clock.monotonic_ms())
    }

    /// All of them, in the order in which they are asked.
    fn in_order(&self) -> Vec<Arc<Controller>> {
        let known = self.known.load();
        let facts: Vec<Known> = known.iter().map(|c| c.facts()).collect();
        let order = hedge::order(&facts, self.preferred.load(Relaxed), self.now());
        order
            .into_iter()
            .map(|index| Arc::clone(&known[index]))
            .collect()
    }

    fn answered(&self, controller: &Arc<Controller>) {
        controller.failed_at.store(0, Relaxed);
        let known = self.known.load();
        if let Some(index) = known.iter().position(|c| Arc::ptr_eq(c, controller)) {
            self.preferred.store(index, Relaxed);
        }
    }

    fn failed(&self, controller: &Controller) {
        controller
            .failed_at
            .store(self.now().0.saturating_add(1), Relaxed);
    }

    /// The channels, in the order in which they are to be tried.
    pub(crate) fn channels(&self) -> Vec<Channel> {
        self.in_order().iter().map(|c| c.channel.clone()).collect()
    }

    /// The client to watch the catalog with, another one each turn.
    pub(crate) fn catalog_client(&self, turn: usize) -> Result<CatalogClient<Channel>, Status> {
        let known = self.known.load();
        let index = (self.preferred.load(Relaxed) + turn)
            .checked_rem(known.len())
            .ok_or_else(|| Status::unavailable("there are no controllers"))?;
        Ok(CatalogClient::new(known[index].channel.clone())
            .max_decoding_message_size(MESSAGE_MAX_BYTES))
    }

    /// Runs an operation.
    pub(crate) async fn execute(&self, request: &ControlRequest) -> Result<ControlReply> {
        let work = async {
            let once = match written_account(request) {
                Some(account) => self.takes_once(account).await,
                None => false,
            };
            if !once && is_write(request) {
                return self.execute_with_retries(request).await;
            }
            match self.execute_hedged(request, once).await {
                // A controller of an earlier release has joined; nothing happened.
                Err(Refused::NotOnce) => self.execute_with_retries(request).await,
                Err(Refused::Answer(error)) => Err(error),
                Ok(reply) => Ok(reply),
            }
        };
        tokio::time::timeout(self.timeout, work)
            .await
            .unwrap_or_else(|_| Err(unavailable("no controller answered in time")))
    }

    /// Whether the controllers carry an operation out once, as any answer of theirs says. A read brings one if need be:
    /// without it the first write of a gateway's life, or one soon after a controller's start, would not survive the
    /// loss of the leader.
    async fn takes_once(&self, account: &AccountId) -> bool {
        if !self.take_once.load(Relaxed) {
            let account = account.clone();
            let question = ControlRequest::GetAccount { account };
            drop(self.execute_hedged(&question, false).await);
        }
        self.take_once.load(Relaxed)
    }

    /// For what may be sent several times. The deadline of the whole ends it.
    async fn execute_hedged(
        &self,
        request: &ControlRequest,
        once: bool,
    ) -> Result<ControlReply, Refused> {
        let call = pb::ControlCall {
            token: self.seams.random.uuid(),
            once,
            ..encode_request(request)
        };
        let mut running = FuturesUnordered::new();
        let mut may_have_happened = false;
        loop {
            for controller in self.in_order() {
                running.push(attempt(controller, call.clone()));
                // The rest of a round waits for an answer, or for the moment in which one is missed.
                let Some((controller, result)) = self.next_answer(&mut running).await else {
                    continue;
                };
                match result {
                    Ok(answer) => {
                        self.note(&controller, &answer);
                        return decode_answer(&answer).map_err(Refused::Answer);
                    }
                    Err(Failed::NotOnce) if !may_have_happened && running.is_empty() => {
                        self.take_once.store(false, Relaxed);
                        return Err(Refused::NotOnce);
                    }
                    Err(Failed::NotDone | Failed::NotOnce) => self.failed(&controller),
                    Err(Failed::Unknown(_)) => {
                        may_have_happened = true;
                        self.failed(&controller);
                    }
                }
            }
            tokio::time::sleep(ROUND_PAUSE).await;
        }
    }

    /// The next answer, or `None` when it is time to ask another controller as well.
    async fn next_answer<F>(&self, running: &mut FuturesUnordered<F>) -> Option<Attempt>
    where
        F: Future<Output = Attempt>,
    {
        if running.len() >= ASKED_MAX {
            return running.next().await;
        }
        tokio::select! {
            answer = running.next() => answer,
            () = tokio::time::sleep(HEDGE_AFTER) => None,
        }
    }

    fn note(&self, controller: &Arc<Controller>, answer: &pb::ControlAnswer) {
        self.answered(controller);
        self.take_once.store(answer.takes_once, Relaxed);
    }

    /// For what must not be sent twice.
    async fn execute_with_retries(&self, request: &ControlRequest) -> Result<ControlReply> {
        let call = encode_request(request);
        // The deadline of the whole ends this.
        loop {
            for controller in self.in_order() {
                let (controller, result) = attempt(controller, call.clone()).await;
                match result {
                    Ok(answer) => {
                        self.note(&controller, &answer);
                        return decode_answer(&answer);
                    }
                    Err(Failed::NotDone | Failed::NotOnce) => self.failed(&controller),
                    Err(Failed::Unknown(error)) => {
                        self.failed(&controller);
                        return Err(error);
                    }
                }
            }
            tokio::time::sleep(ROUND_PAUSE).await;
        }
    }

    /// Asks the leader for permits, through any controller. Asking twice does no harm.
    pub(crate) async fn need_capacity(
        &self,
        request: pb::NeedCapacityRequest,
    ) -> Result<pb::NeedCapacityReply, Status> {
        let ask = |controller: Arc<Controller>| ask_capacity(controller, request.clone());
        let asking = async {
            let mut last = Status::unavailable("there are no controllers");
            let mut running = FuturesUnordered::new();
            let mut others = self.in_order().into_iter();
            running.extend(others.next().map(&ask));
            loop {
                let more = others.len() > 0 && running.len() < ASKED_MAX;
                let answer = tokio::select! {
                    answer = running.next() => answer,
                    () = tokio::time::sleep(HEDGE_AFTER), if more => {
                        running.extend(others.next().map(&ask));
                        continue;
                    }
                };
                match answer {
                    Some((controller, Ok(reply))) => {
                        self.answered(&controller);
                        return Ok(reply.into_inner());
                    }
                    Some((_, Err(status))) => last = status,
                    None => {}
                }
                if running.is_empty() {
                    match others.next() {
                        Some(next) => running.push(ask(next)),
                        None => return Err(last),
                    }
                }
            }
        };
        tokio::time::timeout(CAPACITY_TIMEOUT, asking)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no leader answered in time")))
    }
}

impl Controller {
    fn facts(&self) -> Known {
        let failed_at = self.failed_at.load(Relaxed).checked_sub(1);
        Known {
            failed_at: failed_at.map(MonotonicMs),
        }
    }
}

/// A controller and what it answered.
type Attempt = (Arc<Controller>, Result<pb::ControlAnswer, Failed>);

/// Why an operation gave no reply.
enum Refused {
    /// It cannot be carried out once; nothing happened.
    NotOnce,
    /// The answer, or none in time.
    Answer(Error),
}

fn unavailable(text: &str) -> Error {
    Error::new(ErrorCode::Unavailable, text)
}

async fn attempt(controller: Arc<Controller>, call: pb::ControlCall) -> Attempt {
    let mut client =
        ControlClient::new(controller.channel.clone()).max_decoding_message_size(MESSAGE_MAX_BYTES);
    let once = call.once;
    let answer = tokio::time::timeout(ATTEMPT_TIMEOUT, client.execute(call)).await;
    let result = match answer {
        Ok(Ok(answer)) => match decode_answer(answer.get_ref()) {
            Err(error) if error.is_not_done() => Err(Failed::NotDone),
            Err(error) if error.code == ErrorCode::Unavailable => Err(Failed::Unknown(error)),
            _ => Ok(answer.into_inner()),
        },
        Ok(Err(status)) if is_connect_error(&status) => Err(Failed::NotDone),
        Ok(Err(status)) if once && status.code() == Code::FailedPrecondition => {
            Err(Failed::NotOnce)
        }
        Ok(Err(status)) => Err(Failed::Unknown(hearth_proto::status::from_status(&status))),
        Err(_) => Err(Failed::Unknown(unavailable(
            "a controller did not answer in time",
        ))),
    };
    (controller, result)
}

async fn ask_capacity(
    controller: Arc<Controller>,
    request: pb::NeedCapacityRequest,
) -> (
    Arc<Controller>,
    Result<tonic::Response<pb::NeedCapacityReply>, Status>,
) {
    let mut client = ControlClient::new(controller.channel.clone());
    let reply = client.need_capacity(request).await;
    (controller, reply)
}

/// Whether it changes anything.
fn is_write(request: &ControlRequest) -> bool {
    written_account(request).is_some()
}

/// The account of an operation that changes something.
fn written_account(request: &ControlRequest) -> Option<&AccountId> {
    match request {
        ControlRequest::CreateFunction { account, .. }
        | ControlRequest::UpdateFunctionConfiguration { account, .. }
        | ControlRequest::DeleteFunction { account, .. }
        | ControlRequest::SetReservedConcurrency { account, .. }
        | ControlRequest::TagFunction { account, .. }
        | ControlRequest::ChangeVersions { account, .. }
        | ControlRequest::ChangeAttached { account, .. }
        | ControlRequest::ChangeResource { account, .. }
        | ControlRequest::ChangeIam { account, .. }
        | ControlRequest::ChangeLayer { account, .. } => Some(account),
        ControlRequest::ThenPublish { first } => written_account(first),
        ControlRequest::UpdateFunctionCode {
            account, dry_run, ..
        } => (!dry_run).then_some(account),
        ControlRequest::GetFunction { .. }
        | ControlRequest::QueryLayers { .. }
        | ControlRequest::QueryResources { .. }
        | ControlRequest::QueryIam { .. }
        | ControlRequest::GetProvisioned { .. }
        | ControlRequest::ListFunctions { .. }
        | ControlRequest::GetAccount { .. }
        | ControlRequest::ClusterStatus => None,
    }
}

/// Whether the request never left: tonic marks a failure to connect by its source.
fn is_connect_error(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        source = error.source();
    }
    status.code() == Code::Unavailable && status.message().contains("tcp connect")
}
