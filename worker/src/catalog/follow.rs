//! Follows at one controller what the worker wants, and at the next one when that falls silent or is behind.

use std::time::Duration;

use hearth_node::Seams;
use hearth_proto::internal::v1 as pb;
use pb::catalog_client::CatalogClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::info;

use super::{Catalog, FunctionKey};
use crate::controllers::Controllers;

/// A controller that says nothing for so long is gone; it speaks every second.
const SILENCE: Duration = Duration::from_secs(4);

/// Longest and shortest pause before the next controller is asked.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// Largest update taken, bytes: many function documents.
const UPDATE_MAX_BYTES: usize = 64 << 20;
/// Functions named in one request: some hundred kilobytes.
const REQUEST_MAX: usize = 2_048;
/// A controller is followed for so long before another is looked for that may be less behind.
const TRIED_MS: u64 = 5_000;
/// Requests that wait for a controller.
const REQUESTS: usize = 16;

/// Keeps the catalog current until told to stop. While no controller answers, it stays as it is.
pub(crate) async fn run(
    catalog: Catalog,
    controllers: Controllers,
    node_id: u64,
    seams: Seams,
    token: CancellationToken,
) {
    let mut pause = BACKOFF_MIN;
    while !token.is_cancelled() {
        for controller in controllers.in_random_order(&seams) {
            let following = follow_one(&catalog, &controllers, &controller, node_id);
            let ended = tokio::select! {
                () = token.cancelled() => return,
                ended = following => ended,
            };
            match ended {
                Ok(()) => pause = BACKOFF_MIN,
                Err(error) => info!(%controller, error, "catalog not followed"),
            }
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}

/// Follows one controller until it falls silent or lacks something; an error when it never spoke.
async fn follow_one(
    catalog: &Catalog,
    controllers: &Controllers,
    addr: &str,
    node_id: u64,
) -> Result<(), String> {
    let channel = controllers.channel(addr).map_err(|e| e.to_string())?;
    let (requests, outgoing) = mpsc::channel(REQUESTS);
    let hello = pb::FollowRequest {
        node_id,
        ..pb::FollowRequest::default()
    };
    // The channel is empty, so there is room.
    requests.try_send(hello).map_err(|e| e.to_string())?;
    let mut client = CatalogClient::new(channel).max_decoding_message_size(UPDATE_MAX_BYTES);
    let opening = client.follow(ReceiverStream::new(outgoing));
    let opened = hearth_node::grpc::with_deadline(opening, SILENCE).await;
    let mut updates = opened.map_err(|e| e.message().to_owned())?.into_inner();
    say(&requests, catalog.all_wanted()).await?;
    listen(catalog, controllers, &mut updates, &requests).await
}

async fn listen(
    catalog: &Catalog,
    controllers: &Controllers,
    updates: &mut Streaming<pb::FollowUpdate>,
    requests: &mpsc::Sender<pb::FollowRequest>,
) -> Result<(), String> {
    let began = catalog.clock.monotonic_ms();
    let mut spoke = false;
    let mut silence = std::pin::pin!(tokio::time::sleep(SILENCE));
    loop {
        let is_tried = spoke && catalog.clock.monotonic_ms().saturating_sub(began) >= TRIED_MS;
        let update = tokio::select! {
            update = updates.message() => update,
            () = catalog.wanted.notified() => {
                say(requests, catalog.newly_wanted()).await?;
                continue;
            }
            // Another controller may have what this one lacks.
            () = catalog.behind.notified(), if is_tried => return Ok(()),
            () = &mut silence => Ok(None),
        };
        match update {
            Ok(Some(update)) => {
                spoke = true;
                silence.set(tokio::time::sleep(SILENCE));
                if let Some(all) = &update.controllers {
                    controllers.learn(all.addrs.clone());
                }
                catalog.apply(&update);
            }
            Ok(None) | Err(_) if spoke => return Ok(()),
            Ok(None) => return Err("ended at once".to_owned()),
            Err(status) => return Err(status.message().to_owned()),
        }
    }
}

async fn say(
    requests: &mpsc::Sender<pb::FollowRequest>,
    all: Vec<pb::FollowRequest>,
) -> Result<(), String> {
    for request in all {
        let sending = tokio::time::timeout(SILENCE, requests.send(request)).await;
        if !matches!(sending, Ok(Ok(()))) {
            return Err("the controller takes no requests".to_owned());
        }
    }
    Ok(())
}

impl Catalog {
    /// Everything that is followed, for a controller that knows nothing of it.
    pub(super) fn all_wanted(&self) -> Vec<pb::FollowRequest> {
        let mut state = self.write();
        state.to_follow.clear();
        state.to_leave.clear();
        let followed = state.functions.iter();
        let followed: Vec<pb::FollowedFunction> = followed
            .map(|(key, known)| pb::FollowedFunction {
                key: Some(named(key)),
                digest: known.digest.clone().into(),
            })
            .collect();
        let chunks = followed.chunks(REQUEST_MAX);
        chunks
            .map(|chunk| pb::FollowRequest {
                follow: chunk.to_vec(),
                ..pb::FollowRequest::default()
            })
            .collect()
    }

    /// What has changed of what is followed.
    pub(super) fn newly_wanted(&self) -> Vec<pb::FollowRequest> {
        let mut state = self.write();
        let mut leave = std::mem::take(&mut state.to_leave);
        let mut follow = std::mem::take(&mut state.to_follow);
        // What was wanted, let go and wanted again, or the other way round, is told as it is now.
        leave.retain(|key| !state.functions.contains_key(key));
        follow.retain(|key| state.functions.contains_key(key));
        let leaving = leave.chunks(REQUEST_MAX).map(|chunk| pb::FollowRequest {
            leave: chunk.iter().map(named).collect(),
            ..pb::FollowRequest::default()
        });
        let following = follow.chunks(REQUEST_MAX).map(|chunk| {
            let new = |key: &FunctionKey| pb::FollowedFunction {
                key: Some(named(key)),
                ..pb::FollowedFunction::default()
            };
            pb::FollowRequest {
                follow: chunk.iter().map(new).collect(),
                ..pb::FollowRequest::default()
            }
        });
        leaving.chain(following).collect()
    }
}

fn named(key: &FunctionKey) -> pb::FunctionKey {
    pb::FunctionKey {
        account: key.0.as_str().to_owned(),
        name: key.1.as_str().to_owned(),
    }
}
