//! What an extension asks for with `PUT /2022-07-01/telemetry`, within AWS's ranges.

use serde::Deserialize;
use serde_json::Value;

/// "Valid values: 2025-01-29, 2022-12-13, or 2022-07-01" (Lambda Telemetry API reference).
const SCHEMAS: [&str; 3] = ["2022-07-01", "2022-12-13", "2025-01-29"];

/// Names of the sandbox itself, which is where all listeners are.
const HOSTS: [&str; 3] = ["sandbox.localdomain", "sandbox.local", "sandbox"];

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// What the platform does.
    Platform,
    /// What the function prints.
    Function,
    /// What extensions print.
    Extension,
}

impl Category {
    /// As a request and an event name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Function => "function",
            Self::Extension => "extension",
        }
    }

    /// As the log names it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Platform => "Platform",
            Self::Function => "Function",
            Self::Extension => "Extension",
        }
    }
}

/// When events are sent: at whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffering {
    /// So many events are there.
    pub max_items: usize,
    /// So many bytes of them.
    pub max_bytes: usize,
    /// The oldest waits for so long, milliseconds.
    pub timeout_ms: u64,
}

impl Default for Buffering {
    fn default() -> Self {
        Self {
            max_items: 1_000,
            max_bytes: 256 * 1024,
            timeout_ms: 1_000,
        }
    }
}

/// Where events are sent, on the sandbox's loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Each batch is a POST with a JSON array.
    Http {
        /// Of the listener.
        port: u16,
        /// Path and query.
        path: String,
    },
    /// Each event is a line of JSON.
    Tcp {
        /// Of the listener.
        port: u16,
    },
}

impl Destination {
    /// Of the listener.
    pub fn port(&self) -> u16 {
        match self {
            Self::Http { port, .. } | Self::Tcp { port } => *port,
        }
    }
}

/// A checked subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// In the order asked for, each once.
    pub categories: Vec<Category>,
    /// When.
    pub buffering: Buffering,
    /// Where to.
    pub destination: Destination,
}

/// What is wrong with a subscription; AWS answers 400 and the type `ValidationError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubscription {
    /// Not an object of JSON.
    #[error("Failed to parse the request body as JSON")]
    NotJson,
    /// A member is missing, or of the wrong type or value.
    #[error("Validation error: {member} {rule}")]
    Member {
        /// Its path.
        member: &'static str,
        /// What it must be.
        rule: String,
    },
}

fn wrong(member: &'static str, rule: impl Into<String>) -> InvalidSubscription {
    let rule = rule.into();
    InvalidSubscription::Member { member, rule }
}

/// Reads the body of a request.
pub fn parse(body: &[u8]) -> Result<Subscription, InvalidSubscription> {
    let Ok(Value::Object(request)) = serde_json::from_slice(body) else {
        return Err(InvalidSubscription::NotJson);
    };
    let schema = request.get("schemaVersion").and_then(Value::as_str);
    if schema.is_none_or(|schema| !SCHEMAS.contains(&schema)) {
        return Err(wrong(
            "schemaVersion",
            format!("must be one of {SCHEMAS:?}"),
        ));
    }
    Ok(Subscription {
        categories: categories(request.get("types"))?,
        buffering: buffering(request.get("buffering"))?,
        destination: destination(request.get("destination"))?,
    })
}

fn categories(types: Option<&Value>) -> Result<Vec<Category>, InvalidSubscription> {
    let rule = "must be a list of at least one of platform, function, extension";
    let types = types
        .and_then(Value::as_array)
        .ok_or_else(|| wrong("types", rule))?;
    let mut categories = Vec::new();
    for name in types {
        let category = Category::deserialize(name).map_err(|_| wrong("types", rule))?;
        if !categories.contains(&category) {
            categories.push(category);
        }
    }
    if categories.is_empty() {
        return Err(wrong("types", rule));
    }
    Ok(categories)
}

fn buffering(given: Option<&Value>) -> Result<Buffering, InvalidSubscription> {
    let default = Buffering::default();
    let given = match given {
        None | Some(Value::Null) => return Ok(default),
        Some(Value::Object(given)) => given,
        Some(_) => return Err(wrong("buffering", "must be an object")),
    };
    let number = |member: &'static str, name: &str, default: u64, min: u64, max: u64| {
        let Some(value) = given.get(name) else {
            return Ok(default);
        };
        let number = value.as_u64().filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| wrong(member, format!("must be from {min} to {max}")))
    };
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let (items, bytes) = (default.max_items as u64, default.max_bytes as u64);
    Ok(Buffering {
        max_items: size(number(
            "buffering.maxItems",
            "maxItems",
            items,
            1_000,
            10_000,
        )?),
        max_bytes: size(number(
            "buffering.maxBytes",
            "maxBytes",
            bytes,
            262_144,
            1_048_576,
        )?),
        timeout_ms: number(
            "buffering.timeoutMs",
            "timeoutMs",
            default.timeout_ms,
            25,
            30_000,
        )?,
    })
}

