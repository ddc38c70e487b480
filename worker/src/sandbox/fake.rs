//! A driver without processes: a script plays the runtime over in-memory streams.
//!
//! For tests and the simulation. It upholds the contract of [`super::driver`] (kill, wait, drop kills, frozen scripts
//! stand still), and nothing of the isolation.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};

use super::driver::{
    Diagnosis, Driver, DriverError, ExitReport, ExitStatus, ProcessEvent, Processes,
    RuntimeApiListener, RuntimeApiStream, SandboxControl, SandboxSpec, StartedExtensions,
    StartedSandbox,
};

/// Bytes in flight in each direction of a fake stream; like a small socket buffer.
const STREAM_BUFFER: usize = 64 * 1024;

/// Connections not yet accepted; like a listen backlog.
const BACKLOG: usize = 16;

/// A future that ends when the fake runtime "process" ends.
pub type ScriptFuture = Pin<Box<dyn Future<Output = ExitStatus> + Send>>;

type Script = dyn Fn(FakeSandbox) -> ScriptFuture + Send + Sync;

/// What the script of a fake sandbox holds: the inside.
#[derive(Debug)]
pub struct FakeSandbox {
    /// As given to `start`.
    pub spec: SandboxSpec,
    /// Where the script prints.
    pub output: DuplexStream,
    /// Where the script reaches the Runtime API.
    pub runtime_api: FakeRuntimeApi,
    /// True while the sandbox is frozen; a script that models CPU work waits for false before each step.
    pub frozen: watch::Receiver<bool>,
    /// What happens to its processes. Of use where the spec has extensions.
    pub processes: FakeProcesses,
}

/// The processes of a fake sandbox as its script plays them.
#[derive(Debug, Clone)]
pub struct FakeProcesses {
    events: mpsc::Sender<ProcessEvent>,
    orders: watch::Receiver<Orders>,
}

/// What the worker wants of a fake sandbox's processes.
#[derive(Debug, Default, Clone, Copy)]
struct Orders {
    start_runtime: bool,
    terminate: bool,
    kill_runtime: bool,
}

impl FakeProcesses {
    /// A process ended, or could not be executed.
    pub async fn report(&self, event: ProcessEvent) {
        // A worker that is gone needs no report.
        let _ = self.events.send(event).await;
    }

    /// Waits until the runtime may start.
    pub async fn runtime_start(&mut self) {
        let _ = self.orders.wait_for(|orders| orders.start_runtime).await;
    }

    /// Waits for SIGTERM to the runtime.
    pub async fn termination(&mut self) {
        let _ = self.orders.wait_for(|orders| orders.terminate).await;
    }
}

/// The address 127.0.0.1:9001 as seen from inside a fake sandbox.
#[derive(Debug, Clone)]
pub struct FakeRuntimeApi {
    connections: mpsc::Sender<DuplexStream>,
}

impl FakeRuntimeApi {
    /// Opens a connection to the Runtime API.
    ///
    /// # Errors
    /// Connection refused once the worker dropped the listener.
    pub async fn connect(&self) -> io::Result<DuplexStream> {
        let (inside, outside) = tokio::io::duplex(STREAM_BUFFER);
        self.connections
            .send(outside)
            .await
            .map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(inside)
    }
}

/// Makes fake sandboxes that all run one script.
pub struct FakeDriver {
    script: Arc<Script>,
    running: Arc<Mutex<Running>>,
}

#[derive(Debug, Default)]
struct Running {
    closed: bool,
    next: u64,
    sandboxes: BTreeMap<u64, watch::Sender<bool>>,
}

impl fmt::Debug for FakeDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeDriver")
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

fn lock(running: &Mutex<Running>) -> std::sync::MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeDriver {
    /// `script` is called once per sandbox; it may look at the spec to play different functions.
    pub fn new<S, F>(script: S) -> Self
    where
        S: Fn(FakeSandbox) -> F + Send + Sync + 'static,
        F: Future<Output = ExitStatus> + Send + 'static,
    {
        Self {
            script: Arc::new(move |sandbox| Box::pin(script(sandbox))),
            running: Arc::default(),
        }
    }

    /// Sandboxes started and not yet ended.
    #[must_use]
    pub fn running(&self) -> usize {
        lock(&self.running).sandboxes.len()
    }
}

#[async_trait]
impl Driver for FakeDriver {
    async fn start(&self, spec: SandboxSpec) -> Result<StartedSandbox, DriverError> {
        let (kill, mut killed) = watch::channel(false);
        let key = {
            let mut running = lock(&self.running);
            if running.closed {
                return Err(DriverError::Gone);
            }
            running.next += 1;
            let key = running.next;
            running.sandboxes.insert(key, kill.clone());
            key
        };
        let (connections, incoming) = mpsc::channel(BACKLOG);
        let (output, output_reader) = tokio::io::duplex(STREAM_BUFFER);
        let (freeze, frozen) = watch::channel(false);
        let (events, reports) = mpsc::channel(BACKLOG);
        let (give, orders) = watch::channel(Orders::default());
        let extensions = (!spec.extensions.programs.is_empty()).then(|| StartedExtensions {
            output: Box::new(tokio::io::empty()),
            processes: Box::new(FakeSupervisor {
                events: tokio::sync::Mutex::new(reports),
                orders: give.clone(),
            }),
        });
        let inside = FakeSandbox {
            spec,
            output,
            runtime_api: FakeRuntimeApi { connections },
            frozen,
            processes: FakeProcesses { events, orders },
        };
        let script = (self.script)(inside);
        let (ended, end) = watch::channel(None);
        let running = Arc::clone(&self.running);
        tokio::spawn(async move {
            let status = tokio::select! {
                biased;
                _ = killed.wait_for(|killed| *killed) => ExitStatus::Signaled(9),
                status = script => status,
            };
            lock(&running).sandboxes.remove(&key);
            ended.send_replace(Some(ExitReport {
                status,
                memory_peak_bytes: None,
            }));
        });
        Ok(StartedSandbox {
            runtime_api: Box::new(FakeListener { incoming }),
            output: Box::new(output_reader),
            control: Box::new(FakeControl {
                kill,
                freeze,
                orders: give,
                end,
            }),
            extensions,
        })
    }

