//! A small world for the admission protocol: a network with faults, a replicated log that a deposed leader
//! can no longer write to, workers that run invocations, one leader or two. The pieces are in `parts`.

#[path = "deliver.rs"]
mod deliver;

use std::collections::{BTreeMap, BTreeSet};

use hearth_core::ids::{GrantSequence, Incarnation, MonotonicMs, NodeId, PoolKey};
use hearth_core::permits::{
    Acquire, Candidate, GrantChange, GrantOutcome, GrantTable, GrowPlan, LeaderPermits, Need,
    Permit, PermitAction, WorkerPermits,
};

use crate::invariants;
use crate::parts::{Chance, Leader, Message, Node, Sabotage, TTL_MS, host, pools, timing};

const STEP_MS: u64 = 20;
const WORKERS: u64 = 4;
const TIMEOUT_MS: u64 = 1_500;

#[derive(Debug)]
struct Proposal {
    leader: usize,
    commits_at: u64,
    changes: Vec<GrantChange>,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) table: GrantTable,
    pub(crate) nodes: Vec<Node>,
    /// Sums of grants before the step.
    pub(crate) sums: BTreeMap<PoolKey, u64>,
    /// Invocations that were let in.
    pub(crate) accepted: BTreeMap<PoolKey, u64>,
    /// What happened, for comparing runs.
    pub(crate) log: Vec<String>,
    chance: Chance,
    sabotage: Sabotage,
    /// The last one leads; the one before may not know that it no longer does.
    leaders: Vec<Leader>,
    proposals: Vec<Proposal>,
    network: Vec<(u64, Message)>,
    index: u64,
    reclaimed: BTreeSet<(NodeId, Incarnation, PoolKey)>,
    faults: bool,
}

