//! Telemetry of one sandbox with extensions: what happens in it goes to those who subscribed, each through a bounded queue
//! of its own. What events say and which are sent together is `hearth_core::telemetry`; sending is [`deliver`].

mod deliver;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_core::extensions::Extension;
use hearth_core::ids::VersionKey;
use hearth_core::report::{EndStatus, InitPhase, Report};
use hearth_core::telemetry::batch::{Batcher, Rendered};
use hearth_core::telemetry::event::{InitFacts, Record, ReportFacts, Span};
use hearth_core::telemetry::subscription::{Category, Subscription};
use hearth_node::clock::SharedClock;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::pool::invocation::Invocation;
use crate::pool::sandbox::{Post, WeakSandbox};

/// Bytes of events kept for those who have not subscribed yet. Ours: an init phase that prints more has lost the rest.
const BACKLOG_BYTES: usize = 256 * 1024;

/// A line is cut at this length, bytes: the size of a log event of CloudWatch.
const LINE_MAX_BYTES: usize = 256 * 1024;

/// What `platform.initStart` and its likes say of a phase.
pub(crate) fn init_facts(is_provisioned: bool, phase: InitPhase) -> InitFacts {
    InitFacts {
        initialization_type: if is_provisioned {
            "provisioned-concurrency"
        } else {
            "on-demand"
        },
        phase: match phase {
            InitPhase::Init => "init",
            InitPhase::Invoke => "invoke",
        },
    }
}

/// One who takes telemetry.
#[derive(Debug)]
pub(crate) struct Subscriber {
    name: String,
    subscription: Subscription,
    batcher: Mutex<Batcher>,
    wake: Notify,
    /// Shared by all of a sandbox.
    is_frozen: Arc<AtomicBool>,
    clock: SharedClock,
}

impl Subscriber {
    fn batcher(&self) -> MutexGuard<'_, Batcher> {
        self.batcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, category: Category, event: Rendered) {
        if self.subscription.categories.contains(&category) {
            self.batcher().push(event, self.clock.monotonic_ms());
            self.wake.notify_one();
        }
    }

    /// That events were lost, for one who wants to know.
    fn push_notice(&self, event: Rendered) {
        if self.subscription.categories.contains(&Category::Platform) {
            let now = self.clock.monotonic_ms();
            self.batcher().push_notice(event, now);
            self.wake.notify_one();
        }
    }
}

/// Where telemetry of a sandbox goes.
#[derive(Debug)]
pub(crate) struct Hub {
    clock: SharedClock,
    is_frozen: Arc<AtomicBool>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    subscribers: Vec<Arc<Subscriber>>,
    /// Subscribers nobody delivers to yet.
    new: Vec<Arc<Subscriber>>,
    /// What happened so far, for those who subscribe; `None` once nobody can.
    backlog: Option<Backlog>,
    /// Lines without their ends.
    function: Vec<u8>,
    extension: Vec<u8>,
}

#[derive(Debug, Default)]
struct Backlog {
    events: VecDeque<(Category, Rendered)>,
    bytes: usize,
}

impl Inner {
    fn push(&mut self, category: Category, event: Rendered) {
        for subscriber in &self.subscribers {
            subscriber.push(category, Arc::clone(&event));
        }
        if let Some(backlog) = &mut self.backlog
            && backlog.bytes + event.len() <= BACKLOG_BYTES
        {
            backlog.bytes += event.len();
            backlog.events.push_back((category, event));
        }
    }
}

impl Hub {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self {
            clock,
            is_frozen: Arc::default(),
            inner: Mutex::new(Inner {
                backlog: Some(Backlog::default()),
                ..Inner::default()
            }),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn emit(&self, record: &Record<'_>) {
        self.emit_at(record, self.clock.unix_ms());
    }

    fn emit_at(&self, record: &Record<'_>, unix_ms: u64) {
        let mut inner = self.inner();
        if inner.backlog.is_some() || !inner.subscribers.is_empty() {
            inner.push(record.category(), record.render(unix_ms));
        }
    }

    /// The init phase began so many milliseconds ago.
    pub(crate) fn init_started(&self, facts: &InitFacts, key: &VersionKey, ago_ms: u64) {
        let version = key.version.to_string();
        let record = Record::InitStart {
            facts: *facts,
            function: key.function.as_str(),
            version: &version,
        };
        self.emit_at(&record, self.clock.unix_ms().saturating_sub(ago_ms));
    }

    pub(crate) fn init_runtime_done(&self, facts: &InitFacts, status: &EndStatus) {
        let facts = *facts;
        self.emit(&Record::InitRuntimeDone { facts, status });
    }

    /// Nobody subscribes any more.
    pub(crate) fn init_over(
        &self,
        facts: &InitFacts,
        extensions: &[Extension],
        status: &EndStatus,
        duration_us: u64,
    ) {
        for extension in extensions {
            self.emit(&Record::Extension(extension));
        }
        self.emit(&Record::InitReport {
            facts: *facts,
            status,
            duration_us,
        });
        self.inner().backlog = None;
    }

