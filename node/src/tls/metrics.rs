//! What `/metrics` tells of a node's TLS.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;

use super::Inner;

/// Asked at each scrape.
#[derive(Debug)]
pub(super) struct TlsCollector {
    tls: Arc<Inner>,
}

impl TlsCollector {
    pub(super) fn new(tls: Arc<Inner>) -> Self {
        Self { tls }
    }
}

impl Collector for TlsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let now = self.tls.now.load();
        let credentials = &now.credentials;
        let left = credentials.validity.seconds_left(self.tls.clock.unix_ms());
        let gauge = ConstGauge::new(left);
        let metric = encoder.encode_descriptor(
            "tls_certificate_seconds_left",
            "Seconds until this node's certificate expires; negative when it has",
            None,
            gauge.metric_type(),
        )?;
        gauge.encode(metric)?;
        let trusted = credentials.bundle.fingerprints().join(",");
        let info = Info::new(vec![
            ("issuer", credentials.issuer.clone()),
            ("trusted", trusted),
        ]);
        let metric = encoder.encode_descriptor(
            "tls_ca",
            "SHA-256 of the CA that signed this node's certificate, and of those it trusts",
            None,
            info.metric_type(),
        )?;
        info.encode(metric)
    }
}