impl World {
    pub(crate) fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut world = Self {
            now: 0,
            table: GrantTable::default(),
            nodes: Vec::new(),
            sums: BTreeMap::new(),
            accepted: BTreeMap::new(),
            log: Vec::new(),
            chance: Chance(seed),
            sabotage,
            leaders: Vec::new(),
            proposals: Vec::new(),
            network: Vec::new(),
            index: 0,
            reclaimed: BTreeSet::new(),
            faults: true,
        };
        for (pool, limit) in pools().iter().zip([1, 6, 24]) {
            let sequence = world.next_index();
            world.table.set_limit(pool, limit, sequence);
        }
        let sequence = world.next_index();
        let [_, whole, _, part] = pools();
        world.table.set_part(&part, &whole, 4, sequence);
        world.elect();
        for id in 1..=WORKERS {
            let node = world.new_node(NodeId(id));
            world.nodes.push(node);
        }
        world
    }

    fn next_index(&mut self) -> GrantSequence {
        self.index += 1;
        GrantSequence(self.index)
    }

    fn new_node(&mut self, id: NodeId) -> Node {
        let sequence = self.next_index();
        let incarnation = Incarnation(sequence.0);
        let registered = self.table.register_worker(id, incarnation, sequence);
        registered.expect("the newest incarnation");
        let ttl_ms = match self.sabotage {
            Sabotage::NoFence => u64::MAX / 4,
            Sabotage::None
            | Sabotage::ReclaimEarly
            | Sabotage::UnconfirmedLeader
            | Sabotage::ForgetSessions
            | Sabotage::ForgetSequences
            | Sabotage::ShrinkUnderInFlight
            | Sabotage::ForgetWhole => TTL_MS,
        };
        let rate = 980 + self.chance.below(41);
        let local = MonotonicMs(100_000 + self.now * rate / 1_000);
        let newest = self.leaders.len() - 1;
        let leader = &mut self.leaders[newest];
        let at = leader.clock(self.now);
        leader.permits.on_registered(id, incarnation, at);
        Node {
            id,
            incarnation,
            permits: WorkerPermits::new(id, incarnation, ttl_ms, local),
            rate,
            down_until: 0,
            cut_until: 0,
            leader: newest,
            running: Vec::new(),
        }
    }

    /// A new leader. What the old one had proposed is committed now or never.
    fn elect(&mut self) {
        for proposal in std::mem::take(&mut self.proposals) {
            if self.chance.per_mille(500) {
                self.apply(&proposal.changes);
            }
        }
        let rate = 980 + self.chance.below(41);
        let at = MonotonicMs(500_000 + self.now * rate / 1_000);
        let permits = LeaderPermits::elected(timing(self.sabotage), &self.table, at);
        self.leaders.push(Leader {
            permits,
            rate,
            table: self.table.clone(),
        });
        self.log.push(format!("{}: elected", self.now));
    }

    fn apply(&mut self, changes: &[GrantChange]) -> Vec<GrantOutcome> {
        let sequence = self.next_index();
        let mut outcomes = Vec::new();
        for change in changes {
            let result = self.table.apply(change, sequence);
            self.log.push(format!("{sequence}: {change:?} {result:?}"));
            if let (GrantChange::Reclaim { worker, pool, .. }, Ok(done)) = (change, &result) {
                let key = (*worker, done.incarnation, pool.clone());
                self.reclaimed.insert(key);
            }
            outcomes.extend(result.ok());
        }
        outcomes
    }

    pub(crate) fn was_reclaimed(&self, node: &Node, pool: &PoolKey) -> bool {
        let key = (node.id, node.incarnation, pool.clone());
        self.reclaimed.contains(&key)
    }

    fn send(&mut self, message: Message) {
        let copies = if self.faults && self.chance.per_mille(100) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            if self.faults && self.chance.per_mille(100) {
                continue;
            }
            let late = self.faults && self.chance.per_mille(30);
            let delay = 1 + self.chance.below(if late { 8_000 } else { 60 });
            self.network.push((self.now + delay, message.clone()));
        }
    }

    /// One step of everything, then the invariants.
    pub(crate) fn step(&mut self) -> Result<(), String> {
        self.now += STEP_MS;
        self.sums = pools()
            .map(|p| (p.clone(), self.table.granted_sum(&p)))
            .into_iter()
            .collect();
        if self.faults {
            self.make_trouble();
        }
        self.deliver_due()?;
        self.commit_due();
        self.run_workers()?;
        if self.now.is_multiple_of(200) {
            self.run_leaders();
        }
        invariants::check(self)
    }

    fn make_trouble(&mut self) {
        if self.chance.per_mille(3) {
            self.elect();
        }
        for i in 0..self.nodes.len() {
            let now = self.now;
            if self.chance.per_mille(1) {
                self.nodes[i].down_until = now + self.chance.below(6_000);
                self.nodes[i].running.clear();
            } else if self.chance.per_mille(2) {
                self.nodes[i].cut_until = now + self.chance.below(9_000);
            }
            // Sooner or later a worker finds the new leader; until then it talks to the deposed one.
            if self.chance.per_mille(20) {
                self.nodes[i].leader = self.leaders.len() - 1;
            }
        }
        if self.chance.per_mille(2) {
            self.change_limits();
        }
    }

    /// Another limit of the pool that has a part, and another size of the part.
    fn change_limits(&mut self) {
        let [_, whole, _, part] = pools();
        let limit = u32::try_from(self.chance.below(14)).expect("small");
        let carved = u32::try_from(self.chance.below(u64::from(limit) + 1)).expect("small");
        let sequence = self.next_index();
        self.table.set_limit(&whole, limit - carved, sequence);
        if self.sabotage == Sabotage::ForgetWhole {
            self.table.set_part(&part, &part, carved, sequence);
        } else {
            self.table.set_part(&part, &whole, carved, sequence);
        }
        for pool in [whole, part] {
            let sum = self.table.granted_sum(&pool);
            self.sums.insert(pool, sum);
        }
    }

    fn deliver_due(&mut self) -> Result<(), String> {
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.network)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.network = later;
        let mut due: Vec<(u64, Message)> = due;
        due.sort_by_key(|(at, _)| *at);
        for (_, message) in due {
            if let Some(until) = self.held_until(&message) {
                self.network.push((until, message));
                continue;
            }
            self.deliver(message);
            invariants::check(self)?;
        }
        Ok(())
    }

    /// Some of what is sent to a worker that is cut off is not lost but waits in a buffer on the way and
    /// arrives soon after the cut ends: the old words that sessions guard against.
    fn held_until(&mut self, message: &Message) -> Option<u64> {
        let worker = match message {
            Message::Grant(worker, _) | Message::Shrink(worker, _) => *worker,
            Message::Reply(..) | Message::Renewal(..) | Message::Answer(..) => return None,
        };
        let until = self.nodes.iter().find(|n| n.id == worker)?.cut_until;
        (until > self.now && self.chance.per_mille(500)).then(|| until + 1 + self.chance.below(400))
    }

    fn node(&mut self, id: NodeId) -> Option<&mut Node> {
        let now = self.now;
        self.nodes
            .iter_mut()
            .find(|n| n.id == id && n.down_until <= now && n.cut_until <= now)
    }

    /// Only the leader's proposals are ever committed.
    fn propose(&mut self, leader: usize, changes: Vec<GrantChange>) {
        if leader == self.leaders.len() - 1 && !changes.is_empty() {
            let commits_at = self.now + 1 + self.chance.below(80);
            self.proposals.push(Proposal {
                leader,
                commits_at,
                changes,
            });
        }
    }

    fn commit_due(&mut self) {
        // In the order of the log: an entry is committed after those before it.
        while self
            .proposals
            .first()
            .is_some_and(|p| p.commits_at <= self.now)
        {
            let proposal = self.proposals.remove(0);
            let outcomes = self.apply(&proposal.changes);
            let newest = self.leaders.len() - 1;
            let leader = &mut self.leaders[newest];
            leader.table = self.table.clone();
            let at = leader.clock(self.now);
            for change in &proposal.changes {
                leader.permits.on_commit_failed(change.key().1);
            }
            let actions = leader.permits.on_committed(&outcomes, at);
            self.carry_out(proposal.leader, actions);
        }
        let newest = self.leaders.len() - 1;
        self.leaders[newest].table = self.table.clone();
    }

    fn carry_out(&mut self, leader: usize, actions: Vec<PermitAction>) {
        for action in actions {
            match action {
                PermitAction::Commit(changes) => self.propose(leader, changes),
                PermitAction::SendGrant { worker, grant } => {
                    self.send(Message::Grant(worker, grant));
                }
                PermitAction::SendShrink { worker, shrink } => {
                    self.send(Message::Shrink(worker, shrink));
                }
            }
        }
    }

    fn run_leaders(&mut self) {
        // The deposed leader goes on for a while; its words travel, its proposals come to nothing.
        let from = self.leaders.len().saturating_sub(2);
        for i in from..self.leaders.len() {
            let leader = &mut self.leaders[i];
            let at = leader.clock(self.now);
            let timeout_ms = match self.sabotage {
                Sabotage::ReclaimEarly => 0,
                Sabotage::None
                | Sabotage::UnconfirmedLeader
                | Sabotage::ForgetSessions
                | Sabotage::ForgetSequences
                | Sabotage::ShrinkUnderInFlight
                | Sabotage::ForgetWhole
                | Sabotage::NoFence => TIMEOUT_MS,
            };
            let reclaims = leader
                .permits
                .plan_reclaims(&leader.table, at, |_| timeout_ms);
            let mut actions = leader.permits.plan_shrinks(&leader.table, at);
            actions.extend(leader.permits.plan_repairs(&leader.table, at));
            self.propose(i, reclaims);
            self.carry_out(i, actions);
            self.need_capacity(i);
        }
    }

    fn need_capacity(&mut self, i: usize) {
        let pool = pools()[usize::try_from(self.chance.below(4)).expect("small")].clone();
        let count = u32::try_from(1 + self.chance.below(3)).expect("small");
        let candidates: Vec<Candidate> = self
            .nodes
            .iter()
            .map(|n| Candidate {
                worker: n.id,
                incarnation: n.incarnation,
                load: n.in_flight(&pool),
                idle_permits: 0,
                has_room: n.id.0 != 1 + self.now / 4_000 % WORKERS,
                can_make_room: (self.now / 1_000).is_multiple_of(2),
            })
            .collect();
        let leader = &mut self.leaders[i];
        let at = leader.clock(self.now);
        if pool.provisioned.is_some() {
            let mut hosts = candidates.iter().map(host).collect();
            let changes = leader
                .permits
                .plan_provision(&leader.table, &pool, 128, &mut hosts, at);
            self.propose(i, changes);
            return;
        }
        let need = Need { pool, count };
        let plan = leader
            .permits
            .plan_grow(&leader.table, &need, &candidates, at);
        if let GrowPlan::Commit(changes) = plan {
            self.propose(i, changes);
        }
    }

    fn run_workers(&mut self) -> Result<(), String> {
        for i in 0..self.nodes.len() {
            if self.nodes[i].down_until > self.now {
                continue;
            }
            if self.nodes[i].down_until > 0 {
                let id = self.nodes[i].id;
                self.nodes[i] = self.new_node(id);
            }
            self.finish_and_accept(i);
            invariants::check(self)?;
            let node = &mut self.nodes[i];
            if self.now % 200 == 20 * (i as u64) && node.cut_until <= self.now {
                let at = node.clock(self.now);
                let (leader, renewal) = (node.leader, node.permits.renewal(at));
                self.send(Message::Renewal(leader, renewal));
            }
        }
        Ok(())
    }

    fn finish_and_accept(&mut self, i: usize) {
        let pool = pools()[usize::try_from(self.chance.below(4)).expect("small")].clone();
        let duration = 1 + self.chance.below(TIMEOUT_MS - 1);
        let wants = self.chance.per_mille(500);
        let node = &mut self.nodes[i];
        let at = node.clock(self.now);
        let (ended, running) = std::mem::take(&mut node.running)
            .into_iter()
            .partition(|(_, _, ends)| *ends <= at);
        node.running = running;
        let ended: Vec<(PoolKey, Permit, MonotonicMs)> = ended;
        for (pool, permit, _) in ended {
            node.permits.release(&pool, permit);
        }
        node.permits.forget_closed();
        if wants && let Acquire::Permit(permit) = node.permits.try_acquire(&pool, at) {
            *self.accepted.entry(pool.clone()).or_default() += 1;
            node.running.push((pool, permit, at.plus(duration)));
        }
    }

    /// Ends all faults: everyone is up, connected and knows the leader.
    pub(crate) fn heal(&mut self) {
        self.faults = false;
        for node in &mut self.nodes {
            node.cut_until = 0;
            node.down_until = node.down_until.min(self.now);
            node.leader = self.leaders.len() - 1;
        }
    }

    /// Runs on without faults until nothing is stranded, for as long as the slowest timer may take.
    pub(crate) fn converge(&mut self) -> Result<(), String> {
        let end = self.now + 15_000;
        let mut last = Err("did not run".to_owned());
        while self.now < end {
            self.step()?;
            last = invariants::nothing_is_stranded(self);
            if last.is_ok() {
                return Ok(());
            }
        }
        last
    }
}
