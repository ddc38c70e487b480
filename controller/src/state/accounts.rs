//! Limits of accounts and the arithmetic of reservations. The limits are the cluster's, the same for every
//! account.

use hearth_core::error::{Error, ErrorCode};
use hearth_core::limits;
use serde::{Deserialize, Serialize};

/// What an account may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountLimits {
    /// Concurrent executions.
    pub concurrency: u32,
    /// Code storage, bytes.
    pub code_storage_bytes: u64,
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self {
            concurrency: limits::ACCOUNT_CONCURRENCY_DEFAULT,
            code_storage_bytes: limits::CODE_STORAGE_DEFAULT_BYTES,
        }
    }
}

impl AccountLimits {
    /// What is left for functions without a reservation when `reserved` is taken in all.
    pub fn unreserved(&self, reserved: u64) -> u32 {
        let left = u64::from(self.concurrency).saturating_sub(reserved);
        u32::try_from(left).expect("at most the limit, which is a u32")
    }

    /// Whether an account may go from `before` to `after` executions set aside in all. `what` names the parameter.
    pub(super) fn check_set_aside(&self, what: &str, before: u64, after: u64) -> Result<(), Error> {
        // An account whose limit was lowered below its reservations may still give some back.
        if after > before && self.unreserved(after) < limits::UNRESERVED_MIN {
            return Err(Error::new(
                ErrorCode::InvalidParameterValue,
                format!(
                    "Specified {what} for function decreases account's UnreservedConcurrentExecution below its minimum value of [{}].",
                    limits::UNRESERVED_MIN
                ),
            ));
        }
        Ok(())
    }

    /// Whether an account may go from `before` to `after` bytes of code.
    pub(super) fn check_code(&self, before: u64, after: u64) -> Result<(), Error> {
        if after > before && after > self.code_storage_bytes {
            return Err(Error::new(
                ErrorCode::CodeStorageExceeded,
                "Code storage limit exceeded.",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_executions_stay_unreserved() {
        let limits = AccountLimits::default();
        for (before, after, fits) in [
            (0, 900, true),
            (0, 901, false),
            (900, 900, true),
            (900, 899, true),
            (950, 940, true),
            (950, 960, false),
            (0, u64::from(u32::MAX) * 2, false),
        ] {
            assert_eq!(
                limits.check_set_aside("X", before, after).is_ok(),
                fits,
                "{before} -> {after}"
            );
        }
    }

    #[test]
    fn code_may_fill_the_storage_exactly() {
        let limits = AccountLimits {
            concurrency: 1,
            code_storage_bytes: 10,
        };
        assert!(limits.check_code(0, 10).is_ok());
        assert!(limits.check_code(0, 11).is_err());
        assert!(limits.check_code(20, 15).is_ok());
    }
}
