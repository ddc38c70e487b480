//! The native driver over time: kill, freeze, limits of CPU, death of the spawner, leaks and leftovers.

mod sandbox_support;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use hearth_worker::sandbox::driver::{Driver, DriverError, ExitStatus};
    use hearth_worker::sandbox::native::NativeDriver;

    use super::sandbox_support::*;

    /// Processes of the host that run with this argument.
    fn processes_with(argument: &str) -> Vec<i32> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if line
                .split(|byte| *byte == 0)
                .any(|word| word == argument.as_bytes())
            {
                found.extend(entry.file_name().to_string_lossy().parse::<i32>().ok());
            }
        }
        found
    }

    /// Where the host limits memory: version 1, or version 2.
    fn limiting_root() -> PathBuf {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let root = if v1.exists() {
            v1
        } else {
            Path::new("/sys/fs/cgroup")
        };
        root.to_owned()
    }

    #[tokio::test]
    async fn a_program_is_in_the_group_that_limits_it() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let mark = format!("1000.{}", unique("0").replace('-', ""));
        let sandbox = bench.start(&["/bin/sleep", &mark]).await;
        until("the sleeper", || processes_with(&mark).len() == 1).await;
        let pid = processes_with(&mark)[0];
        let all = groups(&bench.worker_id);
        let of_program: Vec<_> = all
            .iter()
            .filter(|group| {
                let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap();
                processes.lines().any(|line| line == pid.to_string())
            })
            .collect();
        let limiting = of_program
            .iter()
            .find(|group| group.starts_with(limiting_root()))
            .unwrap();
        let limit = |names: [&str; 2]| {
            let mut texts = names
                .iter()
                .map(|name| fs::read_to_string(limiting.join(name)));
            texts.find_map(Result::ok).unwrap().trim().to_owned()
        };
        assert_eq!(
            limit(["memory.max", "memory.limit_in_bytes"]),
            (128 << 20).to_string()
        );
        if !limiting_root().join("memory.limit_in_bytes").exists() {
            assert_eq!(of_program.len(), 1, "version 2 has one group for all");
            assert_eq!(limit(["pids.max", ""]), "64");
            assert_eq!(limit(["memory.swap.max", ""]), "0");
            assert_eq!(limit(["cpu.max", ""]), "max 100000", "none during init");
            sandbox.control.set_cpu(500).unwrap();
            assert_eq!(limit(["cpu.max", ""]), "50000 100000");
        }
        drop(sandbox);
        bench.driver.shutdown().await;
        assert_eq!(groups(&bench.worker_id), Vec::<PathBuf>::new());
    }

    /// As many as the spawner holds more descriptors for than a function may have.
    #[tokio::test]
    async fn the_six_hundredth_sandbox_starts_like_the_first() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let mut sandboxes = Vec::new();
        for _ in 0..600 {
            sandboxes.push(bench.start(&["/bin/sleep", "1000"]).await);
        }
        let mut last = bench.start(&["/bin/sh", "-c", "ulimit -n"]).await;
        await_output(&mut last, "1024\n").await;
        drop((sandboxes, last));
        bench.driver.shutdown().await;
    }

    fn spawner_of_this_process(state_dir: &Path) -> i32 {
        // The only process that has this worker's device tree mounted.
        let place = state_dir.join("dev").display().to_string();
        let has_it = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/mountinfo"))
                .is_ok_and(|text| text.contains(&place))
        };
        let name = env!("CARGO_BIN_EXE_hearth-spawner");
        let found: Vec<i32> = processes_with(name).into_iter().filter(has_it).collect();
        // An init shares its command line, but has lost the host's mounts.
        assert_eq!(found.len(), 1, "{found:?}");
        found[0]
    }

    #[tokio::test]
    async fn kill_takes_every_process_also_daemons_and_frozen_ones() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let mark = format!("1000.{}", unique("0").replace('-', ""));
        let script =
            format!("(setsid sleep {mark} &) ; (sleep {mark} &) ; echo up; exec sleep {mark}");
        for frozen in [false, true] {
            let mut sandbox = bench.start(&["/bin/sh", "-c", &script]).await;
            await_output(&mut sandbox, "up\n").await;
            until("three sleepers", || processes_with(&mark).len() == 3).await;
            if frozen {
                sandbox.control.freeze().unwrap();
            }
            sandbox.control.kill();
            assert_eq!(sandbox.control.wait().await.status, ExitStatus::Signaled(9));
            assert_eq!(
                processes_with(&mark),
                Vec::<i32>::new(),
                "the report comes after the last process"
            );
            // Calls after the end do nothing.
            sandbox.control.kill();
            sandbox.control.freeze().unwrap();
            sandbox.control.set_cpu(100).unwrap();
            assert!(sandbox.control.memory_peak_bytes().is_some());
        }
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn processes_left_behind_end_with_the_program() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let mark = format!("1000.{}", unique("0").replace('-', ""));
        let (output, report) = bench
            .sh(&format!("(setsid sleep {mark} &); echo done"))
            .await;
        assert_eq!(
            (output.as_str(), report.status),
            ("done\n", ExitStatus::Exited(0))
        );
        assert_eq!(processes_with(&mark), Vec::<i32>::new());
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn dropping_the_control_or_a_start_half_way_leaves_nothing() {
        if !is_root() {
            return;
        }
        let bench = Bench::with(|config| config.sandboxes_max = 1).await;
        let mark = format!("1000.{}", unique("0").replace('-', ""));
        let sandbox = bench.start(&["/bin/sleep", &mark]).await;
        drop(sandbox);
        until("the sleeper is gone", || processes_with(&mark).is_empty()).await;
        for micros in (0..4000).step_by(500) {
            let start = bench.driver.start(bench.spec(&["/bin/sleep", &mark]));
            // Cancelled anywhere: in the pool, in the request, or started and not yet told.
            let _ = tokio::time::timeout(Duration::from_micros(micros), start).await;
        }
        until("no sleeper is left", || processes_with(&mark).is_empty()).await;
        let mut last = bench.driver.start(bench.spec(&["/bin/true"])).await;
        while matches!(last, Err(DriverError::TooManySandboxes { .. })) {
            tokio::task::yield_now().await;
            last = bench.driver.start(bench.spec(&["/bin/true"])).await;
        }
        assert_eq!(finish(last.unwrap()).await.1.status, ExitStatus::Exited(0));
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn a_frozen_sandbox_stands_still_until_thawed() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let script = "while :; do echo tick; sleep 0.01; done";
        let mut sandbox = bench.start(&["/bin/sh", "-c", script]).await;
        await_output(&mut sandbox, "tick").await;
        sandbox.control.freeze().unwrap();
        let silence = async {
            // What was under way still arrives; then nothing for ten ticks.
            while tokio::time::timeout(
                Duration::from_millis(100),
                await_output(&mut sandbox, "tick"),
            )
            .await
            .is_ok()
            {}
        };
        tokio::time::timeout(Duration::from_secs(5), silence)
            .await
            .expect("it went on ticking");
        sandbox.control.thaw().unwrap();
        await_output(&mut sandbox, "tick").await;
        drop(sandbox);
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn the_cpu_quota_holds_from_the_moment_it_is_set() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        // Burns 0.3 s of CPU after the line, and says how long that took.
        let script = "import sys, time\nprint('ready', flush=True)\nwhile time.process_time() < 0.35: pass\nprint(time.monotonic() - float(open('/proc/self/stat').read().split()[21]) / 100)";
        let mut sandbox = bench
            .start(&["/usr/bin/python3", "-I", "-S", "-c", script])
            .await;
        await_output(&mut sandbox, "ready").await;
        sandbox.control.set_cpu(200).unwrap();
        let (output, _) = finish(sandbox).await;
        let seconds: f64 = output.trim().parse().unwrap();
        assert!(
            seconds > 1.0,
            "0.35 s of CPU at a fifth of one took {seconds} s"
        );
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn sandboxes_die_with_the_spawner_and_the_next_start_makes_a_new_one() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let mark = format!("1000.{}", unique("0").replace('-', ""));
        let sandbox = bench.start(&["/bin/sleep", &mark]).await;
        let spawner = spawner_of_this_process(&std::env::temp_dir().join(&bench.worker_id));
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(spawner),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        assert_eq!(sandbox.control.wait().await.status, ExitStatus::Signaled(9));
        until("the sleeper is gone", || processes_with(&mark).is_empty()).await;
        until("a new spawner", || spawner_gone(spawner)).await;
        assert_eq!(bench.sh("echo alive").await.0, "alive\n");
        bench.driver.shutdown().await;
        assert_eq!(groups(&bench.worker_id), Vec::<PathBuf>::new());
    }

    /// An emulated machine is too slow for many.
    fn sandboxes_at_once() -> usize {
        let is_emulated = std::env::var_os("HEARTH_TEST_EMULATED").is_some();
        if is_emulated { 8 } else { 40 }
    }

    #[tokio::test]
    async fn sandboxes_started_at_once_have_ids_of_their_own() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let count = sandboxes_at_once();
        let starts = (0..count)
            .map(|_| bench.start(&["/bin/sh", "-c", "cat /proc/self/uid_map; exec sleep 1000"]));
        let mut sandboxes = futures::future::join_all(starts).await;
        let mut first_ids = std::collections::BTreeSet::new();
        for sandbox in &mut sandboxes {
            let map = await_output(sandbox, "\n").await;
            let numbers: Vec<u32> = map
                .split_whitespace()
                .map(|word| word.parse().unwrap())
                .collect();
            assert_eq!((numbers[0], numbers[2]), (0, 65_536));
            first_ids.insert(numbers[1]);
        }
        assert_eq!(first_ids.len(), count);
        assert!(first_ids.iter().all(|id| *id >= 100_000));
        bench.driver.shutdown().await;
        assert_eq!(groups(&bench.worker_id), Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn tmp_on_an_image_is_sized_private_and_not_charged_to_memory() {
        if !is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let images = directory.path().join("images");
        let bench = Bench::with(|config| config.scratch_dir = Some(images.clone())).await;
        if let Some(lack) = bench.driver.diagnose().first() {
            eprintln!("***** SKIPPED: {} *****", lack.message);
            return;
        }
        // More than the memory, and then more than the image.
        let script = "ls -A /tmp; ls -ld /tmp | cut -c1-10; echo '#!/bin/sh\necho runs' > /tmp/x; chmod +x /tmp/x; /tmp/x
            dd if=/dev/zero of=/tmp/big bs=1M count=200 2>/dev/null && echo fits; rm /tmp/big
            dd if=/dev/zero of=/tmp/big bs=1M count=600 2>/dev/null || echo full";
        let mut spec = bench.spec(&["/bin/sh", "-c", script]);
        for (size, expected) in [
            (512, "drwx------\nruns\nfits\nfull\n"),
            (16, "drwx------\nruns\nfull\n"),
        ] {
            spec.tmp_mib = size;
            let sandbox = bench.driver.start(spec.clone()).await.unwrap();
            let (output, report) = finish(sandbox).await;
            assert_eq!(
                (output.as_str(), report.status),
                (expected, ExitStatus::Exited(0))
            );
        }
        let names: Vec<_> = fs::read_dir(&images)
            .unwrap()
            .flatten()
            .filter(|f| f.metadata().is_err())
            .collect();
        assert_eq!(
            names.len(),
            0,
            "an image has a name only while it is being formatted"
        );
        bench.driver.shutdown().await;
        let place = images.display().to_string();
        until("every loop device is free again", || {
            let backing = fs::read_dir("/sys/block")
                .unwrap()
                .flatten()
                .map(|disk| disk.path().join("loop/backing_file"));
            !backing
                .filter_map(|file| fs::read_to_string(file).ok())
                .any(|text| text.contains(&place))
        })
        .await;
    }

    #[tokio::test]
    async fn where_images_cannot_be_made_tmp_is_a_tmpfs_and_the_diagnosis_says_so() {
        if !is_root() {
            return;
        }
        let bench = Bench::with(|config| config.scratch_dir = Some("/proc/no/such".into())).await;
        let lacks = bench.driver.diagnose();
        // A host with few descriptors lacks something else besides.
        let said = lacks
            .iter()
            .any(|lack| !lack.fatal && lack.message.contains("tmpfs"));
        assert!(said, "{lacks:?}");
        assert_eq!(
            bench
                .sh("grep -c ' /tmp .*- tmpfs' /proc/self/mountinfo")
                .await
                .0,
            "1\n"
        );
        bench.driver.shutdown().await;
    }

    fn spawner_gone(pid: i32) -> bool {
        !Path::new(&format!("/proc/{pid}")).exists()
    }

    #[tokio::test]
    async fn shutdown_and_drop_take_spawner_and_sandboxes_along() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let mark = format!("1000.{}", unique("0").replace('-', ""));
        let state_dir = std::env::temp_dir().join(&bench.worker_id);
        let spawner = spawner_of_this_process(&state_dir);
        let sandbox = bench.start(&["/bin/sleep", &mark]).await;
        bench.driver.shutdown().await;
        assert!(spawner_gone(spawner));
        assert_eq!(sandbox.control.wait().await.status, ExitStatus::Signaled(9));
        assert!(matches!(
            bench.driver.start(bench.spec(&["/bin/true"])).await,
            Err(DriverError::Gone)
        ));
        assert!(!state_dir.exists());
        assert!(
            !limiting_root()
                .join("hearth")
                .join(&bench.worker_id)
                .exists()
        );

        let bench = Bench::new().await;
        let sandbox = bench.start(&["/bin/sleep", &mark]).await;
        let spawner = spawner_of_this_process(&std::env::temp_dir().join(&bench.worker_id));
        drop(bench.driver);
        assert_eq!(sandbox.control.wait().await.status, ExitStatus::Signaled(9));
        until("spawner is gone", || spawner_gone(spawner)).await;
        until("sleepers are gone", || processes_with(&mark).is_empty()).await;
        // What such a driver had no time to remove, its next incarnation does.
        let next = NativeDriver::open(config(&bench.worker_id)).await.unwrap();
        next.shutdown().await;
        assert_eq!(groups(&bench.worker_id), Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn leftovers_of_an_earlier_incarnation_are_killed_and_removed() {
        if !is_root() {
            return;
        }
        let worker_id = unique("left");
        let memory = limiting_root()
            .join("hearth")
            .join(&worker_id)
            .join("old-1");
        fs::create_dir_all(&memory).unwrap();
        let mut sleeper = std::process::Command::new("/bin/sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        fs::write(memory.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
        let reaper = std::thread::spawn(move || sleeper.wait().unwrap());
        let driver = NativeDriver::open(config(&worker_id)).await.unwrap();
        assert!(!memory.exists());
        assert!(!reaper.join().unwrap().success());
        driver.shutdown().await;
    }

    #[tokio::test]
    async fn fifty_sandboxes_leave_no_descriptor_group_or_mount_behind() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let spawner = spawner_of_this_process(&std::env::temp_dir().join(&bench.worker_id));
        let count = |what: &str| {
            fs::read_dir(format!("/proc/{spawner}/{what}"))
                .unwrap()
                .count()
        };
        let mounts = || fs::read_to_string(format!("/proc/{spawner}/mountinfo")).unwrap();
        bench.sh("true").await;
        let (descriptors, mounts_before) = (count("fd"), mounts());
        let (failed, fine) = (bench.spec(&["/nowhere"]), bench.spec(&["/bin/true"]));
        for _ in 0..25 {
            let (one, two) = tokio::join!(
                bench.driver.start(fine.clone()),
                bench.driver.start(failed.clone())
            );
            assert!(two.is_err());
            assert_eq!(finish(one.unwrap()).await.1.status, ExitStatus::Exited(0));
        }
        assert_eq!(count("fd"), descriptors);
        assert_eq!(mounts(), mounts_before);
        let of_pool_and_hand = 9 * 4;
        until("groups are removed", || {
            groups(&bench.worker_id).len() <= of_pool_and_hand
        })
        .await;
        bench.driver.shutdown().await;
        assert_eq!(groups(&bench.worker_id), Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn a_host_without_root_is_diagnosed() {
        let found = hearth_worker::sandbox::native::diagnose_host(&unique("diagnose"), false);
        assert_eq!(found.is_empty(), is_root(), "{found:?}");
    }
}
