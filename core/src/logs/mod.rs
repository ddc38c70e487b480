//! Rules of the logs API, as `aws logs`, `sam logs` and Live Tail use it: what a filter pattern matches ([`pattern`]), what
//! groups and streams may be called ([`name`], [`arn`]), which streams a request means ([`select`]), how long lines are kept
//! ([`retention`]), what of a batch is accepted ([`put`]), what is on a page and what its tokens say ([`page`]), and what a
//! Live Tail shows ([`tail`]). Who stores lines and who serves requests is not here.
//!
//! The contract is CloudWatch Logs' service model of 2014-03-28; sentences in quotation marks are its documentation's, or those
//! of the page "Filter pattern syntax for metric filters, subscription filters, filter log events, and Live Tail"
//! (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html>).

pub mod arn;
pub mod name;
pub mod page;
pub mod pattern;
pub mod put;
pub mod retention;
pub mod select;
pub mod tail;
mod violation;

pub use arn::{GroupIdentifier, LogArn};
pub use name::{GroupName, StreamName};
pub use pattern::{Pattern, PatternError};
pub use retention::RetentionDays;
pub use select::Streams;
pub use violation::Violation;
