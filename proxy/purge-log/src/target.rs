//! What a purge names, and how it is written where others read it: in the log, in the journal, in the admin interface.

use std::fmt;
use std::time::Duration;

use cache_semantics::authority::normal_authority;
use cache_semantics::glob::Glob;
use data_encoding::HEXLOWER;

/// What a purge names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Responses that carry a surrogate tag.
    Tag(Box<str>),
    /// Responses that carry a tag that fits.
    TagGlob(Glob),
    /// What is stored under a key.
    Key(Box<[u8]>),
    /// What is stored for a URL, as it is forwarded: every variant of it.
    Url(Url),
    /// What is stored for a path and all below it.
    Prefix(Prefix),
    /// What is stored for a host (with its port, unless it is the default one).
    Host(Box<str>),
    /// What a route stored.
    Route(Box<str>),
    /// What is in a named cache.
    Cache(Box<str>),
    /// What was stored under a version of its cache.
    Version(Version),
    /// What was stored under an epoch of its cache.
    Epoch(Box<str>),
    /// All there is.
    Everything,
    /// Nothing: a record that only moves the end of the log. It names the history of the log that begins with it.
    Mark(Box<str>),
}

/// A URL in the parts that keys have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    /// `http` or `https`.
    pub scheme: Box<str>,
    /// Host and port, lower case, without a default port.
    pub authority: Box<str>,
    /// Path and query; begins with `/`.
    pub path_and_query: Box<str>,
}

/// A path and all below it, on one host or on every one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// Scheme and authority; `None`: any.
    pub site: Option<(Box<str>, Box<str>)>,
    /// The path. `/blog` is itself and what begins with `/blog/`; `/blog/` is only the latter.
    pub path: Box<str>,
}

/// A version of a named cache, or that version of every cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version {
    /// The cache; `None`: any.
    pub cache: Option<Box<str>>,
    /// The number that is its `version`.
    pub number: u64,
}

/// What a purge does to what it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// It is used no more.
    #[default]
    Hard,
    /// It is stale: to be validated, and served meanwhile only as any stale response may be.
    Soft,
    /// It is stale, and served for so long at most while it is refreshed behind the answer.
    Refresh(Duration),
}

/// A fact: this was purged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What.
    pub target: Target,
    /// How.
    pub mode: Mode,
    /// When, in milliseconds since 1970 by the clock of the issuer: from then on a softened response counts as stale.
    pub at_ms: u64,
}

/// The text is no target of this kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// There is nothing in it.
    #[error("there is nothing to purge in it")]
    Empty,
    /// Too long.
    #[error("it is longer than {TARGET_BYTES_MAX} bytes")]
    TooLong,
    /// Not a URL.
    #[error("`{0}` is not an absolute http or https URL")]
    NotAUrl(String),
    /// Not a prefix.
    #[error("`{0}` is neither a path that begins with `/` nor a URL")]
    NotAPrefix(String),
    /// Not a version.
    #[error("`{0}` is not a version: write `CACHE:NUMBER`, or the number alone for every cache")]
    NotAVersion(String),
    /// Not hexadecimal digits.
    #[error("a key is an even number of hexadecimal digits")]
    NotAKey,
    /// Not a kind.
    #[error("there is no kind of purge called `{0}`")]
    UnknownKind(String),
}

/// Longer targets are refused.
pub const TARGET_BYTES_MAX: usize = 8 << 10;

impl Url {
    /// Reads an absolute URL. Authority and scheme come in any case and leave in lower case, the default port is dropped, a missing path is `/`.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError::NotAUrl(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let scheme = scheme.to_ascii_lowercase();
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let rest = rest.split('#').next().unwrap_or_default();
        let well_formed =
            matches!(&*scheme, "http" | "https") && text.bytes().all(|byte| matches!(byte, 0x21..=0x7e));
        if !well_formed {
            return Err(wrong());
        }
        let authority = normal_authority(&scheme, authority).ok_or_else(wrong)?;
        let path_and_query = if rest.starts_with('/') { rest.into() } else { format!("/{rest}") };
        Ok(Self {
            scheme: scheme.into(),
            authority: (*authority).into(),
            path_and_query: path_and_query.into(),
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}{}", self.scheme, self.authority, self.path_and_query)
    }
}

