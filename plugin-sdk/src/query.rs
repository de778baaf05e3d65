//! Parameters of a query. For keys that keep, drop or sort parameters, a [`KeyPlan`](crate::KeyPlan) is faster than any code.

/// The parameters, percent-encoded as they came; one without `=` has an empty value. Empty pieces are none.
///
/// ```
/// use weir_plugin::query;
///
/// let all: Vec<_> = query::pairs("a=1&b&&c=x=y").collect();
/// assert_eq!(all, [("a", "1"), ("b", ""), ("c", "x=y")]);
/// ```
pub fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|piece| !piece.is_empty())
        .map(|piece| piece.split_once('=').unwrap_or((piece, "")))
}

/// The first value of a parameter.
///
/// ```
/// assert_eq!(weir_plugin::query::first("a=1&a=2", "a"), Some("1"));
/// ```
pub fn first<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    pairs(query).find(|(given, _)| *given == name).map(|(_, value)| value)
}