    pub(crate) fn started(&self, request_id: &str, version: &str, trace_id: &str) {
        self.emit(&Record::Start {
            request_id,
            version,
            trace_id,
        });
    }

    /// The runtime has answered, and asked for its next event at `now_us`.
    pub(crate) fn runtime_done(&self, post: &Post, now_us: u64) {
        let latency_us = post.answered_us.saturating_sub(post.taken_us);
        let overhead_us = now_us.saturating_sub(post.answered_us);
        let unix_ms = |at_us: u64| {
            let ago_ms = self.clock.monotonic_us().saturating_sub(at_us) / 1_000;
            self.clock.unix_ms().saturating_sub(ago_ms)
        };
        self.emit(&Record::RuntimeDone {
            request_id: &post.request_id,
            status: &post.status,
            duration_us: now_us.saturating_sub(post.taken_us),
            produced_bytes: post.produced_bytes,
            spans: vec![
                Span::new("responseLatency", unix_ms(post.taken_us), latency_us),
                Span::new("responseDuration", unix_ms(post.answered_us), 0),
                Span::new("runtimeOverhead", unix_ms(post.answered_us), overhead_us),
            ],
            trace_id: &post.trace_id,
        });
    }

    /// The runtime has not answered and never will.
    pub(crate) fn runtime_failed(
        &self,
        invocation: &Invocation,
        status: &EndStatus,
        duration_us: u64,
    ) {
        self.emit(&Record::RuntimeDone {
            request_id: &invocation.request_id,
            status,
            duration_us,
            produced_bytes: 0,
            spans: Vec::new(),
            trace_id: &invocation.trace_id,
        });
    }

    /// An invocation is over. `overhead_us`: how long it was the extensions alone that it waited for.
    pub(crate) fn report(&self, report: &Report<'_>, trace_id: &str, overhead_us: Option<u64>) {
        let span = |overhead_us| {
            let start = self.clock.unix_ms().saturating_sub(overhead_us / 1_000);
            Span::new("extensionOverhead", start, overhead_us)
        };
        self.emit(&Record::Report(ReportFacts {
            report,
            spans: overhead_us.map(span).into_iter().collect(),
            trace_id,
        }));
    }

    /// Somebody has printed something: each line is an event.
    pub(crate) fn printed(&self, category: Category, bytes: &[u8]) {
        let now = self.clock.unix_ms();
        let mut inner = self.inner();
        if inner.backlog.is_none() && inner.subscribers.is_empty() {
            return;
        }
        let part = match category {
            Category::Function | Category::Platform => &mut inner.function,
            Category::Extension => &mut inner.extension,
        };
        let mut part = std::mem::take(part);
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_MAX_BYTES - part.len();
            part.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") || part.len() >= LINE_MAX_BYTES {
                lines.push(std::mem::take(&mut part));
            }
        }
        for line in &lines {
            let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
            if !text.is_empty() {
                let text = text.as_ref();
                inner.push(category, Record::Line { category, text }.render(now));
            }
        }
        match category {
            Category::Function | Category::Platform => inner.function = part,
            Category::Extension => inner.extension = part,
        }
    }

    /// One more, or another subscription of the same extension. It gets what happened so far. False when it is too late.
    pub(crate) fn subscribe(&self, name: &str, subscription: Subscription) -> bool {
        let mut inner = self.inner();
        let Some(backlog) = &inner.backlog else {
            return false;
        };
        let subscriber = Arc::new(Subscriber {
            name: name.to_owned(),
            batcher: Mutex::new(Batcher::new(subscription.buffering)),
            wake: Notify::new(),
            is_frozen: Arc::clone(&self.is_frozen),
            clock: Arc::clone(&self.clock),
            subscription: subscription.clone(),
        });
        for (category, event) in &backlog.events {
            subscriber.push(*category, Arc::clone(event));
        }
        inner.subscribers.retain(|other| other.name != name);
        inner.new.retain(|other| other.name != name);
        inner.subscribers.push(Arc::clone(&subscriber));
        inner.new.push(subscriber);
        drop(inner);
        self.emit(&Record::Subscribed {
            name,
            categories: &subscription.categories,
        });
        true
    }

    /// Begins to deliver to those who have subscribed since this was called last.
    pub(crate) fn deliver_to_new(&self, deliveries: &mut JoinSet<()>, sandbox: &WeakSandbox) {
        for subscriber in std::mem::take(&mut self.inner().new) {
            deliveries.spawn(deliver::deliver(subscriber, sandbox.clone()));
        }
    }

    /// Nothing inside runs, or all does again.
    pub(crate) fn set_frozen(&self, is_frozen: bool) {
        self.is_frozen.store(is_frozen, Ordering::Release);
        for subscriber in &self.inner().subscribers {
            subscriber.wake.notify_one();
        }
    }

    /// All there is is sent now.
    pub(crate) fn flush(&self) {
        for subscriber in &self.inner().subscribers {
            subscriber.batcher().flush();
            subscriber.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