impl Prefix {
    /// Reads `/path` or `http://host/path`. A query cannot be part of it.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError::NotAPrefix(text.to_owned());
        if text.contains('?') {
            return Err(wrong());
        }
        if text.starts_with('/') {
            return Ok(Self { site: None, path: text.into() });
        }
        let Url { scheme, authority, path_and_query } = Url::parse(text).map_err(|_| wrong())?;
        Ok(Self { site: Some((scheme, authority)), path: path_and_query })
    }

    /// Whether a path is this one or below it.
    #[must_use]
    pub fn holds(&self, path: &str) -> bool {
        match path.strip_prefix(&*self.path) {
            Some(rest) => rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/'),
            None => false,
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((scheme, authority)) = &self.site {
            write!(out, "{scheme}://{authority}")?;
        }
        out.write_str(&self.path)
    }
}

impl Version {
    /// Reads `chat:3`, or `3`. A name may have colons in it: the number stands behind the last one.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError::NotAVersion(text.to_owned());
        let (cache, digits) = match text.rsplit_once(':') {
            Some((cache, digits)) => (Some(cache), digits),
            None => (None, text),
        };
        // `parse` takes a sign, and a number is written in one way only.
        let is_plain =
            digits == "0" || (!digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()));
        let number = digits.parse().ok().filter(|_| is_plain).ok_or_else(wrong)?;
        match cache {
            Some("") => Err(wrong()),
            cache => Ok(Self { cache: cache.map(Into::into), number }),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cache {
            Some(cache) => write!(out, "{cache}:{}", self.number),
            None => write!(out, "{}", self.number),
        }
    }
}

impl Target {
    /// The kinds, as they are written.
    pub const KINDS: [&str; 11] =
        ["tag", "glob", "key", "url", "prefix", "host", "route", "cache", "version", "epoch", "everything"];

    /// How its kind is written.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Tag(_) => "tag",
            Self::TagGlob(_) => "glob",
            Self::Key(_) => "key",
            Self::Url(_) => "url",
            Self::Prefix(_) => "prefix",
            Self::Host(_) => "host",
            Self::Route(_) => "route",
            Self::Cache(_) => "cache",
            Self::Version(_) => "version",
            Self::Epoch(_) => "epoch",
            Self::Everything => "everything",
            Self::Mark(_) => "mark",
        }
    }

    /// What of its kind, as it is written.
    #[must_use]
    pub fn value(&self) -> String {
        match self {
            Self::Tag(text)
            | Self::Host(text)
            | Self::Route(text)
            | Self::Cache(text)
            | Self::Epoch(text)
            | Self::Mark(text) => text.to_string(),
            Self::TagGlob(glob) => glob.to_string(),
            Self::Key(key) => HEXLOWER.encode(key),
            Self::Url(url) => url.to_string(),
            Self::Prefix(prefix) => prefix.to_string(),
            Self::Version(version) => version.to_string(),
            Self::Everything => String::new(),
        }
    }

    /// Read back. A glob without `*` is a tag.
    pub fn parse(kind: &str, value: &str) -> Result<Self, TargetError> {
        if value.len() > TARGET_BYTES_MAX {
            return Err(TargetError::TooLong);
        }
        if value.is_empty() && kind != "everything" {
            return Err(TargetError::Empty);
        }
        let target = match kind {
            "tag" => Self::Tag(value.into()),
            "glob" => Self::tag_or_glob(value),
            "key" => Self::Key(bytes_of(value).ok_or(TargetError::NotAKey)?.into()),
            "url" => Self::Url(Url::parse(value)?),
            "prefix" => Self::Prefix(Prefix::parse(value)?),
            "host" => Self::Host(value.to_ascii_lowercase().into()),
            "route" => Self::Route(value.into()),
            "cache" => Self::Cache(value.into()),
            "version" => Self::Version(Version::parse(value)?),
            "epoch" => Self::Epoch(value.into()),
            "everything" => Self::Everything,
            "mark" => Self::Mark(value.into()),
            _ => return Err(TargetError::UnknownKind(kind.to_owned())),
        };
        // A URL may be longer in its normal form, which is what others read.
        if matches!(target, Self::Url(_) | Self::Prefix(_)) && target.value().len() > TARGET_BYTES_MAX {
            return Err(TargetError::TooLong);
        }
        Ok(target)
    }

    /// A tag, or a pattern if there is a `*` in it.
    #[must_use]
    pub fn tag_or_glob(text: &str) -> Self {
        let glob = Glob::new(text);
        if glob.is_literal() { Self::Tag(text.into()) } else { Self::TagGlob(glob) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => out.write_str(self.kind()),
            _ => write!(out, "{} {}", self.kind(), self.value()),
        }
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}