    fn diagnose(&self) -> Vec<Diagnosis> {
        Vec::new()
    }

    async fn shutdown(&self) {
        let mut running = lock(&self.running);
        running.closed = true;
        for kill in running.sandboxes.values() {
            kill.send_replace(true);
        }
    }
}

#[derive(Debug)]
struct FakeListener {
    incoming: mpsc::Receiver<DuplexStream>,
}

#[async_trait]
impl RuntimeApiListener for FakeListener {
    async fn accept(&mut self) -> io::Result<Box<dyn RuntimeApiStream>> {
        match self.incoming.recv().await {
            Some(stream) => Ok(Box::new(stream)),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

#[derive(Debug)]
struct FakeControl {
    kill: watch::Sender<bool>,
    freeze: watch::Sender<bool>,
    orders: watch::Sender<Orders>,
    end: watch::Receiver<Option<ExitReport>>,
}

#[async_trait]
impl SandboxControl for FakeControl {
    async fn wait(&self) -> ExitReport {
        let mut end = self.end.clone();
        let report = end
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|report| *report);
        // The task that holds the sender is gone without a report only when its runtime is going down.
        report.unwrap_or(ExitReport {
            status: ExitStatus::Signaled(9),
            memory_peak_bytes: None,
        })
    }

    fn kill(&self) {
        self.kill.send_replace(true);
    }

    fn set_cpu(&self, _cpu_millis: u32) -> io::Result<()> {
        Ok(())
    }

    fn memory_peak_bytes(&self) -> Option<u64> {
        None
    }

    fn freeze(&self) -> io::Result<()> {
        self.freeze.send_replace(true);
        Ok(())
    }

    fn thaw(&self) -> io::Result<()> {
        self.freeze.send_replace(false);
        Ok(())
    }

    fn terminate(&self) -> io::Result<()> {
        self.orders.send_modify(|orders| orders.terminate = true);
        Ok(())
    }
}

#[derive(Debug)]
struct FakeSupervisor {
    events: tokio::sync::Mutex<mpsc::Receiver<ProcessEvent>>,
    orders: watch::Sender<Orders>,
}

#[async_trait]
impl Processes for FakeSupervisor {
    async fn next(&self) -> Option<ProcessEvent> {
        self.events.lock().await.recv().await
    }

    fn start_runtime(&self) -> io::Result<()> {
        self.orders
            .send_modify(|orders| orders.start_runtime = true);
        Ok(())
    }

    fn kill_runtime(&self) -> io::Result<()> {
        self.orders.send_modify(|orders| orders.kill_runtime = true);
        Ok(())
    }
}

impl Drop for FakeControl {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::sandbox::driver::ExtensionsSpec;

    fn spec() -> SandboxSpec {
        SandboxSpec {
            id: "s1".into(),
            root: "/".into(),
            mounts: Vec::new(),
            argv: vec!["/bin/true".into()],
            env: Vec::new(),
            cwd: "/".into(),
            memory_mib: 128,
            pids_max: 16,
            tmp_mib: 16,
            hostname: "h".into(),
            isolated: false,
            maker: None,
            extensions: ExtensionsSpec::default(),
        }
    }

    #[tokio::test]
    async fn a_script_speaks_over_the_runtime_api_and_its_output() {
        let driver = FakeDriver::new(|mut inside: FakeSandbox| async move {
            let mut api = inside.runtime_api.connect().await.unwrap();
            api.write_all(b"ping").await.unwrap();
            inside
                .output
                .write_all(inside.spec.id.as_bytes())
                .await
                .unwrap();
            ExitStatus::Exited(3)
        });
        let mut sandbox = driver.start(spec()).await.unwrap();
        let mut text = String::new();
        sandbox
            .runtime_api
            .accept()
            .await
            .unwrap()
            .read_to_string(&mut text)
            .await
            .unwrap();
        sandbox.output.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "pings1");
        assert_eq!(sandbox.control.wait().await.status, ExitStatus::Exited(3));
        assert_eq!(driver.running(), 0);
    }

    #[tokio::test]
    async fn kill_and_shutdown_end_scripts_and_refuse_new_ones() {
        let driver = FakeDriver::new(|inside: FakeSandbox| async move {
            let _hold = inside;
            std::future::pending().await
        });
        let (one, two) = (
            driver.start(spec()).await.unwrap(),
            driver.start(spec()).await.unwrap(),
        );
        one.control.kill();
        assert_eq!(one.control.wait().await.status, ExitStatus::Signaled(9));
        driver.shutdown().await;
        assert_eq!(two.control.wait().await.status, ExitStatus::Signaled(9));
        assert!(matches!(driver.start(spec()).await, Err(DriverError::Gone)));
    }

    #[tokio::test]
    async fn dropping_the_control_kills() {
        let driver = FakeDriver::new(|inside: FakeSandbox| async move {
            let _hold = inside;
            std::future::pending().await
        });
        let mut sandbox = driver.start(spec()).await.unwrap();
        drop(sandbox.control);
        let mut rest = Vec::new();
        sandbox.output.read_to_end(&mut rest).await.unwrap();
        assert!(sandbox.runtime_api.accept().await.is_err());
    }
}
