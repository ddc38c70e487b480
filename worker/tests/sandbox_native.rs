//! The native driver on this host, as root: what a function sees, may not do, and how it ends.

mod sandbox_support;

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use hearth_worker::sandbox::driver::{Driver, DriverError, ExitStatus, Mount};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::sandbox_support::*;

    #[tokio::test]
    async fn a_program_gets_exactly_its_environment_arguments_and_directory() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let mut spec = bench.spec(&["/usr/bin/env"]);
        spec.cwd = "/var/task".into();
        let (output, report) = finish(bench.driver.start(spec.clone()).await.unwrap()).await;
        assert_eq!(output, "PATH=/usr/bin:/bin\nGREETING=two words\n");
        assert_eq!(report.status, ExitStatus::Exited(0));
        spec.argv = ["/bin/sh", "-c", "pwd; id -u; id -g; hostname; exit 7"]
            .map(str::to_owned)
            .into();
        let (output, report) = finish(bench.driver.start(spec).await.unwrap()).await;
        assert_eq!(output, "/var/task\n993\n990\nbox\n");
        assert_eq!(report.status, ExitStatus::Exited(7));
        assert!(report.memory_peak_bytes.unwrap() > 100_000);
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn the_hosts_root_can_be_the_root() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let mut spec = bench.spec(&["/bin/sh", "-c", "ls /proc/1/cmdline /dev/null; ls /sys"]);
        (spec.root, spec.mounts) = ("/".into(), Vec::new());
        let (output, report) = finish(bench.driver.start(spec).await.unwrap()).await;
        assert_eq!(output, "/dev/null\n/proc/1/cmdline\n");
        assert_eq!(report.status, ExitStatus::Exited(0));
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn the_file_system_is_read_only_but_for_a_private_tmp() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let code = bench.home.path().join("code");
        std::fs::create_dir(&code).unwrap();
        std::fs::write(code.join("handler"), "code here").unwrap();
        let script = "cat handler; for d in / /usr /var/task /opt /dev /proc/sys/kernel; do touch $d/x 2>/dev/null && echo wrote $d; done
            echo hi > /tmp/x && cat /tmp/x; echo yes > /dev/shm/y && cat /dev/shm/y
            head -c 4 /dev/urandom | wc -c; echo x > /dev/null; echo one > /dev/stderr; umask; echo two | cat /dev/fd/0
            dd if=/dev/zero of=/tmp/big bs=1M count=64 2>/dev/null || echo full";
        let mut spec = bench.spec(&["/bin/sh", "-c", script]);
        spec.mounts.push(Mount {
            source: code,
            target: "/var/task".into(),
            writable: false,
        });
        spec.cwd = "/var/task".into();
        let (output, _) = finish(bench.driver.start(spec).await.unwrap()).await;
        assert_eq!(output, "code herehi\nyes\n4\none\n0022\ntwo\nfull\n");
        assert_eq!(
            bench.sh("ls -A /tmp; ls -ld /tmp | cut -c1-10").await.0,
            "drwx------\n"
        );
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn a_writable_mount_can_be_written_where_its_mode_allows() {
        if !is_root() {
            return;
        }
        use std::os::unix::fs::PermissionsExt;
        let bench = Bench::new().await;
        let data = bench.home.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o777)).unwrap();
        let mut spec = bench.spec(&["/bin/sh", "-c", "echo kept > /opt/file"]);
        spec.mounts.push(Mount {
            source: data.clone(),
            target: "/opt".into(),
            writable: true,
        });
        let (output, report) = finish(bench.driver.start(spec).await.unwrap()).await;
        assert_eq!(
            (output.as_str(), report.status),
            ("", ExitStatus::Exited(0))
        );
        assert_eq!(
            std::fs::read_to_string(data.join("file")).unwrap(),
            "kept\n"
        );
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn nothing_of_the_host_is_in_sight() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        // Processes: init, and the program. Network: loopback alone. Mounts: none of the host's. Descriptors: stdio.
        let (output, _) = bench
            .python(
                r"
import os, socket
print(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()), os.getpid(), os.getppid(), os.getsid(0) == os.getpid())
print([name for _, name in socket.if_nameindex()])
print(sorted(line.split()[4] for line in open('/proc/self/mountinfo') if '/proc/' not in line))
print(sorted(os.listdir('/proc/self/fd'))[:3], len(os.listdir('/proc/self/fd')))
print(open('/proc/self/cgroup').read().count('hearth'))
print([open(f'/proc/{f}', 'rb').read(1) for f in ('keys', 'kallsyms', 'timer_list', 'interrupts') if os.path.exists('/proc/' + f)][:2], os.listdir('/proc/fs'))
status = dict(l[:-1].split(':\t', 1) for l in open('/proc/self/status') if ':\t' in l)
print(status['CapEff'], status['CapBnd'], status['NoNewPrivs'], status['Seccomp'], status['SigBlk'], status['SigIgn'])
for path in ('/proc/1/environ', '/proc/1/mem', '/proc/1/cwd'):
    try: os.listdir(path) if path.endswith('cwd') else open(path).read(); print('readable', path)
    except OSError: pass