impl Mode {
    /// As it is written.
    #[must_use]
    pub fn to_text(self) -> String {
        match self {
            Self::Hard => "hard".to_owned(),
            Self::Soft => "soft".to_owned(),
            Self::Refresh(grace) => format!("refresh:{}", grace.as_secs()),
        }
    }

    /// Read back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "hard" => Some(Self::Hard),
            "soft" => Some(Self::Soft),
            _ => {
                let seconds: u32 = text.strip_prefix("refresh:")?.parse().ok()?;
                Some(Self::Refresh(Duration::from_secs(seconds.into())))
            }
        }
    }
}

/// A record with who published it: what an entry of the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The proxy that issued it.
    pub issuer: Box<str>,
    /// Its number in that proxy's journal.
    pub number: u64,
    /// The record.
    pub record: Record,
}

impl Published {
    /// The fields of an entry: kind, value, mode, time, issuer, number.
    #[must_use]
    pub fn to_fields(&self) -> [(&'static str, String); 6] {
        let Self { issuer, number, record } = self;
        [
            ("k", record.target.kind().to_owned()),
            ("v", record.target.value()),
            ("m", record.mode.to_text()),
            ("t", record.at_ms.to_string()),
            ("o", issuer.to_string()),
            ("j", number.to_string()),
        ]
    }

    /// Reads an entry. What is not understood, because a later version or somebody else wrote it, purges everything: a purge may cost too
    /// much, and is never lost.
    #[must_use]
    pub fn from_fields<'f>(fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>) -> Self {
        let (mut kind, mut value, mut mode, mut at_ms, mut issuer, mut number) = ("", "", "hard", 0, "", 0);
        let mut understood = true;
        for (name, text) in fields {
            let Ok(text) = std::str::from_utf8(text) else {
                understood = false;
                continue;
            };
            match name {
                b"k" => kind = text,
                b"v" => value = text,
                b"m" => mode = text,
                b"t" => at_ms = text.parse().unwrap_or(0),
                b"o" => issuer = text,
                b"j" => number = text.parse().unwrap_or(0),
                _ => {}
            }
        }
        let record = match (Target::parse(kind, value), Mode::parse(mode)) {
            (Ok(target), Some(mode)) if understood => Record { target, mode, at_ms },
            _ => Record { target: Target::Everything, mode: Mode::Hard, at_ms },
        };
        let issuer = if issuer.len() <= ISSUER_BYTES_MAX { issuer } else { "" };
        Self { issuer: issuer.into(), number, record }
    }
}

