//! Everything an operator may set for a gateway, with defaults and units. What the options do is in their users.

use std::net::SocketAddr;

use hearth_core::limits::EVENT_RETRY_DELAY_MS;
use hearth_node::config::{DocumentedOptions, HumanDuration, HumanSize, Secret};
use hearth_node::telemetry::TelemetryOptions;
use hearth_node::tls::TlsOptions;
use hearth_registry::{RegistryOptions, RegistryOptionsError};
use hearth_services::{ServicesOptions, ServicesOptionsError};
use serde::{Deserialize, Serialize};

/// How callers prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// AWS's signatures; gRPC clients send the same credentials as `authorization: Basic`.
    #[default]
    Sigv4,
    /// Any credentials, none checked: for development on loopback.
    Any,
}

/// What a gateway does about IAM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IamOptions {
    /// What secrets of access keys are sealed with; the same at all gateways. Empty: the root credentials' secret.
    pub key: Secret,
    /// What session tokens are sealed with; the same at all gateways and controllers. Empty: one made of `key`.
    pub session_key: Secret,
    /// Keys before that one: what they sealed still opens.
    pub old_keys: Vec<Secret>,
    /// Functions are made only with roles that there are and that trust Lambda.
    pub enforce_roles: bool,
}

/// Event invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventOptions {
    /// Wait before the first retry after a function error; before the second it is twice that. AWS's is a minute.
    pub retry_base_delay: HumanDuration,
    /// Events that this gateway runs at a time.
    pub max_in_flight: u32,
}

impl Default for EventOptions {
    fn default() -> Self {
        Self {
            retry_base_delay: HumanDuration::from_millis(EVENT_RETRY_DELAY_MS),
            max_in_flight: 1_000,
        }
    }
}

/// Options of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// This node's number, unique in the cluster.
    pub node_id: u64,
    /// The cluster this gateway belongs to; other clusters' nodes refuse it. Empty: whichever answers.
    pub cluster_id: String,
    /// Where AWS clients and gRPC clients connect.
    pub listen: SocketAddr,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub admin_listen: SocketAddr,
    /// `host:port` of the controllers.
    pub controllers: Vec<String>,
    /// The region this cluster answers for.
    pub region: String,
    /// The account of the root credentials, 12 digits.
    pub account_id: String,
    /// How callers prove who they are.
    pub auth: Auth,
    /// Root access key of the account.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Secret,
    /// What addresses of functions (`<id>.lambda-url.<region>.<url_domain>`) end with. Empty: they are paths of the gateway.
    pub url_domain: String,
    /// Whether requests at URLs need `lambda:InvokeFunction` as well as `lambda:InvokeFunctionUrl`.
    pub url_needs_invoke: bool,
    /// Longest time for a request's head.
    pub header_timeout: HumanDuration,
    /// Longest silence within a request's body.
    pub body_idle_timeout: HumanDuration,
    /// Longest time for a whole body.
    pub body_timeout: HumanDuration,
    /// Longest time an invocation waits for a sandbox.
    pub queue_timeout: HumanDuration,
    /// Longest time for a metadata operation, retries at other controllers included.
    pub control_timeout: HumanDuration,
    /// Time that clients and load balancers have to go elsewhere at a shutdown, before the port is closed. Not used up
    /// when nobody is connected.
    pub drain_grace: HumanDuration,
    /// Time that requests in flight have to end at a shutdown, after that.
    pub shutdown_timeout: HumanDuration,
    /// Requests in flight; more are refused.
    pub max_requests: u32,
    /// Connections; more wait in the kernel's queue.
    pub max_connections: u32,
    /// Bytes of request bodies held at once; requests beyond are refused.
    pub max_body_memory: HumanSize,
    /// IAM and STS.
    pub iam: IamOptions,
    /// Event invocations.
    pub events: EventOptions,
    /// Services around the cluster: destinations and dead-letter queues.
    pub endpoints: ServicesOptions,
    /// Where container images come from.
    pub registries: RegistryOptions,
    /// Who this gateway proves to be to other nodes, and whom it believes. Not for its clients.
    pub tls: TlsOptions,
    /// Logs and traces.
    pub telemetry: TelemetryOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node_id: 201,
            cluster_id: String::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 9100)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 9101)),
            controllers: vec!["127.0.0.1:9110".to_owned()],
            region: "us-east-1".to_owned(),
            account_id: "000000000000".to_owned(),
            auth: Auth::Sigv4,
            access_key_id: String::new(),
            secret_access_key: Secret::default(),
            url_domain: String::new(),
            url_needs_invoke: false,
            header_timeout: HumanDuration::from_secs(10),
            body_idle_timeout: HumanDuration::from_secs(10),
            body_timeout: HumanDuration::from_secs(120),
            queue_timeout: HumanDuration::from_secs(30),
            control_timeout: HumanDuration::from_secs(10),
            drain_grace: HumanDuration::from_secs(5),
            shutdown_timeout: HumanDuration::from_secs(30),
            max_requests: 10_000,
            max_connections: 10_000,
            max_body_memory: HumanSize::from_mib(1_024),
            iam: IamOptions::default(),
            events: EventOptions::default(),
            endpoints: ServicesOptions::default(),
            registries: RegistryOptions::default(),
            tls: TlsOptions::default(),
            telemetry: TelemetryOptions::default(),
        }
    }
}

