//! The platform's own lines in a function's log, and the tail of the log that `LogType=Tail` returns.
//! The formats are AWS's to the byte, tabs included; programs parse them.
//! How durations become money is in `metering`.

use std::collections::VecDeque;
use std::fmt;

use crate::limits::LOG_TAIL_BYTES;
use crate::metering::billed_ms;

/// Microseconds as AWS prints milliseconds: two decimals, rounded half up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ms(u64);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = self.0.saturating_add(5) / 10;
        write!(f, "{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

/// `START RequestId: <id> Version: $LATEST` and a newline.
pub fn start_line(request_id: &str, version: &str) -> String {
    format!("START RequestId: {request_id} Version: {version}\n")
}

/// `END RequestId: <id>` and a newline.
pub fn end_line(request_id: &str) -> String {
    format!("END RequestId: {request_id}\n")
}

/// How an invocation or an init phase ended, where its line tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndStatus {
    /// Well, or with an error the function returned itself: nothing is printed.
    Success,
    /// `Status: timeout`.
    Timeout,
    /// `Status: error` and `Error Type: <type>`, such as `Runtime.ExitError`.
    Error(String),
}

impl EndStatus {
    fn write(&self, line: &mut String) {
        match self {
            Self::Success => {}
            Self::Timeout => line.push_str("\tStatus: timeout"),
            Self::Error(error_type) => {
                line.push_str("\tStatus: error\tError Type: ");
                line.push_str(error_type);
            }
        }
    }
}

/// Contents of the REPORT line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report<'a> {
    /// The request.
    pub request_id: &'a str,
    /// Time the function had the event, microseconds.
    pub duration_us: u64,
    /// Configured memory, MB.
    pub memory_mib: u32,
    /// Largest memory of the sandbox so far, MB.
    pub max_memory_used_mib: u32,
    /// Length of the init phase, microseconds; only for the first invocation of a sandbox.
    pub init_us: Option<u64>,
    /// How it ended.
    pub status: EndStatus,
}

impl Report<'_> {
    /// Time paid for, microseconds. "Effective August 1, 2025, AWS will standardize billing for the
    /// initialization (INIT) phase across all Lambda function configurations" (AWS Compute Blog).
    pub fn billed_us(&self) -> u64 {
        self.duration_us.saturating_add(self.init_us.unwrap_or(0))
    }

    /// The line, ending in a tab and a newline as AWS's does (a status takes the last tab's place).
    pub fn line(&self) -> String {
        let mut line = format!(
            "REPORT RequestId: {}\tDuration: {} ms\tBilled Duration: {} ms\tMemory Size: {} MB\tMax Memory Used: {} MB",
            self.request_id,
            Ms(self.duration_us),
            billed_ms(self.billed_us()),
            self.memory_mib,
            self.max_memory_used_mib,
        );
        if let Some(init_us) = self.init_us {
            line.push_str(&format!("\tInit Duration: {} ms", Ms(init_us)));
        }
        match self.status {
            EndStatus::Success => line.push('\t'),
            EndStatus::Timeout | EndStatus::Error(_) => self.status.write(&mut line),
        }
        line.push('\n');
        line
    }
}

/// The line of a failed init phase: `INIT_REPORT Init Duration: 10003.21 ms\tPhase: init\tStatus: timeout`.
/// `phase` is `init` for the phase of its own and `invoke` when it ran again inside an invocation.
pub fn init_report_line(init_us: u64, phase: InitPhase, status: &EndStatus) -> String {
    let phase = match phase {
        InitPhase::Init => "init",
        InitPhase::Invoke => "invoke",
    };
    let mut line = format!(
        "INIT_REPORT Init Duration: {} ms\tPhase: {phase}",
        Ms(init_us)
    );
    status.write(&mut line);
    line.push('\n');
    line
}

/// Where an init ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitPhase {
    /// Before the first invocation.
    Init,
    /// As part of an invocation, after an init that failed or a reset.
    Invoke,
}

