//! Text with `{name}` in it: tags, rewritten paths, redirect targets.

use std::borrow::Cow;
use std::fmt;

use super::path::is_name;

/// A compiled template. `{{` and `}}` stand for braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Name(Box<str>),
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its partner.
    #[error("a `{0}` without its partner: write `{0}{0}` where a brace is meant")]
    Brace(char),
    /// Not a name.
    #[error("`{0}` is not a name: letters, digits and `_`, not beginning with a digit")]
    BadName(String),
}

impl Template {
    /// Compiles a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = if rest[at..].starts_with('{') { '{' } else { '}' };
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push(brace);
                rest = after;
                continue;
            }
            let Some((name, after)) = (brace == '{').then(|| rest.split_once('}')).flatten() else {
                return Err(TemplateError::Brace(brace));
            };
            if !is_name(name) {
                return Err(TemplateError::BadName(name.to_owned()));
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(Part::Name(name.into()));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Ok(Self { text: text.into(), parts })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names in it, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Name(name) => Some(&**name),
            Part::Text(_) => None,
        })
    }

    /// Filled in. A name without value stands for nothing; loading the configuration refuses such names.
    pub fn render<'v>(&self, value: impl Fn(&str) -> Option<Cow<'v, str>>) -> String {
        let mut out = String::with_capacity(self.text.len());
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Name(name) => out.push_str(&value(name).unwrap_or_default()),
            }
        }
        out
    }
}

impl fmt::Display for Template {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_filled_in() {
        let template = Template::parse("post:{id}-{{x}}{id}").unwrap();
        assert_eq!(template.render(|name| (name == "id").then(|| "7".into())), "post:7-{x}7");
        assert_eq!(template.names().collect::<Vec<_>>(), ["id", "id"]);
        assert_eq!(Template::parse("a{b"), Err(TemplateError::Brace('{')));
        assert_eq!(Template::parse("a}b"), Err(TemplateError::Brace('}')));
        assert_eq!(Template::parse("{a b}"), Err(TemplateError::BadName("a b".into())));
    }

    proptest! {
        #[test]
        fn text_without_braces_is_itself(text in "[^{}]*") {
            prop_assert_eq!(Template::parse(&text).unwrap().render(|_| None), text);
        }

        #[test]
        fn nothing_panics(text in "[{}a ]{0,12}") {
            if let Ok(template) = Template::parse(&text) {
                template.render(|_| Some("v".into()));
            }
        }
    }
}