impl DocumentedOptions for Options {
    const SAMPLE: &'static str = SAMPLE;
}

const SAMPLE: &str = concat!(
    r#"# This node's number, unique in the cluster. Default 201.
node_id = 201
# The cluster this gateway belongs to; other clusters' nodes refuse it. Default "": whichever answers.
cluster_id = ""
# Where AWS clients and gRPC clients connect. Default 127.0.0.1:9100; port 0 picks a free one.
listen = "127.0.0.1:9100"
# Where /metrics, /healthz and /readyz are served, without authentication. Default 127.0.0.1:9101.
admin_listen = "127.0.0.1:9101"
# host:port of the controllers. Default one on this machine.
controllers = ["127.0.0.1:9110"]
# The region this cluster answers for. Default us-east-1.
region = "us-east-1"
# The account of the root credentials, 12 digits. Default 000000000000.
account_id = "000000000000"
# "sigv4" checks AWS's signatures. "any" accepts everyone: only on loopback, for development. Default sigv4.
auth = "sigv4"
# Root credentials of the account; needed with sigv4. No default.
access_key_id = ""
secret_access_key = ""
# What addresses of functions (<id>.lambda-url.<region>.<url_domain>) end with. Default "": they are paths of the gateway.
url_domain = ""
# Whether policies have to allow requests at URLs of functions both lambda:InvokeFunctionUrl and lambda:InvokeFunction, as AWS demands of
# URLs made since October 2025; else the first is enough. Default false.
url_needs_invoke = false
# Longest time for a request's head. Default 10s.
header_timeout = "10s"
# Longest silence within a request's body. Default 10s.
body_idle_timeout = "10s"
# Longest time for a whole body. Default 2m.
body_timeout = "2m"
# Longest time an invocation waits for a sandbox. Default 30s.
queue_timeout = "30s"
# Longest time for a metadata operation, retries at other controllers included. Default 10s.
control_timeout = "10s"
# Time that clients and load balancers have to go elsewhere at a shutdown, before the port is closed; /readyz says no
# from its begin on. Not used up when nobody is connected. Default 5s.
drain_grace = "5s"
# Time that requests in flight have to end at a shutdown, after that. Default 30s.
shutdown_timeout = "30s"
# Requests in flight; more are refused. Default 10000 requests.
max_requests = 10000
# Connections; more wait in the kernel's queue. Default 10000 connections.
max_connections = 10000
# Bytes of request bodies held at once; requests beyond are refused. Default 1GiB.
max_body_memory = "1GiB"

[iam]
# What secrets of access keys are sealed with; the same at all gateways. Default "": the root credentials' secret.
key = ""
# What session tokens are sealed with; the same at all gateways and controllers. Default "": one made of key.
session_key = ""
# Keys before that one: what they sealed still opens. Default none.
old_keys = []
# Functions are made only with roles that there are and that trust Lambda. Default false: with any role.
enforce_roles = false

[events]
# Wait before the first retry of an event after a function error; before the second it is twice that. Default 1m, as AWS's.
retry_base_delay = "1m"
# Events that this gateway runs at a time; more wait in the event log. Default 1000 events.
max_in_flight = 1000

"#,
    hearth_services::endpoints_sample!(),
    r#"
# Container registries, where references to images are resolved; the same on workers, which pull.
[registries]
"#,
    hearth_registry::registries_sample!(),
    r#"
# TLS to controllers and workers; clients of the gateway are not concerned. A gateway without a data directory needs dir, or ca, cert and key.
[tls]
"#,
    hearth_node::tls_sample!(),
    r#"
[telemetry]
# Shape of the log lines on standard error: "auto" (pretty on a terminal, else json), "json" or "pretty". Default auto.
log_format = "auto"
# What is logged and traced, in tracing's filter syntax. Default info.
log_filter = "info"
# Address of an OTLP/gRPC collector for traces. Default none: nothing is exported.
# otlp_endpoint = "http://127.0.0.1:4317"
# service.instance.id of the traces. Default: the node's id.
# service_instance = "gateway-201"
"#
);

