//! Logs and traces of a process: set up once, flushed at the end, carried between nodes as W3C trace context.
//!
//! Not here: metrics (`metrics.rs`), and the spans themselves.
//!
//! **Redaction rule for logs and spans.** Never record an event, a response, a function's environment, a secret key,
//! a signature, an `Authorization` header or a session token, not even shortened. Record ids, names, sizes, digests,
//! durations and error codes. What a function prints goes to its own log, not to this one.

use std::io::IsTerminal;
use std::str::FromStr;
use std::time::Duration;

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tracing::{Level, Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::config::DocumentedOptions;

/// Longest wait for the last spans to leave at shutdown, and for one export.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// Targets whose spans are exported: our crates. Those of the crates the exporter is built of would make the next.
const TRACED_TARGETS: &str = "hearth";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "json" => Ok(Self::Json),
            "pretty" => Ok(Self::Pretty),
            _ => Err(format!(
                "`{text}` is not a log format: auto, json or pretty"
            )),
        }
    }
}

/// What a process tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryOptions {
    /// Shape of the log lines on standard error: `auto`, `json` or `pretty`. Default `auto`.
    pub log_format: LogFormat,
    /// What is logged, in tracing's filter syntax. Default `info`. Traces do not depend on it.
    pub log_filter: String,
    /// Address of an OTLP/gRPC collector for traces, as `http://127.0.0.1:4317`. Default none: no export.
    pub otlp_endpoint: Option<String>,
    /// `service.instance.id` of the traces. Default none; the role fills in its node's id.
    pub service_instance: Option<String>,
}

impl Default for TelemetryOptions {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Auto,
            log_filter: "info".to_owned(),
            otlp_endpoint: None,
            service_instance: None,
        }
    }
}

impl DocumentedOptions for TelemetryOptions {
    const SAMPLE: &'static str = r#"# Shape of the log lines on standard error: "auto" (pretty on a terminal, else json), "json" or "pretty".
log_format = "auto"
# What is logged, in tracing's filter syntax, for example "info,hearth_worker=debug". Traces do not depend on it.
log_filter = "info"
# Address of an OTLP/gRPC collector for traces; without it nothing is exported.
# otlp_endpoint = "http://127.0.0.1:4317"
# service.instance.id of the traces; the role fills in its node's id when not set.
# service_instance = "worker-1"
"#;
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter's syntax is wrong.
    #[error("log_filter `{filter}` is not valid")]
    Filter {
        /// The text given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The exporter refused its endpoint.
    #[error("otlp_endpoint `{endpoint}` cannot be used")]
    Exporter {
        /// The text given.
        endpoint: String,
        /// What is wrong with it.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// [`init`] was called before.
    #[error("telemetry is set up already")]
    AlreadySet,
}

/// Keeps the exporter; dropping it flushes the last spans, waiting 3 s at most.
#[derive(Debug)]
#[must_use = "spans are flushed when the guard is dropped at the end of the process"]
pub struct TelemetryGuard {
    provider: Option<SdkTracerProvider>,
}

impl TelemetryGuard {
    /// Flushes without blocking the runtime; the end of `main` would do.
    pub async fn shutdown(self) {
        // A failed join means the flush panicked; there is nobody left to tell.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take() {
            // A collector that is away at the end must not fail the shutdown.
            let _ = provider.shutdown_with_timeout(EXPORT_TIMEOUT);
        }
    }
}

/// Sets up logs and traces for this process, once. With an endpoint it must be called inside a multi-threaded tokio
/// runtime: spans are batched in a bounded queue and sent by a thread of their own; a full queue drops spans rather
/// than wait. A span that neither the log's filter nor an exporter wants costs one atomic load.
pub fn init(role: &str, options: &TelemetryOptions) -> Result<TelemetryGuard, TelemetryError> {
    let provider = options
        .otlp_endpoint
        .as_deref()
        .map(|endpoint| exporter(role, endpoint, options))
        .transpose()?;
    let json = match options.log_format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    subscriber(options, json, provider.as_ref(), std::io::stderr)?
        .try_init()
        .map_err(|_| TelemetryError::AlreadySet)?;
    Ok(TelemetryGuard { provider })
}

fn exporter(
    role: &str,
    endpoint: &str,
    options: &TelemetryOptions,
) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|source| TelemetryError::Exporter {
            endpoint: endpoint.to_owned(),
            source,
        })?;
    let instance = options.service_instance.clone();
    let resource = Resource::builder()
        .with_service_name(format!("hearth-{role}"))
        .with_attributes(instance.map(|id| KeyValue::new("service.instance.id", id)))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}

