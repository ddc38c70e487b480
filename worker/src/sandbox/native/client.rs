//! The worker's end of the connection to the spawner: starts it, sends requests, tells ends.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

use super::config::NativeConfig;
use super::control::{LinuxControl, Sandbox};
use super::slots::Slot;
use super::wire::{Failure, MESSAGE_MAX, Reply, Request, StartRequest, encode};
use crate::sandbox::driver::DriverError;
use crate::sandbox::sys;

/// A spawner that is not ready by then is broken.
const READY_DEADLINE: Duration = Duration::from_secs(10);

/// A start takes a millisecond; a host on which it takes this long is not usable.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// One spawner process and the sandboxes it made.
#[derive(Debug)]
pub(super) struct Client {
    socket: AsyncFd<OwnedFd>,
    table: Mutex<Table>,
    /// True once the spawner is gone.
    gone: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Table {
    closed: bool,
    last_key: u64,
    entries: BTreeMap<u64, Entry>,
}

/// A sandbox from the request to the end.
#[derive(Debug)]
struct Entry {
    sandbox: Arc<Sandbox>,
    /// Given back with the entry.
    _slot: Slot,
    /// Who waits for the start.
    starting: Option<oneshot::Sender<Result<LinuxControl, Failure>>>,
}

impl Client {
    /// Starts a spawner and waits until it is ready.
    pub(super) async fn launch(config: &NativeConfig) -> Result<Arc<Self>, DriverError> {
        let setup = |step: &str, source| DriverError::Setup {
            step: step.to_owned(),
            source,
        };
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .map_err(|errno| setup("make the spawner's socket", errno.into()))?;
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|errno| setup("make the spawner's socket non-blocking", errno.into()))?;
        let process = tokio::process::Command::new(&config.spawner.program)
            .args(&config.spawner.args)
            // Nothing of the worker's environment is to be found in a sandbox's ancestors.
            .env_clear()
            .stdin(Stdio::from(theirs))
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| {
                setup(
                    &format!("start {}", config.spawner.program.display()),
                    source,
                )
            })?;
        let client = Arc::new(Self {
            socket: sys::net::watch(ours)
                .map_err(|source| setup("watch the spawner's socket", source))?,
            table: Mutex::default(),
            gone: watch::Sender::new(false),
        });
        let state_dir = config.state_dir.to_string_lossy().into_owned();
        client
            .send(&encode(&Request::Configure { state_dir }), &[])
            .await
            .map_err(|_| DriverError::Gone)?;
        let mut buffer = vec![0; MESSAGE_MAX];
        let answer = tokio::time::timeout(READY_DEADLINE, client.receive(&mut buffer)).await;
        match answer {
            Ok(Ok(Some((Reply::Ready, _)))) => {}
            Ok(Ok(Some((Reply::Unusable { step, errno }, _)))) => {
                return Err(DriverError::Setup {
                    step,
                    source: io::Error::from_raw_os_error(errno),
                });
            }
            Ok(Ok(_)) => return Err(DriverError::Gone),
            Ok(Err(source)) => return Err(setup("wait for the spawner", source)),
            Err(_) => {
                return Err(setup(
                    "wait for the spawner",
                    io::ErrorKind::TimedOut.into(),
                ));
            }
        }
        // Ends with the spawner, which ends when `close` is called; see `driver`'s Drop.
        tokio::spawn(Arc::clone(&client).read(process, buffer));
        Ok(client)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// Asks for a sandbox and waits until its program was executed.
    pub(super) async fn start(
        &self,
        mut request: StartRequest,
        descriptors: &[BorrowedFd<'_>],
        sandbox: Arc<Sandbox>,
        slot: Slot,
    ) -> Result<LinuxControl, DriverError> {
        let (starting, started) = oneshot::channel();
        let unsent = {
            let mut table = self.table();
            if table.closed {
                return Err(DriverError::Gone);
            }
            table.last_key += 1;
            request.key = table.last_key;
            table.entries.insert(
                request.key,
                Entry {
                    sandbox,
                    _slot: slot,
                    starting: Some(starting),
                },
            );
            Unsent {
                client: self,
                key: request.key,
            }
        };
        let program = request.argv.first().cloned().unwrap_or_default();
        let message = encode(&Request::Start(request));
        if message.len() > MESSAGE_MAX {
            return Err(DriverError::InvalidSpec(format!(
                "longer than {MESSAGE_MAX} bytes"
            )));
        }
        match tokio::time::timeout(START_DEADLINE, self.send(&message, descriptors)).await {
            Ok(Ok(())) => unsent.forget(),
            Ok(Err(_)) | Err(_) => return Err(DriverError::Gone),
        }
        // If this gives up, or the caller does, the control is dropped on arrival, which kills.
        match tokio::time::timeout(START_DEADLINE, started).await {
            Ok(Ok(Ok(control))) => Ok(control),
            Ok(Ok(Err(Failure::Exec { errno }))) => Err(DriverError::Exec {
                program,
                source: io::Error::from_raw_os_error(errno),
            }),
            Ok(Ok(Err(Failure::Setup { step, errno }))) => Err(DriverError::Setup {
                step,
                source: io::Error::from_raw_os_error(errno),
            }),
            Ok(Err(_)) => Err(DriverError::Gone),
            Err(_) => Err(DriverError::Setup {
                step: "wait for the start".to_owned(),
                source: io::ErrorKind::TimedOut.into(),
            }),
        }
    }

    /// Kills all, waits for the spawner to end.
    pub(super) async fn close(&self) {
        self.hang_up();
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }

    /// Makes the spawner end, and its sandboxes with it.
    pub(super) fn hang_up(&self) {
        self.table().closed = true;
        // Already disconnected when the spawner is gone.
        let _ = shutdown(self.socket.get_ref().as_raw_fd(), Shutdown::Write);
    }

    async fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        loop {
            let mut ready = self.socket.writable().await?;
            if let Ok(result) = ready.try_io(|socket| sys::net::send(socket, message, descriptors))
            {
                return result;
            }
        }
    }

