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
        let bench = Bench::new().await;
        for (name, pause) in [("sporadic", 20), ("tight loop", 0)] {
            let (mut started, mut ended) = (Vec::new(), Vec::new());
            for _ in 0..200 {
                // Sporadic starts find full pools and cold caches, as in life.
                tokio::time::sleep(Duration::from_millis(pause)).await;
                let spec = bench.spec(&["/usr/bin/true"]);
                let begin = Instant::now();
                let sandbox = bench.driver.start(spec).await.unwrap();
                started.push(begin.elapsed().as_micros());
                sandbox.control.wait().await;
                ended.push(begin.elapsed().as_micros());
            }
            started.sort_unstable();
            ended.sort_unstable();
            let line =
                |times: &[u128]| format!("p10 {} p50 {} p99 {}", times[20], times[100], times[198]);
            println!(
                "{name}: create to exec us: {} | to exit us: {}",
                line(&started),
                line(&ended)
            );
        }
        bench.driver.shutdown().await;
    }
}
