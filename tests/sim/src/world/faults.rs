//! Carries out the plan's faults on the simulated network and hosts, and ends them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use turmoil::Sim;

use super::clock::SimClock;
use super::disk::SimDisk;
use super::hosts::Slot;
use crate::ledger::Ledger;
use crate::plan::{FaultKind, Plan};

struct Controller {
    disk: SimDisk,
    slot: Slot,
}

/// The faults of a run.
pub(crate) struct Faults {
    plan: Arc<Plan>,
    clocks: BTreeMap<String, Arc<SimClock>>,
    controllers: BTreeMap<String, Controller>,
    began_ms: Option<u64>,
    next: usize,
    /// End of each fault under way.
    under_way: Vec<(u64, FaultKind)>,
    down: BTreeSet<String>,
    is_over: bool,
}

impl Faults {
    pub(crate) fn new(plan: &Arc<Plan>) -> Self {
        Self {
            plan: Arc::clone(plan),
            clocks: BTreeMap::new(),
            controllers: BTreeMap::new(),
            began_ms: None,
            next: 0,
            under_way: Vec::new(),
            down: BTreeSet::new(),
            is_over: false,
        }
    }

    pub(crate) fn add_clock(&mut self, name: &str, clock: Arc<SimClock>) {
        self.clocks.insert(name.to_owned(), clock);
    }

    pub(crate) fn add_controller(&mut self, name: &str, disk: SimDisk, slot: Slot) {
        let controller = Controller { disk, slot };
        self.controllers.insert(name.to_owned(), controller);
    }

    /// The plan's times count from now.
    pub(crate) fn begin(&mut self, now: u64) {
        self.began_ms = Some(now);
    }

    pub(crate) fn begun(&self) -> usize {
        self.next
    }

    pub(crate) fn are_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Begins and ends what is due; names the workers that may be cut off by what is under way.
    pub(crate) fn step(&mut self, sim: &mut Sim<'_>, ledger: &Ledger, now: u64) -> Vec<String> {
        if let Some(began) = self.began_ms
            && !self.is_over
        {
            while let Some(fault) = self.plan.faults.get(self.next).cloned()
                && began + fault.at_ms <= now
            {
                self.next += 1;
                let kind = self.of_now(fault.kind);
                ledger.trace(now, &format!("fault {kind:?} for {} ms", fault.for_ms));
                self.start(sim, &kind);
                self.under_way.push((now + fault.for_ms, kind));
            }
            let (due, later) = std::mem::take(&mut self.under_way)
                .into_iter()
                .partition(|(end, _)| *end <= now);
            self.under_way = later;
            let due: Vec<(u64, FaultKind)> = due;
            for (_, kind) in due {
                ledger.trace(now, &format!("end of {kind:?}"));
                self.end(sim, &kind);
            }
        }
        self.touched()
    }

    /// A fault at a controller may make every worker seem silent.
    fn touched(&self) -> Vec<String> {
        let workers = Plan::names('w', self.plan.workers);
        let hosts: BTreeSet<&str> = self
            .under_way
            .iter()
            .flat_map(|(_, kind)| touches(kind))
            .collect();
        let all = hosts
            .iter()
            .any(|host| host.starts_with('c') && *host != "client");
        let touched = workers.into_iter();
        touched
            .filter(|w| all || hosts.contains(w.as_str()))
            .collect()
    }

    /// The fault with the name of who leads now in place of "who leads"; while nobody does, of the first.
    fn of_now(&self, kind: FaultKind) -> FaultKind {
        let leads = |(_, controller): &(&String, &Controller)| {
            let inside = controller.slot.inside();
            inside.controller.as_ref().is_some_and(|c| c.is_leader())
        };
        let found = self.controllers.iter().find(leads);
        let one = found.or_else(|| self.controllers.iter().next());
        let one = one.map_or_else(String::new, |(name, _)| name.clone());
        match kind {
            FaultKind::CrashLeader => FaultKind::Crash(one),
            FaultKind::CutLeader { one_way } => {
                let all = self.controllers.keys().cloned();
                let (from, to) = all.partition(|name| *name == one);
                FaultKind::Cut { from, to, one_way }
            }
            other => other,
        }
    }

