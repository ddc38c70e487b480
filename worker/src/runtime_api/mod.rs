//! The Lambda Runtime API 2018-06-01 of one sandbox, over HTTP/1.1 on the driver's listener. What the calls mean for
//! the sandbox is in [`crate::pool::sandbox`]; the platform's error documents are in [`fault`].

pub(crate) mod fault;
mod serve;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::debug;

use crate::pool::sandbox::WeakSandbox;
use crate::sandbox::driver::RuntimeApiListener;

/// Connections one sandbox may hold. Ours: a runtime uses one or two; a hostile function must not use up the worker.
const CONNECTIONS_MAX: usize = 16;

/// Serves until the listener ends. Dropping the future ends the connections.
pub(crate) async fn serve(mut listener: Box<dyn RuntimeApiListener>, sandbox: WeakSandbox) {
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
                let sandbox = sandbox.clone();
                connections.spawn(async move {
                    let _place = place;
                    serve::connection(stream, sandbox).await;
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
