//! When a certificate is renewed. Pure: times are arguments, Unix milliseconds.

/// The span in which a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Good from.
    pub not_before_ms: u64,
    /// Good until.
    pub not_after_ms: u64,
}

/// Share of the life after which a certificate is renewed, as a fraction: the rest is time for an operator to see that
/// renewals fail.
const RENEW_AFTER: (u64, u64) = (2, 3);

impl Validity {
    /// From when on it should be renewed: two thirds of its life.
    pub fn renew_from_ms(&self) -> u64 {
        let life = self.not_after_ms.saturating_sub(self.not_before_ms);
        let (share, of) = RENEW_AFTER;
        self.not_before_ms.saturating_add(life / of * share)
    }

    /// Whether it should be renewed by now.
    pub fn is_due(&self, now_ms: u64) -> bool {
        now_ms >= self.renew_from_ms()
    }

    /// Whether it is good now.
    pub fn is_good(&self, now_ms: u64) -> bool {
        (self.not_before_ms..=self.not_after_ms).contains(&now_ms)
    }

    /// Seconds until it is good no more; negative afterwards.
    pub fn seconds_left(&self, now_ms: u64) -> i64 {
        let seconds = |ms: u64| i64::try_from(ms / 1000).unwrap_or(i64::MAX);
        seconds(self.not_after_ms).saturating_sub(seconds(now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
        let validity = Validity {
            not_before_ms: 1_000,
            not_after_ms: 31_000,
        };
        assert_eq!(validity.renew_from_ms(), 21_000);
        assert!(!validity.is_due(20_999));
        assert!(validity.is_due(21_000));
        assert!(validity.is_good(1_000) && validity.is_good(31_000));
        assert!(!validity.is_good(999) && !validity.is_good(31_001));
        assert_eq!(validity.seconds_left(30_000), 1);
        assert_eq!(validity.seconds_left(33_000), -2);
    }
}
