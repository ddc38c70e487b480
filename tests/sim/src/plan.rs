//! Everything about a run, drawn from its seed: sizes, times, load, faults.

use crate::chance::Chance;

/// The two accounts of a run. The first is the gateways' own.
pub const ACCOUNTS: [&str; 2] = ["111111111111", "222222222222"];

/// The alias of functions that have one.
pub const ALIAS: &str = "live";

/// A function that is invoked.
#[derive(Clone, Debug)]
pub struct FunctionPlan {
    /// Whose.
    pub account: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its reserved limit.
    pub reserved: Option<u64>,
    /// Whether clients change its limit.
    pub limit_varies: bool,
    /// Whether clients change its value.
    pub value_varies: bool,
    /// Its timeout, seconds.
    pub timeout_s: u64,
    /// How long its sandboxes take to be ready, milliseconds.
    pub init_ms: u64,
    /// Whether it is invoked through [`ALIAS`], which clients move from version to version, and whose sandboxes they
    /// have kept (provisioned concurrency).
    pub is_aliased: bool,
    /// Whether that alias points to two versions with weights; sandboxes of such a one cannot be kept.
    pub is_weighted: bool,
}

/// What is broken.
#[derive(Clone, Debug)]
pub enum FaultKind {
    /// A host loses its power and comes back at the end.
    Crash(String),
    /// Several lose it at the same moment.
    PowerCut(Vec<String>),
    /// Who leads loses its power.
    CrashLeader,
    /// Nothing passes between who leads and the other controllers; with `one_way`, nothing from the leader to them.
    CutLeader {
        /// Whether answers still come back.
        one_way: bool,
    },
    /// Nothing passes between two groups; with `one_way`, nothing from the first to the second.
    Cut {
        /// One group.
        from: Vec<String>,
        /// The other.
        to: Vec<String>,
        /// Whether answers still come back.
        one_way: bool,
    },
    /// What is sent between two hosts is held back and arrives, old, at the end.
    Hold(String, String),
    /// Everything to and from a host takes so long, milliseconds.
    Slow(String, u64),
    /// A controller's disk takes up to so long for a sync, milliseconds.
    SlowDisk(String, u64),
    /// A host's wall clock is set by so much, milliseconds; it stays so.
    ClockStep(String, i64),
}

/// A fault and its time, milliseconds from the begin of the faults.
#[derive(Clone, Debug)]
pub struct Fault {
    /// When it begins.
    pub at_ms: u64,
    /// How long it lasts.
    pub for_ms: u64,
    /// What it is.
    pub kind: FaultKind,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it was drawn from.
    pub seed: u64,
    /// Controllers: 3 or 5.
    pub controllers: u64,
    /// Workers.
    pub workers: u64,
    /// Gateways.
    pub gateways: u64,
    /// Step of the simulation, milliseconds.
    pub tick_ms: u64,
    /// Longest time a message takes, milliseconds.
    pub latency_ms: u64,
    /// Longest sync of a controller's log, milliseconds.
    pub sync_ms: u64,
    /// A worker's lease, milliseconds.
    pub lease_ms: u64,
    /// Added to the wait before a silent worker's share is reused, milliseconds.
    pub margin_ms: u64,
    /// Commands between two snapshots.
    pub snapshot_every: u64,
    /// Commands kept behind a snapshot.
    pub keep_applied: u64,
    /// Concurrent executions of each account.
    pub account_limit: u64,
    /// Functions that are invoked.
    pub functions: Vec<FunctionPlan>,
    /// Mean pause between invocations, milliseconds.
    pub invoke_pause_ms: u64,
    /// Longest work of an event, milliseconds.
    pub work_ms: u64,
    /// Bursts of an unreserved function, each of more events at a time than the account may have.
    pub bursts: u64,
    /// Mean pause between calls to the metadata, milliseconds.
    pub metadata_pause_ms: u64,
    /// Whether clients send event invocations too.
    pub has_events: bool,
    /// Whether the faults are a storm over the controllers, rather than of all kinds.
    pub is_storm: bool,
    /// How long faults may begin.
    pub faulty_ms: u64,
    /// What breaks.
    pub faults: Vec<Fault>,
    /// Per host in the order of [`Plan::hosts`]: drift of its clock (per mille) and skew of its wall clock (ms).
    pub clocks: Vec<(i64, i64)>,
}

fn signed(chance: &mut Chance, most: u64) -> i64 {
    let n = i64::try_from(chance.below(2 * most + 1)).unwrap_or(0);
    n - i64::try_from(most).unwrap_or(0)
}

