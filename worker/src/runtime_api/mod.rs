//! The Lambda Runtime API 2018-06-01 of one sandbox, over HTTP/1.1 on the driver's listener. What the calls mean for
//! the sandbox is in [`crate::pool::sandbox`]; the platform's error documents are in [`fault`].

mod extensions;
pub(crate) mod fault;
mod serve;

use std::sync::Arc;

use hearth_node::random::SharedRandom;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::debug;

use crate::pool::sandbox::WeakSandbox;
use crate::sandbox::driver::RuntimeApiListener;

/// Connections one sandbox may hold. Ours: a runtime uses one or two, and so does each of ten extensions; a hostile
/// function must not use up the worker.
const CONNECTIONS_MAX: usize = 32;

/// Serves until the listener ends. Dropping the future ends the connections.
pub(crate) async fn serve(
    mut listener: Box<dyn RuntimeApiListener>,
    sandbox: WeakSandbox,
    random: SharedRandom,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let place = Arc::clone(&places)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        match listener.accept().await {
            Ok(stream) => {
                let (sandbox, random) = (sandbox.clone(), Arc::clone(&random));
                connections.spawn(async move {
                    let _place = place;
                    serve::connection(stream, sandbox, random).await;
                });
            }
            Err(error) => {
                debug!(%error, "runtime api listener ended");
                // Connections that are open may still carry a last response.
                while connections.join_next().await.is_some() {}
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
