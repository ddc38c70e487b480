//! Makes one sandbox and keeps it: code, runtime pack, driver, then its Runtime API, its output and its deadlines,
//! until its last process is gone. What events mean is in [`super::sandbox`].

use std::sync::Arc;
use std::time::Duration;

use hearth_core::ids::MonotonicMs;
use hearth_core::limits::SANDBOX_PIDS;
use hearth_core::pool::retirement;
use hearth_node::random::SharedRandom;
use hearth_node::telemetry::set_parent;
use hearth_proto::internal::v1 as pb;
use hearth_proto::internal::v1::start_refused::Reason;
use time::OffsetDateTime;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tracing::{Instrument, Span, debug, debug_span, info_span, warn};

use super::package::{Package, ProgramError};
use super::sandbox::Sandbox;
use super::stock::Base;
use super::{Engine, StartRefusal, extensions};
use crate::metrics::seconds;
use crate::runtime_api;
use crate::runtime_api::fault::{Fault, errno_text};
use crate::runtimes::environment::Facts;
use crate::sandbox::driver::{DriverError, SandboxSpec, StartedSandbox};

/// What every sandbox's host is called.
pub(super) const HOST_NAME: &str = "lambda";

/// Longest wait for sandboxes to end when the worker stops.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Longest wait for sandboxes to end by themselves: the longest shutdown phase and some time for the kernel.
pub(super) const END_LIMIT: Duration = Duration::from_millis(2_500);

/// How long an init may keep others from starting. Ours: longer than most inits that compute, far shorter than
/// one that waits, which may take the function's timeout.
const START_SLOT_LIMIT: Duration = Duration::from_secs(1);

/// How long the Runtime API and the output outlive the last process, for words that are still in the pipes.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why a sandbox was not made.
enum LaunchError {
    /// The function's own: kept as an init error.
    Fault(Fault),
    /// The worker's: no sandbox, and the reason for the gateways.
    Platform(StartRefusal),
    /// It was told to stop meanwhile.
    Stopped,
}

/// The life of a sandbox, as a task. `traceparent` is of the invocation that waits for it.
pub(super) async fn launch(engine: Arc<Engine>, sandbox: Arc<Sandbox>, traceparent: String) {
    let span = info_span!("sandbox", id = sandbox.id.0, version = %sandbox.pool.key);
    let phase = joined(
        debug_span!(parent: None, "sandbox_start", id = sandbox.id.0),
        &traceparent,
    );
    let made = make(&engine, &sandbox, &traceparent)
        .instrument(phase)
        .instrument(span.clone())
        .await;
    match made {
        // The code is held until nothing runs.
        Ok((started, package)) => {
            let _kept = engine.kept_alive.token();
            let random = Arc::clone(&engine.seams.random);
            keep(&sandbox, started, package, random)
                .instrument(span)
                .await;
        }
        Err(LaunchError::Fault(fault)) => {
            // As if it had been started and had failed at once.
            if let Ok(slot) = Arc::clone(&engine.start_slots).acquire_owned().await {
                sandbox.on_spawned(slot, 0, 0);
            }
            let _ = sandbox.on_init_fault(fault);
            sandbox.on_start_failed();
        }
        Err(LaunchError::Platform(refusal)) => {
            warn!(version = %sandbox.pool.key, reason = ?refusal.reason, detail = refusal.detail, "no sandbox");
            sandbox.on_start_failed();
            // An error means that no gateway is connected.
            let _ = engine.refusals.send(pb::StartRefused {
                version: Some((&sandbox.pool.key).into()),
                reason: refusal.reason.into(),
                detail: refusal.detail,
            });
        }
        Err(LaunchError::Stopped) => sandbox.on_start_failed(),
    }
}

/// A phase of a cold start, in the trace of who waits for it.
fn joined(span: Span, traceparent: &str) -> Span {
    if !traceparent.is_empty() {
        set_parent(&span, traceparent);
    }
    span
}