/// Options that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// No controller is named.
    #[error("controllers is empty: name at least one host:port")]
    NoControllers,
    /// The account is not one.
    #[error("account_id {0:?} must be 12 digits")]
    Account(String),
    /// A service around the cluster.
    #[error("endpoints")]
    Endpoints(#[source] ServicesOptionsError),
    /// Signatures cannot be checked without a secret.
    #[error("auth = \"sigv4\" needs access_key_id and secret_access_key")]
    NoCredentials,
    /// Everyone would be let in from the network.
    #[error("auth = \"any\" accepts everyone and is refused on {0}: listen on a loopback address")]
    AnyOnNetwork(SocketAddr),
    /// A limit of zero lets nothing through.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// A registry that is none.
    #[error(transparent)]
    Registries(RegistryOptionsError),
}

impl Options {
    /// Checks once, at start.
    pub fn validate(&self) -> Result<(), OptionsError> {
        if self.controllers.is_empty() {
            return Err(OptionsError::NoControllers);
        }
        if self
            .account_id
            .parse::<hearth_core::ids::AccountId>()
            .is_err()
        {
            return Err(OptionsError::Account(self.account_id.clone()));
        }
        for (name, value) in [
            ("max_requests", self.max_requests),
            ("max_connections", self.max_connections),
        ] {
            if value == 0 {
                return Err(OptionsError::Zero(name));
            }
        }
        if self.events.max_in_flight == 0 {
            return Err(OptionsError::Zero("events.max_in_flight"));
        }
        self.endpoints.validate().map_err(OptionsError::Endpoints)?;
        self.registries
            .validate()
            .map_err(OptionsError::Registries)?;
        match self.auth {
            Auth::Any if !self.listen.ip().is_loopback() => {
                Err(OptionsError::AnyOnNetwork(self.listen))
            }
            Auth::Sigv4 if self.access_key_id.is_empty() || self.secret_access_key.0.is_empty() => {
                Err(OptionsError::NoCredentials)
            }
            Auth::Any | Auth::Sigv4 => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_is_the_default_and_names_every_option() {
        hearth_node::config::assert_documented::<Options>();
    }

    #[test]
    fn unsafe_or_useless_options_are_refused() {
        let ok = Options {
            auth: Auth::Any,
            ..Options::default()
        };
        assert_eq!(ok.validate(), Ok(()));
        assert_eq!(
            Options::default().validate(),
            Err(OptionsError::NoCredentials)
        );
        let open: SocketAddr = "0.0.0.0:9100".parse().unwrap();
        let any = Options {
            listen: open,
            ..ok.clone()
        };
        assert_eq!(any.validate(), Err(OptionsError::AnyOnNetwork(open)));
        let alone = Options {
            controllers: vec![],
            ..ok.clone()
        };
        assert_eq!(alone.validate(), Err(OptionsError::NoControllers));
        let account = Options {
            account_id: "12".into(),
            ..ok
        };
        assert!(
            account
                .validate()
                .unwrap_err()
                .to_string()
                .contains("12 digits")
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let options = Options {
            secret_access_key: Secret("hush".into()),
            ..Options::default()
        };
        assert!(!format!("{options:?}").contains("hush"));
    }
}
