//! The error documents the platform itself answers with, as AWS words them. The function's own errors pass unchanged.

use bytes::Bytes;
use hearth_core::extensions::Failure;
use hearth_core::report::{EndStatus, timeout_message};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::sandbox::driver::ExitStatus;

const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// A failed invocation or init phase, for which the runtime gave no document of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The runtime posted this to `/init/error`.
    InitError {
        /// As posted.
        document: Bytes,
        /// From the header or the document.
        error_type: String,
    },
    /// The process ended.
    Exited(ExitStatus),
    /// There is no program to run.
    InvalidEntrypoint(String),
    /// There is no such working directory in the image.
    InvalidWorkingDir(String),
    /// The init phase took longer than it may; the invocation runs it again.
    InitTimedOut,
    /// The response is larger than so many bytes.
    ResponseTooLarge(usize),
    /// The worker is going down.
    Stopped,
    /// An extension failed.
    Extension {
        /// How.
        failure: Failure,
        /// What is known of it.
        text: String,
    },
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "errorType")]
    error_type: &'a str,
    #[serde(rename = "errorMessage")]
    error_message: String,
}

impl Fault {
    /// AWS's name of it.
    pub(crate) fn error_type(&self) -> &str {
        match self {
            Self::InitError { error_type, .. } => error_type,
            Self::Exited(ExitStatus::OutOfMemory) => "Runtime.OutOfMemory",
            Self::Exited(_) => "Runtime.ExitError",
            Self::InvalidEntrypoint(_) => "Runtime.InvalidEntrypoint",
            Self::InvalidWorkingDir(_) => "Runtime.InvalidWorkingDir",
            Self::InitTimedOut => "Sandbox.Timedout",
            Self::ResponseTooLarge(_) => "Function.ResponseSizeTooLarge",
            Self::Stopped => "Sandbox.Failure",
            Self::Extension { failure, .. } => failure.error_type(),
        }
    }

    /// How the log tells it.
    pub(crate) fn end_status(&self) -> EndStatus {
        match self {
            Self::InitTimedOut => EndStatus::Timeout,
            // The function ran to its end; AWS's REPORT of it is that of a success.
            Self::ResponseTooLarge(_) => EndStatus::Success,
            _ => EndStatus::Error(self.error_type().to_owned()),
        }
    }

    /// The payload of the answer.
    pub(crate) fn document(&self, request_id: &str) -> Bytes {
        let (error_type, text) = match self {
            Self::InitError { document, .. } => return document.clone(),
            Self::Exited(status) => (self.error_type(), exit_text(*status)),
            Self::InvalidEntrypoint(text)
            | Self::InvalidWorkingDir(text)
            | Self::Extension { text, .. } => (self.error_type(), text.clone()),
            Self::InitTimedOut => (self.error_type(), "Init timed out".to_owned()),
            Self::ResponseTooLarge(limit) => {
                return document(
                    self.error_type(),
                    format!(
                        "Response payload size exceeded maximum allowed payload size ({limit} bytes)."
                    ),
                );
            }
            Self::Stopped => (
                self.error_type(),
                "The execution environment was stopped".to_owned(),
            ),
        };
        document(error_type, format!("RequestId: {request_id} Error: {text}"))
    }
}

fn exit_text(status: ExitStatus) -> String {
    match status {
        ExitStatus::Exited(0) => "Runtime exited without providing a reason".to_owned(),
        ExitStatus::Exited(code) => format!("Runtime exited with error: exit status {code}"),
        ExitStatus::OutOfMemory => "Runtime exited with error: signal: killed".to_owned(),
        ExitStatus::Signaled(signal) => {
            format!("Runtime exited with error: {}", signal_text(signal))
        }
    }
}

/// As Go prints the end of a process by a signal.
pub(crate) fn signal_text(signal: i32) -> String {
    format!("signal: {}", signal_name(signal))
}

/// As Go prints errors, since AWS's runtime interface is written in it.
pub(crate) fn errno_text(errno: i32) -> String {
    match errno {
        libc::ENOENT => "no such file or directory".into(),
        libc::EACCES => "permission denied".into(),
        libc::ENOEXEC => "exec format error".into(),
        libc::EISDIR => "is a directory".into(),
        other => std::io::Error::from_raw_os_error(other).to_string(),
    }
}

/// As Go prints signals, since AWS's runtime interface is written in it.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGHUP => "hangup",
        libc::SIGINT => "interrupt",
        libc::SIGQUIT => "quit",
        libc::SIGILL => "illegal instruction",
        libc::SIGTRAP => "trace/breakpoint trap",
        libc::SIGABRT => "aborted",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "floating point exception",
        libc::SIGKILL => "killed",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGPIPE => "broken pipe",
        libc::SIGALRM => "alarm clock",
        libc::SIGTERM => "terminated",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

/// `{"errorType": ..., "errorMessage": ...}` in AWS's order.
pub(crate) fn document(error_type: &str, error_message: String) -> Bytes {
    let document = Document {
        error_type,
        error_message,
    };
    serde_json::to_vec(&document)
        .expect("two strings serialise")
        .into()
}

/// The text of a timeout, for the log and the answer.
pub(crate) fn timed_out(unix_ms: u64, request_id: &str, timeout_ms: u64) -> String {
    let nanos = i128::from(unix_ms) * 1_000_000;
    let timestamp = OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|at| at.format(TIMESTAMP).ok())
        .unwrap_or_default();
    timeout_message(&timestamp, request_id, timeout_ms)
}

/// `{"errorMessage": ...}`: a timeout has no type.
pub(crate) fn timeout_document(message: &str) -> Bytes {
    serde_json::json!({ "errorMessage": message })
        .to_string()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_worded_as_aws_words_them() {
        for (fault, expected) in [
            (
                Fault::Exited(ExitStatus::Exited(1)),
                r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: r Error: Runtime exited with error: exit status 1"}"#,
            ),
            (
                Fault::Exited(ExitStatus::Exited(0)),
                r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: r Error: Runtime exited without providing a reason"}"#,
            ),
            (
                Fault::Exited(ExitStatus::OutOfMemory),
                r#"{"errorType":"Runtime.OutOfMemory","errorMessage":"RequestId: r Error: Runtime exited with error: signal: killed"}"#,
            ),
            (
                Fault::Exited(ExitStatus::Signaled(11)),
                r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: r Error: Runtime exited with error: signal: segmentation fault"}"#,
            ),
            (
                Fault::ResponseTooLarge(6_291_556),
                r#"{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes)."}"#,
            ),
        ] {
            assert_eq!(fault.document("r"), expected.as_bytes());
        }
    }

    #[test]
    fn a_timeout_carries_the_time_of_day() {
        let text = timed_out(1_700_000_000_123, "r", 1_000);
        assert_eq!(
            text,
            "2023-11-14T22:13:20.123Z r Task timed out after 1.00 seconds"
        );
        assert_eq!(timeout_document("x"), r#"{"errorMessage":"x"}"#.as_bytes());
    }
}
