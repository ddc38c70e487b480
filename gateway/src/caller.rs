//! Who calls, as far as it was proved. What a caller may do is not said here.

use hearth_core::ids::AccountId;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) account: AccountId,
}

impl Caller {
    /// Its ARN.
    pub(crate) fn arn(&self) -> String {
        format!("arn:aws:iam::{}:root", self.account.as_str())
    }

    /// What STS calls its user id.
    pub(crate) fn user_id(&self) -> String {
        self.account.as_str().to_owned()
    }
}
