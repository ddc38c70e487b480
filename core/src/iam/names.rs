//! ARNs and ids.

use super::IamKey;
use crate::error::{Error, ErrorCode, Result};
use crate::ids::AccountId;

/// Characters of an id after its prefix.
const ID_LENGTH: u32 = 17;
const ID_DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// An id that is made of a UUID: a prefix that says what it is of, and 17 letters and digits.
pub fn unique_id(prefix: &str, uuid: &str) -> String {
    let digits = uuid.chars().filter_map(|c| c.to_digit(16));
    let bits = digits.fold(0_u128, |bits, digit| bits << 4 | u128::from(digit));
    let letters = (0..ID_LENGTH).map(|n| {
        let digit = usize::try_from(bits >> (5 * n) & 31).unwrap_or_default();
        char::from(ID_DIGITS[digit])
    });
    letters.fold(prefix.to_owned(), |mut id, letter| {
        id.push(letter);
        id
    })
}

/// Prefix of the ids of a kind.
pub(super) fn prefix(key: &IamKey) -> &'static str {
    match key {
        IamKey::Role(_) => "AROA",
        IamKey::User(_) => "AIDA",
        IamKey::Group(_) => "AGPA",
        IamKey::Policy(_) => "ANPA",
    }
}

/// The policy of this account that an ARN names; `None` if it is of another account, of AWS, or none. Whether the path is right, is
/// for whoever has the policy to say.
pub fn policy_named(account: &AccountId, arn: &str) -> Option<IamKey> {
    let rest = arn.strip_prefix("arn:aws:iam::")?;
    let rest = rest.strip_prefix(account.as_str())?;
    let path = rest.strip_prefix(":policy/")?;
    let name = path.rsplit('/').next().filter(|name| !name.is_empty())?;
    Some(IamKey::Policy(name.to_owned()))
}

/// Account and role that an ARN names. Whether the path is right, is for whoever has the role to say.
pub fn role_named(arn: &str) -> Option<(AccountId, IamKey)> {
    let rest = arn.strip_prefix("arn:aws:iam::")?;
    let (account, path) = rest.split_once(":role/")?;
    let name = path.rsplit('/').next().filter(|name| !name.is_empty())?;
    Some((account.parse().ok()?, IamKey::Role(name.to_owned())))
}

/// Whether a text is the ARN of a policy.
pub fn check_arn_of_policy(arn: &str) -> Result<()> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    match parts[..] {
        ["arn", "aws", "iam", "", owner, path]
            if path.starts_with("policy/")
                && (owner == "aws" || owner.parse::<AccountId>().is_ok()) =>
        {
            Ok(())
        }
        _ => Err(Error::new(
            ErrorCode::InvalidParameterValue,
            format!("ARN {arn} is not valid."),
        )),
    }
}
