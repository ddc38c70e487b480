//! Texts with asterisks: "Use the asterisk ("*") as a wild card to match text."

/// A text in which an asterisk stands for any text, none included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    first: String,
    /// What follows each asterisk; the last one ends the text.
    after: Vec<String>,
}

impl Glob {
    pub(super) fn new(text: &str) -> Self {
        let mut parts = text.split('*').map(str::to_owned);
        let first = parts.next().unwrap_or_default();
        let after = parts.collect();
        Self { first, after }
    }

    /// Whether all of a text is as this says. Each part is looked for once, behind the one before it.
    pub(super) fn matches(&self, text: &str) -> bool {
        let Some((last, middle)) = self.after.split_last() else {
            return text == self.first;
        };
        let Some(rest) = text.strip_prefix(self.first.as_str()) else {
            return false;
        };
        let Some(mut rest) = rest.strip_suffix(last.as_str()) else {
            return false;
        };
        for part in middle {
            let Some((_, behind)) = rest.split_once(part.as_str()) else {
                return false;
            };
            rest = behind;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asterisk_stands_for_any_text() {
        for (glob, matching, other) in [
            ("a", vec!["a"], vec!["", "aa", "ab"]),
            ("*", vec!["", "a", "**"], vec![]),
            ("4*", vec!["4", "404"], vec!["", "504"]),
            ("*.html*", vec![".html", "/index.html HTTP"], vec!["html"]),
            ("a*a", vec!["aa", "aba"], vec!["a", "ab"]),
            ("a*b**c", vec!["abc", "a-b-c", "abbc"], vec!["ac", "acb"]),
            ("", vec![""], vec!["a"]),
        ] {
            let is = Glob::new(glob);
            for text in matching {
                assert!(is.matches(text), "{glob} {text}");
            }
            for text in other {
                assert!(!is.matches(text), "{glob} {text}");
            }
        }
    }
}
