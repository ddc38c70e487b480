//! What the tests of the native driver share: a driver, a root made of the host's /usr, and running a script.

#![expect(dead_code, reason = "each test program uses a part of it")]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use hearth_worker::sandbox::driver::{Driver, ExitReport, Mount, SandboxSpec, StartedSandbox};
use hearth_worker::sandbox::native::{NativeConfig, NativeDriver, SpawnerCommand};
use tokio::io::AsyncReadExt;

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// Major and minor version of the running kernel.
pub(crate) fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel says");
    let mut numbers = release.split('.').map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Without root there is no native driver to test.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("\n***** SKIPPED: not root, the native sandbox driver is NOT tested *****\n");
    }
    root
}

pub(crate) fn unique(prefix: &str) -> String {
    format!(
        "{prefix}-{}-{}",
        std::process::id(),
        SERIAL.fetch_add(1, Ordering::Relaxed)
    )
}

pub(crate) fn config(worker_id: &str) -> NativeConfig {
    let program = env!("CARGO_BIN_EXE_hearth-spawner").into();
    let mut config = NativeConfig::new(
        SpawnerCommand {
            program,
            args: Vec::new(),
        },
        worker_id,
    );
    config.state_dir = std::env::temp_dir().join(worker_id);
    // Images have a test of their own.
    config.scratch_dir = None;
    config
}

/// A driver, and a directory tree that serves as a runtime pack.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) driver: NativeDriver,
    pub(crate) worker_id: String,
    pub(crate) home: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut NativeConfig)) -> Self {
        let worker_id = unique("test");
        let mut config = config(&worker_id);
        change(&mut config);
        let driver = NativeDriver::open(config).await.expect("open the driver");
        let home = tempfile::tempdir().expect("make a directory");
        make_root(&home.path().join("root"));
        Self {
            driver,
            worker_id,
            home,
        }
    }

    pub(crate) fn spec(&self, argv: &[&str]) -> SandboxSpec {
        spec(&self.home.path().join("root"), argv)
    }

    pub(crate) async fn start(&self, argv: &[&str]) -> StartedSandbox {
        self.driver.start(self.spec(argv)).await.expect("start")
    }

    /// What a shell script says, and how it ends.
    pub(crate) async fn sh(&self, script: &str) -> (String, ExitReport) {
        finish(self.start(&["/bin/sh", "-c", script]).await).await
    }

    /// The same for Python.
    pub(crate) async fn python(&self, script: &str) -> (String, ExitReport) {
        finish(
            self.start(&["/usr/bin/python3", "-I", "-S", "-c", script])
                .await,
        )
        .await
    }
}

/// Directories a root must have, with the host's programs to be mounted at /usr.
pub(crate) fn make_root(root: &Path) {
    for directory in ["usr", "proc", "dev", "tmp", "etc", "opt", "var/task"] {
        std::fs::create_dir_all(root.join(directory)).expect("make a directory");
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name)).expect("make a link");
    }
    // The temporary directory belongs to root alone, and the sandbox's user must pass.
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(root, open).expect("open the root");
}

pub(crate) fn spec(root: &Path, argv: &[&str]) -> SandboxSpec {
    SandboxSpec {
        id: unique("sandbox"),
        root: root.to_owned(),
        mounts: vec![Mount {
            source: "/usr".into(),
            target: "/usr".into(),
            writable: false,
        }],
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("GREETING".into(), "two words".into()),
        ],
        cwd: PathBuf::from("/"),
        memory_mib: 128,
        pids_max: 64,
        tmp_mib: 16,
        hostname: "box".into(),
        isolated: false,
        maker: None,
        extensions: Default::default(),
    }
}

pub(crate) async fn finish(mut sandbox: StartedSandbox) -> (String, ExitReport) {
    let mut output = Vec::new();
    sandbox
        .output
        .read_to_end(&mut output)
        .await
        .expect("read output");
    let report = sandbox.control.wait().await;
    (String::from_utf8_lossy(&output).into_owned(), report)
}

/// Reads output until `text` was seen.
pub(crate) async fn await_output(sandbox: &mut StartedSandbox, text: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains(text) {
        let length = sandbox.output.read(&mut buffer).await.expect("read output");
        assert_ne!(length, 0, "output ended before {text:?}: {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    seen
}

/// Waits for a condition, ten seconds at most.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never came true: {what}");
}

/// The worker's cgroup directories on this host.
pub(crate) fn groups(worker_id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for controller in ["memory", "cpu", "pids", "freezer", "unified", "."] {
        let base = Path::new("/sys/fs/cgroup")
            .join(controller)
            .join("hearth")
            .join(worker_id);
        if let Ok(entries) = std::fs::read_dir(base) {
            found.extend(
                entries
                    .flatten()
                    .map(|entry| entry.path())
                    .filter(|path| path.is_dir()),
            );
        }
    }
    found
}
