//! CPU time of a process, from /proc.

use anyhow::Context as _;

/// User and system time of a process so far, microseconds (10 ms steps).
pub(crate) fn micros(pid: u32) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("reading process {pid}"))?;
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .context("an empty stat file")?
        .split(' ')
        .collect();
    let ticks = |n: usize| {
        fields
            .get(n)
            .and_then(|f| f.parse::<u64>().ok())
            .context("a field of stat is missing")
    };
    // Fields 14 and 15 of proc(5), counted after the command name; Linux reports 100 ticks a second to user space.
    Ok((ticks(11)? + ticks(12)?) * 10_000)
}
