//! Signed addresses under which this cluster's gateways hand out a function's code: what GetFunction gives as
//! `Code.Location`. Any gateway with the same credentials takes them. Reading the package is `blobs`' business.

use std::fmt;

use hearth_core::ids::Digest;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::HOST;
use http::request::Parts;
use sha2::Sha256;

/// Where the addresses begin; no path of AWS's does.
pub(crate) const PREFIX: &str = "/_hearth/code/";
/// "a presigned URL that's valid for 10 minutes".
const LIFETIME_MS: u64 = 10 * 60 * 1_000;

/// Makes and checks the addresses.
pub(crate) struct Links {
    key: Hmac<Sha256>,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").finish_non_exhaustive()
    }
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadLink {
    Malformed,
    Expired,
}

impl Links {
    /// The secret is one that all gateways of the cluster share.
    pub(crate) fn new(secret: &str, cluster_id: &str) -> Self {
        let mut key = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
            .expect("HMAC takes keys of any length");
        key.update(b"hearth code link\n");
        key.update(cluster_id.as_bytes());
        Self { key }
    }

    fn mac(&self, digest: &str, expires_ms: u64) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        mac.update(format!("\n{digest}\n{expires_ms}").as_bytes());
        mac
    }

    /// An address at the host that the request came to.
    pub(crate) fn make(&self, request: &Parts, digest: &Digest, now_ms: u64) -> String {
        let header = request
            .headers
            .get(HOST)
            .and_then(|host| host.to_str().ok());
        let host = header.or_else(|| request.uri.authority().map(http::uri::Authority::as_str));
        let (digest, expires) = (digest.to_string(), now_ms.saturating_add(LIFETIME_MS));
        let signature = hex::encode(self.mac(&digest, expires).finalize().into_bytes());
        format!(
            "http://{}{PREFIX}{digest}?expires={expires}&signature={signature}",
            host.unwrap_or("localhost")
        )
    }

    /// The package that an address names, if it is one of ours and still good.
    pub(crate) fn check(&self, uri: &http::Uri, now_ms: u64) -> Result<Digest, BadLink> {
        let name = uri.path().strip_prefix(PREFIX).ok_or(BadLink::Malformed)?;
        let digest: Digest = name.parse().map_err(|_| BadLink::Malformed)?;
        let query = uri.query().unwrap_or_default();
        let parameter = |name: &str| {
            query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value)
        };
        let expires: u64 = parameter("expires")
            .and_then(|text| text.parse().ok())
            .ok_or(BadLink::Malformed)?;
        let signature = parameter("signature")
            .and_then(|text| hex::decode(text).ok())
            .ok_or(BadLink::Malformed)?;
        // Constant time.
        self.mac(name, expires)
            .verify_slice(&signature)
            .map_err(|_| BadLink::Malformed)?;
        if now_ms >= expires {
            Err(BadLink::Expired)
        } else {
            Ok(digest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_good_for_ten_minutes_and_for_nothing_else() {
        let links = Links::new("secret", "cluster");
        let (request, ()) = http::Request::builder()
            .header(HOST, "h:1")
            .body(())
            .unwrap()
            .into_parts();
        let digest = Digest([9; 32]);
        let link = links.make(&request, &digest, 1_000);
        assert!(link.starts_with("http://h:1/_hearth/code/0909"));
        let uri: http::Uri = link.parse().unwrap();
        assert_eq!(links.check(&uri, 1_000), Ok(digest));
        assert_eq!(
            links.check(&uri, 1_000 + LIFETIME_MS),
            Err(BadLink::Expired)
        );
        let other: http::Uri = link.replace("0909", "0a09").parse().unwrap();
        assert_eq!(links.check(&other, 1_000), Err(BadLink::Malformed));
        assert_eq!(
            Links::new("other", "cluster").check(&uri, 1_000),
            Err(BadLink::Malformed)
        );
    }
}