",
            )
            .await;
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[0], "[1, 2] 2 1 True", "{output}");
        assert_eq!(lines[1], "['lo']");
        assert_eq!(
            lines[2],
            "['/', '/dev', '/dev/shm', '/proc', '/tmp', '/usr']"
        );
        assert_eq!(
            lines[3], "['0', '1', '2'] 4",
            "the fourth is the listing itself"
        );
        assert_eq!(lines[4], "0");
        assert_eq!(lines[5], "[b'', b''] []");
        // Python itself ignores SIGPIPE (13) and SIGXFSZ (25): 0x1001000. Nothing is blocked.
        let expected = "0000000000000000 0000000000000000 1 2 0000000000000000 0000000001001000";
        assert_eq!(lines[6], expected);
        assert_eq!(lines.len(), 7, "{output}");
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn the_runtime_api_is_reached_from_inside_and_from_nowhere_else() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let script = "import socket; s = socket.create_connection(('127.0.0.1', 9001)); s.sendall(b'ping'); print(s.recv(4), flush=True); s.close(); input_ = socket.socket().bind(('0.0.0.0', 80))";
        let mut one = bench.start(&["/usr/bin/python3", "-c", script]).await;
        let other = bench.start(&["/bin/sh", "-c", "sleep 1000"]).await;
        let mut stream = one.runtime_api.accept().await.unwrap();
        let mut ping = [0; 4];
        stream.read_exact(&mut ping).await.unwrap();
        stream.write_all(b"pong").await.unwrap();
        assert_eq!(&ping, b"ping");
        let (output, report) = finish(one).await;
        assert!(output.starts_with("b'pong'\n"), "{output}");
        // Port 80 asks for CAP_NET_BIND_SERVICE, which nobody in there has.
        assert!(output.contains("PermissionError"), "{output}");
        assert_eq!(report.status, ExitStatus::Exited(1));
        let refused = TcpStream::connect("127.0.0.1:9001").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        drop(other);
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn forbidden_calls_are_refused() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let (output, _) = bench
            .python(
                r"
import ctypes, errno, socket, threading, subprocess
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    result = libc.syscall(*arguments)
    print(name, errno.errorcode.get(ctypes.get_errno()) if result < 0 else result)
call('mount', 165, b'none', b'/tmp', b'tmpfs', 0, 0)
call('unshare', 272, 0x10000000)
call('setns', 308, 0, 0)
call('ptrace', 101, 0, 0, 0, 0)
call('bpf', 321, 0, 0, 0)
call('keyctl', 250, 0, 0)
call('io_uring_setup', 425, 1, 0)
call('clone3', 435, 0, 0)
call('clone newuser', 56, 0x10000000 | 17, 0, 0, 0, 0)
call('open_by_handle_at', 304, 0, 0, 0)
call('x32 getpid', 0x40000000 + 39)
call('kill init', 62, 1, 9)
for family in (socket.AF_PACKET, 40, 38):
    try: socket.socket(family, socket.SOCK_RAW)
    except OSError as error: print(errno.errorcode[error.errno])
thread = threading.Thread(target=lambda: print('thread runs')); thread.start(); thread.join()
print(subprocess.check_output(['/bin/echo', 'child runs'], text=True), end='')
",
            )
            .await;
        let expected = "mount EPERM\nunshare EPERM\nsetns EPERM\nptrace EPERM\nbpf EPERM\nkeyctl EPERM\n\
            io_uring_setup EPERM\nclone3 ENOSYS\nclone newuser EPERM\nopen_by_handle_at EPERM\nx32 getpid ENOSYS\n\
            kill init 0\nEAFNOSUPPORT\nEAFNOSUPPORT\nEAFNOSUPPORT\nthread runs\nchild runs\n";
        assert_eq!(output, expected);
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn a_second_wall_refuses_what_mounts_and_modes_would_allow() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        // Both are the program's own by mode and mount; Landlock alone refuses them. What a function needs still works.
        let (output, report) = bench
            .python(
                r"
import errno, fcntl, os, resource, socket
def tried(action):
    try: action()
    except OSError as error: return errno.errorcode[error.errno]
    return 'done'
print(tried(lambda: open('/proc/self/comm', 'w').write('x')))
print(tried(lambda: fcntl.ioctl(open('/dev/zero'), 0x5401)))
open('/tmp/a', 'w').write('x'); os.mkdir('/tmp/d'); os.rename('/tmp/a', '/tmp/d/b'); os.truncate('/tmp/d/b', 0)
os.symlink('b', '/tmp/d/c'); os.link('/tmp/d/b', '/tmp/d/e'); os.mkfifo('/tmp/d/f')
socket.socket(socket.AF_UNIX).bind('/tmp/d/s'); socket.socket(socket.AF_UNIX).bind('\0name')
open('/dev/shm/a', 'w').write('x'); open('/dev/null', 'w').write('x'); os.memfd_create('m'); os.kill(os.getpid(), 0)
print(tried(os.sync), tried(lambda: os.execv('/bin/true', ['true'])) if os.fork() == 0 else os.wait()[1])
print([resource.getrlimit(what)[1] for what in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, 13, 14, resource.RLIMIT_MEMLOCK)])
",
            )
            .await;
        assert_eq!(report.status, ExitStatus::Exited(0), "{output}");
        // Landlock knows of ioctl since Linux 6.10; before, the device says that it has none.
        let ioctl = if kernel() >= (6, 10) {
            "EACCES"
        } else {
            "ENOTTY"
        };
        let expected = format!("EACCES\n{ioctl}\ndone 0\n[1024, 0, 0, 0, 8388608]\n");
        assert_eq!(output, expected);
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn more_memory_than_the_limit_ends_as_out_of_memory() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let (output, report) = bench
            .python("x = bytearray(400 << 20); print('survived')")
            .await;
        assert_eq!(
            (output.as_str(), report.status),
            ("", ExitStatus::OutOfMemory)
        );
        let peak = report.memory_peak_bytes.unwrap();
        assert!((100 << 20..=128 << 20).contains(&peak), "{peak}");
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn a_fork_bomb_meets_the_process_limit() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let script = r"
import os, time
count = 0
try:
    while True:
        if os.fork() == 0: time.sleep(1000)
        count += 1
