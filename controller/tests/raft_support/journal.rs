//! The machine that consensus tests replicate, and waiting for what it does.
#![expect(unreachable_pub, reason = "this is a module of test binaries")]

use std::time::Duration;

use hearth_controller::raft::{Machine, RestoreError};

/// Everything a test waits for happens within this.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Remembers the commands.
#[derive(Debug, Default)]
pub struct Journal {
    commands: Vec<String>,
    restored: usize,
    applied: usize,
}

impl Journal {
    pub fn commands(&self) -> Vec<String> {
        self.commands.clone()
    }
    pub fn len(&self) -> usize {
        self.commands.len()
    }
    pub fn restored(&self) -> usize {
        self.restored
    }
    pub fn applied(&self) -> usize {
        self.applied
    }
}

impl Machine for Journal {
    fn apply(&mut self, index: u64, command: &[u8]) -> Vec<u8> {
        self.commands
            .push(String::from_utf8_lossy(command).into_owned());
        self.applied += 1;
        format!("ok {index}").into_bytes()
    }

    fn snapshot(&self) -> Vec<u8> {
        self.commands.join("\n").into_bytes()
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let text = std::str::from_utf8(bytes).map_err(|error| RestoreError(error.to_string()))?;
        self.commands = text.lines().map(str::to_owned).collect();
        self.restored += 1;
        Ok(())
    }
}

/// Waits until `condition` holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        while !condition() {
            tick.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect(what);
}
