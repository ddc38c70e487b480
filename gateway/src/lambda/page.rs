//! Lists that a gateway cuts into pages itself: what belongs to one function comes from the controllers whole. A marker
//! is the last item's key in base64.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hearth_aws_api::ApiError;
use hearth_core::limits::LIST_DEFAULT;

/// The key in a marker.
pub(super) fn from_marker(marker: &str) -> Result<String, ApiError> {
    URL_SAFE_NO_PAD
        .decode(marker)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| ApiError::invalid_parameter_value(format!("Invalid marker: {marker}")))
}

/// The marker of a key.
pub(super) fn marker(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// Items of a page: "a maximum of 50 items in each response, even if you set the number higher."
pub(super) fn size(asked: Option<i32>) -> usize {
    let asked = asked.and_then(|n| usize::try_from(n).ok());
    asked.unwrap_or(LIST_DEFAULT).clamp(1, LIST_DEFAULT)
}

/// What comes after the key of a marker, in the order of the map.
pub(super) fn after<'a, K: std::fmt::Display + Ord + std::str::FromStr + 'a, V: 'a>(
    items: impl Iterator<Item = (&'a K, &'a V)>,
    after: Option<&str>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    let after: Option<K> = after.and_then(|text| text.parse().ok());
    items.filter(move |(key, _)| after.as_ref().is_none_or(|after| *key > after))
}

/// At most `size` of the items, and the marker for the rest.
pub(super) fn cut<T>(
    items: impl Iterator<Item = (String, T)>,
    size: usize,
) -> (Vec<T>, Option<String>) {
    let mut page = Vec::new();
    let mut last = None;
    for (key, item) in items {
        if page.len() == size {
            return (page, last);
        }
        last = Some(marker(&key));
        page.push(item);
    }
    (page, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(from: u32) -> impl Iterator<Item = (String, u32)> {
        (from..5).map(|n| (n.to_string(), n))
    }

    #[test]
    fn pages_follow_each_other_and_the_last_has_no_marker() {
        let (first, marker) = cut(items(0), 3);
        assert_eq!(first, [0, 1, 2]);
        let last: u32 = from_marker(&marker.unwrap()).unwrap().parse().unwrap();
        assert_eq!(cut(items(last + 1), 3), (vec![3, 4], None));
        assert_eq!(cut(items(0), 5).1, None);
        assert!(from_marker("%%%").is_err());
    }
}
