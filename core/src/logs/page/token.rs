//! Tokens and event ids: decimal numbers of 56 digits, as AWS has them. The timestamp is at the top, so that ids are ordered as
//! events are; at the bottom is a check, so that what was not given here, or for something else, is refused. The check keeps
//! mistakes out and no one who means it: a token opens nothing that the request could not name.

use std::fmt::Write;

use super::{PageError, Position};
use crate::logs::name::{GroupName, StreamName};

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// `nextForwardToken`: events from here on.
    Forward,
    /// `nextBackwardToken`: events before.
    Backward,
    /// FilterLogEvents, the oldest first: events from here on.
    Ascending,
    /// FilterLogEvents, the newest first: events before.
    Descending,
}

impl Mark {
    fn prefix(self) -> &'static str {
        match self {
            Self::Forward => "f/",
            Self::Backward => "b/",
            Self::Ascending => "a/",
            Self::Descending => "d/",
        }
    }
}

/// What tokens are of. Those of another are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope(u64);

impl Scope {
    /// Events of one stream.
    pub fn stream(group: &GroupName, stream: &StreamName) -> Self {
        // Neither name has a colon.
        Self::of(&["stream", group.as_str(), stream.as_str()])
    }

    /// Events of a group, or its streams.
    pub fn group(group: &GroupName) -> Self {
        Self::of(&["group", group.as_str()])
    }

    /// Groups of an account.
    pub fn account(account: &crate::ids::AccountId) -> Self {
        Self::of(&["account", account.as_str()])
    }

    fn of(parts: &[&str]) -> Self {
        Self(digest(0, parts.join(":").as_bytes()))
    }

    /// 48 bits that say whether something was given for this.
    pub(super) fn check(self, kind: &str, bytes: &[u8]) -> u64 {
        digest(digest(self.0, kind.as_bytes()), bytes) & 0xffff_ffff_ffff
    }
}

