//! Path templates such as `/api/posts/{id}`, and rules such as `PUT|DELETE /api/posts/{id}`, in the words of Weir's configuration.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{self, Deserializer};

/// A path with holes: `{name}` is one segment, `*` likewise without a name, `**` at the end any number of segments, also none.
///
/// ```
/// use weir_plugin::path::Template;
///
/// let template: Template = "/api/posts/{id}/**".parse().unwrap();
/// assert_eq!(template.matches("/api/posts/7/comments").unwrap().get("id"), Some("7"));
/// assert!(template.matches("/api/posts/7").is_some());
/// assert!(template.matches("/api/posts").is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    segments: Vec<Segment>,
    rest: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Named(String),
    Any,
}

/// What a template bound: names and segments, percent-encoded as they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bindings<'t>(Vec<(&'t str, &'t str)>);

impl<'t> Bindings<'t> {
    /// What this name stands for.
    pub fn get(&self, name: &str) -> Option<&'t str> {
        self.0.iter().find(|(bound, _)| *bound == name).map(|(_, value)| *value)
    }
}

impl Template {
    /// What the path binds; `None` where it does not match. A slash at the end counts only where the template ends with one.
    pub fn matches<'t>(&'t self, path: &'t str) -> Option<Bindings<'t>> {
        let mut bindings = Bindings::default();
        let mut rest = path.strip_prefix('/')?.split('/');
        for segment in &self.segments {
            let given = rest.next()?;
            match segment {
                Segment::Literal(literal) if literal == given => {}
                Segment::Literal(_) => return None,
                Segment::Named(_) | Segment::Any if given.is_empty() => return None,
                Segment::Named(name) => bindings.0.push((name, given)),
                Segment::Any => {}
            }
        }
        (self.rest || rest.next().is_none()).then_some(bindings)
    }

    /// The names it binds.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Named(name) => Some(name.as_str()),
            Segment::Literal(_) | Segment::Any => None,
        })
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err(format!("`{text}` is not a path: it begins with `/`"));
        };
        let mut pieces: Vec<_> = path.split('/').collect();
        let rest = pieces.last() == Some(&"**");
        if rest {
            pieces.pop();
        }
        let mut segments = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let named = piece.strip_prefix('{').and_then(|piece| piece.strip_suffix('}'));
            segments.push(match (named, piece) {
                (Some(name), _) if !name.is_empty() && !name.contains(['{', '}']) => {
                    Segment::Named(name.to_owned())
                }
                (_, "*") => Segment::Any,
                (None, literal) if !literal.contains(['{', '}', '*']) => Segment::Literal(literal.to_owned()),
                _ => {
                    return Err(format!(
                        "`{piece}` in `{text}` is no segment: `{{name}}`, `*`, a text, or `**` at the end"
                    ));
                }
            });
        }
        Ok(Self { text: text.to_owned(), segments, rest })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Methods and a path: `POST|PUT /api/posts/{id}`; without methods, any.
///
/// ```
/// use weir_plugin::path::Rule;
///
/// let rule: Rule = "PUT|DELETE /api/posts/{id}".parse().unwrap();
/// assert_eq!(rule.matches("PUT", "/api/posts/7").unwrap().get("id"), Some("7"));
/// assert!(rule.matches("POST", "/api/posts/7").is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    methods: Vec<String>,
    template: Template,
}

impl Rule {
    /// What the path binds, if method and path match.
    pub fn matches<'t>(&'t self, method: &str, path: &'t str) -> Option<Bindings<'t>> {
        if !self.methods.is_empty() && !self.methods.iter().any(|allowed| allowed == method) {
            return None;
        }
        self.template.matches(path)
    }

    /// The path.
    pub fn template(&self) -> &Template {
        &self.template
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (methods, path) = match text.split_once(' ') {
            Some((methods, path)) => (methods.split('|').map(str::to_owned).collect(), path.trim_start()),
            None => (Vec::new(), text),
        };
        if let Some(wrong) =
            methods.iter().find(|m: &&String| m.is_empty() || !m.bytes().all(|b| b.is_ascii_uppercase()))
        {
            return Err(format!(
                "`{wrong}` in `{text}` is no method: write them in capitals, separated by `|`"
            ));
        }
        Ok(Self { methods, template: path.parse()? })
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_segment_by_segment() {
        #[rustfmt::skip]
        let cases = [
            ("/", "/", true), ("/", "/a", false), ("/a", "/a", true), ("/a", "/a/", false), ("/a/", "/a/", true), ("/a/*", "/a/b", true),
            ("/a/*", "/a/", false), ("/a/{id}", "/a/", false), ("/a/**", "/a", true), ("/a/**", "/a/b/c", true), ("/**", "/", true),
            ("/a/**", "/ab", false), ("/{x}/b", "/a/b", true), ("/a", "a", false),
        ];
        for (template, path, expected) in cases {
            assert_eq!(
                template.parse::<Template>().unwrap().matches(path).is_some(),
                expected,
                "{template} {path}"
            );
        }
    }

    #[test]
    fn what_is_no_rule_is_refused_and_named() {
        #[rustfmt::skip]
        let cases = [
            ("api", "`api` is not a path: it begins with `/`"),
            ("put /a", "`put` in `put /a` is no method: write them in capitals, separated by `|`"),
            ("PUT| /a", "`` in `PUT| /a` is no method: write them in capitals, separated by `|`"),
            ("/a/{}", "`{}` in `/a/{}` is no segment: `{name}`, `*`, a text, or `**` at the end"),
            ("/a/x{id}", "`x{id}` in `/a/x{id}` is no segment: `{name}`, `*`, a text, or `**` at the end"),
            ("/**/a", "`**` in `/**/a` is no segment: `{name}`, `*`, a text, or `**` at the end"),
        ];
        for (rule, expected) in cases {
            assert_eq!(rule.parse::<Rule>().unwrap_err(), expected);
        }
    }
}
