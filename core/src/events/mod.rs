//! Event (asynchronous) invocations: what one group of the event log agrees on, what becomes of an event after an attempt,
//! and what destinations and dead-letter queues are sent. Payloads are not here; an entry says where the log has its own.
//!
//! ```text
//!            Append                 Lease: attempts + 1, new epoch
//!   (202) ------------> queued --------------------------------> leased
//!                        ^  ^                                    |  |  ^ |
//!                        |  |  Settle RetryAt, or Sweep / Lease  |  |  +-+ Renew
//!                        |  +------- after the lease's end ------+  |
//!                        |                                          | Settle Deliver, Settle Drop
//!                        |  Redrive, of what failed                 v
//!                        +-------------------------------------- settled ---- Sweep ----> gone
//! ```
//!
//! A dispatcher leases due events, asks [`retry`] before each attempt and after it, tells the function's destinations of the
//! end, and settles. It tells them first: should it be lost in between, they are told twice and not never. What it settles
//! under an epoch that is not the entry's newest changes nothing, so a dispatcher that was thought lost can do no harm.

mod command;
pub mod document;
mod entry;
mod index;
#[cfg(test)]
mod properties;
mod queries;
pub mod retry;
mod state;
#[cfg(test)]
mod state_tests;
mod turn;

pub use command::{EventCommand, EventRefusal, EventReply, LeaseId, LeaseOutcome, Settlement};
pub use entry::{End, EventEntry, FunctionKey, PayloadRef, Phase};
pub use queries::FunctionCounts;
pub use state::{EventGroup, EventLimits};
