//! How long a group keeps its lines.

use serde::{Deserialize, Serialize};

use super::violation::Violation;
use crate::ids::UnixMs;

/// "Possible values are: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, and
/// 3653."
pub const RETENTION_DAYS: [u32; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
];

/// Length of a day, milliseconds.
pub(super) const DAY_MS: u64 = 86_400_000;

/// One of [`RETENTION_DAYS`]. A group that has none keeps its lines: "by default the log events in the log group do not expire".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct RetentionDays(u32);

impl RetentionDays {
    /// The number of days.
    pub fn days(self) -> u32 {
        self.0
    }

    /// What is older than this has expired.
    pub fn horizon(self, now: UnixMs) -> UnixMs {
        UnixMs(now.0.saturating_sub(u64::from(self.0) * DAY_MS))
    }

    /// Whether an event of a time has expired: "configure the number of days for which to retain log events". AWS deletes such
    /// events some time later, and may still show them; a store of ours may do as it likes with them too.
    pub fn is_expired(self, timestamp_ms: u64, now: UnixMs) -> bool {
        timestamp_ms < self.horizon(now).0
    }
}

impl TryFrom<i64> for RetentionDays {
    type Error = Violation;
    fn try_from(days: i64) -> Result<Self, Violation> {
        let known = RETENTION_DAYS
            .iter()
            .find(|known| i64::from(**known) == days);
        known.map(|days| Self(*days)).ok_or_else(|| Violation {
            member: "retentionInDays",
            value: days.to_string(),
            constraint: format!("Member must satisfy enum value set: {RETENTION_DAYS:?}"),
        })
    }
}

impl TryFrom<u32> for RetentionDays {
    type Error = Violation;
    fn try_from(days: u32) -> Result<Self, Violation> {
        i64::from(days).try_into()
    }
}

impl From<RetentionDays> for u32 {
    fn from(days: RetentionDays) -> Self {
        days.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_days_of_the_list_can_be_set() {
        for days in RETENTION_DAYS {
            assert_eq!(RetentionDays::try_from(days).unwrap().days(), days);
        }
        for days in [i64::MIN, -1, 0, 2, 10, 3654, i64::MAX] {
            assert!(RetentionDays::try_from(days).is_err(), "{days}");
        }
        assert_eq!(
            RetentionDays::try_from(2_i64).unwrap_err().to_string(),
            "1 validation error detected: Value '2' at 'retentionInDays' failed to satisfy constraint: \
             Member must satisfy enum value set: [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, \
             1827, 2192, 2557, 2922, 3288, 3653]"
        );
    }

    #[test]
    fn an_event_expires_when_its_days_are_over() {
        let (days, now) = (RetentionDays::try_from(1_u32).unwrap(), UnixMs(10 * DAY_MS));
        assert!(days.is_expired(9 * DAY_MS - 1, now));
        assert!(!days.is_expired(9 * DAY_MS, now));
        assert!(!days.is_expired(11 * DAY_MS, now));
        assert!(!days.is_expired(0, UnixMs(5)));
    }

    #[test]
    fn what_is_read_from_a_store_is_of_the_list_too() {
        assert_eq!(
            serde_json::from_str::<RetentionDays>("14").unwrap().days(),
            14
        );
        assert!(serde_json::from_str::<RetentionDays>("15").is_err());
    }
}
