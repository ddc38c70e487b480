//! Configuration files: TOML into a role's `Options` struct, with errors as one line, and the units used in them.
//!
//! Not here: the options themselves (each component has its own), and overrides by flags or environment (crate `hearth`).
//!
//! A role's struct carries `#[serde(deny_unknown_fields, default)]` and documents itself by [`DocumentedOptions`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a configuration was refused; Display is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file asked for.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, holds an unknown key or a value out of place.
    #[error("{}:{line}: {message}", path.display())]
    Parse {
        /// The file asked for.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong and what is allowed.
        message: String,
    },
}

/// A secret in a file of options; Debug does not show it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(none)" } else { "***" })
    }
}

/// Reads a TOML file into `T`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

/// Parses the text of a configuration file; `path` is for messages.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_text = text[line_start..].lines().next().unwrap_or_default();
        let key = line_text.split('=').next().unwrap_or_default().trim();
        let message = error.message().replace('\n', " ");
        ConfigError::Parse {
            path: path.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            message: if key.is_empty() || message.contains(key) {
                message
            } else {
                format!("`{key}`: {message}")
            },
        }
    })
}

/// Options with a commented sample which is tested against the struct (see [`assert_documented`]).
pub trait DocumentedOptions: Default + Serialize + DeserializeOwned {
    /// A TOML text that parses to the default; every key has a comment with its meaning, default and unit.
    /// A key without a default stands commented out.
    const SAMPLE: &'static str;
}

/// For tests: the sample parses to the default and names every field.
///
/// # Panics
/// When it does not.
pub fn assert_documented<T: DocumentedOptions>() {
    let parsed: T = parse(Path::new("sample"), T::SAMPLE).expect("the sample parses");
    let parsed = serde_json::to_value(&parsed).expect("options serialise");
    let default = serde_json::to_value(T::default()).expect("options serialise");
    assert_eq!(parsed, default, "the sample is not the default");
    assert_keys_occur(&default, T::SAMPLE);
}

fn assert_keys_occur(value: &serde_json::Value, sample: &str) {
    let Some(fields) = value.as_object() else {
        return;
    };
    for (key, value) in fields {
        assert!(sample.contains(key), "the sample does not name `{key}`");
        assert_keys_occur(value, sample);
    }
}

/// Why a duration or size was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}; write for example {example}")]
pub struct UnitError {
    text: String,
    what: &'static str,
    example: &'static str,
}

/// A duration as `"100ms"`, `"30s"`, `"5m"`, `"2h"` or `"1d"`, to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HumanDuration(pub Duration);

/// Longest unit first: Display takes the first that divides the value.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// A number of bytes as `"512MiB"`, `"64KiB"`, `"2GiB"` or `"100B"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HumanSize(pub u64);

/// Largest unit first: Display takes the first that divides the value.
const SIZE_UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

fn parse_with_units(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn format_with_units(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (name, factor) = units
        .iter()
        .find(|(_, factor)| value != 0 && value.is_multiple_of(*factor))
        .unwrap_or(&units[units.len() - 1]);
    write!(f, "{}{name}", value / factor)
}

impl HumanDuration {
    /// Whole milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// Whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// In milliseconds, rounded down.
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl HumanSize {
    /// Whole mebibytes.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// In bytes; saturates on a 32-bit machine.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl From<HumanDuration> for Duration {
    fn from(value: HumanDuration) -> Self {
        value.0
    }
}

impl FromStr for HumanDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_with_units(text, &DURATION_UNITS)
            .map(Self::from_millis)
            .ok_or_else(|| UnitError {
                text: text.to_owned(),
                what: "duration",
                example: "\"30s\" or \"100ms\"",
            })
    }
}

impl FromStr for HumanSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_with_units(text, &SIZE_UNITS)
            .map(Self)
            .ok_or_else(|| UnitError {
                text: text.to_owned(),
                what: "size",
                example: "\"512MiB\" or \"64KiB\"",
            })
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_with_units(self.as_millis(), &DURATION_UNITS, f)
    }
}

impl fmt::Display for HumanSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_with_units(self.0, &SIZE_UNITS, f)
    }
}

macro_rules! serde_as_string {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

serde_as_string!(HumanDuration);
serde_as_string!(HumanSize);

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        wait: HumanDuration,
        cache: HumanSize,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self {
                wait: HumanDuration::from_secs(30),
                cache: HumanSize::from_mib(512),
            }
        }
    }

    impl DocumentedOptions for Sample {
        const SAMPLE: &'static str = "# wait\nwait = \"30s\"\n# size\ncache = \"512MiB\"\n";
    }

    fn refusal(text: &str) -> String {
        parse::<Sample>(Path::new("node.toml"), text)
            .expect_err("refused")
            .to_string()
    }

    #[test]
    fn units_read_and_print_alike() {
        for text in ["100ms", "30s", "5m", "2h", "1d", "0ms", "1500ms"] {
            assert_eq!(text.parse::<HumanDuration>().unwrap().to_string(), text);
        }
        for text in ["512MiB", "64KiB", "2GiB", "100B", "0B"] {
            assert_eq!(text.parse::<HumanSize>().unwrap().to_string(), text);
        }
        for text in ["", "5", "s", "-1s", "1.5s", "99999999999999999999s", "1x"] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn sample_is_checked_against_the_struct() {
        assert_documented::<Sample>();
    }

    #[test]
    fn refusals_are_one_line_with_place_key_and_what_is_allowed() {
        assert_eq!(
            refusal("wait = \"1s\"\nwiat = \"2s\"\n"),
            "node.toml:2: unknown field `wiat`, expected `wait` or `cache`"
        );
        assert_eq!(
            refusal("\nwait = \"soon\"\n"),
            "node.toml:2: `wait`: `soon` is not a duration; write for example \"30s\" or \"100ms\""
        );
        assert!(!refusal("wait = = 1").contains('\n'));
    }

    #[test]
    fn missing_file_is_named() {
        let error = load::<Sample>(Path::new("/nonexistent/a.toml")).expect_err("refused");
        assert!(error.to_string().contains("/nonexistent/a.toml"));
    }
}
