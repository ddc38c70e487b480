//! Objects in buckets: S3's REST protocol, the bucket in the path.

use bytes::Bytes;
use hearth_aws_api::sigv4::digest;
use http::HeaderValue;
use percent_encoding::{AsciiSet, utf8_percent_encode};

use crate::arn;
use crate::client::{Call, ESCAPED};
use crate::error::ServiceError;
use crate::service::Service;
use crate::services::Services;

const CONTENT_TYPE: &str = "application/json";
/// Slashes of a key are the path's.
const ESCAPED_IN_PATH: &AsciiSet = &ESCAPED.remove(b'/');

impl Services {
    /// Puts an object, JSON, into a bucket; one that has the key is replaced.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub async fn put_object(
        &self,
        bucket_arn: &str,
        key: &str,
        body: Bytes,
    ) -> Result<(), ServiceError> {
        let bucket = arn::parse(bucket_arn, Service::S3)?;
        let path = path(bucket.name, key)?;
        let endpoint = self.endpoint(Service::S3)?;
        let digest = HeaderValue::try_from(hex::encode(digest(&body)))
            .expect("hexadecimal digits are a header's");
        let call = Call::put(path, CONTENT_TYPE, body).with("x-amz-content-sha256", digest);
        self.client.call(endpoint, &call, |_| Ok(())).await
    }
}

/// Where an object is below the endpoint.
fn path(bucket: &str, key: &str) -> Result<String, ServiceError> {
    // "Bucket names can consist only of lowercase letters, numbers, periods (.), and hyphens (-)", older ones of a few more.
    let is_bucket = bucket
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    // URLs are resolved before they are sent, which would make another object of these.
    let is_resolved = |segment: &str| matches!(segment, "." | "..");
    if !is_bucket || key.is_empty() || is_resolved(bucket) || key.split('/').any(is_resolved) {
        return Err(ServiceError::BadKey {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        });
    }
    let key = utf8_percent_encode(key, ESCAPED_IN_PATH);
    Ok(format!("/{bucket}/{key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_escaped_but_for_their_slashes() {
        for (bucket, key, wanted) in [
            (
                "b",
                "aws/lambda/async/f/2024/1.json",
                "/b/aws/lambda/async/f/2024/1.json",
            ),
            ("b.c-d", "$LATEST ?#%2e", "/b.c-d/%24LATEST%20%3F%23%252e"),
            ("b", "//a/.b/..c/\u{e9}/", "/b///a/.b/..c/%C3%A9/"),
        ] {
            assert_eq!(path(bucket, key).as_deref(), Ok(wanted));
        }
        for (bucket, key) in [
            ("b", ""),
            ("b", "."),
            ("b", "a/../c"),
            ("b", "a/."),
            ("..", "a"),
            ("b/c", "a"),
            ("b?c", "a"),
        ] {
            let error = path(bucket, key).unwrap_err();
            assert!(matches!(error, ServiceError::BadKey { .. }), "{error}");
        }
    }
}
