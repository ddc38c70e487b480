//! What a function's tags ask of its sandboxes. AWS has no such setting, and a tag passes through every tool unchanged.

use std::collections::BTreeMap;

/// Names who makes the sandboxes: `native`, or one of the worker's `[oci]` table.
const SANDBOX_TAG: &str = "hearth:sandbox";

/// `isolated`: loopback alone, whatever the worker gives others. `default`: what the worker gives.
const NETWORK_TAG: &str = "hearth:network";

/// Asked of the sandboxes that are made from now on; those that run stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Who makes them; `None`: whoever does by default.
    pub(crate) maker: Option<String>,
    /// No network but loopback.
    pub(crate) is_isolated: bool,
    /// A value that is none: what to tell who invokes.
    pub(crate) mistake: Option<String>,
}

impl Wishes {
    pub(crate) fn of(tags: &BTreeMap<String, String>) -> Self {
        let network = tags.get(NETWORK_TAG).map(String::as_str);
        Self {
            maker: tags.get(SANDBOX_TAG).cloned(),
            is_isolated: network == Some("isolated"),
            mistake: match network {
                None | Some("isolated" | "default") => None,
                Some(other) => Some(format!(
                    "the tag {NETWORK_TAG} is {other:?}; it may be isolated or default"
                )),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tags: &[(&str, &str)]) -> Wishes {
        let tags = tags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Wishes::of(&tags.collect())
    }

    #[test]
    fn other_tags_ask_for_nothing() {
        assert_eq!(of(&[("team", "isolated")]), Wishes::default());
        assert_eq!(of(&[("hearth:network", "default")]), Wishes::default());
    }

    #[test]
    fn tags_name_the_maker_and_take_the_network_away() {
        let wishes = of(&[("hearth:sandbox", "gvisor"), ("hearth:network", "isolated")]);
        assert_eq!(wishes.maker.as_deref(), Some("gvisor"));
        assert!(wishes.is_isolated && wishes.mistake.is_none());
    }

    #[test]
    fn a_mistyped_network_is_never_an_open_one_unnoticed() {
        let mistake = of(&[("hearth:network", "isolate")]).mistake.unwrap();
        assert!(mistake.contains("isolate"), "{mistake}");
    }
}
