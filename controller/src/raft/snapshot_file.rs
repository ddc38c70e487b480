//! The format of a snapshot file: header length (u32, big-endian), header (protobuf), the machine's bytes,
//! CRC-32 of everything before (u32, big-endian). No IO here.

use bytes::Bytes;
use prost::Message;

use hearth_proto::internal::v1::RaftSnapshotHeader;

use super::codec;
use super::types::SnapshotMeta;

/// Version of this format. A newer one is refused.
const FORMAT_VERSION: u32 = 1;
/// Largest machine state. Metadata is far smaller; this bounds what a peer can make us hold.
pub(super) const MAX_SNAPSHOT_BYTES: u64 = 1024 * 1024 * 1024;
/// Largest header: a membership of a few hundred nodes.
const MAX_HEADER_BYTES: usize = 64 * 1024;
const CRC_BYTES: usize = 4;

/// What is wrong with the bytes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormatError {
    #[error("it is truncated")]
    Truncated,
    #[error("its checksum does not match")]
    Checksum,
    #[error("it has format {0}, this release knows {FORMAT_VERSION}")]
    Version(u32),
    #[error("it has {0} bytes, more than {MAX_SNAPSHOT_BYTES}")]
    TooLarge(u64),
    #[error("its header is malformed: {0}")]
    Header(String),
}

/// The header that describes `body`.
pub(super) fn header(meta: &SnapshotMeta, body: &[u8]) -> RaftSnapshotHeader {
    RaftSnapshotHeader {
        format_version: FORMAT_VERSION,
        last_log_id: meta.last_log_id.as_ref().map(codec::log_id_to_pb),
        last_membership: Some(codec::stored_membership_to_pb(&meta.last_membership)),
        length: body.len() as u64,
        crc32: crc32fast::hash(body),
    }
}

/// Checks a header before its body is read; returns what openraft knows of it.
pub(super) fn check_header(header: &RaftSnapshotHeader) -> Result<SnapshotMeta, FormatError> {
    if header.format_version != FORMAT_VERSION {
        return Err(FormatError::Version(header.format_version));
    }
    if header.length > MAX_SNAPSHOT_BYTES {
        return Err(FormatError::TooLarge(header.length));
    }
    codec::snapshot_meta_from_pb(header).map_err(|error| FormatError::Header(error.to_string()))
}

/// Checks that `body` is what `header` promised.
pub(super) fn check_body(header: &RaftSnapshotHeader, body: &[u8]) -> Result<(), FormatError> {
    if body.len() as u64 != header.length {
        return Err(FormatError::Truncated);
    }
    if crc32fast::hash(body) != header.crc32 {
        return Err(FormatError::Checksum);
    }
    Ok(())
}

/// What goes before and after `body` in the file.
pub(super) fn frame(meta: &SnapshotMeta, body: &[u8]) -> (Vec<u8>, [u8; CRC_BYTES]) {
    let header = header(meta, body).encode_to_vec();
    let length = u32::try_from(header.len()).expect("a header has less than 4 GiB");
    let mut front = length.to_be_bytes().to_vec();
    front.extend_from_slice(&header);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&front);
    crc.update(body);
    (front, crc.finalize().to_be_bytes())
}

/// Reads a whole file.
pub(super) fn parse(file: &Bytes) -> Result<(SnapshotMeta, Bytes), FormatError> {
    let (content, crc) = file
        .split_last_chunk::<CRC_BYTES>()
        .ok_or(FormatError::Truncated)?;
    let (length, rest) = content
        .split_first_chunk::<4>()
        .ok_or(FormatError::Truncated)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_HEADER_BYTES || length > rest.len() {
        return Err(FormatError::Truncated);
    }
    if crc32fast::hash(content) != u32::from_be_bytes(*crc) {
        return Err(FormatError::Checksum);
    }
    let header = RaftSnapshotHeader::decode(&rest[..length])
        .map_err(|error| FormatError::Header(error.to_string()))?;
    let meta = check_header(&header)?;
    let body = file.slice(4 + length..content.len());
    check_body(&header, &body)?;
    Ok((meta, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(body: &[u8]) -> Vec<u8> {
        let (mut file, crc) = frame(&SnapshotMeta::default(), body);
        file.extend_from_slice(body);
        file.extend_from_slice(&crc);
        file
    }

    #[test]
    fn a_file_comes_back_whole() {
        for body in [&b""[..], b"x", &[7; 100_000]] {
            let (meta, read) = parse(&file(body).into()).unwrap();
            assert_eq!(meta, SnapshotMeta::default());
            assert_eq!(read, body);
        }
    }

    /// Written by the first release with this format, never again.
    const GOLDEN: &str = include_str!("golden/snapshot-1.hex");

    fn golden_meta() -> SnapshotMeta {
        use std::collections::{BTreeMap, BTreeSet};

        use crate::raft::types::{LeaderId, LogId, Member, Membership, StoredMembership};
        let log_id = |index| LogId {
            leader_id: LeaderId {
                term: 7,
                node_id: 2,
            },
            index,
        };
        let nodes: BTreeMap<u64, Member> = (1..=3)
            .map(|id| (id, Member::at(format!("host-{id}:7400"))))
            .collect();
        let membership = Membership::new(vec![BTreeSet::from([1, 2])], nodes).unwrap();
        SnapshotMeta {
            last_log_id: Some(log_id(99)),
            last_membership: StoredMembership::new(Some(log_id(42)), membership),
        }
    }

    #[test]
    fn files_of_format_1_stay_readable_and_are_what_is_written_now() {
        let (mut now, crc) = frame(&golden_meta(), b"state");
        now.extend_from_slice(b"state");
        now.extend_from_slice(&crc);
        assert_eq!(hex::encode(now), GOLDEN.trim());
        let golden = hex::decode(GOLDEN.trim()).unwrap();
        let (meta, body) = parse(&golden.into()).unwrap();
        assert_eq!((meta, &*body), (golden_meta(), &b"state"[..]));
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_noticed() {
        let good = file(b"state");
        for length in 0..good.len() {
            assert!(parse(&good[..length].to_vec().into()).is_err());
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bad.into()).is_err(), "bit {bit}");
        }
    }
}
