//! One run of one seed: the hosts, the faults, the looks at every step, the end.

mod client;
mod clock;
mod disk;
mod events;
mod faults;
mod hosts;
mod load;
mod net;
mod probe;
mod replicas;
mod script;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use disk::SimDisk;
use faults::Faults;
use hosts::{Host, Slot};
use load::{Control, Users};
use replicas::Replicas;

use crate::invariants;
use crate::ledger::{Ledger, Seen};
use crate::plan::{ACCOUNTS, Plan};

/// How long the first functions may take to be there, milliseconds.
const READY_WITHIN_MS: u64 = 60_000;
/// Load goes on for so long after the faults: when everyone must have caught up, some is left to be looked at.
const HEALED_LOAD_MS: u64 = 9_000;
/// How long what was sent may take to end: the clients' patience and a little.
const QUIET_WITHIN_MS: u64 = 30_000;
/// How long accepted events may take to be run: leases of gateways that were lost, and pauses after throttles and system errors.
const EVENTS_WITHIN_MS: u64 = 240_000;
/// What gateways that were lost had leased is run again by then, though it may have been run: the probes are not to meet it.
const LEASE_MS: u64 = 35_000;
/// How long the probes may take.
const PROBED_WITHIN_MS: u64 = 120_000;
/// How long replicas may take to be equal.
const EQUAL_WITHIN_MS: u64 = 10_000;
/// A worker counts as silent for so long after a fault that may have cut it off: what is given to others meanwhile.
const SILENT_FOR_MS: u64 = 16_000;

/// Milliseconds of the run.
pub(crate) fn now_ms() -> u64 {
    let elapsed = turmoil::sim_elapsed().unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// Promises that were broken.
    pub violations: Vec<String>,
    /// Hash of the trace.
    pub hash: u64,
    /// Lines of the trace.
    pub lines: u64,
    /// Simulated time, milliseconds.
    pub simulated_ms: u64,
    /// Invocations sent, and how many ran and answered.
    pub invocations: (usize, usize),
    /// Calls to the metadata.
    pub calls: usize,
    /// Histories of such calls, and how many of them were too large to be decided.
    pub histories: (usize, usize),
    /// Faults.
    pub faults: usize,
}

/// The run under way.
struct World<'a> {
    plan: Arc<Plan>,
    sim: turmoil::Sim<'a>,
    ledger: Ledger,
    control: Control,
    faults: Faults,
    replicas: Replicas,
    /// When a fault last may have kept a worker from its controllers.
    touched: BTreeMap<String, u64>,
}

/// Runs a seed; what the hosts keep on real files is below `dir`.
///
/// # Errors
/// The directory cannot be written.
pub fn run(seed: u64, dir: &Path, print: bool) -> std::io::Result<Report> {
    let plan = Arc::new(Plan::of(seed));
    let ledger = Ledger::default();
    if print {
        ledger.print_trace();
        eprintln!("{plan:#?}");
    }
    hearth_node::blocking::run_inline();
    let runtimes = dir.join("runtimes");
    hosts::make_runtimes(&runtimes)?;
    let mut world = World::new(&plan, dir, &runtimes, &ledger);
    watch_panics(&ledger);
    world.play();
    Ok(world.report())
}

/// A panic in a task is swallowed by its runtime; here it is a broken promise.
fn watch_panics(ledger: &Ledger) {
    let ledger = ledger.clone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        // The ledger may be held by who panics.
        let detail = info.to_string().replace('\n', " ");
        ledger.panicked(&detail);
    }));
}