/// `<timestamp> <id> Task timed out after 1.00 seconds`, without a newline: it is also the `errorMessage`
/// of the reply. The timestamp is RFC 3339 in UTC with milliseconds, made by the caller.
pub fn timeout_message(timestamp: &str, request_id: &str, timeout_ms: u64) -> String {
    format!(
        "{timestamp} {request_id} Task timed out after {}.{:02} seconds",
        timeout_ms / 1_000,
        timeout_ms % 1_000 / 10
    )
}

/// The last bytes of an invocation's log.
///
/// "LogType: Set to Tail to include the execution log in the response", and of the result: "The last 4 KB
/// of the execution log, which is base64-encoded."
#[derive(Clone, Debug)]
pub struct LogTail {
    bytes: VecDeque<u8>,
    capacity: usize,
}

impl Default for LogTail {
    fn default() -> Self {
        Self::with_capacity(LOG_TAIL_BYTES)
    }
}

impl LogTail {
    /// A tail of at most so many bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            capacity,
        }
    }

    /// Appends; the oldest bytes fall out.
    pub fn push(&mut self, chunk: &[u8]) {
        let kept = &chunk[chunk.len().saturating_sub(self.capacity)..];
        let overflow = (self.bytes.len() + kept.len()).saturating_sub(self.capacity);
        self.bytes.drain(..overflow);
        self.bytes.extend(kept);
    }

    /// What is kept, oldest first.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "8f5b1d2c-0000-4000-8000-000000000001";

    fn report(status: EndStatus, init_us: Option<u64>) -> String {
        let report = Report {
            request_id: ID,
            duration_us: 1_234,
            memory_mib: 128,
            max_memory_used_mib: 36,
            init_us,
            status,
        };
        report.line()
    }

    #[test]
    fn lines_are_those_of_aws() {
        let base = format!(
            "REPORT RequestId: {ID}\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB"
        );
        assert_eq!(
            start_line(ID, "$LATEST"),
            format!("START RequestId: {ID} Version: $LATEST\n")
        );
        assert_eq!(end_line(ID), format!("END RequestId: {ID}\n"));
        assert_eq!(report(EndStatus::Success, None), format!("{base}\t\n"));
        assert_eq!(
            report(EndStatus::Success, Some(104_996)),
            format!("{base}\tInit Duration: 105.00 ms\t\n")
                .replace("Duration: 2 ms", "Duration: 107 ms")
        );
        assert_eq!(
            report(EndStatus::Timeout, None),
            format!("{base}\tStatus: timeout\n")
        );
        assert_eq!(
            report(EndStatus::Error("Runtime.ExitError".to_owned()), None),
            format!("{base}\tStatus: error\tError Type: Runtime.ExitError\n")
        );
    }

    #[test]
    fn init_report_names_phase_and_status() {
        assert_eq!(
            init_report_line(10_003_210, InitPhase::Init, &EndStatus::Timeout),
            "INIT_REPORT Init Duration: 10003.21 ms\tPhase: init\tStatus: timeout\n"
        );
        let error = EndStatus::Error("Runtime.ImportModuleError".to_owned());
        assert_eq!(
            init_report_line(50_000, InitPhase::Invoke, &error),
            "INIT_REPORT Init Duration: 50.00 ms\tPhase: invoke\tStatus: error\tError Type: Runtime.ImportModuleError\n"
        );
    }

    #[test]
    fn timeout_message_has_two_decimals() {
        let message = timeout_message("2030-01-02T03:04:05.678Z", ID, 1_000);
        assert_eq!(
            message,
            format!("2030-01-02T03:04:05.678Z {ID} Task timed out after 1.00 seconds")
        );
        assert!(timeout_message("t", ID, 900_000).ends_with("after 900.00 seconds"));
    }

    proptest! {
        #[test]
        fn tail_is_the_end_of_everything_pushed(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            capacity in 0_usize..64,
        ) {
            let mut tail = LogTail::with_capacity(capacity);
            for chunk in &chunks {
                tail.push(chunk);
            }
            let all = chunks.concat();
            prop_assert_eq!(tail.into_bytes(), &all[all.len().saturating_sub(capacity)..]);
        }
    }
}
