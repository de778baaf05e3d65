//! `Weir-Invalidate`: what the answer to an unsafe request says it has changed.
//!
//! A dictionary of structured fields (RFC 9651): `tag=("post:7" "posts"), prefix="/blog", model=Post, soft`. Its names are `tag` (with `*` in
//! it a pattern), `url` and `prefix` (of the same site), `model`; `soft` and `refresh=60` say how. A field that does not parse, or says
//! something else, is ignored as a whole: half of it would leave stale what the application thinks is gone.

use std::time::Duration;

use sfv::{BareItem, Dictionary, InnerList, Item, ListEntry, Parser};

use crate::target::{Mode, TARGET_BYTES_MAX};

/// One thing that an application says it has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// What carries a tag, or a tag that fits.
    Tag(String),
    /// A reference to a URL of the same site.
    Url(String),
    /// A path and all below it.
    Prefix(String),
    /// What the configuration says of a model.
    Model(String),
}

/// The field says nothing that is understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Not a dictionary.
    #[error("it is not a dictionary of structured fields (RFC 9651)")]
    NotADictionary,
    /// A name that means nothing here.
    #[error("`{0}` is none of tag, url, prefix, model, soft and refresh")]
    UnknownName(String),
    /// A value of the wrong kind.
    #[error("`{0}` has a value of the wrong kind")]
    WrongValue(String),
    /// More than anybody means.
    #[error("it names more than {CHANGED_MAX} things")]
    TooMany,
}

/// The most that one field may name.
pub const CHANGED_MAX: usize = 256;

/// Reads the field; its lines joined by commas.
pub fn parse(field: &[u8]) -> Result<(Vec<Changed>, Mode), FieldError> {
    let dictionary: Dictionary = Parser::new(field).parse().map_err(|_| FieldError::NotADictionary)?;
    let (mut changed, mut mode) = (Vec::new(), Mode::Hard);
    for (name, value) in &dictionary {
        let name = name.as_str();
        let wrong = || FieldError::WrongValue(name.to_owned());
        let make: fn(String) -> Changed = match name {
            "tag" => Changed::Tag,
            "url" => Changed::Url,
            "prefix" => Changed::Prefix,
            "model" => Changed::Model,
            "soft" => {
                match only(value).ok_or_else(wrong)? {
                    BareItem::Boolean(true) if mode == Mode::Hard => mode = Mode::Soft,
                    BareItem::Boolean(_) => {}
                    _ => return Err(wrong()),
                }
                continue;
            }
            "refresh" => {
                let BareItem::Integer(seconds) = only(value).ok_or_else(wrong)? else { return Err(wrong()) };
                let seconds = u32::try_from(i64::from(*seconds)).map_err(|_| wrong())?;
                mode = Mode::Refresh(Duration::from_secs(seconds.into()));
                continue;
            }
            _ => return Err(FieldError::UnknownName(name.to_owned())),
        };
        let items: &[Item] = match value {
            ListEntry::Item(item) => std::slice::from_ref(item),
            ListEntry::InnerList(InnerList { items, .. }) => items,
        };
        for item in items {
            let text = match &item.bare_item {
                BareItem::String(text) => text.as_str(),
                BareItem::Token(text) => text.as_str(),
                _ => return Err(wrong()),
            };
            if text.is_empty() || text.len() > TARGET_BYTES_MAX {
                return Err(wrong());
            }
            if changed.len() == CHANGED_MAX {
                return Err(FieldError::TooMany);
            }
            changed.push(make(text.to_owned()));
        }
    }
    Ok((changed, mode))
}

fn only(entry: &ListEntry) -> Option<&BareItem> {
    match entry {
        ListEntry::Item(item) => Some(&item.bare_item),
        ListEntry::InnerList(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_an_application_says_it_has_changed() {
        let tag = |text: &str| Changed::Tag(text.to_owned());
        let read = |field: &str| parse(field.as_bytes()).unwrap();
        assert_eq!(read("tag=(\"post:7\" posts)"), (vec![tag("post:7"), tag("posts")], Mode::Hard));
        let (changed, mode) = read("model=Post, url=\"/x?y\", prefix=\"/blog\", tag=\"home_*\", soft");
        assert_eq!((changed.len(), mode), (4, Mode::Soft));
        assert_eq!(changed[0], Changed::Model("Post".to_owned()));
        assert_eq!(read("tag=a, soft=?0").1, Mode::Hard);
        assert_eq!(read("soft, tag=a, refresh=60").1, Mode::Refresh(Duration::from_secs(60)));
        assert_eq!(read("").0, []);
        for (field, error) in [
            ("tag=\"a", "it is not a dictionary of structured fields (RFC 9651)"),
            ("tag=1", "`tag` has a value of the wrong kind"),
            ("tag=\"\"", "`tag` has a value of the wrong kind"),
            ("soft=1", "`soft` has a value of the wrong kind"),
            ("refresh=-1", "`refresh` has a value of the wrong kind"),
            ("refresh", "`refresh` has a value of the wrong kind"),
            ("everything", "`everything` is none of tag, url, prefix, model, soft and refresh"),
        ] {
            assert_eq!(parse(field.as_bytes()).unwrap_err().to_string(), error, "{field}");
        }
        let many = vec!["a"; CHANGED_MAX + 1].join(" ");
        assert_eq!(parse(format!("tag=({many})").as_bytes()), Err(FieldError::TooMany));
    }

    proptest! {
        #[test]
        fn nothing_panics(field in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&field);
        }
    }
}
