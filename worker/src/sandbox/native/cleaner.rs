//! Removes the cgroups and scratch images of ended sandboxes, off the path of everything else.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::cgroup::Group;
use super::scratch::Scratch;

/// Groups that wait for removal; a removal takes about 80 us, so this is far more than ends at once.
const BACKLOG: usize = 4096;

/// A group may stay busy for a moment after its last process was reaped.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(5);

/// What is left of a sandbox.
#[derive(Debug)]
enum Rubbish {
    Group(Box<dyn Group>),
    Scratch(Scratch),
}

impl Rubbish {
    fn remove(&self) -> io::Result<()> {
        match self {
            Self::Group(group) => group.remove(),
            // Closing the descriptor does the rest.
            Self::Scratch(scratch) => scratch.discard(),
        }
    }
}

/// Where these go when they are no longer used.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct Cleaner(SyncSender<Rubbish>);

impl Cleaner {
    /// The thread ends once every clone, and every [`OwnedGroup`], is dropped.
    pub(in crate::sandbox) fn start() -> io::Result<(Self, JoinHandle<()>)> {
        let (sender, receiver) = sync_channel(BACKLOG);
        let thread = std::thread::Builder::new()
            .name("cgroup-cleaner".to_owned())
            .spawn(move || clean(&receiver))?;
        Ok((Self(sender), thread))
    }

    pub(in crate::sandbox) fn own(&self, group: Box<dyn Group>) -> OwnedGroup {
        OwnedGroup {
            group: Some(group),
            cleaner: self.clone(),
        }
    }

    pub(in crate::sandbox) fn own_scratch(&self, scratch: Scratch) -> OwnedScratch {
        OwnedScratch {
            scratch: Some(scratch),
            cleaner: self.clone(),
        }
    }

    fn dispose(&self, rubbish: Rubbish) {
        if let Err(TrySendError::Full(rubbish) | TrySendError::Disconnected(rubbish)) =
            self.0.try_send(rubbish)
            && let Err(error) = rubbish.remove()
        {
            tracing::warn!(?rubbish, %error, "could not be removed");
        }
    }
}

fn clean(heap: &Receiver<Rubbish>) {
    for rubbish in heap {
        let mut attempt = 0;
        while let Err(error) = rubbish.remove() {
            attempt += 1;
            if attempt == ATTEMPTS {
                // The next incarnation of this worker sweeps a group; an image goes when its last user goes.
                tracing::warn!(?rubbish, %error, "could not be removed");
                break;
            }
            std::thread::park_timeout(PAUSE);
        }
    }
}

/// A group that is removed when dropped.
#[derive(Debug)]
pub(in crate::sandbox) struct OwnedGroup {
    /// `None` only while being dropped.
    group: Option<Box<dyn Group>>,
    cleaner: Cleaner,
}

impl OwnedGroup {
    pub(in crate::sandbox) fn group(&self) -> &dyn Group {
        self.group.as_deref().expect("taken by drop alone")
    }
}

impl Drop for OwnedGroup {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            self.cleaner.dispose(Rubbish::Group(group));
        }
    }
}

/// An image that is thrown away when dropped.
#[derive(Debug)]
pub(in crate::sandbox) struct OwnedScratch {
    /// `None` only while being dropped.
    scratch: Option<Scratch>,
    cleaner: Cleaner,
}

impl OwnedScratch {
    pub(in crate::sandbox) fn scratch(&self) -> &Scratch {
        self.scratch.as_ref().expect("taken by drop alone")
    }
}

impl Drop for OwnedScratch {
    fn drop(&mut self) {
        if let Some(scratch) = self.scratch.take() {
            self.cleaner.dispose(Rubbish::Scratch(scratch));
        }
    }
}
