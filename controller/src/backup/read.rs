//! Reading a backup: first the whole file against its digest, then each member against the manifest. Blocks.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{
    BLOCK_BYTES, FORMAT_VERSION, MANIFEST, MAX_MANIFEST_BYTES, METADATA, Manifest, TAIL_BYTES,
    header, padding, tail,
};

const BUFFER_BYTES: usize = 128 * 1024;

/// Why a file is no backup that can be restored; Display is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file cannot be read.
    #[error("the backup cannot be read")]
    Io(#[source] io::Error),
    /// It does not begin as a backup does.
    #[error("this is no backup of hearth, or its beginning is damaged")]
    NoBackup,
    /// A later release wrote it.
    #[error("the backup has format {0}, this release reads up to {FORMAT_VERSION}")]
    Format(u32),
    /// Its bytes are not those that were written.
    #[error("the backup is damaged or truncated: its content does not have the digest at its end")]
    Digest,
    /// The digest is right, and yet the members are not what the manifest says.
    #[error("the backup is inconsistent: {0}")]
    Inconsistent(String),
}

/// The manifest, and where in the file each of its members begins.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) manifest: Manifest,
    pub(super) offsets: Vec<u64>,
}

/// Checks every digest of the file. `progress` is told bytes done and bytes in all, now and then.
pub fn verify(file: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Manifest, VerifyError> {
    contents(file, progress).map(|contents| contents.manifest)
}

pub(super) fn contents(
    file: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Contents, VerifyError> {
    let mut file = File::open(file).map_err(VerifyError::Io)?;
    let length = file.metadata().map_err(VerifyError::Io)?.len();
    let manifest_bytes = manifest_bytes(&mut file)?;
    check_whole(&mut file, length, progress)?;
    check_members(&mut file, length, manifest_bytes)
}

/// The version is looked at first: a later format may have its digest elsewhere.
fn manifest_bytes(file: &mut File) -> Result<Vec<u8>, VerifyError> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let mut archive = tar::Archive::new(BufReader::new(file));
    let mut entries = archive.entries().map_err(|_| VerifyError::NoBackup)?;
    let Some(Ok(entry)) = entries.next() else {
        return Err(VerifyError::NoBackup);
    };
    let is_manifest = entry.path_bytes().as_ref() == MANIFEST.as_bytes();
    if !is_manifest || entry.size() > MAX_MANIFEST_BYTES {
        return Err(VerifyError::NoBackup);
    }
    let expected = entry.size();
    let mut bytes = Vec::new();
    let read = entry.take(MAX_MANIFEST_BYTES).read_to_end(&mut bytes);
    read.map_err(VerifyError::Io)?;
    if bytes.len() as u64 != expected {
        return Err(VerifyError::Digest);
    }
    let version: Version = serde_json::from_slice(&bytes).map_err(|_| VerifyError::NoBackup)?;
    if version.format_version == FORMAT_VERSION {
        Ok(bytes)
    } else {
        Err(VerifyError::Format(version.format_version))
    }
}

fn check_whole(
    file: &mut File,
    length: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), VerifyError> {
    let summed = length
        .checked_sub(TAIL_BYTES as u64)
        .ok_or(VerifyError::Digest)?;
    file.seek(SeekFrom::Start(0)).map_err(VerifyError::Io)?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut content = Read::by_ref(file).take(summed);
    let mut done = 0;
    loop {
        let read = content.read(&mut buffer).map_err(VerifyError::Io)?;
        if read == 0 {
            break;
        }
        sum.update(&buffer[..read]);
        done += read as u64;
        progress(done, length);
    }
    let mut end = Vec::with_capacity(TAIL_BYTES);
    file.take(TAIL_BYTES as u64 + 1)
        .read_to_end(&mut end)
        .map_err(VerifyError::Io)?;
    if done == summed && end == tail(sum) {
        Ok(())
    } else {
        Err(VerifyError::Digest)
    }
}

/// Members lie as the manifest says, with nothing between or after them, and have their digests.
fn check_members(file: &mut File, length: u64, manifest: Vec<u8>) -> Result<Contents, VerifyError> {
    let wrong = |problem: String| VerifyError::Inconsistent(problem);
    let first = manifest.len() as u64;
    let manifest: Manifest =
        serde_json::from_slice(&manifest).map_err(|error| wrong(format!("manifest: {error}")))?;
    let is_metadata = |path: &str| path == METADATA;
    if !manifest
        .members
        .first()
        .is_some_and(|m| is_metadata(&m.path))
    {
        return Err(wrong("it has no metadata".to_owned()));
    }
    let mut at = BLOCK_BYTES as u64 + first + padding(first) as u64;
    file.seek(SeekFrom::Start(at)).map_err(VerifyError::Io)?;
    let mut content = BufReader::with_capacity(BUFFER_BYTES, file);
    let mut offsets = Vec::with_capacity(manifest.members.len());
    for (number, member) in manifest.members.iter().enumerate() {
        let path = &member.path;
        if number > 0 && member.digest().is_none() {
            return Err(wrong(format!("{path} is unexpected")));
        }
        let mut found = [0; BLOCK_BYTES];
        content.read_exact(&mut found).map_err(VerifyError::Io)?;
        if found != header(path, member.bytes) {
            return Err(wrong(format!("{path} is not where it should be")));
        }
        offsets.push(at + BLOCK_BYTES as u64);
        let mut sum = Sha256::new();
        let mut body = Read::by_ref(&mut content).take(member.bytes);
        io::copy(&mut body, &mut Summing(&mut sum)).map_err(VerifyError::Io)?;
        if hex::encode(sum.finalize()) != member.sha256 {
            return Err(wrong(format!("{path} does not have its digest")));
        }
        let rest = padding(member.bytes);
        content
            .seek_relative(i64::try_from(rest).expect("less than a block"))
            .map_err(VerifyError::Io)?;
        at += BLOCK_BYTES as u64 + member.bytes + rest as u64;
    }
    if at + TAIL_BYTES as u64 != length {
        return Err(wrong("it has more than its manifest says".to_owned()));
    }
    Ok(Contents { manifest, offsets })
}

struct Summing<'a>(&'a mut Sha256);

impl io::Write for Summing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