/// Logs and traces have a filter each: phases of an invocation are spans of DEBUG, wanted by an exporter and not by a
/// log. What neither wants is never made.
fn subscriber<W>(
    options: &TelemetryOptions,
    json: bool,
    provider: Option<&SdkTracerProvider>,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + use<W>, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // The consensus library tells every step at INFO; whoever wants that names it in the filter.
    let filter = EnvFilter::builder()
        .parse(format!("openraft=warn,{}", options.log_filter))
        .map_err(|source| TelemetryError::Filter {
            filter: options.log_filter.clone(),
            source,
        })?;
    let traces = provider.map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("hearth"))
            .with_filter(filter_fn(is_traced).with_max_level_hint(LevelFilter::DEBUG))
    });
    Ok(Registry::default()
        .with(logs(json, writer).with_filter(filter))
        .with(traces))
}

fn is_traced(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with(TRACED_TARGETS) && *metadata.level() <= Level::DEBUG
}

fn logs<S, W>(json: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    if json {
        layer.json().flatten_event(true).boxed()
    } else {
        layer.with_ansi(std::io::stderr().is_terminal()).boxed()
    }
}

/// The span's place in its trace as a W3C `traceparent`; none when traces are off or the span is disabled.
pub fn traceparent(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| {
        let flags = span.trace_flags().to_u8();
        format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id())
    })
}

/// Makes `span` a child of the span a `traceparent` names; a malformed one is ignored, as W3C demands. To be called
/// before the span is entered.
pub fn set_parent(span: &Span, traceparent: &str) {
    if span.is_disabled() {
        return;
    }
    let context = remote_context(traceparent);
    if context.span().span_context().is_valid() {
        // Refused when the span has started or traces are off: the trace is split there, nothing else is lost.
        let _ = span.set_parent(context);
    }
}

