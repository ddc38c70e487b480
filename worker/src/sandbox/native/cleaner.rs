//! Removes the cgroups of ended sandboxes, off the path of everything else.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::cgroup::Group;

/// Groups that wait for removal; a removal takes about 80 us, so this is far more than ends at once.
const BACKLOG: usize = 4096;

/// A group may stay busy for a moment after its last process was reaped.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(5);

/// Where groups go when they are no longer used.
#[derive(Debug, Clone)]
pub(super) struct Cleaner(SyncSender<Box<dyn Group>>);

impl Cleaner {
    /// The thread ends once every clone, and every [`OwnedGroup`], is dropped.
    pub(super) fn start() -> io::Result<(Self, JoinHandle<()>)> {
        let (sender, receiver) = sync_channel(BACKLOG);
        let thread = std::thread::Builder::new()
            .name("cgroup-cleaner".to_owned())
            .spawn(move || clean(&receiver))?;
        Ok((Self(sender), thread))
    }

    pub(super) fn own(&self, group: Box<dyn Group>) -> OwnedGroup {
        OwnedGroup {
            group: Some(group),
            cleaner: self.clone(),
        }
    }
}

fn clean(groups: &Receiver<Box<dyn Group>>) {
    for group in groups {
        let mut attempt = 0;
        while let Err(error) = group.remove() {
            attempt += 1;
            if attempt == ATTEMPTS {
                // The next incarnation of this worker sweeps it.
                tracing::warn!(?group, %error, "cgroup could not be removed");
                break;
            }
            std::thread::park_timeout(PAUSE);
        }
    }
}

/// A group that is removed when dropped.
#[derive(Debug)]
pub(super) struct OwnedGroup {
    /// `None` only while being dropped.
    group: Option<Box<dyn Group>>,
    cleaner: Cleaner,
}

impl OwnedGroup {
    pub(super) fn group(&self) -> &dyn Group {
        self.group.as_deref().expect("taken by drop alone")
    }
}

impl Drop for OwnedGroup {
    fn drop(&mut self) {
        let Some(group) = self.group.take() else {
            return;
        };
        if let Err(TrySendError::Full(group) | TrySendError::Disconnected(group)) =
            self.cleaner.0.try_send(group)
            && let Err(error) = group.remove()
        {
            tracing::warn!(?group, %error, "cgroup could not be removed");
        }
    }
}