    /// `None` when the spawner is gone.
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(Reply, Vec<OwnedFd>)>> {
        loop {
            let mut ready = self.socket.readable().await?;
            let Ok(received) = ready.try_io(|socket| sys::net::receive(socket, buffer)) else {
                continue;
            };
            let (length, descriptors) = received?;
            if length == 0 {
                return Ok(None);
            }
            let reply = serde_json::from_slice(&buffer[..length]).map_err(io::Error::from)?;
            return Ok(Some((reply, descriptors)));
        }
    }

    /// The task that listens to the spawner for all its life.
    async fn read(self: Arc<Self>, mut process: tokio::process::Child, mut buffer: Vec<u8>) {
        loop {
            match self.receive(&mut buffer).await {
                Ok(Some((reply, descriptors))) => self.on_reply(reply, descriptors),
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "connection to the spawner broke");
                    break;
                }
            }
        }
        let entries = {
            let mut table = self.table();
            if !table.closed {
                tracing::error!(
                    sandboxes = table.entries.len(),
                    "spawner ended, and its sandboxes with it"
                );
            }
            table.closed = true;
            std::mem::take(&mut table.entries)
        };
        for entry in entries.values() {
            entry.sandbox.kill();
        }
        // Once it is reaped its children have been sent their parent death signal.
        let _ = process.start_kill();
        let _ = process.wait().await;
        for entry in entries.into_values() {
            drop(entry.sandbox.on_end(None));
        }
        self.gone.send_replace(true);
    }

    fn on_reply(&self, reply: Reply, descriptors: Vec<OwnedFd>) {
        match reply {
            Reply::Started { key } => {
                let Some(pidfd) = descriptors.into_iter().next() else {
                    return;
                };
                let mut table = self.table();
                let Some(entry) = table.entries.get_mut(&key) else {
                    return;
                };
                let control = entry.sandbox.on_started(Box::new(pidfd));
                let unwanted = entry
                    .starting
                    .take()
                    .map(|starting| starting.send(Ok(control)));
                // Dropping a control that nobody waits for kills the sandbox; not under the lock.
                drop(table);
                drop(unwanted);
            }
            Reply::Failed { key, failure } => {
                let entry = self.table().entries.remove(&key);
                let Some(mut entry) = entry else { return };
                drop(entry.sandbox.on_end(None));
                if let Some(starting) = entry.starting.take() {
                    // Nobody may be waiting any more.
                    let _ = starting.send(Err(failure));
                }
            }
            Reply::Exited { key, end } => {
                let entry = self.table().entries.remove(&key);
                if let Some(entry) = entry {
                    drop(entry.sandbox.on_end(end));
                }
            }
            // Only ever the first reply, taken by `launch`.
            Reply::Ready | Reply::Unusable { .. } => {}
        }
    }
}

/// Takes a sandbox out of the table again unless its request was sent.
#[derive(Debug)]
struct Unsent<'a> {
    client: &'a Client,
    key: u64,
}

impl Unsent<'_> {
    fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        let entry = self.client.table().entries.remove(&self.key);
        drop(entry);
    }
}
