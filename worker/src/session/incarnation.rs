//! The number of this life of the worker: larger than that of any earlier one with the same data directory.

use std::fs;
use std::io;
use std::path::Path;

use hearth_core::ids::Incarnation;
use hearth_node::data_dir::write_atomic;

const FILE: &str = "incarnation";

/// The wall clock's milliseconds, or one more than last time where the clock went back; durable when this returns.
pub(crate) fn next(data_dir: &Path, unix_ms: u64) -> io::Result<Incarnation> {
    let path = data_dir.join(FILE);
    let last: u64 = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| {
            let text = format!("{} does not hold a number", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let next = unix_ms.max(last.saturating_add(1));
    write_atomic(&path, format!("{next}\n").as_bytes(), 0o600)?;
    Ok(Incarnation(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_numbered_upwards_also_when_the_clock_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let first = next(dir.path(), 1_000).unwrap();
        let second = next(dir.path(), 2_000).unwrap();
        let third = next(dir.path(), 500).unwrap();
        assert_eq!((first.0, second.0, third.0), (1_000, 2_000, 2_001));
        fs::write(dir.path().join(FILE), "x").unwrap();
        assert!(next(dir.path(), 3_000).is_err());
    }
}