/// FNV-1a with splitmix64 at the end, which spreads the last bytes over all bits.
fn digest(seed: u64, bytes: &[u8]) -> u64 {
    let start = seed ^ 0xcbf2_9ce4_8422_2325;
    let hash = bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

/// "The ID of the event.", of the scope of its group: ordered as events are, unlike any other of the group.
pub fn event_id(scope: Scope, at: Position) -> String {
    numbered("e", scope, at)
}

/// Writes a token.
pub(super) fn write(mark: Mark, scope: Scope, at: Position) -> String {
    let prefix = mark.prefix();
    format!("{prefix}{}", numbered(prefix, scope, at))
}

/// Reads a token of one of these kinds.
pub(super) fn read(
    marks: [Mark; 2],
    scope: Scope,
    text: &str,
) -> Result<(Mark, Position), PageError> {
    let stripped = |mark: Mark| Some((mark, text.strip_prefix(mark.prefix())?));
    let (mark, digits) = marks
        .into_iter()
        .find_map(stripped)
        .ok_or(PageError::Token)?;
    let bytes = from_decimal(digits).ok_or(PageError::Token)?;
    let mut key = [0; 18];
    key.copy_from_slice(&bytes[..18]);
    let at = Position::from_bytes(key);
    // Leading zeros and the check are as they are written, or it was not written here.
    if write(mark, scope, at) != text {
        return Err(PageError::Token);
    }
    Ok((mark, at))
}

fn numbered(kind: &str, scope: Scope, at: Position) -> String {
    let key = at.to_bytes();
    let check = scope.check(kind, &key);
    let mut bytes = [0; 24];
    bytes[..18].copy_from_slice(&key);
    bytes[18..].copy_from_slice(&check.to_be_bytes()[2..]);
    to_decimal(bytes)
}

/// Nine digits at a time.
const CHUNK: u64 = 1_000_000_000;
/// Digits of an id of our time.
const DIGITS: usize = 56;
/// Digits of the largest number of 192 bits.
const DIGITS_MAX: usize = 58;

fn limbs(bytes: [u8; 24]) -> [u32; 6] {
    let (chunks, _) = bytes.as_chunks::<4>();
    let mut limbs = [0; 6];
    for (limb, chunk) in limbs.iter_mut().zip(chunks) {
        *limb = u32::from_be_bytes(*chunk);
    }
    limbs
}

/// The lower half of a number.
fn low(n: u64) -> u32 {
    let [.., a, b, c, d] = n.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

fn to_decimal(bytes: [u8; 24]) -> String {
    let mut limbs = limbs(bytes);
    let mut chunks = Vec::new();
    while limbs.iter().any(|limb| *limb != 0) {
        let mut rest = 0;
        for limb in &mut limbs {
            let n = rest << 32 | u64::from(*limb);
            *limb = low(n / CHUNK);
            rest = n % CHUNK;
        }
        chunks.push(rest);
    }
    let digits = chunks
        .iter()
        .rev()
        .fold(String::new(), |mut digits, chunk| {
            let _ = write!(digits, "{chunk:09}");
            digits
        });
    let digits = digits.trim_start_matches('0');
    format!("{digits:0>DIGITS$}")
}

/// `None`: it is no number, or one of more than 192 bits.
fn from_decimal(digits: &str) -> Option<[u8; 24]> {
    let is_number = (DIGITS..=DIGITS_MAX).contains(&digits.len());
    if !is_number || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let mut limbs = [0_u32; 6];
    for digit in digits.bytes() {
        let mut carry = u64::from(digit - b'0');
        for limb in limbs.iter_mut().rev() {
            let n = u64::from(*limb) * 10 + carry;
            *limb = low(n);
            carry = n >> 32;
        }
        if carry != 0 {
            return None;
        }
    }
    let mut bytes = [0; 24];
    for (chunk, limb) in bytes.chunks_exact_mut(4).zip(limbs) {
        chunk.copy_from_slice(&limb.to_be_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MARKS: [Mark; 2] = [Mark::Forward, Mark::Backward];

    fn scope(stream: &str) -> Scope {
        Scope::stream(&"g".parse().unwrap(), &stream.parse().unwrap())
    }

    #[test]
    fn a_token_is_a_letter_and_56_digits() {
        let at = Position::new(1_700_000_000_000, 1, 2);
        for (mark, letter) in [(Mark::Forward, "f/"), (Mark::Backward, "b/")] {
            let token = write(mark, scope("s"), at);
            assert!(token.starts_with(letter) && token.len() == 58, "{token}");
            assert_eq!(read(MARKS, scope("s"), &token), Ok((mark, at)));
            assert_eq!(write(mark, scope("s"), Position::FIRST).len(), 58);
        }
    }

    #[test]
    fn a_token_is_of_its_scope_and_kind_alone() {
        let token = write(Mark::Forward, scope("s"), Position::new(9, 1, 2));
        assert_eq!(read(MARKS, scope("t"), &token), Err(PageError::Token));
        let group = Scope::group(&"g".parse().unwrap());
        assert_eq!(read(MARKS, group, &token), Err(PageError::Token));
        let turned = token.replace("f/", "b/");
        assert_eq!(read(MARKS, scope("s"), &turned), Err(PageError::Token));
        let filter = [Mark::Ascending, Mark::Descending];
        assert_eq!(read(filter, scope("s"), &token), Err(PageError::Token));
    }

    proptest! {
        #[test]
        fn decimals_are_read_as_written(bytes in any::<[u8; 24]>()) {
            prop_assert_eq!(from_decimal(&to_decimal(bytes)), Some(bytes));
        }

        #[test]
        fn ids_are_ordered_as_events(a in any::<(u32, u64, u32)>(), b in any::<(u32, u64, u32)>()) {
            // Milliseconds of our time, of which ids have the same length.
            let at = |(t, i, s): (u32, u64, u32)| Position::new(1_700_000_000_000 + u64::from(t % 3), i, s);
            let id = |x| event_id(scope("s"), at(x));
            prop_assert_eq!(id(a).len(), 56);
            prop_assert_eq!(at(a).cmp(&at(b)), id(a).cmp(&id(b)));
        }

        #[test]
        fn garbage_is_refused(text in any::<String>(), digits in "[fbad]/[0-9]{54,60}") {
            for text in [text, digits] {
                prop_assert_eq!(read(MARKS, scope("s"), &text), Err(PageError::Token));
            }
        }

        #[test]
        fn a_token_with_one_other_character_is_refused(t in 0_u64..1 << 44, at in 0_usize..58, c in "[0-9a-z/ ]") {
            let token = write(Mark::Forward, scope("s"), Position::new(t, 7, 1));
            let mut other = token.clone();
            other.replace_range(at..at + 1, &c);
            prop_assume!(other != token);
            prop_assert_eq!(read(MARKS, scope("s"), &other), Err(PageError::Token));
        }
    }
}