impl Plan {
    /// Draws a run.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) ^ 0x5EED);
        let functions = functions(&mut chance);
        let reserved: u64 = functions
            .iter()
            .filter(|f| f.account == ACCOUNTS[0])
            .filter_map(|f| f.reserved)
            .sum();
        let mut plan = Self {
            seed,
            controllers: if chance.percent(80) { 3 } else { 5 },
            workers: chance.between(2, 4),
            gateways: chance.between(1, 2),
            tick_ms: *chance.pick(&[3, 5, 5, 10]),
            latency_ms: *chance.pick(&[2, 5, 5, 10, 20]),
            sync_ms: *chance.pick(&[1, 3, 5, 20]),
            lease_ms: chance.between(2_000, 4_000),
            margin_ms: chance.between(100, 500),
            snapshot_every: *chance.pick(&[20, 50, 100, 5_000]),
            keep_applied: *chance.pick(&[5, 20, 50]),
            // Room for limits that clients raise, and what must stay unreserved.
            account_limit: 100 + reserved + 10,
            functions,
            invoke_pause_ms: *chance.pick(&[30, 50, 80, 150]),
            work_ms: *chance.pick(&[50, 200, 800]),
            bursts: if chance.percent(10) { 3 } else { 0 },
            metadata_pause_ms: *chance.pick(&[150, 300, 600]),
            has_events: seed.is_multiple_of(4),
            is_storm: chance.percent(30),
            faulty_ms: chance.between(12_000, 22_000),
            faults: Vec::new(),
            clocks: Vec::new(),
        };
        let hosts = plan.hosts().len();
        plan.clocks = (0..hosts)
            .map(|_| (signed(&mut chance, 20), signed(&mut chance, 60_000)))
            .collect();
        if plan.is_storm {
            plan.sync_ms = *chance.pick(&[10, 30, 80]);
            plan.metadata_pause_ms = 60;
            plan.invoke_pause_ms = 200;
        }
        plan.faults = plan.draw_faults(&mut chance);
        if plan.has_events {
            plan.bring_clocks_together();
        }
        plan
    }

    /// When an event is due is wall time of the log's leader: with clocks an hour apart events wait hours. These are a sixtieth as far
    /// apart: a second, and up to a minute once they are set.
    fn bring_clocks_together(&mut self) {
        for (_, ahead_ms) in &mut self.clocks {
            *ahead_ms /= 60;
        }
        for fault in &mut self.faults {
            if let FaultKind::ClockStep(_, by_ms) = &mut fault.kind {
                *by_ms /= 60;
            }
        }
    }

    /// Names of a role's hosts: `c1`, `c2`...
    #[must_use]
    pub fn names(role: char, count: u64) -> Vec<String> {
        (1..=count).map(|i| format!("{role}{i}")).collect()
    }

    /// Every host but the clients'.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        let mut hosts = Self::names('c', self.controllers);
        hosts.extend(Self::names('w', self.workers));
        hosts.extend(Self::names('g', self.gateways));
        hosts
    }

    fn draw_faults(&self, chance: &mut Chance) -> Vec<Fault> {
        if self.is_storm {
            return self.draw_storm(chance);
        }
        let hosts = self.hosts();
        // Some runs are quiet, most are not.
        let mean_ms = *chance.pick(&[800, 1_500, 1_500, 3_000, 8_000]);
        let mut faults = Vec::new();
        let mut at_ms = chance.pause_ms(mean_ms);
        while at_ms < self.faulty_ms {
            let mut for_ms = match chance.below(10) {
                0..5 => chance.between(200, 2_000),
                5..9 => chance.between(1_000, 6_000),
                _ => chance.between(5_000, 12_000),
            };
            let kind = self.draw_fault(chance, &hosts);
            if matches!(kind, FaultKind::CutLeader { .. }) && chance.percent(60) {
                // Long enough for its successor to give away what workers have that still hear the old one.
                for_ms = chance.between(6_000, 14_000);
            }
            faults.push(Fault {
                at_ms,
                for_ms,
                kind,
            });
            at_ms += 50 + chance.pause_ms(mean_ms);
        }
        faults
    }

    /// Controllers lose their power again and again and are back before anyone is elected, or a little later.
    fn draw_storm(&self, chance: &mut Chance) -> Vec<Fault> {
        let controllers = Self::names('c', self.controllers);
        let mut faults = Vec::new();
        let mut at_ms = chance.pause_ms(300);
        while at_ms < self.faulty_ms {
            let one = chance.pick(&controllers).clone();
            let (for_ms, kind) = match chance.below(12) {
                0..4 => (chance.between(20, 250), FaultKind::Crash(one)),
                4 | 5 => (chance.between(250, 1_500), FaultKind::Crash(one)),
                6 | 7 => (
                    chance.between(20, 600),
                    FaultKind::PowerCut(most_of(chance, controllers.clone())),
                ),
                8 | 9 => (chance.between(20, 250), FaultKind::CrashLeader),
                10 => {
                    let (from, to) = controllers.iter().cloned().partition(|c| *c == one);
                    let one_way = chance.percent(30);
                    let kind = FaultKind::Cut { from, to, one_way };
                    (chance.between(200, 2_000), kind)
                }
                _ => (
                    chance.between(200, 1_000),
                    FaultKind::SlowDisk(one, chance.between(50, 300)),
                ),
            };
            faults.push(Fault {
                at_ms,
                for_ms,
                kind,
            });
            at_ms += 50 + chance.pause_ms(350);
        }
        faults
    }

    fn draw_fault(&self, chance: &mut Chance, hosts: &[String]) -> FaultKind {
        let controllers = Self::names('c', self.controllers);
        let workers = Self::names('w', self.workers);
        let everyone = || hosts.iter().cloned().chain(["client".to_owned()]);
        match chance.below(15) {
            12 => FaultKind::PowerCut(most_of(chance, controllers)),
            13 => FaultKind::CrashLeader,
            14 => FaultKind::CutLeader {
                one_way: chance.percent(40),
            },
            0 | 1 => FaultKind::Crash(chance.pick(&controllers).clone()),
            2 => FaultKind::Crash(chance.pick(hosts).clone()),
            3 | 4 => {
                let (from, to) = everyone().partition(|_| chance.percent(40));
                let one_way = chance.percent(40);
                FaultKind::Cut { from, to, one_way }
            }
            5 => {
                // One worker without its controllers: it goes on serving gateways.
                let mut from = vec![chance.pick(&workers).clone()];
                let mut to = controllers;
                if chance.percent(50) {
                    std::mem::swap(&mut from, &mut to);
                }
                let one_way = chance.percent(50);
                FaultKind::Cut { from, to, one_way }
            }
            6 => {
                // The controllers split.
                let (from, to) = controllers.into_iter().partition(|_| chance.percent(40));
                let one_way = chance.percent(30);
                FaultKind::Cut { from, to, one_way }
            }
            7 => {
                // One controller, perhaps the leader, with its workers or without.
                let one = chance.pick(&controllers).clone();
                let (near, far) = everyone()
                    .filter(|h| *h != one)
                    .partition(|h| h.starts_with('w') && chance.percent(50));
                let near: Vec<String> = near;
                let from = std::iter::once(one).chain(near).collect();
                FaultKind::Cut {
                    from,
                    to: far,
                    one_way: false,
                }
            }
            8 => {
                let (a, b) = (chance.pick(&controllers), chance.pick(hosts));
                FaultKind::Hold(a.clone(), b.clone())
            }
            9 => FaultKind::Slow(chance.pick(hosts).clone(), chance.between(30, 400)),
            10 => FaultKind::SlowDisk(chance.pick(&controllers).clone(), chance.between(50, 500)),
            _ => FaultKind::ClockStep(chance.pick(hosts).clone(), signed(chance, 3_600_000)),
        }
    }
}

