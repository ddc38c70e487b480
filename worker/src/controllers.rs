//! The controllers this worker knows, and a channel to each. Which of them leads is [`crate::session`]'s to find out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hearth_node::Seams;
use hearth_node::grpc::{ChannelError, ChannelOptions, ClusterChannel, ClusterIdentity, channel};

/// Channels kept; addresses come from the options and from hints about the leader.
const CHANNELS_MAX: usize = 64;

/// A clonable handle.
#[derive(Debug, Clone)]
pub(crate) struct Controllers {
    addrs: Arc<Vec<String>>,
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
            seams,
            options,
            identity,
            channels: Arc::default(),
        }
    }

    /// All configured ones, from a random one on.
    pub(crate) fn in_random_order(&self, seams: &Seams) -> Vec<String> {
        let mut addrs = self.addrs.as_ref().clone();
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
