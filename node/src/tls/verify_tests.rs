//! The verifier's table: what is believed, and each reason for which something is not.

use super::*;
use crate::tls::authority::Authority;
use crate::tls::credentials::Credentials;

const NOW: u64 = 1_700_000_000_000;
const HOUR: u64 = 3_600_000;

struct Cluster {
    ca: Authority,
    bundle: Bundle,
}

impl Cluster {
    fn new(id: &str) -> Self {
        let ca = Authority::generate(id, NOW - 10 * HOUR).unwrap();
        let bundle = Bundle::of(&[ca.certificate()]);
        Self { ca, bundle }
    }

    /// A certificate made at `at_ms` for an hour.
    fn issue(&self, cluster: &str, role: NodeRole, at_ms: u64) -> Credentials {
        let name = NodeName::new(cluster, role, 1).unwrap();
        let life = Duration::from_millis(HOUR);
        self.ca.issue(&self.bundle, &name, at_ms, life).unwrap()
    }

    fn verifier(&self, role: Option<NodeRole>) -> Verifier {
        verifier(Trust::Bundle(self.bundle.clone()), role)
    }
}

fn verifier(trust: Trust, role: Option<NodeRole>) -> Verifier {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Verifier::new(trust, "a", role, provider)
}

fn check(verifier: &Verifier, shown: &Credentials) -> Result<NodeName, Refusal> {
    let client = verifier.check(&shown.chain[0], &shown.chain[1..], false, NOW);
    let server = verifier.check(&shown.chain[0], &shown.chain[1..], true, NOW);
    assert_eq!(client, server, "both ways alike");
    client
}

#[test]
fn what_is_believed_and_what_is_not() {
    use NodeRole::{Controller, Gateway, Worker};
    let (own, other) = (Cluster::new("a"), Cluster::new("a"));
    let stranger = NodeName::new("b", Worker, 1).unwrap();
    let worker = NodeName::new("a", Worker, 1).unwrap();
    let table = [
        (own.issue("a", Worker, NOW), None, Ok(worker.clone())),
        (
            own.issue("a", Worker, NOW),
            Some(Worker),
            Ok(worker.clone()),
        ),
        (
            own.issue("a", Worker, NOW - 2 * HOUR),
            None,
            Err(Refusal::Expired(NOW - HOUR)),
        ),
        (
            own.issue("a", Worker, NOW + HOUR),
            None,
            Err(Refusal::NotYetValid(NOW + HOUR - 300_000)),
        ),
        (
            own.issue("b", Worker, NOW),
            None,
            Err(Refusal::OtherCluster {
                own: "a".into(),
                found: stranger,
            }),
        ),
        (
            own.issue("a", Worker, NOW),
            Some(Controller),
            Err(Refusal::WrongRole {
                wanted: Controller,
                found: worker,
            }),
        ),
        (
            other.issue("a", Gateway, NOW),
            None,
            Err(Refusal::UnknownCa),
        ),
    ];
    for (shown, role, wanted) in table {
        assert_eq!(check(&own.verifier(role), &shown), wanted, "{}", shown.name);
    }
}

#[test]
fn a_self_signed_certificate_is_refused() {
    let own = Cluster::new("a");
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    let uri = "hearth://a/controller/1".try_into().unwrap();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    let certificate = params.self_signed(&key).unwrap();
    let refused = own.verifier(None).check(certificate.der(), &[], false, NOW);
    assert_eq!(refused, Err(Refusal::UnknownCa));
    // A CA's own certificate is no node's, though it is trusted.
    let ca = own.ca.certificate();
    assert!(own.verifier(None).check(ca, &[], false, NOW).is_err());
}

#[test]
fn a_certificate_with_two_names_or_none_is_refused() {
    let own = Cluster::new("a");
    let issuer_key = rcgen::KeyPair::from_pem(own.ca.key_pem().text()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(own.ca.certificate(), issuer_key).unwrap();
    for uris in [
        vec![],
        vec!["https://example.com"],
        vec!["hearth://a/worker/1", "hearth://a/controller/1"],
        vec!["hearth://a/king/1"],
    ] {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = uris
            .iter()
            .map(|uri| rcgen::SanType::URI((*uri).try_into().unwrap()))
            .collect();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let refused = own.verifier(None).check(certificate.der(), &[], false, NOW);
        assert!(
            matches!(refused, Err(Refusal::Nameless(_))),
            "{uris:?}: {refused:?}"
        );
    }
}

#[test]
fn a_bundle_of_two_cas_believes_both() {
    let (old, new) = (Cluster::new("a"), Cluster::new("a"));
    let both = Bundle::of(&[old.ca.certificate(), new.ca.certificate()]);
    let verifier = verifier(Trust::Bundle(both), None);
    for cluster in [&old, &new] {
        check(&verifier, &cluster.issue("a", NodeRole::Worker, NOW)).unwrap();
    }
}

#[test]
fn a_pin_believes_the_ca_of_that_hash_alone() {
    let (own, other) = (Cluster::new("a"), Cluster::new("a"));
    let pinned = verifier(
        Trust::Pinned(own.ca.fingerprint()),
        Some(NodeRole::Controller),
    );
    let shown = own.issue("a", NodeRole::Controller, NOW);
    check(&pinned, &shown).unwrap();
    let foreign = other.issue("a", NodeRole::Controller, NOW);
    assert_eq!(check(&pinned, &foreign), Err(Refusal::UnknownCa));
    // The right CA's certificate shown beside a foreign one changes nothing.
    let mut mixed = foreign;
    mixed.chain.push(own.ca.certificate().clone());
    assert_eq!(check(&pinned, &mixed), Err(Refusal::UnknownCa));
    let hidden = pinned.check(&shown.chain[0], &[], true, NOW);
    assert_eq!(hidden, Err(Refusal::UnknownCa));
}