/// A majority of them, or all.
fn most_of(chance: &mut Chance, mut hosts: Vec<String>) -> Vec<String> {
    let spared = chance.below(u64::try_from(hosts.len().div_ceil(2)).unwrap_or(1));
    for _ in 0..spared {
        let one = chance.pick(&hosts).clone();
        hosts.retain(|host| *host != one);
    }
    hosts
}

fn functions(chance: &mut Chance) -> Vec<FunctionPlan> {
    let mut function = |account, name, reserved, limit_varies, value_varies| FunctionPlan {
        account,
        name,
        reserved,
        limit_varies,
        value_varies,
        timeout_s: chance.between(1, 3),
        init_ms: *chance.pick(&[5, 50, 300]),
        is_aliased: false,
        is_weighted: false,
    };
    let [one, two] = ACCOUNTS;
    let mut aliased = function(one, "aliased", Some(5), false, false);
    aliased.is_aliased = true;
    let mut weighted = function(one, "weighted", None, false, false);
    (weighted.is_aliased, weighted.is_weighted) = (true, true);
    vec![
        aliased,
        weighted,
        function(one, "single", Some(1), false, false),
        function(one, "few", Some(4), false, true),
        function(one, "varied", Some(6), true, false),
        function(one, "shared", None, false, true),
        function(two, "shared", None, false, false),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_plan_and_seeds_differ() {
        let text = |seed| format!("{:?}", Plan::of(seed));
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn a_power_cut_takes_a_majority() {
        let mut chance = Chance::new(1);
        for _ in 0..100 {
            for (all, majority) in [(3, 2), (5, 3)] {
                let hosts = most_of(&mut chance, Plan::names('c', all));
                assert!(hosts.len() >= majority);
            }
        }
    }

    #[test]
    fn every_kind_of_fault_is_drawn() {
        let mut kinds = [false; 9];
        for fault in (0..50).flat_map(|seed| Plan::of(seed).faults) {
            let kind = match fault.kind {
                FaultKind::Crash(_) => 0,
                FaultKind::Cut { .. } => 1,
                FaultKind::Hold(..) => 2,
                FaultKind::Slow(..) => 3,
                FaultKind::SlowDisk(..) => 4,
                FaultKind::ClockStep(..) => 5,
                FaultKind::PowerCut(_) => 6,
                FaultKind::CrashLeader => 7,
                FaultKind::CutLeader { .. } => 8,
            };
            kinds[kind] = true;
        }
        assert_eq!(kinds, [true; 9]);
    }
}
