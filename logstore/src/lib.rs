//! Log events on disk, by group and stream: what functions print on this node. Bounded in bytes, memory and open files, with a
//! retention for each group. What the logs API says about events is `hearth_core::logs`'; who prints, and who asks, is not here.
//!
//! - **Who appends never waits.** [`LogStore::append`] copies into a queue of so many bytes. One [`Writer`] takes from it; what
//!   finds no room is dropped and counted, and a line in the stream says how many events are missing. A flood of output costs
//!   output, and no invocation its time.
//! - **A power cut takes the last second.** Events are written as they come and made durable every second
//!   ([`StoreOptions::sync_interval_ms`]), not one by one; a segment is durable when it is closed. If only the process ends,
//!   what waited in the queue is lost.
//! - **Old goes for new.** A segment is closed when it is large or old. Whole segments are deleted: when all their events have
//!   expired, and of the groups that have most when there are too many bytes.
//!
//! ```
//! # fn keep() -> Result<(), Box<dyn std::error::Error>> {
//! use hearth_core::logs::{Streams, page::Position};
//! use hearth_logstore::{LogStore, NewEvent, ReadQuery, StoreOptions};
//! use hearth_node::Seams;
//!
//! # let dir = tempfile::tempdir()?;
//! let Seams { clock, random, .. } = Seams::system();
//! let (store, mut writer) = LogStore::open(dir.path(), StoreOptions::default(), clock, random)?;
//! let (account, group) = ("123456789012".parse()?, "/aws/lambda/f".parse()?);
//! let event = NewEvent { timestamp_ms: 1_900_000_000_000, message: b"hello" };
//! store.append(&account, &group, &"s".parse()?, &[event]);
//! // A node runs `writer.run()` instead.
//! writer.step();
//! let query = ReadQuery {
//!     streams: Streams::All,
//!     bounds: Position::FIRST..Position::LAST,
//!     is_ascending: true,
//!     looked_at: 100,
//! };
//! assert_eq!(store.events(&account, &group, query).count(), 1);
//! # Ok(())
//! # }
//! # keep().unwrap();
//! ```

mod active;
mod error;
mod event;
mod files;
mod index;
mod options;
mod path;
mod plan;
mod queue;
mod read;
mod record;
mod recover;
mod room;
mod select;
mod store;
mod table;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub use error::StoreError;
pub use event::{MESSAGE_MAX_BYTES, NewEvent, StoredEvent};
pub use index::{GroupSummary, StreamSummary};
pub use options::{StoreOptions, StoreOptionsError};
pub use queue::Appended;
pub use read::Events;
pub use store::{LogStore, ReadQuery, StoreStats};
pub use tail::{Heard, Subscription};
pub use writer::Writer;
