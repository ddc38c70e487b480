//! The one source of chance of a run's plan: the same on every platform and every release of every crate.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The same seed gives the same draws.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A uniformly distributed number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Of `0..n`; 0 for an `n` of 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.draw() % n.max(1)
    }

    /// Of `from..=to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    /// True in `p` of a hundred draws.
    pub fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }

    /// One of them.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let n = u64::try_from(of.len()).unwrap_or(u64::MAX);
        &of[usize::try_from(self.below(n)).unwrap_or(0)]
    }

    /// A pause of an open-loop load: exponentially distributed, of this mean, at most ten times it.
    pub fn pause_ms(&mut self, mean_ms: u64) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a few thousand milliseconds, never negative"
        )]
        let pause = {
            let uniform = (self.draw() >> 11) as f64 / (1_u64 << 53) as f64;
            (-(1.0 - uniform).ln() * mean_ms as f64) as u64
        };
        pause.min(10 * mean_ms)
    }

    /// A source of its own for a part of the world.
    pub fn fork(&mut self) -> Self {
        Self(self.draw())
    }
}
