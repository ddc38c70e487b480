//! How long a start takes; run by hand: `cargo test -p hearth-worker --test sandbox_bench -- --ignored --nocapture`.

mod sandbox_support;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use hearth_worker::sandbox::driver::Driver;

    use super::sandbox_support::*;

    #[tokio::test]
    #[ignore = "a measurement"]
    #[expect(clippy::disallowed_methods, reason = "measures the real clock")]
    async fn a_start_takes_about_a_millisecond() {
        if !is_root() {
            return;
        }
        let images = tempfile::tempdir().unwrap();
        let plain = Bench::new().await;
        let imaged =
            Bench::with(|config| config.scratch_dir = Some(images.path().join("images"))).await;
        let rows = [
            ("sporadic", &plain, 20),
            ("sporadic, /tmp on an image", &imaged, 100),
            ("tight loop", &plain, 0),
        ];
        for (name, bench, pause) in rows {
            let (mut started, mut ended, mut bare) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..200 {
                // Sporadic starts find full pools and cold caches, as in life.
                tokio::time::sleep(Duration::from_millis(pause)).await;
                let mut spec = bench.spec(&["/usr/bin/true"]);
                spec.tmp_mib = 512;
                let begin = Instant::now();
                let sandbox = bench.driver.start(spec).await.unwrap();
                started.push(begin.elapsed().as_micros());
                sandbox.control.wait().await;
                ended.push(begin.elapsed().as_micros());
                // The reference: the same program without a sandbox, in the same noise.
                let begin = Instant::now();
                std::process::Command::new("/usr/bin/true")
                    .status()
                    .unwrap();
                bare.push(begin.elapsed().as_micros());
            }
            bare.sort_unstable();
            started.sort_unstable();
            ended.sort_unstable();
            let line =
                |times: &[u128]| format!("p10 {} p50 {} p99 {}", times[20], times[100], times[198]);
            println!("{name}: create to exec us: {}", line(&started));
            println!(
                "    to exit us: {} | bare process to exit: {}",
                line(&ended),
                line(&bare)
            );
        }
        plain.driver.shutdown().await;
        imaged.driver.shutdown().await;
    }

    #[tokio::test]
    #[ignore = "a measurement"]
    #[expect(clippy::disallowed_methods, reason = "measures the real clock")]
    async fn a_thaw_takes_microseconds() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        if !is_root() {
            return;
        }
        let bench = Bench::new().await;
        let script = "import socket; s = socket.create_connection(('127.0.0.1', 9001))\nwhile True: s.sendall(s.recv(1))";
        let mut sandbox = bench.start(&["/usr/bin/python3", "-I", "-c", script]).await;
        let mut stream = sandbox.runtime_api.accept().await.unwrap();
        let mut byte = [7];
        let (mut freezes, mut thawed, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..300 {
            // In pairs, each after the same pause, so that caches are as cold and the noise is the same.
            for frozen in [true, false] {
                if frozen {
                    let begin = Instant::now();
                    sandbox.control.freeze().unwrap();
                    freezes.push(begin.elapsed().as_micros());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                let begin = Instant::now();
                if frozen {
                    sandbox.control.thaw().unwrap();
                }
                stream.write_all(&byte).await.unwrap();
                stream.read_exact(&mut byte).await.unwrap();
                let times = if frozen { &mut thawed } else { &mut plain };
                times.push(begin.elapsed().as_micros());
            }
        }
        for (name, times) in [
            ("freeze", &mut freezes),
            ("thaw and echo", &mut thawed),
            ("echo alone", &mut plain),
        ] {
            times.sort_unstable();
            println!(
                "{name} us: p10 {} p50 {} p99 {}",
                times[30], times[150], times[297]
            );
        }
        bench.driver.shutdown().await;
    }
}
