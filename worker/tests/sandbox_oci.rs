//! OCI runtimes as makers of sandboxes, on this host, as root: what the native driver promises holds with them too.

mod sandbox_support;

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use hearth_worker::sandbox::driver::{DriverError, ExitStatus, Mount, SandboxSpec};
    use hearth_worker::sandbox::native::{NativeDriver, SpawnerCommand};
    use hearth_worker::sandbox::oci::{ExitSource, OciConfig, OciDriver};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::sandbox_support::*;

    struct Makers {
        home: tempfile::TempDir,
        native: Arc<NativeDriver>,
        state_dir: PathBuf,
    }

    impl Makers {
        async fn new() -> Self {
            let config = config(&unique("oci"));
            let state_dir = config.state_dir.join("oci");
            let native = Arc::new(NativeDriver::open(config).await.expect("open the driver"));
            let home = tempfile::tempdir().expect("make a directory");
            make_root(&home.path().join("root"));
            Self {
                home,
                native,
                state_dir,
            }
        }

        fn driver(&self, runtime: OciConfig) -> OciDriver {
            let shim = SpawnerCommand {
                program: env!("CARGO_BIN_EXE_hearth-spawner").into(),
                args: vec!["oci-shim".into()],
            };
            let native = Arc::clone(&self.native);
            OciDriver::open(runtime, shim, self.state_dir.clone(), native).expect("open")
        }

        fn sh(&self, script: &str) -> SandboxSpec {
            spec(&self.home.path().join("root"), &["/bin/sh", "-c", script])
        }

        /// Nothing of any sandbox is left where the worker or the runtime would have put it.
        async fn close(self) {
            until("bundles to be removed", || {
                std::fs::read_dir(&self.state_dir).map_or(true, |mut left| left.next().is_none())
            })
            .await;
            hearth_worker::sandbox::driver::Driver::shutdown(&*self.native).await;
        }
    }

    fn runc() -> OciConfig {
        OciConfig {
            program: "/usr/sbin/runc".into(),
            args: Vec::new(),
            user_namespace: true,
            exit_status: ExitSource::Process,
        }
    }

    fn gvisor() -> OciConfig {
        OciConfig {
            program: "/usr/bin/runsc".into(),
            args: ["--platform=ptrace", "--network=host"]
                .map(str::to_owned)
                .into(),
            user_namespace: false,
            exit_status: ExitSource::Run,
        }
    }

    /// The runtimes that are installed here, said aloud where one is not.
    fn runtimes() -> Vec<OciConfig> {
        if !is_root() {
            return Vec::new();
        }
        let (there, absent): (Vec<_>, Vec<_>) = [runc(), gvisor()]
            .into_iter()
            .partition(|runtime| Path::new(&runtime.program).exists());
        for runtime in absent {
            eprintln!(
                "\n***** SKIPPED: {} is not installed *****\n",
                runtime.program.display()
            );
        }
        there
    }

    #[tokio::test]
    async fn a_program_gets_its_environment_user_files_and_exit_status() {
        for runtime in runtimes() {
            let makers = Makers::new().await;
            let code = makers.home.path().join("code");
            std::fs::create_dir(&code).unwrap();
            std::fs::write(code.join("handler"), "code here").unwrap();
            let mut spec = makers.sh(
                "pwd; id -u; id -g; hostname; echo $GREETING; cat handler; echo
                touch /var/task/x 2>/dev/null && echo wrote code; touch /usr/x 2>/dev/null && echo wrote usr
                echo hi > /tmp/x && cat /tmp/x; grep -E 'CapEff|CapBnd' /proc/self/status; echo err >&2; exit 7",
            );
            spec.mounts.push(Mount {
                source: code,
                target: "/var/task".into(),
                writable: false,
            });
            spec.cwd = "/var/task".into();
            let started = makers.driver(runtime.clone()).start(spec).await.unwrap();
            let (output, report) = finish(started).await;
            let zero = "0".repeat(16);
            assert_eq!(
                output,
                format!(
                    "/var/task\n993\n990\nbox\ntwo words\ncode here\nhi\nCapEff:\t{zero}\nCapBnd:\t{zero}\nerr\n"
                ),
                "{runtime:?}"
            );
            assert_eq!(report.status, ExitStatus::Exited(7), "{runtime:?}");
            assert!(report.memory_peak_bytes.unwrap() > 100_000);
            makers.close().await;
        }
    }

    #[tokio::test]
    async fn the_runtime_api_is_reached_and_nothing_else_is() {
        for runtime in runtimes() {
            let makers = Makers::new().await;
            let script = "import socket
s = socket.create_connection(('127.0.0.1', 9001)); s.sendall(b'hello'); print(s.recv(9).decode(), flush=True)
try: socket.create_connection(('10.255.255.1', 80), 2)
except OSError as error: print('refused', flush=True)";
            let mut spec = makers.sh("");
            spec.argv = ["/usr/bin/python3", "-I", "-S", "-c", script]
                .map(str::to_owned)
                .into();
            let mut started = makers.driver(runtime.clone()).start(spec).await.unwrap();
            let mut connection = started.runtime_api.accept().await.unwrap();
            let mut word = [0; 5];
            connection.read_exact(&mut word).await.unwrap();
            connection.write_all(b"world").await.unwrap();
            drop(connection);
            let (output, _) = finish(started).await;
            assert_eq!(output, "world\nrefused\n", "{runtime:?}");
            makers.close().await;
        }
    }

    #[tokio::test]
    async fn memory_is_limited_and_its_end_is_told() {
        for runtime in runtimes() {
            let makers = Makers::new().await;
            let mut spec = makers.sh("");
            let script = "x = bytearray(600 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\nprint('alive')";
            spec.argv = ["/usr/bin/python3", "-I", "-S", "-c", script]
                .map(str::to_owned)
                .into();
            let (output, report) =
                finish(makers.driver(runtime.clone()).start(spec).await.unwrap()).await;
            assert!(!output.contains("alive"), "{runtime:?}: {output}");
            assert_eq!(report.status, ExitStatus::OutOfMemory, "{runtime:?}");
            makers.close().await;
        }
    }

    #[tokio::test]
    async fn a_frozen_sandbox_stands_still_and_is_killed_all_the_same() {
        for runtime in runtimes() {
            let makers = Makers::new().await;
            let spec = makers.sh("while :; do echo tick; sleep 0.05; done");
            let mut started = makers.driver(runtime.clone()).start(spec).await.unwrap();
            await_output(&mut started, "tick").await;
            started.control.freeze().unwrap();
            // What was on its way arrives; then nothing does.
            let mut buffer = [0; 4096];
            let quiet = std::time::Duration::from_millis(400);
            let mut reads = 0;
            while tokio::time::timeout(quiet, started.output.read(&mut buffer))
                .await
                .is_ok()
            {
                reads += 1;
                assert!(reads < 20, "{runtime:?} goes on");
            }
            started.control.thaw().unwrap();
            await_output(&mut started, "tick").await;
            started.control.freeze().unwrap();
            started.control.kill();
            let (_, report) = finish(started).await;
            assert_eq!(report.status, ExitStatus::Signaled(9), "{runtime:?}");
            makers.close().await;
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_the_functions_fault() {
        for runtime in runtimes() {
            let makers = Makers::new().await;
            let mut spec = makers.sh("");
            spec.argv = vec!["/var/task/bootstrap".into()];
            let error = makers
                .driver(runtime.clone())
                .start(spec)
                .await
                .unwrap_err();
            assert!(
                matches!(&error, DriverError::Exec { program, source }
                    if program == "/var/task/bootstrap" && source.raw_os_error() == Some(2)),
                "{runtime:?}: {error:?}"
            );
            makers.close().await;
        }
    }

    #[tokio::test]
    async fn dropping_the_control_leaves_no_process() {
        for runtime in runtimes() {
            let makers = Makers::new().await;
            let mark = unique("mark");
            let spec = makers.sh(&format!("exec -a {mark} sleep 1000"));
            let mut spec = spec;
            spec.argv[0] = "/usr/bin/bash".into();
            let started = makers.driver(runtime).start(spec).await.unwrap();
            drop(started.control);
            until("the program to be gone", || !is_running(&mark)).await;
            makers.close().await;
        }
    }

    fn is_running(mark: &str) -> bool {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
            .any(|line| line.starts_with(mark.as_bytes()))
    }
}