fn destination(given: Option<&Value>) -> Result<Destination, InvalidSubscription> {
    let given = given.and_then(Value::as_object);
    let given = given.ok_or_else(|| wrong("destination", "must be an object"))?;
    match given.get("protocol").and_then(Value::as_str) {
        Some("HTTP") => {
            let uri = given.get("URI").and_then(Value::as_str).unwrap_or_default();
            http(uri)
                .ok_or_else(|| wrong("destination.URI", "must be http://sandbox.localdomain:PORT"))
        }
        Some("TCP") => {
            let port = given
                .get("port")
                .and_then(Value::as_u64)
                .and_then(|port| u16::try_from(port).ok());
            let port = port.filter(|port| *port > 0);
            let port = port.ok_or_else(|| wrong("destination.port", "must be from 1 to 65535"))?;
            Ok(Destination::Tcp { port })
        }
        _ => Err(wrong("destination.protocol", "must be HTTP or TCP")),
    }
}

fn http(uri: &str) -> Option<Destination> {
    let rest = uri.strip_prefix("http://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
    // What goes into a request line must not end it.
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
    (HOSTS.contains(&host) && is_plain).then(|| Destination::Http {
        port,
        path: if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request() -> Value {
        json!({
            "schemaVersion": "2022-12-13",
            "types": ["platform", "function", "platform"],
            "buffering": {"maxItems": 1_000, "maxBytes": 262_144, "timeoutMs": 25},
            "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:4243/in?x=1"},
        })
    }

    fn parsed(change: impl FnOnce(&mut Value)) -> Result<Subscription, String> {
        let mut request = request();
        change(&mut request);
        parse(request.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_aws_takes_is_taken() {
        let subscription = parsed(|_| {}).unwrap();
        assert_eq!(
            subscription.categories,
            [Category::Platform, Category::Function]
        );
        assert_eq!(subscription.buffering.timeout_ms, 25);
        let (port, path) = (4243, "/in?x=1".to_owned());
        assert_eq!(subscription.destination, Destination::Http { port, path });
        for schema in SCHEMAS {
            parsed(|r| r["schemaVersion"] = json!(schema)).unwrap();
        }
        let bare = parsed(|r| {
            r["destination"] = json!({"protocol": "TCP", "port": 9});
            r.as_object_mut().unwrap().remove("buffering");
        });
        let bare = bare.unwrap();
        assert_eq!(bare.destination, Destination::Tcp { port: 9 });
        assert_eq!(bare.buffering, Buffering::default());
        for uri in [
            "http://sandbox:80",
            "http://sandbox.local:80/",
            "http://sandbox.localdomain",
        ] {
            let taken = parsed(|r| r["destination"]["URI"] = json!(uri)).unwrap();
            let (port, path) = (80, "/".to_owned());
            assert_eq!(taken.destination, Destination::Http { port, path }, "{uri}");
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        for (member, value) in [
            ("/schemaVersion", json!("2021-03-18")),
            ("/types", json!([])),
            ("/types", json!(["logs"])),
            ("/buffering/maxItems", json!(999)),
            ("/buffering/maxItems", json!(10_001)),
            ("/buffering/maxBytes", json!(262_143)),
            ("/buffering/maxBytes", json!(1_048_577)),
            ("/buffering/timeoutMs", json!(24)),
            ("/buffering/timeoutMs", json!(30_001)),
            ("/buffering/timeoutMs", json!("25")),
            ("/destination/protocol", json!("UDP")),
            ("/destination/URI", json!("http://example.org:80")),
            ("/destination/URI", json!("https://sandbox.localdomain:80")),
            (
                "/destination/URI",
                json!("http://sandbox.localdomain:80/ HTTP/1.1\r\n"),
            ),
            ("/destination/URI", json!("http://sandbox.localdomain:0")),
        ] {
            let name = member.trim_start_matches('/').replace('/', ".");
            let error = parsed(|r| *r.pointer_mut(member).unwrap() = value.clone()).unwrap_err();
            assert!(error.contains(&name), "{member} = {value}: {error}");
        }
        assert_eq!(parse(b"[]"), Err(InvalidSubscription::NotJson));
    }
}