async fn make(
    engine: &Arc<Engine>,
    sandbox: &Arc<Sandbox>,
    traceparent: &str,
) -> Result<(StartedSandbox, Package), LaunchError> {
    let slot = Arc::clone(&engine.start_slots)
        .acquire_owned()
        .await
        .map_err(|_| LaunchError::Stopped)?;
    if sandbox.is_stopping() {
        return Err(LaunchError::Stopped);
    }
    let platform = |reason, detail| LaunchError::Platform(StartRefusal { reason, detail });
    let clock = &engine.seams.clock;
    let began = clock.monotonic_us();
    let version = &sandbox.pool.version;
    let package = Package::ensure(&engine.code, version)
        .await
        .map_err(|error| {
            let detail = match std::error::Error::source(&*error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            };
            platform(Reason::NotRunnable, detail)
        })?;
    engine.compiling.want(&version.config, &package);
    let fetched = clock.monotonic_us();
    engine.metrics.code_fetch.observe(seconds(fetched - began));
    let extensions = package.extensions().await;
    let (spec, base) = specify(engine, sandbox, &package, &extensions).await?;
    let starting = engine.start_sandbox(spec, base.as_ref());
    let started = starting.await.map_err(|error| driver_fault(&error))?;
    engine
        .metrics
        .sandbox_start
        .observe(seconds(clock.monotonic_us() - fetched));
    let init = debug_span!(parent: None, "init", id = sandbox.id.0);
    sandbox.on_init_span(joined(init, traceparent));
    let started = accept(engine, sandbox, started, slot)?;
    if started.extensions.is_some() {
        let name = |name: &String| (name.clone(), engine.seams.random.uuid());
        sandbox.on_extensions_started(extensions.iter().map(name));
    }
    Ok((started, package))
}

/// Hands the running process to the sandbox.
fn accept(
    engine: &Engine,
    sandbox: &Arc<Sandbox>,
    started: StartedSandbox,
    slot: OwnedSemaphorePermit,
) -> Result<StartedSandbox, LaunchError> {
    let timeout_us = sandbox.init_timeout_us(engine.init_timeout_us);
    if sandbox.on_spawned(slot, timeout_us, engine.freeze_after_us) {
        Ok(started)
    } else {
        // Dropping its control kills it.
        Err(LaunchError::Stopped)
    }
}

async fn specify(
    engine: &Engine,
    sandbox: &Sandbox,
    package: &Package,
    extension_names: &[String],
) -> Result<(SandboxSpec, Option<Base>), LaunchError> {
    let (key, version) = (&sandbox.pool.key, &sandbox.pool.version);
    let config = &version.config;
    // A version that the catalog has let go meanwhile asks for nothing more.
    let wishes = engine.catalog.find(key).map(|found| found.wishes.clone());
    let wishes = wishes.unwrap_or_default();
    if let Some(detail) = wishes.mistake {
        return Err(LaunchError::Platform(StartRefusal {
            reason: Reason::NotRunnable,
            detail,
        }));
    }
    let day = day(engine.seams.clock.unix_ms());
    let instance = engine.seams.random.uuid().replace('-', "");
    let credentials = engine.catalog.credentials(key, &config.role);
    if let Some(credentials) = &credentials {
        let seams = &engine.seams;
        let left_ms = credentials.expires_ms.saturating_sub(seams.clock.unix_ms());
        let now = MonotonicMs(seams.clock.monotonic_ms());
        sandbox.retire_at(retirement(now, left_ms, seams.random.u64()));
    }
    let facts = Facts {
        key,
        version,
        region: &engine.region,
        day: &day,
        is_provisioned: sandbox.is_provisioned,
        instance: &instance,
        credentials: credentials.as_deref(),
    };
    let program = package
        .program(&engine.runtimes, config, &facts)
        .await
        .map_err(|error| match error {
            ProgramError::Fault(fault) => LaunchError::Fault(fault),
            ProgramError::Platform(detail) => LaunchError::Platform(StartRefusal {
                reason: Reason::NotRunnable,
                detail,
            }),
        })?;
    let extensions =
        extensions::specify(extension_names, &program.env).map_err(LaunchError::Fault)?;
    let spec = SandboxSpec {
        id: format!("{}-{}", engine.incarnation, sandbox.id.0),
        root: program.root,
        mounts: program.mounts,
        argv: program.argv,
        env: program.env,
        cwd: program.cwd,
        memory_mib: config.memory_mib,
        pids_max: SANDBOX_PIDS,
        tmp_mib: config.ephemeral_storage_mib,
        hostname: HOST_NAME.into(),
        isolated: wishes.is_isolated,
        maker: wishes.maker,
        extensions,
    };
    Ok((spec, program.base))
}

