//! Deployment packages: what an archive must be before it is stored. Unpacking is the workers' business.

use std::io::Cursor;

use bytes::Bytes;
use hearth_aws_api::ApiError;
use hearth_core::function::CodeRef;
use hearth_core::ids::Digest;
use hearth_core::limits::{UNZIPPED_MAX_BYTES, ZIP_ENTRIES_MAX, ZIPPED_MAX_BYTES};
use sha2::Digest as _;

/// Checks an archive and names it by its digest.
pub(super) async fn check(zip: Bytes) -> Result<CodeRef, ApiError> {
    if zip.len() >= ZIPPED_MAX_BYTES {
        return Err(ApiError::request_entity_too_large(format!(
            "Zipped size must be smaller than {ZIPPED_MAX_BYTES} bytes"
        )));
    }
    // Reading 50 MB and hashing them would hold up other requests of this thread.
    hearth_node::blocking::run(move || examine(&zip))
        .await
        .unwrap_or_else(|error| {
            Err(ApiError::service("The archive could not be examined.").with_source(error))
        })
}

fn examine(zip: &[u8]) -> Result<CodeRef, ApiError> {
    let unreadable = || {
        ApiError::invalid_parameter_value(
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        )
    };
    let too_large = || {
        ApiError::invalid_parameter_value(format!(
            "Unzipped size must be smaller than {UNZIPPED_MAX_BYTES} bytes"
        ))
    };
    let mut archive = zip::ZipArchive::new(Cursor::new(zip)).map_err(|_| unreadable())?;
    if archive.is_empty() {
        return Err(ApiError::invalid_parameter_value(
            "Uploaded file must be a non-empty zip",
        ));
    }
    if archive.len() > ZIP_ENTRIES_MAX {
        return Err(too_large());
    }
    let mut unzipped = 0_u64;
    for index in 0..archive.len() {
        // The size the archive claims; what it really unpacks to is checked again where it is unpacked.
        let entry = archive.by_index_raw(index).map_err(|_| unreadable())?;
        unzipped = unzipped.saturating_add(entry.size());
    }
    if unzipped >= UNZIPPED_MAX_BYTES {
        return Err(too_large());
    }
    Ok(CodeRef {
        digest: Digest(sha2::Sha256::digest(zip).into()),
        size_bytes: zip.len() as u64,
        unpacked_bytes: unzipped,
        image: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::zip_with;

    #[tokio::test]
    async fn archives_are_named_by_their_digest() {
        let zip = zip_with("main.py", b"x = 1");
        let code = check(zip.clone()).await.unwrap();
        assert_eq!(code.size_bytes, zip.len() as u64);
        assert_eq!(code.digest.0, <[u8; 32]>::from(sha2::Sha256::digest(&zip)));
    }

    #[tokio::test]
    async fn what_is_no_archive_is_refused_in_awss_words() {
        for bad in [&b"not a zip"[..], &zip_with("a", b"b")[..20]] {
            let error = check(Bytes::copy_from_slice(bad)).await.unwrap_err();
            assert_eq!(
                error.message(),
                "Could not unzip uploaded file. Please check your file, then try to upload again."
            );
        }
    }
}
