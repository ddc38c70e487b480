//! What a message does where it arrives.

use hearth_core::ids::{GrantSequence, NodeId};
use hearth_core::permits::{Grant, Renewal, Shrink};

use super::World;
use crate::parts::{Message, Sabotage};

impl World {
    pub(super) fn deliver(&mut self, message: Message) {
        match message {
            Message::Grant(worker, grant) => self.deliver_grant(worker, grant),
            Message::Shrink(worker, shrink) => self.deliver_shrink(worker, &shrink),
            Message::Reply(worker, incarnation, reply) => {
                let now = self.now;
                if let Some(node) = self.node(worker)
                    && node.incarnation == incarnation
                {
                    let at = node.clock(now);
                    node.permits.on_reply(&reply, at);
                }
            }
            Message::Renewal(leader, renewal) => self.deliver_renewal(leader, &renewal),
            Message::Answer(leader, answer) => {
                let leading = &self.leaders[leader];
                let change = leading.permits.on_shrink_answer(&leading.table, &answer);
                if let Some(change) = change {
                    self.propose(leader, vec![change]);
                }
            }
        }
    }

    fn deliver_grant(&mut self, worker: NodeId, mut grant: Grant) {
        let (now, sabotage) = (self.now, self.sabotage);
        let Some(node) = self.node(worker) else {
            return;
        };
        let at = node.clock(now);
        if sabotage == Sabotage::ForgetSessions {
            grant.session = node.permits.renewal(at).session;
        }
        if sabotage == Sabotage::ForgetSequences {
            let own = node.permits.report(&grant.pool, at).sequence;
            grant.sequence = grant.sequence.max(GrantSequence(own.0 + 1));
        }
        node.permits.on_grant(&grant, at);
    }

    fn deliver_shrink(&mut self, worker: NodeId, shrink: &Shrink) {
        let (now, sabotage) = (self.now, self.sabotage);
        let Some(node) = self.node(worker) else {
            return;
        };
        let (at, leader) = (node.clock(now), node.leader);
        let Some(mut answer) = node.permits.on_shrink(shrink, at) else {
            return;
        };
        if sabotage == Sabotage::ShrinkUnderInFlight {
            answer.n = shrink.n;
        }
        self.send(Message::Answer(leader, answer));
    }

    fn deliver_renewal(&mut self, leader: usize, renewal: &Renewal) {
        let is_leader = leader == self.leaders.len() - 1;
        let leading = &mut self.leaders[leader];
        let at = leading.clock(self.now);
        let reply = leading.permits.on_renewal(&leading.table, renewal, at);
        let is_confirmed = is_leader || self.sabotage == Sabotage::UnconfirmedLeader;
        if let Some(reply) = reply
            && is_confirmed
        {
            self.send(Message::Reply(renewal.worker, renewal.incarnation, reply));
        }
    }
}
