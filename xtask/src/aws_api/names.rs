//! From the model's names to Rust's.

use std::collections::BTreeMap;

use anyhow::ensure;

/// Words whose inner capitals do not start a new word.
const WORDS: [(&str, &str); 3] = [("GiB", "Gib"), ("VCpu", "Vcpu"), ("IPv", "Ipv")];
const KEYWORDS: [&str; 4] = ["type", "move", "match", "ref"];

/// `KMSKeyArn` -> `kms_key_arn`, `S3Bucket` -> `s3_bucket`; keywords get an underscore behind.
pub(crate) fn field(name: &str) -> String {
    let snake = snake(name);
    if KEYWORDS.contains(&snake.as_str()) {
        format!("{snake}_")
    } else {
        snake
    }
}

/// `FunctionName` -> `FUNCTION_NAME`.
pub(crate) fn constant(name: &str) -> String {
    snake(name).to_uppercase()
}

/// Fails when two of the names become one constant.
pub(crate) fn check_distinct<'a>(names: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for name in names {
        let other = seen.insert(constant(name), name);
        ensure!(
            other.is_none(),
            "{name} and {other:?} have the same Rust name"
        );
    }
    Ok(())
}

/// How most members of a service are written, which is serde's `rename_all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// `logGroupName`.
    Camel,
    /// `FunctionName`.
    Pascal,
}

impl Case {
    /// Serde's word for it.
    pub(crate) fn rule(self) -> &'static str {
        match self {
            Self::Camel => "camelCase",
            Self::Pascal => "PascalCase",
        }
    }

    /// The name that serde gives a field.
    pub(crate) fn of(self, field: &str) -> String {
        let mut out = String::new();
        let mut capital = self == Self::Pascal;
        for c in field.chars() {
            if c == '_' {
                capital = true;
            } else if capital {
                out.push(c.to_ascii_uppercase());
                capital = false;
            } else {
                out.push(c);
            }
        }
        out
    }
}

pub(crate) fn snake(name: &str) -> String {
    let mut name = name.to_owned();
    for (from, to) in WORDS {
        name = name.replace(from, to);
    }
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, &c) in chars.iter().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            let before = chars[i - 1];
            let after = chars.get(i + 1).copied().unwrap_or('_');
            let starts_word = before.is_ascii_lowercase()
                || before.is_ascii_digit()
                || (before.is_ascii_uppercase() && after.is_ascii_lowercase());
            if starts_word {
                out.push('_');
            }
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names with capitals in a row or digits, which a naive splitter gets wrong.
    #[test]
    fn names_become_readable_snake_case() {
        for (name, expected) in [
            ("KMSKeyArn", "kms_key_arn"),
            ("SourceKMSKeyArn", "source_kms_key_arn"),
            ("S3ObjectVersion", "s3_object_version"),
            ("CodeSha256", "code_sha256"),
            ("EC2ErrorCode", "ec2_error_code"),
            (
                "ExecutionEnvironmentMemoryGiBPerVCpu",
                "execution_environment_memory_gib_per_vcpu",
            ),
            ("UUID", "uuid"),
            ("PrincipalOrgID", "principal_org_id"),
            ("Type", "type_"),
        ] {
            assert_eq!(field(name), expected);
        }
    }

    #[test]
    fn a_field_s_name_is_spelled_as_serde_does() {
        assert_eq!(Case::Pascal.of("s3_bucket"), "S3Bucket");
        assert_eq!(Case::Camel.of("log_group_name"), "logGroupName");
        assert_eq!(Case::Camel.of("arn"), "arn");
    }
}