impl World<'_> {
    fn new(plan: &Arc<Plan>, dir: &Path, runtimes: &Path, ledger: &Ledger) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(plan.seed)
            .enable_random_order()
            .simulation_duration(Duration::from_secs(3_600))
            .tick_duration(Duration::from_millis(plan.tick_ms))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(plan.latency_ms))
            .tcp_capacity(65_536)
            .build();
        let control = Control::default();
        let mut faults = Faults::new(plan);
        let mut replicas = Replicas::default();
        for (number, name) in plan.hosts().iter().enumerate() {
            let host = Host::new(name, plan, number, dir, ledger);
            faults.add_clock(name, Arc::clone(&host.clock));
            let plan = Arc::clone(plan);
            match name.as_bytes()[0] {
                b'c' => {
                    let disk = SimDisk::new(plan.seed ^ host_seed(number), plan.sync_ms);
                    let slot = Slot::default();
                    faults.add_controller(name, disk.clone(), slot.clone());
                    replicas.add(name, slot.clone());
                    sim.host(name.as_str(), move || {
                        let life = hosts::controller(
                            host.clone(),
                            Arc::clone(&plan),
                            disk.clone(),
                            slot.clone(),
                        );
                        lived(life)
                    });
                }
                b'w' => {
                    let runtimes = runtimes.to_owned();
                    sim.host(name.as_str(), move || {
                        let runtimes: PathBuf = runtimes.clone();
                        let life = hosts::worker(host.clone(), Arc::clone(&plan), runtimes);
                        lived(life)
                    });
                }
                _ => sim.host(name.as_str(), move || {
                    let life = hosts::gateway(host.clone(), Arc::clone(&plan));
                    lived(life)
                }),
            }
        }
        let users = Users {
            plan: Arc::clone(plan),
            ledger: ledger.clone(),
            control: control.clone(),
            zip: client::zip().into(),
        };
        sim.host("client", move || {
            let life = users.clone().run();
            lived(life)
        });
        Self {
            plan: Arc::clone(plan),
            sim,
            ledger: ledger.clone(),
            control,
            faults,
            replicas,
            touched: BTreeMap::new(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.sim.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The whole run; ends early at a broken promise.
    fn play(&mut self) {
        let ready = |world: &Self| world.control.phase().is_ready;
        if !self.until(READY_WITHIN_MS, ready) {
            return self.late("the first functions are there");
        }
        let begin = self.now();
        self.faults.begin(begin);
        let faulty_ms = self.plan.faulty_ms;
        self.until(faulty_ms, |_| false);
        self.faults.heal(&mut self.sim, &self.ledger);
        let healed = self.now();
        if self.is_broken() {
            return;
        }
        self.control.phase().disturbed.note(healed);
        self.until(HEALED_LOAD_MS, |_| false);
        self.control.phase().is_load_over = true;
        let quiet = |world: &Self| {
            let seen = world.ledger.seen();
            let is_idle = world.plan.has_events || seen.running.is_empty();
            is_idle && seen.invocations.values().all(|i| i.ending.is_some())
        };
        self.until(QUIET_WITHIN_MS, quiet);
        if self.is_broken() {
            return;
        }
        let leases_end = healed + if self.plan.has_events { LEASE_MS } else { 0 };
        self.until(EVENTS_WITHIN_MS, |world| {
            let seen = world.ledger.seen();
            world.now() >= leases_end
                && seen.running.is_empty()
                && invariants::an_accepted_event_is_run_to_its_end::holds(&seen)
        });
        if self.is_broken() {
            return;
        }
        invariants::an_accepted_event_is_run_to_its_end::check(&mut self.ledger.seen(), self.now());
        let settled = healed + SETTLED_MS;
        invariants::every_invocation_ends_in_one_answer::check(
            &mut self.ledger.seen(),
            settled,
            self.now(),
        );
        self.control.phase().may_probe = true;
        if !self.until(PROBED_WITHIN_MS, |world| world.control.phase().is_probed) {
            return self.late("the probes end");
        }
        if self.is_broken() {
            return;
        }
        self.until(EQUAL_WITHIN_MS, |world| world.replicas.are_equal());
        let (equal, now) = (self.replicas.are_equal(), self.now());
        let mut seen = self.ledger.seen();
        if !equal {
            let detail = self.replicas.describe();
            seen.violate("replicas of a healed cluster become equal", now, &detail);
        }
        invariants::acknowledged_writes_are_never_lost_and_reads_never_go_back::check(
            &mut seen, now,
        );
    }

    fn is_broken(&self) -> bool {
        !self.ledger.seen().violations.is_empty()
    }

    /// A run that ended early, at a broken promise, is not late.
    fn late(&mut self, what: &str) {
        if self.is_broken() {
            return;
        }
        let now = self.now();
        let detail = format!("{what} too late");
        invariants::the_healed_cluster_serves::check(&mut self.ledger.seen(), &[detail], now);
    }

    /// Steps until `done`, for at most so long; whether it was. A broken promise ends it too.
    fn until(&mut self, within_ms: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now() + within_ms;
        while self.now() < end {
            if done(self) {
                return true;
            }
            if let Err(error) = self.sim.step() {
                let now = self.now();
                self.ledger
                    .seen()
                    .violate("the simulation goes on", now, &error.to_string());
            }
            self.look();
            if self.is_broken() {
                return false;
            }
        }
        done(self)
    }

    /// After every step.
    fn look(&mut self) {
        let now = self.now();
        // First, as a controller that is crashed cannot be looked at any more.
        self.replicas.look(&mut self.ledger.seen(), now);
        for host in self.faults.step(&mut self.sim, &self.ledger, now) {
            self.touched.insert(host, now);
        }
        if self.faults.are_under_way() {
            self.control.phase().disturbed.note(now);
        }
        self.count_accounts(now);
        self.ledger.tell_panics(now);
    }

    fn count_accounts(&self, now: u64) {
        let silent: BTreeSet<String> = self
            .touched
            .iter()
            .filter(|(_, at)| *at + SILENT_FOR_MS > now)
            .flat_map(|(host, _)| self.lives_of(host))
            .collect();
        let reserved: BTreeSet<_> = self
            .plan
            .functions
            .iter()
            .filter(|f| f.reserved.is_some())
            .map(|f| (f.account.to_owned(), f.name.to_owned()))
            .collect();
        let mut seen = self.ledger.seen();
        for account in ACCOUNTS {
            let limit = usize::try_from(self.plan.account_limit).unwrap_or(usize::MAX);
            count(&mut seen, account, &reserved, &silent, limit, now);
        }
    }

    /// Names of a worker's lives, as its sandboxes carry them.
    fn lives_of(&self, host: &str) -> Vec<String> {
        let seen = self.ledger.seen();
        let prefix = format!("{host}.");
        let names = seen.running.values().map(|r| r.worker.clone());
        names.filter(|name| name.starts_with(&prefix)).collect()
    }

    fn report(&self) -> Report {
        let (hash, lines) = self.ledger.fingerprint();
        let seen = self.ledger.seen();
        let ran = |i: &&crate::ledger::Invocation| {
            matches!(i.ending, Some(crate::ledger::Ending::Ran { .. }))
        };
        Report {
            violations: seen.violations.clone(),
            hash,
            lines,
            simulated_ms: self.now(),
            invocations: (
                seen.invocations.len(),
                seen.invocations.values().filter(ran).count(),
            ),
            calls: seen.calls.values().map(Vec::len).sum(),
            histories: (seen.calls.len(), seen.undecided),
            faults: self.faults.begun(),
        }
    }
}

/// A host's life as turmoil wants it.
async fn lived(life: impl Future<Output = ()>) -> turmoil::Result {
    life.await;
    Ok(())
}

/// How long after the faults an invocation may still go without an answer: connections that a partition broke are found
/// out by keep-alives.
const SETTLED_MS: u64 = 5_000;

fn host_seed(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(0) << 32
}

fn count(
    seen: &mut Seen,
    account: &str,
    reserved: &BTreeSet<crate::ledger::Key>,
    silent: &BTreeSet<String>,
    limit: usize,
    now: u64,
) {
    use invariants::in_flight_is_never_above_the_account_limit_by_more_than_silent_workers_share as rule;
    rule::check(seen, account, reserved, silent, limit, now);
}
