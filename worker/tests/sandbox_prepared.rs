//! Sandboxes that are built before their owner is known, on the kernel of this host. Needs root; passes without testing
//! anything otherwise, and says so.

mod sandbox_support;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hearth_worker::sandbox::driver::{
        Driver, DriverError, ExitStatus, Mount, SandboxSpec, StartedSandbox,
    };

    use super::sandbox_support::*;

    /// Says that it is ready, and then what it was told.
    const STEM: &str = r#"
import os
os.write(3, b"r")
told = b""
while part := os.read(3, 65536):
    told += part
os.close(3)
print(told.decode().split("\0"), os.listdir("/var/task"), os.listdir("/proc/self/fd"))
"#;

    /// The host's programs are there from the start, as they are in a runtime pack.
    fn held(bench: &Bench, argv: &[&str]) -> SandboxSpec {
        SandboxSpec {
            env: vec![("STEM".into(), "1".into())],
            ..bench.spec(argv)
        }
    }

    fn owner(bench: &Bench, argv: &[&str]) -> SandboxSpec {
        let code = bench.home.path().join("code");
        std::fs::create_dir_all(&code).unwrap();
        std::fs::write(code.join("app.py"), "x = 1\n").unwrap();
        SandboxSpec {
            mounts: vec![Mount {
                source: code,
                target: "/var/task".into(),
                writable: false,
            }],
            cwd: "/var/task".into(),
            ..bench.spec(argv)
        }
    }

    async fn prepare_and_start(
        bench: &Bench,
        held: SandboxSpec,
        owner: SandboxSpec,
    ) -> Result<StartedSandbox, DriverError> {
        let prepared = bench.driver.prepare(held).await?;
        assert!(prepared.is_alive());
        prepared.start(owner).await
    }

    #[tokio::test]
    async fn an_empty_one_becomes_its_owners_with_nothing_else_in_it() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let script = "pwd; cat app.py; env; id -u; ls /proc/self/fd; grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status \
            /proc/1/status; touch /var/task/y 2>&1; touch /tmp/y && echo /tmp";
        let owner = owner(&bench, &["/bin/sh", "-c", script]);
        let started = prepare_and_start(&bench, held(&bench, &[]), owner)
            .await
            .unwrap();
        let (output, report) = finish(started).await;
        assert_eq!(report.status, ExitStatus::Exited(0), "{output}");
        for line in [
            "/var/task\n",
            "x = 1\n",
            "GREETING=two words\n",
            "\n993\n",
            "\n/tmp\n",
        ] {
            assert!(output.contains(line), "{line:?} in {output}");
        }
        assert!(!output.contains("STEM="), "{output}");
        assert!(output.contains("cannot touch '/var/task/y'"), "{output}");
        let capabilities = output.lines().filter(|line| line.contains(":Cap"));
        assert!(capabilities.clone().count() >= 10);
        for line in capabilities {
            assert!(line.ends_with("0000000000000000"), "{line}");
        }
        assert_eq!(output.matches("NoNewPrivs:\t1").count(), 2, "{output}");
        assert_eq!(output.matches("Seccomp:\t2").count(), 2, "{output}");
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn a_stem_is_told_who_it_is_once_the_code_is_there() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let held = held(&bench, &["/usr/bin/python3", "-I", "-S", "-c", STEM]);
        let owner = owner(&bench, &["/bin/program", "a handler"]);
        let started = prepare_and_start(&bench, held, owner).await.unwrap();
        let (output, report) = finish(started).await;
        assert_eq!(report.status, ExitStatus::Exited(0), "{output}");
        let told = "['/var/task', '2', '/bin/program', 'a handler', 'PATH=/usr/bin:/bin', 'GREETING=two words', '']";
        assert!(output.starts_with(told), "{output}");
        assert!(output.contains("['app.py']"), "{output}");
        assert!(
            output.contains("['0', '1', '2', '3']"),
            "the last is the listing's own: {output}"
        );
        bench.driver.shutdown().await;
    }

    /// Landlock takes a stem for a stranger to its init, which hands the signal on.
    #[tokio::test]
    async fn sigterm_reaches_programs_from_a_stem_and_from_none() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let waits = "import os, signal, sys\n\
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n\
            print('up', flush=True)\n\
            while True: signal.pause()\n";
        let stem = format!("import os\nos.write(3, b'r')\nwhile os.read(3, 65536): pass\n{waits}");
        let python =
            |script: &str| ["/usr/bin/python3", "-I", "-S", "-c", script].map(str::to_owned);
        for (first, then) in [(Some(stem.as_str()), "unused"), (None, waits)] {
            let first = first.map(python).into_iter().flatten().collect::<Vec<_>>();
            let first: Vec<&str> = first.iter().map(String::as_str).collect();
            let then = python(then);
            let owner = owner(&bench, &then.each_ref().map(String::as_str));
            let mut started = prepare_and_start(&bench, held(&bench, &first), owner)
                .await
                .unwrap();
            await_output(&mut started, "up\n").await;
            started.control.terminate().unwrap();
            let end = tokio::time::timeout(Duration::from_secs(20), started.control.wait());
            let report = end.await.expect("it was told");
            assert_eq!(report.status, ExitStatus::Exited(7), "{first:?}");
        }
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn limits_are_the_owners_whether_larger_or_smaller() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        for memory_mib in [32, 1_024] {
            let script = "import sys; x = bytearray(100 << 20); print(len(x))";
            let mut owner = owner(&bench, &["/usr/bin/python3", "-I", "-S", "-c", script]);
            owner.memory_mib = memory_mib;
            let started = prepare_and_start(&bench, held(&bench, &[]), owner)
                .await
                .unwrap();
            let (_, report) = finish(started).await;
            let expected = if memory_mib == 32 {
                ExitStatus::OutOfMemory
            } else {
                ExitStatus::Exited(0)
            };
            assert_eq!(report.status, expected, "{memory_mib}");
        }
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_the_functions_fault() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let owner = owner(&bench, &["/nowhere"]);
        let error = prepare_and_start(&bench, held(&bench, &[]), owner)
            .await
            .unwrap_err();
        assert!(matches!(error, DriverError::Exec { .. }), "{error:?}");
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn a_stem_that_ends_is_of_no_use_and_one_that_is_dropped_leaves_nothing() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let short = held(&bench, &["/usr/bin/true"]);
        assert!(
            bench.driver.prepare(short).await.is_err(),
            "it was never ready"
        );
        let script = "import os, time; os.write(3, b'r'); time.sleep(0.2)";
        let ending = held(&bench, &["/usr/bin/python3", "-I", "-S", "-c", script]);
        let ending = bench.driver.prepare(ending).await.unwrap();
        until("the stem ended", || !ending.is_alive()).await;
        let owner = owner(&bench, &["/bin/true"]);
        ending.start(owner).await.unwrap_err();
        let held = held(&bench, &["/usr/bin/python3", "-I", "-S", "-c", STEM]);
        let prepared = bench.driver.prepare(held).await.unwrap();
        drop(prepared);
        bench.driver.shutdown().await;
        assert_eq!(groups(&bench.worker_id), Vec::<std::path::PathBuf>::new());
    }

    #[tokio::test]
    async fn it_ends_with_its_driver() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let held = held(&bench, &["/usr/bin/python3", "-I", "-S", "-c", STEM]);
        let prepared = bench.driver.prepare(held).await.unwrap();
        bench.driver.shutdown().await;
        assert!(!prepared.is_alive());
    }
}