fn remote_context(traceparent: &str) -> Context {
    struct One<'a>(&'a str);
    impl Extractor for One<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            (key == "traceparent").then_some(self.0)
        }

        fn keys(&self) -> Vec<&str> {
            vec!["traceparent"]
        }
    }
    TraceContextPropagator::new().extract_with_context(&Context::new(), &One(traceparent))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::assert_documented;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn with_filter(filter: &str) -> TelemetryOptions {
        TelemetryOptions {
            log_filter: filter.to_owned(),
            ..TelemetryOptions::default()
        }
    }

    #[test]
    fn options_are_documented() {
        assert_documented::<TelemetryOptions>();
    }

    #[test]
    fn logs_are_json_lines_and_filtered() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber =
            subscriber(&with_filter("warn"), true, None, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(attempt = 2, "event delivery failed");
            tracing::info!("not wanted");
            assert!(tracing::info_span!("quiet").is_disabled());
        });
        let text = buffer.text();
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["attempt"], 2);
        assert_eq!(line["message"], "event delivery failed");
    }

    #[test]
    fn trace_context_passes_from_node_to_node() {
        let provider = SdkTracerProvider::builder().build();
        let subscriber =
            subscriber(&with_filter("info"), true, Some(&provider), std::io::sink).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("invoke");
            set_parent(&span, PARENT);
            let sent = traceparent(&span).unwrap();
            assert!(sent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
            assert!(sent.ends_with("-01") && sent != PARENT, "{sent}");

            let root = tracing::info_span!("invoke");
            set_parent(&root, "nonsense");
            assert!(traceparent(&root).is_some());
            assert_eq!(traceparent(&tracing::trace_span!("off")), None);
        });
    }

    #[test]
    fn phases_are_traced_and_not_logged_and_cost_nothing_without_an_exporter() {
        let provider = SdkTracerProvider::builder().build();
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let traced = subscriber(&with_filter("info"), true, Some(&provider), move || {
            writer.clone()
        });
        tracing::subscriber::with_default(traced.unwrap(), || {
            let span = tracing::debug_span!("queue");
            assert!(traceparent(&span).is_some());
            span.in_scope(|| tracing::debug!("a detail"));
            let foreign = tracing::info_span!(target: "h2::codec", "frame");
            assert_eq!(traceparent(&foreign), None);
        });
        assert_eq!(buffer.text(), "");
        let untraced = subscriber(&with_filter("info"), true, None, std::io::sink).unwrap();
        tracing::subscriber::with_default(untraced, || {
            assert!(tracing::debug_span!("queue").is_disabled());
        });
    }

    #[test]
    fn without_a_tracer_there_is_no_context() {
        let subscriber = subscriber(&with_filter("info"), false, None, std::io::sink).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("invoke");
            set_parent(&span, PARENT);
            assert_eq!(traceparent(&span), None);
        });
    }

    #[test]
    fn a_bad_filter_is_named() {
        let options = with_filter("hearth=loud");
        let Err(error) = subscriber(&options, true, None, std::io::sink) else {
            panic!("accepted");
        };
        assert!(error.to_string().contains("hearth=loud"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_absent_collector_neither_blocks_nor_fails() {
        let endpoint = "http://127.0.0.1:1";
        let options = TelemetryOptions::default();
        let provider = exporter("worker", endpoint, &options).unwrap();
        let made = subscriber(&options, true, Some(&provider), std::io::sink).unwrap();
        tracing::subscriber::with_default(made, || drop(tracing::info_span!("invoke").entered()));
        let guard = TelemetryGuard {
            provider: Some(provider),
        };
        let ended = tokio::time::timeout(EXPORT_TIMEOUT * 4, guard.shutdown());
        ended.await.unwrap();
    }

    /// Answers every gRPC call with an empty message and hands over what was sent.
    async fn collector() -> (String, tokio::sync::mpsc::Receiver<bytes::Bytes>) {
        use http_body_util::{BodyExt, Full};
        use hyper_util::rt::{TokioExecutor, TokioIo};

        let listener = crate::listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (sender, received) = tokio::sync::mpsc::channel(8);
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = hyper::service::service_fn(move |request: http::Request<_>| {
                let sender = sender.clone();
                async move {
                    let body: hyper::body::Incoming = request.into_body();
                    let _ = sender.send(body.collect().await?.to_bytes()).await;
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    let empty = Full::new(bytes::Bytes::from_static(&[0; 5]))
                        .with_trailers(async { Some(Ok(trailers)) });
                    let response =
                        http::Response::builder().header("content-type", "application/grpc");
                    Ok::<_, hyper::Error>(response.body(empty).unwrap())
                }
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
        (endpoint, received)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn spans_reach_the_collector_by_the_end_of_shutdown() {
        let (endpoint, mut received) = collector().await;
        let options = TelemetryOptions {
            service_instance: Some("worker-7".to_owned()),
            ..TelemetryOptions::default()
        };
        let provider = exporter("worker", &endpoint, &options).unwrap();
        let made = subscriber(&options, true, Some(&provider), std::io::sink).unwrap();
        tracing::subscriber::with_default(made, || {
            drop(tracing::info_span!("phase_of_an_invocation").entered());
        });
        let guard = TelemetryGuard {
            provider: Some(provider),
        };
        guard.shutdown().await;
        let sent = received.try_recv().unwrap();
        let sent = String::from_utf8_lossy(&sent);
        for text in ["phase_of_an_invocation", "hearth-worker", "worker-7"] {
            assert!(sent.contains(text), "{text} was not exported");
        }
    }
}
