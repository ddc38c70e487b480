//! The scalar types of the wire that Rust has no type for.

use std::fmt;
use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;

/// Bytes that travel as base64 text inside JSON.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Blob(pub Bytes);

impl Deref for Blob {
    type Target = Bytes;
    fn deref(&self) -> &Bytes {
        &self.0
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Blob;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("base64 text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Blob, E> {
                STANDARD.decode(text).map(Blob::from).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A point in time; in a body, seconds since 1970 (restJson1's default format).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub OffsetDateTime);

const MILLIS_PER_SECOND: f64 = 1_000.0;
const NANOS_PER_MILLI: i128 = 1_000_000;

impl Timestamp {
    /// From seconds since 1970, to the millisecond. None outside the years that `time` can hold.
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        // The cast saturates, and what saturates is outside the range of years.
        #[expect(clippy::cast_possible_truncation, reason = "saturates; checked below")]
        let millis = (seconds * MILLIS_PER_SECOND).round() as i64;
        let nanos = i128::from(millis) * NANOS_PER_MILLI;
        OffsetDateTime::from_unix_timestamp_nanos(nanos)
            .ok()
            .map(Self)
    }

    /// From milliseconds since 1970.
    pub fn from_unix_ms(at: u64) -> Option<Self> {
        let nanos = i128::from(at) * NANOS_PER_MILLI;
        OffsetDateTime::from_unix_timestamp_nanos(nanos)
            .ok()
            .map(Self)
    }

    fn millisecond_of_second(self) -> u16 {
        self.0.millisecond()
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let seconds = self.0.unix_timestamp();
        if self.millisecond_of_second() == 0 {
            return serializer.serialize_i64(seconds);
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "exact for 10^5 years around 1970"
        )]
        let whole = seconds as f64;
        serializer
            .serialize_f64(whole + f64::from(self.millisecond_of_second()) / MILLIS_PER_SECOND)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Self::from_seconds(seconds).ok_or_else(|| de::Error::custom("timestamp out of range"))
    }
}

/// Debug form of a sensitive member: whether it is there, not what it is.
pub(crate) struct Shown(pub(crate) bool);

impl fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0 { "Some(***)" } else { "None" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blob_round_trips_as_base64() {
        let blob = Blob::from(vec![0, 255, 7]);
        let json = serde_json::to_string(&blob).unwrap();
        assert_eq!(json, "\"AP8H\"");
        assert_eq!(serde_json::from_str::<Blob>(&json).unwrap(), blob);
        assert!(serde_json::from_str::<Blob>("\"*\"").is_err());
    }

    #[test]
    fn timestamp_is_seconds_with_a_fraction_only_when_there_is_one() {
        for (json, seconds) in [
            ("1700000000", 1_700_000_000.0),
            ("1700000000.25", 1_700_000_000.25),
        ] {
            let timestamp = Timestamp::from_seconds(seconds).unwrap();
            assert_eq!(serde_json::to_string(&timestamp).unwrap(), json);
            assert_eq!(serde_json::from_str::<Timestamp>(json).unwrap(), timestamp);
        }
        assert_eq!(Timestamp::from_seconds(1e300), None);
    }
}