except BlockingIOError: print('stopped after', count)
";
        // 64 less init and the program.
        assert_eq!(bench.python(script).await.0, "stopped after 62\n");
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn signals_have_their_usual_meaning_for_the_program() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let (_, report) = bench.python("import os; os.kill(os.getpid(), 15)").await;
        assert_eq!(report.status, ExitStatus::Signaled(15));
        let (_, report) = bench.python("import os; os.kill(os.getpid(), 9)").await;
        assert_eq!(report.status, ExitStatus::Signaled(9));
        let (_, report) = bench.python("import os; os.kill(os.getpid(), 40)").await;
        assert_eq!(report.status, ExitStatus::Signaled(40));
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_executed_is_told_from_a_broken_host() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let error = bench
            .driver
            .start(bench.spec(&["/var/task/bootstrap"]))
            .await
            .unwrap_err();
        let DriverError::Exec { program, source } = error else {
            panic!("{error:?}")
        };
        assert_eq!(
            (program.as_str(), source.kind()),
            ("/var/task/bootstrap", std::io::ErrorKind::NotFound)
        );
        let error = bench.driver.start(bench.spec(&["/etc"])).await.unwrap_err();
        assert!(matches!(error, DriverError::Exec { .. }), "{error:?}");
        let mut spec = bench.spec(&["/bin/true"]);
        spec.mounts.push(Mount {
            source: "/usr".into(),
            target: "/nowhere".into(),
            writable: false,
        });
        let error = bench.driver.start(spec.clone()).await.unwrap_err();
        assert!(
            matches!(&error, DriverError::Setup { step, .. } if step == "attach at /nowhere"),
            "{error:?}"
        );
        spec.mounts[1].source = "/no/such/tree".into();
        let error = bench.driver.start(spec.clone()).await.unwrap_err();
        assert!(
            matches!(&error, DriverError::Setup { step, .. } if step.contains("/no/such/tree")),
            "{error:?}"
        );
        spec.argv = vec!["relative".into()];
        assert!(matches!(
            bench.driver.start(spec).await,
            Err(DriverError::InvalidSpec(_))
        ));
        bench.driver.shutdown().await;
        assert_eq!(groups(&bench.worker_id), Vec::<std::path::PathBuf>::new());
    }

    #[tokio::test]
    async fn a_symbolic_link_in_the_root_leads_nowhere_outside() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let root = bench.home.path().join("root");
        std::fs::remove_dir_all(root.join("var")).unwrap();
        std::fs::create_dir_all(root.join("elsewhere/task")).unwrap();
        std::os::unix::fs::symlink("/../../../../elsewhere", root.join("var")).unwrap();
        let mut spec = bench.spec(&["/bin/sh", "-c", "ls /elsewhere/task"]);
        let layer = bench.home.path().join("layer");
        std::fs::create_dir(&layer).unwrap();
        std::fs::write(layer.join("file"), "").unwrap();
        spec.mounts.push(Mount {
            source: layer,
            target: "/var/task".into(),
            writable: false,
        });
        assert_eq!(
            finish(bench.driver.start(spec.clone()).await.unwrap())
                .await
                .0,
            "file\n"
        );
        // A link in the last place is not followed at all.
        std::os::unix::fs::symlink("task", root.join("elsewhere/link")).unwrap();
        spec.mounts[1].target = "/elsewhere/link".into();
        assert!(bench.driver.start(spec).await.is_err());
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn the_runtimes_of_this_host_run_under_the_filter() {
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let programs: [&[&str]; 4] = [
            &[
                "/usr/bin/python3",
                "-c",
                "import ssl, threading, multiprocessing, asyncio; asyncio.run(asyncio.sleep(0)); print('works')",
            ],
            &[
                "/usr/bin/node",
                "-e",
                "require('fs').readFile('/proc/cpuinfo', () => setTimeout(() => console.log('works'), 1))",
            ],
            &[
                "/usr/bin/java",
                "-XX:+UseSerialGC",
                "-Xshare:auto",
                "-version",
            ],
            &["/usr/local/go/bin/go", "version"],
        ];
        for argv in programs {
            if !std::path::Path::new(argv[0]).exists() {
                eprintln!("***** SKIPPED: no {} on this host *****", argv[0]);
                continue;
            }
            let mut spec = bench.spec(argv);
            // Java's configuration is a link into /etc.
            spec.mounts.push(Mount {
                source: "/etc".into(),
                target: "/etc".into(),
                writable: false,
            });
            spec.memory_mib = 512;
            let (output, report) = finish(bench.driver.start(spec).await.unwrap()).await;
            assert_eq!(report.status, ExitStatus::Exited(0), "{argv:?}: {output}");
            assert!(
                ["works", "version"]
                    .iter()
                    .any(|word| output.contains(word)),
                "{argv:?}: {output}"
            );
        }
        bench.driver.shutdown().await;
    }

    #[tokio::test]
    async fn the_sandbox_limit_is_kept_and_slots_come_back() {
        if !is_root() {
            return;
        }
        let bench = Bench::with(|config| config.sandboxes_max = 1).await;
        let first = bench.start(&["/bin/sleep", "1000"]).await;
        let refused = bench
            .driver
            .start(bench.spec(&["/bin/true"]))
            .await
            .unwrap_err();
        assert!(
            matches!(refused, DriverError::TooManySandboxes { limit: 1 }),
            "{refused:?}"
        );
        first.control.kill();
        assert_eq!(first.control.wait().await.status, ExitStatus::Signaled(9));
        assert_eq!(bench.sh("echo again").await.0, "again\n");
        bench.driver.shutdown().await;
    }
}
