//! Running programs for an installation, and what is told of one that failed.

use std::process::{Output, Stdio};

use tokio::process::Command;

use super::install::InstallError;

/// Most lines of a failed program's output that are told.
const LINES_MAX: usize = 12;

/// Most bytes of one of them.
const LINE_MAX: usize = 400;

/// Words by which package managers say why they got nothing: the first line with one of them is the reason, and what follows
/// are its consequences.
const UNREACHABLE: [&str; 14] = [
    "could not resolve",
    "temporary failure resolving",
    "could not connect",
    "unable to connect",
    "connection refused",
    "connection failed",
    "connection timed out",
    "enotfound",
    "econnrefused",
    "etimedout",
    "eai_again",
    "newconnectionerror",
    "proxyerror",
    "unknown host",
];

/// Runs a program to its end; its standard output is the caller's to direct.
pub(super) async fn run(
    command: &mut Command,
    step: &str,
    advice: &'static str,
) -> Result<Output, InstallError> {
    let output = execute(command, advice).await?;
    if output.status.success() {
        return Ok(output);
    }
    let text = said(&output);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    Err(InstallError::Step {
        step: step.to_owned(),
        output: lines[lines.len().saturating_sub(LINES_MAX)..].join("\n"),
    })
}

/// Runs a program that fetches from `registry`; a failure is told in one line.
pub(super) async fn fetch(
    command: &mut Command,
    registry: &'static str,
    what: &str,
    advice: &'static str,
) -> Result<Output, InstallError> {
    let output = execute(command, advice).await?;
    if output.status.success() {
        return Ok(output);
    }
    Err(InstallError::Registry {
        registry,
        what: what.to_owned(),
        reason: reason(&said(&output)),
    })
}

async fn execute(command: &mut Command, advice: &'static str) -> Result<Output, InstallError> {
    let program = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    // Not `output`, which would take the standard output from a caller that sent it elsewhere.
    let child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let output = match child {
        Ok(child) => child.wait_with_output().await,
        Err(error) => Err(error),
    };
    output.map_err(|source| InstallError::NoProgram {
        program,
        advice,
        source,
    })
}

fn said(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

fn reason(text: &str) -> String {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_telling = |line: &&str| {
        let line = line.to_lowercase();
        UNREACHABLE.iter().any(|words| line.contains(words))
    };
    let line = lines().find(is_telling).or_else(|| lines().next_back());
    line.unwrap_or("it says nothing")
        .chars()
        .take(LINE_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_is_missing_or_fails_is_told_with_what_to_do() {
        let mut missing = Command::new("/nonexistent/apt-get");
        let error = run(&mut missing, "x", "use Debian 12").await.unwrap_err();
        assert!(error.to_string().contains("Debian 12"), "{error}");
        let mut failing = Command::new("sh");
        failing
            .stderr(Stdio::piped())
            .args(["-c", "echo why >&2; exit 3"]);
        let error = run(&mut failing, "asking", "").await.unwrap_err();
        assert_eq!(error.to_string(), "asking failed: why");
    }

    #[test]
    fn the_reason_is_the_line_that_names_the_cause() {
        for (text, expected) in [
            (
                "Get:1 x\nErr:2 y\n  Could not connect to 127.0.0.1:9 (127.0.0.1). - connect (111: Connection refused)\nE: Failed to fetch y\n",
                "Could not connect to 127.0.0.1:9 (127.0.0.1). - connect (111: Connection refused)",
            ),
            (
                "npm error code ECONNREFUSED\nnpm error syscall connect\n",
                "npm error code ECONNREFUSED",
            ),
            ("a\nlast\n\n", "last"),
            ("", "it says nothing"),
        ] {
            assert_eq!(reason(text), expected);
        }
    }
}
