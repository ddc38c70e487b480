//! Pages of IAM's lists: at most `MaxItems`, and a marker, the last item's name in base64, for the rest.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hearth_aws_api::protocol::query::{QueryError, QueryErrorCode};
use hearth_core::limits::IAM_LIST_DEFAULT;

use super::Members;

/// Which page is asked for.
pub(super) struct Asked {
    /// Names after this one; empty for the first page.
    pub(super) after: String,
    /// At most so many.
    pub(super) size: usize,
}

impl Members {
    /// Which page is asked for.
    pub(super) fn page(&self) -> Result<Asked, QueryError> {
        page(self.optional("Marker"), self.number("MaxItems"))
    }
}

/// As [`Members::page`].
pub(super) fn page(marker: Option<String>, size: Option<i32>) -> Result<Asked, QueryError> {
    let after = marker.map(|marker| {
        let bytes = URL_SAFE_NO_PAD.decode(&marker).ok();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        text.ok_or_else(|| {
            let text = format!("Invalid Marker: {marker}");
            QueryError::new(QueryErrorCode::ValidationError, text)
        })
    });
    let size = size.and_then(|size| usize::try_from(size).ok());
    Ok(Asked {
        after: after.transpose()?.unwrap_or_default(),
        size: size.unwrap_or(IAM_LIST_DEFAULT).max(1),
    })
}

/// The marker of a name.
pub(super) fn marker(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(name)
}

impl Asked {
    /// The page of a list that is there whole, in the order of its names; and the marker for the rest.
    pub(super) fn cut<T>(
        &self,
        all: impl IntoIterator<Item = (String, T)>,
    ) -> (Vec<T>, Option<String>) {
        let mut found = Vec::new();
        let mut last = None;
        let rest = all.into_iter().filter(|(name, _)| *name > self.after);
        for (name, item) in rest {
            if found.len() == self.size {
                return (found, last);
            }
            last = Some(marker(&name));
            found.push(item);
        }
        (found, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let all = || ["a", "b", "c"].map(|name| (name.to_owned(), name));
        let first = page(None, Some(2)).unwrap();
        let (found, next) = first.cut(all());
        assert_eq!(found, ["a", "b"]);
        let second = page(next, Some(2)).unwrap();
        assert_eq!(second.cut(all()), (vec!["c"], None));
        assert_eq!(page(None, Some(3)).unwrap().cut(all()).1, None);
        assert_eq!(page(None, None).unwrap().size, 100);
        assert!(page(Some("%".into()), None).is_err());
    }
}
