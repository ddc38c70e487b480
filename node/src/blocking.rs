//! Work that blocks (files, hashing) beside the tasks that must not wait for it.
//!
//! A simulation has one thread, because threads would end in an order that no seed repeats: it switches its whole process
//! to [`run_inline`].

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinError;

static INLINE: AtomicBool = AtomicBool::new(false);

/// From now on, in this process, [`run`] does the work where it is called. For the simulation; never for a node.
pub fn run_inline() {
    INLINE.store(true, Ordering::Relaxed);
}

/// Does the work on a thread that may block. Dropping the future does not end work that has begun.
///
/// # Errors
/// The work panicked, or the runtime is ending.
pub async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if INLINE.load(Ordering::Relaxed) {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_on_another_thread() {
        let here = std::thread::current().id();
        let there = run(|| std::thread::current().id()).await.unwrap();
        assert_ne!(here, there);
    }

    #[tokio::test]
    async fn a_panic_of_the_work_is_told() {
        let ended = run(|| panic!("on purpose")).await;
        assert!(ended.is_err_and(|error| error.is_panic()));
    }
}
