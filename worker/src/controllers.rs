//! The controllers this worker knows, from its options and from the catalog, and a channel to each. Which of them leads is [`crate::session`]'s to find out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hearth_node::Seams;
use hearth_node::grpc::{ChannelError, ChannelOptions, ClusterChannel, ClusterIdentity, channel};

/// Channels kept; addresses come from the options and from hints about the leader.
const CHANNELS_MAX: usize = 64;

/// Controllers learned; a cluster has at most five and some learners.
const LEARNED_MAX: usize = 16;

/// A clonable handle.
#[derive(Debug, Clone)]
pub(crate) struct Controllers {
    addrs: Arc<Vec<String>>,
    /// Told by the catalog, besides those of the options.
    learned: Arc<Mutex<Vec<String>>>,
    seams: Seams,
    options: ChannelOptions,
    identity: ClusterIdentity,
    channels: Arc<Mutex<HashMap<String, ClusterChannel>>>,
}

impl Controllers {
    pub(crate) fn new(
        addrs: Vec<String>,
        seams: Seams,
        options: ChannelOptions,
        identity: ClusterIdentity,
    ) -> Self {
        Self {
            addrs: Arc::new(addrs),
            learned: Arc::default(),
            seams,
            options,
            identity,
            channels: Arc::default(),
        }
    }

    /// The catalog tells which there are: those that were told before are forgotten, those of the options never.
    pub(crate) fn learn(&self, addrs: Vec<String>) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        *learned = addrs;
        learned.retain(|addr| !self.addrs.contains(addr));
        learned.truncate(LEARNED_MAX);
    }

    /// All, from a random one on.
    pub(crate) fn in_random_order(&self, seams: &Seams) -> Vec<String> {
        let mut addrs = self.addrs.as_ref().clone();
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        addrs.extend(learned.iter().cloned());
        drop(learned);
        if !addrs.is_empty() {
            let count = addrs.len() as u64;
            let first = usize::try_from(seams.random.u64() % count).unwrap_or(0);
            addrs.rotate_left(first);
        }
        addrs
    }

    /// The channel to one; made once.
    pub(crate) fn channel(&self, addr: &str) -> Result<ClusterChannel, ChannelError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(addr) {
            return Ok(channel.clone());
        }
        let made = channel(&self.seams.net, addr, &self.options, &self.identity)?;
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        channels.insert(addr.to_owned(), made.clone());
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_learned_and_forgotten_and_those_of_the_options_stay() {
        let seams = Seams::system();
        let known = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let controllers = Controllers::new(
            known(&["a:1", "b:1"]),
            seams.clone(),
            ChannelOptions::default(),
            ClusterIdentity::unknown(),
        );
        let all = || {
            let mut all = controllers.in_random_order(&seams);
            all.sort_unstable();
            all
        };
        controllers.learn(known(&["b:1", "c:1"]));
        assert_eq!(all(), ["a:1", "b:1", "c:1"]);
        controllers.learn(known(&["d:1"]));
        assert_eq!(all(), ["a:1", "b:1", "d:1"]);
    }
}
