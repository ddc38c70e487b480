//! How an entry lies in sled: cut into values small enough that sled never puts them into its `blobs/` files,
//! which it does not fsync.
//!
//! Key: index (u64, big-endian), part (u16, big-endian). Value of part 0: number of parts (u16), CRC-32 of
//! the whole encoding (u32), first piece; of the others: the piece.

use prost::Message;

use crate::raft::codec;
use crate::raft::types::Entry;

/// Largest value handed to sled. A leaf holds up to 16 values and must stay below 128 KiB.
const MAX_VALUE_BYTES: usize = 4 * 1024;
/// Room for the part count and the checksum in the first value.
const HEADER_BYTES: usize = 6;
/// Largest encoded entry: a command of the largest size with its log id, or a membership.
const MAX_ENTRY_BYTES: usize = crate::raft::MAX_LARGE_COMMAND_BYTES + 4 * 1024;

/// What is wrong with an entry on disk or with one to be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("entry {index} has {bytes} bytes, more than {MAX_ENTRY_BYTES}")]
    TooLarge { index: u64, bytes: usize },
    #[error("entry {index}: {problem}")]
    Damaged { index: u64, problem: String },
}

/// One value of an entry.
pub(crate) type KeyValue = ([u8; 10], Vec<u8>);

pub(crate) fn key(index: u64, part: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

/// Index and part of a key.
pub(crate) fn parse_key(key: &[u8]) -> Option<(u64, u16)> {
    let (index, part) = key.split_first_chunk::<8>()?;
    let part: [u8; 2] = part.try_into().ok()?;
    Some((u64::from_be_bytes(*index), u16::from_be_bytes(part)))
}

/// Cuts an entry into values.
pub(crate) fn encode(entry: &Entry) -> Result<Vec<KeyValue>, RecordError> {
    let index = entry.log_id.index;
    let encoded = codec::entry_to_pb(entry).encode_to_vec();
    if encoded.len() > MAX_ENTRY_BYTES {
        return Err(RecordError::TooLarge {
            index,
            bytes: encoded.len(),
        });
    }
    let (first, rest) = encoded.split_at(encoded.len().min(MAX_VALUE_BYTES - HEADER_BYTES));
    let parts = 1 + rest.chunks(MAX_VALUE_BYTES).count();
    let parts = u16::try_from(parts).expect("1.1 MiB make fewer than 65,536 parts");
    let mut head = Vec::with_capacity(HEADER_BYTES + first.len());
    head.extend_from_slice(&parts.to_be_bytes());
    head.extend_from_slice(&crc32fast::hash(&encoded).to_be_bytes());
    head.extend_from_slice(first);
    let tail = (1..parts)
        .zip(rest.chunks(MAX_VALUE_BYTES))
        .map(|(part, piece)| (key(index, part), piece.to_vec()));
    Ok(std::iter::once((key(index, 0), head)).chain(tail).collect())
}

/// Puts the values of entry `index` together again. `values` are in order of their parts.
pub(crate) fn decode<'a>(
    index: u64,
    values: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Entry, RecordError> {
    let damaged = |problem: &str| RecordError::Damaged {
        index,
        problem: problem.to_owned(),
    };
    let mut values = values.into_iter();
    let head = values.next().ok_or_else(|| damaged("no values"))?;
    let (parts, head) = head
        .split_first_chunk::<2>()
        .ok_or_else(|| damaged("short header"))?;
    let (crc, first) = head
        .split_first_chunk::<4>()
        .ok_or_else(|| damaged("short header"))?;
    let mut encoded = first.to_vec();
    let mut seen = 1_u16;
    for value in values {
        encoded.extend_from_slice(value);
        seen = seen.saturating_add(1);
    }
    if seen != u16::from_be_bytes(*parts) {
        return Err(damaged("parts are missing"));
    }
    if crc32fast::hash(&encoded) != u32::from_be_bytes(*crc) {
        return Err(damaged("checksum does not match"));
    }
    let message = hearth_proto::internal::v1::RaftEntry::decode(encoded.as_slice())
        .map_err(|error| damaged(&error.to_string()))?;
    let entry = codec::entry_from_pb(message).map_err(|error| damaged(&error.to_string()))?;
    if entry.log_id.index != index {
        return Err(damaged("it carries another index"));
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::EntryPayload;
    use proptest::prelude::*;

    use super::*;
    use crate::raft::types::{Command, LeaderId, LogId};

    fn entry(index: u64, command: Vec<u8>) -> Entry {
        Entry {
            log_id: LogId {
                leader_id: LeaderId {
                    term: 2,
                    node_id: 1,
                },
                index,
            },
            payload: EntryPayload::Normal(Command(Bytes::from(command))),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn entries_of_any_size_come_back(index: u64, length in 0..=crate::raft::MAX_LARGE_COMMAND_BYTES, byte: u8) {
            let entry = entry(index, vec![byte; length]);
            let values = encode(&entry).unwrap();
            prop_assert!(values.iter().all(|(_, value)| value.len() <= MAX_VALUE_BYTES));
            prop_assert!(values.is_sorted_by_key(|(key, _)| *key));
            let back = decode(index, values.iter().map(|(_, value)| value.as_slice())).unwrap();
            prop_assert_eq!(back, entry);
        }
    }

    #[test]
    fn damage_is_noticed() {
        let mut values = encode(&entry(7, vec![1; 10_000])).unwrap();
        let decode_all = |values: &[KeyValue]| decode(7, values.iter().map(|(_, v)| v.as_slice()));
        assert!(decode_all(&values[..2]).is_err());
        values[1].1[17] ^= 1;
        assert!(decode_all(&values).is_err());
        assert!(decode_all(&[]).is_err());
    }

    #[test]
    fn entries_beyond_the_limit_are_refused() {
        let error = encode(&entry(7, vec![0; MAX_ENTRY_BYTES])).unwrap_err();
        assert!(matches!(error, RecordError::TooLarge { index: 7, .. }));
    }
}