    fn start(&mut self, sim: &mut Sim<'_>, kind: &FaultKind) {
        match kind {
            FaultKind::Crash(host) => self.crash(sim, host),
            FaultKind::PowerCut(hosts) => {
                for host in hosts {
                    self.crash(sim, host);
                }
            }
            // Told by `of_now` whom they are about.
            FaultKind::CrashLeader | FaultKind::CutLeader { .. } => {}
            FaultKind::Cut { from, to, one_way } => each_pair(from, to, |a, b| {
                if *one_way {
                    sim.partition_oneway(a, b);
                } else {
                    sim.partition(a, b);
                }
            }),
            FaultKind::Hold(a, b) if a != b => sim.hold(a.as_str(), b.as_str()),
            FaultKind::Hold(..) => {}
            FaultKind::Slow(host, ms) => self.set_latency(sim, host, *ms),
            FaultKind::SlowDisk(host, ms) => {
                if let Some(controller) = self.controllers.get(host) {
                    controller.disk.set_sync_max_ms(*ms);
                }
            }
            FaultKind::ClockStep(host, by_ms) => {
                if let Some(clock) = self.clocks.get(host) {
                    clock.step_ms(*by_ms);
                }
            }
        }
    }

    fn end(&mut self, sim: &mut Sim<'_>, kind: &FaultKind) {
        match kind {
            FaultKind::Crash(host) => self.restart(sim, host),
            FaultKind::PowerCut(hosts) => {
                for host in hosts {
                    self.restart(sim, host);
                }
            }
            FaultKind::CrashLeader | FaultKind::CutLeader { .. } => {}
            FaultKind::Cut { from, to, .. } => each_pair(from, to, |a, b| sim.repair(a, b)),
            FaultKind::Hold(a, b) if a != b => sim.release(a.as_str(), b.as_str()),
            FaultKind::Hold(..) | FaultKind::ClockStep(..) => {}
            FaultKind::Slow(host, _) => self.set_latency(sim, host, self.plan.latency_ms),
            FaultKind::SlowDisk(host, _) => {
                if let Some(controller) = self.controllers.get(host) {
                    controller.disk.set_sync_max_ms(self.plan.sync_ms);
                }
            }
        }
    }

    fn crash(&mut self, sim: &mut Sim<'_>, host: &str) {
        if !self.down.insert(host.to_owned()) {
            return;
        }
        let controller = self.controllers.get(host);
        if let Some(controller) = controller {
            controller.slot.inside().controller = None;
        }
        sim.crash(host);
        if let Some(controller) = controller {
            controller.disk.crash();
        }
    }

    fn restart(&mut self, sim: &mut Sim<'_>, host: &str) {
        if self.down.remove(host) {
            sim.bounce(host);
        }
    }

    fn set_latency(&self, sim: &Sim<'_>, host: &str, ms: u64) {
        for other in self.plan.hosts().iter().filter(|other| *other != host) {
            sim.set_link_max_message_latency(host, other.as_str(), Duration::from_millis(ms));
        }
    }

    /// Ends every fault for good.
    pub(crate) fn heal(&mut self, sim: &mut Sim<'_>, ledger: &Ledger) {
        let now = u64::try_from(sim.elapsed().as_millis()).unwrap_or(u64::MAX);
        ledger.trace(now, "healed");
        self.is_over = true;
        for (_, kind) in std::mem::take(&mut self.under_way) {
            self.end(sim, &kind);
        }
        let hosts: Vec<String> = self
            .plan
            .hosts()
            .into_iter()
            .chain(["client".to_owned()])
            .collect();
        for (i, a) in hosts.iter().enumerate() {
            for b in &hosts[..i] {
                sim.repair(a.as_str(), b.as_str());
            }
        }
        for host in std::mem::take(&mut self.down) {
            sim.bounce(host.as_str());
        }
    }
}

fn each_pair(from: &[String], to: &[String], mut act: impl FnMut(&str, &str)) {
    for a in from {
        for b in to.iter().filter(|b| *b != a) {
            act(a, b);
        }
    }
}

fn touches(kind: &FaultKind) -> Vec<&str> {
    match kind {
        FaultKind::Crash(host)
        | FaultKind::Slow(host, _)
        | FaultKind::SlowDisk(host, _)
        | FaultKind::ClockStep(host, _) => vec![host],
        FaultKind::Hold(a, b) => vec![a, b],
        FaultKind::PowerCut(hosts) => hosts.iter().map(String::as_str).collect(),
        FaultKind::CrashLeader | FaultKind::CutLeader { .. } => Vec::new(),
        FaultKind::Cut { from, to, .. } => from.iter().chain(to).map(String::as_str).collect(),
    }
}
