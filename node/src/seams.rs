//! What a role is run on: clock, chance and network. A simulation puts its own in their place.

use crate::clock::{SharedClock, SystemClock};
use crate::net::{SharedNet, TcpNet};
use crate::random::{SharedRandom, SystemRandom};

/// The seams every role takes.
#[derive(Debug, Clone)]
pub struct Seams {
    /// The node's clock.
    pub clock: SharedClock,
    /// The node's source of chance.
    pub random: SharedRandom,
    /// How it reaches other nodes and is reached.
    pub net: SharedNet,
}

impl Seams {
    /// The operating system's.
    pub fn system() -> Self {
        Self {
            clock: SystemClock::shared(),
            random: SystemRandom::shared(),
            net: TcpNet::shared(),
        }
    }
}