/// Longer names of proxies are not ours.
const ISSUER_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn targets_are_read_and_written() {
        #[rustfmt::skip]
        let cases = [
            ("tag",        "post:7"),
            ("glob",       "home_page_data_*"),
            ("key",        "47a0"),
            ("url",        "https://a.example/x?y=1"),
            ("url",        "http://a.example:8080/"),
            ("prefix",     "/blog"),
            ("prefix",     "https://a.example/blog/"),
            ("host",       "a.example:8080"),
            ("route",      "everything else"),
            ("cache",      "default"),
            ("version",    "chat:3"),
            ("version",    "a:b:0"),
            ("version",    "18446744073709551615"),
            ("everything", ""),
            ("mark",       "run-1"),
        ];
        for (kind, value) in cases {
            let target = Target::parse(kind, value).unwrap();
            assert_eq!((target.kind(), &*target.value()), (kind, value));
        }
        assert_eq!(Target::parse("glob", "plain"), Ok(Target::Tag("plain".into())));
        assert_eq!(
            Target::parse("url", "HTTPS://A.Example:443?q#f").unwrap().value(),
            "https://a.example/?q"
        );
        #[rustfmt::skip]
        let wrong = [
            ("tag",    "",               "there is nothing to purge in it"),
            ("url",    "/x",             "`/x` is not an absolute http or https URL"),
            ("url",    "ftp://a/x",      "`ftp://a/x` is not an absolute http or https URL"),
            ("url",    "http://u@a/x",   "`http://u@a/x` is not an absolute http or https URL"),
            ("url",    "http://:/",      "`http://:/` is not an absolute http or https URL"),
            ("url",    "http://a:::/",   "`http://a:::/` is not an absolute http or https URL"),
            ("url",    "http://a/x y",   "`http://a/x y` is not an absolute http or https URL"),
            ("url",    "https://:443/",  "`https://:443/` is not an absolute http or https URL"),
            ("version", "chat",          "`chat` is not a version: write `CACHE:NUMBER`, or the number alone for every cache"),
            ("version", ":3",            "`:3` is not a version: write `CACHE:NUMBER`, or the number alone for every cache"),
            ("version", "chat:+3",       "`chat:+3` is not a version: write `CACHE:NUMBER`, or the number alone for every cache"),
            ("version", "03",            "`03` is not a version: write `CACHE:NUMBER`, or the number alone for every cache"),
            ("prefix", "blog",           "`blog` is neither a path that begins with `/` nor a URL"),
            ("prefix", "/blog?x",        "`/blog?x` is neither a path that begins with `/` nor a URL"),
            ("key",    "47a",            "a key is an even number of hexadecimal digits"),
            ("page",   "x",              "there is no kind of purge called `page`"),
        ];
        for (kind, value, message) in wrong {
            assert_eq!(Target::parse(kind, value).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_prefix_ends_within_a_segment() {
        let holds = |prefix: &str, path: &str| Prefix::parse(prefix).unwrap().holds(path);
        assert!(holds("/blog", "/blog") && holds("/blog", "/blog/x") && !holds("/blog", "/blogs"));
        assert!(holds("/blog/", "/blog/x") && holds("/blog/", "/blog/") && !holds("/blog/", "/blog"));
        assert!(holds("/", "/") && holds("/", "/x"));
    }

    #[test]
    fn what_is_not_understood_purges_everything() {
        let published = |fields: &[(&str, &[u8])]| {
            Published::from_fields(fields.iter().map(|(name, value)| (name.as_bytes(), *value)))
        };
        let good = published(&[("k", b"tag"), ("v", b"a"), ("o", b"one"), ("j", b"7"), ("new", b"x")]);
        assert_eq!((good.record.target, &*good.issuer, good.number), (Target::Tag("a".into()), "one", 7));
        let odd: [&[(&str, &[u8])]; 5] = [
            &[],
            &[("k", b"colour"), ("v", b"a")],
            &[("k", b"tag"), ("v", b"\xff")],
            &[("k", b"tag"), ("v", b"")],
            &[("k", b"tag"), ("v", b"a"), ("m", b"later")],
        ];
        for odd in odd {
            assert_eq!(published(odd).record.target, Target::Everything, "{odd:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_published_is_read_as_it_was_meant(
            kind in proptest::sample::select(&["tag", "glob", "host", "route", "cache", "epoch"][..]),
            value in "[ -~]{1,40}",
            mode in proptest::sample::select(&["hard", "soft", "refresh:60"][..]),
            number in any::<u64>(),
        ) {
            let record = Record { target: Target::parse(kind, &value).unwrap(), mode: Mode::parse(mode).unwrap(), at_ms: 5 };
            let published = Published { issuer: "a".into(), number, record };
            let fields = published.to_fields();
            let read = Published::from_fields(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
            prop_assert_eq!(read, published);
        }

        #[test]
        fn nothing_panics(kind in "[a-z]{0,10}", value in ".{0,40}", mode in ".{0,12}") {
            let fields = [("k", kind), ("v", value), ("m", mode)];
            let _ = Published::from_fields(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        }
    }
}