/// `2030/01/02`.
fn day(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1_000).unwrap_or(0);
    let date =
        OffsetDateTime::from_unix_timestamp(seconds).map_or(time::Date::MIN, OffsetDateTime::date);
    format!(
        "{}/{:02}/{:02}",
        date.year(),
        u8::from(date.month()),
        date.day()
    )
}

/// Whose fault an error of the driver is.
fn driver_fault(error: &DriverError) -> LaunchError {
    let platform = |reason| {
        let detail = match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        LaunchError::Platform(StartRefusal { reason, detail })
    };
    match error {
        DriverError::Exec { program, source } => {
            LaunchError::Fault(Fault::InvalidEntrypoint(format!(
                "fork/exec {program}: {}",
                source
                    .raw_os_error()
                    .map_or_else(|| source.to_string(), errno_text)
            )))
        }
        DriverError::TooManySandboxes { .. } => platform(Reason::NoMemory),
        DriverError::InvalidSpec(_) | DriverError::Setup { .. } | DriverError::Unsupported(_) => {
            platform(Reason::NotRunnable)
        }
        DriverError::Gone => platform(Reason::Draining),
    }
}

/// Serves the sandbox and watches its deadlines until its last process is gone.
async fn keep(
    sandbox: &Arc<Sandbox>,
    started: StartedSandbox,
    package: Package,
    random: SharedRandom,
) {
    let StartedSandbox {
        runtime_api,
        output,
        control,
        extensions,
    } = started;
    let control = sandbox.control.get_or_init(|| control);
    if sandbox.is_stopping() {
        control.kill();
    }
    let weak = Arc::downgrade(sandbox);
    let mut api = std::pin::pin!(runtime_api::serve(runtime_api, weak.clone(), random));
    let mut beside = std::pin::pin!(extensions::keep(sandbox, extensions));
    let mut beside_ended = false;
    let mut deliveries = JoinSet::new();
    let mut log = std::pin::pin!(sandbox.log.read_from(output));
    let mut exit = control.wait();
    let (mut api_ended, mut log_ended) = (false, false);
    let mut slot_limit = std::pin::pin!(tokio::time::sleep(START_SLOT_LIMIT));
    let mut slot_limited = true;
    let report = loop {
        let alarm = sandbox.arm();
        let now = sandbox.clock.monotonic_us();
        let pause = Duration::from_micros(alarm.unwrap_or(now).saturating_sub(now));
        tokio::select! {
            report = &mut exit => break report,
            () = &mut api, if !api_ended => api_ended = true,
            () = &mut log, if !log_ended => log_ended = true,
            () = tokio::time::sleep(pause), if alarm.is_some() => sandbox.on_alarm(),
            () = &mut slot_limit, if slot_limited => {
                slot_limited = false;
                sandbox.release_start_slot();
            }
            () = &mut beside, if !beside_ended => beside_ended = true,
            () = sandbox.wake.notified() => {
                if let Some(hub) = sandbox.log.hub() {
                    hub.deliver_to_new(&mut deliveries, &weak);
                }
            }
        }
    };
    // What was printed and posted before the end comes first.
    let last_words = async {
        if !log_ended {
            log.await;
        }
    };
    if tokio::time::timeout(LAST_WORDS, last_words).await.is_err() {
        debug!("output still open after the end");
    }
    sandbox.on_exited(report);
    drop(package);
}
