//! Conversions between messages and `core`. Documents travel as JSON of the `core` type (docs/adr/0002).

use hearth_core::control::{ControlReply, ControlRequest};
use hearth_core::error::{Error, ErrorCode, Result};
use hearth_core::function::Function;
use hearth_core::ids::{PoolKey, VersionKey};

use crate::internal::v1 as pb;

/// A message that does not mean what it must.
#[derive(Debug, thiserror::Error)]
#[error("malformed {what}")]
pub struct ConvertError {
    what: &'static str,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ConvertError {
    fn new(
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            what,
            source: Some(source.into()),
        }
    }
    fn absent(what: &'static str) -> Self {
        Self { what, source: None }
    }
}

fn encode<T: serde::Serialize>(value: &T) -> bytes::Bytes {
    serde_json::to_vec(value)
        .expect("core types have string keys and no failing serializers")
        .into()
}

/// A request as it travels.
pub fn encode_request(request: &ControlRequest) -> pb::ControlCall {
    pb::ControlCall {
        request: encode(request),
        ..pb::ControlCall::default()
    }
}

/// A request as it came.
pub fn decode_request(call: &pb::ControlCall) -> Result<ControlRequest, ConvertError> {
    serde_json::from_slice(&call.request).map_err(|e| ConvertError::new("control request", e))
}

/// An answer as it travels.
pub fn encode_answer(answer: &Result<ControlReply>) -> pb::ControlAnswer {
    let result = match answer {
        Ok(reply) => pb::control_answer::Result::Reply(encode(reply)),
        Err(error) => pb::control_answer::Result::Error(encode(error)),
    };
    pb::ControlAnswer {
        result: Some(result),
        ..pb::ControlAnswer::default()
    }
}

/// An answer as it came; one that cannot be read is an internal error.
pub fn decode_answer(answer: &pb::ControlAnswer) -> Result<ControlReply> {
    let unreadable = |e: &dyn std::fmt::Display| {
        Error::new(
            ErrorCode::Internal,
            format!("unreadable answer of a controller: {e}"),
        )
    };
    match &answer.result {
        Some(pb::control_answer::Result::Reply(bytes)) => {
            serde_json::from_slice(bytes).map_err(|e| unreadable(&e))
        }
        Some(pb::control_answer::Result::Error(bytes)) => {
            Err(serde_json::from_slice(bytes).unwrap_or_else(|e| unreadable(&e)))
        }
        None => Err(unreadable(&"empty")),
    }
}

/// A function document as it travels.
pub fn encode_function(function: &Function) -> bytes::Bytes {
    encode(function)
}

/// A function document as it came.
pub fn decode_function(bytes: &[u8]) -> Result<Function, ConvertError> {
    serde_json::from_slice(bytes).map_err(|e| ConvertError::new("function", e))
}

/// A provisioned pool is written `function:version`: a release that does not know of them reads no function's name in
/// it and leaves the message alone, where it would take another field's absence for the reserved pool.
impl From<&PoolKey> for pb::Pool {
    fn from(key: &PoolKey) -> Self {
        let function = match (&key.function, key.provisioned) {
            (Some(function), Some(version)) => format!("{function}:{version}"),
            (Some(function), None) => function.as_str().to_owned(),
            (None, _) => String::new(),
        };
        Self {
            account: key.account.as_str().to_owned(),
            function,
        }
    }
}

impl TryFrom<&pb::Pool> for PoolKey {
    type Error = ConvertError;
    fn try_from(pool: &pb::Pool) -> Result<Self, ConvertError> {
        let account = pool.account.parse();
        let account = account.map_err(|e| ConvertError::new("pool", e))?;
        let name = |name: &str| name.parse().map_err(|e| ConvertError::new("pool", e));
        Ok(match pool.function.split_once(':') {
            None if pool.function.is_empty() => Self::unreserved(&account),
            None => Self::reserved(&account, &name(&pool.function)?),
            Some((function, version)) => {
                let version = version.parse().map_err(|e| ConvertError::new("pool", e))?;
                Self::provisioned(&account, &name(function)?, version)
            }
        })
    }
}

/// A pool that must be there.
pub fn required_pool(pool: Option<&pb::Pool>) -> Result<PoolKey, ConvertError> {
    pool.ok_or_else(|| ConvertError::absent("pool"))?.try_into()
}

impl From<&VersionKey> for pb::Version {
    fn from(key: &VersionKey) -> Self {
        Self {
            account: key.account.as_str().to_owned(),
            function: key.function.as_str().to_owned(),
            version: key.version.to_string(),
            generation: key.generation,
        }
    }
}

impl TryFrom<&pb::Version> for VersionKey {
    type Error = ConvertError;
    fn try_from(v: &pb::Version) -> Result<Self, ConvertError> {
        version_key(&v.account, &v.function, &v.version, v.generation)
    }
}

/// A version that must be there.
pub fn required_version(version: Option<&pb::Version>) -> Result<VersionKey, ConvertError> {
    version
        .ok_or_else(|| ConvertError::absent("version"))?
        .try_into()
}

/// A version's key from its parts as they travel.
pub fn version_key(
    account: &str,
    function: &str,
    version: &str,
    generation: u64,
) -> Result<VersionKey, ConvertError> {
    Ok(VersionKey {
        account: account
            .parse()
            .map_err(|e| ConvertError::new("version", e))?,
        function: function
            .parse()
            .map_err(|e| ConvertError::new("version", e))?,
        version: version
            .parse()
            .map_err(|e| ConvertError::new("version", e))?,
        generation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_pool_travels() {
        let (account, name) = ("123456789012".parse().unwrap(), "f".parse().unwrap());
        for pool in [
            PoolKey::unreserved(&account),
            PoolKey::reserved(&account, &name),
            PoolKey::provisioned(&account, &name, 7),
        ] {
            assert_eq!(PoolKey::try_from(&pb::Pool::from(&pool)).unwrap(), pool);
        }
        for function in ["f:", "f:x", ":7", "f:7:8"] {
            let pool = pb::Pool {
                account: account.as_str().to_owned(),
                function: function.to_owned(),
            };
            assert!(PoolKey::try_from(&pool).is_err(), "{function}");
        }
    }
}
