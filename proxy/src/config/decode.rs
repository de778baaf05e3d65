//! From the parsed document to the tables of `schema.rs`, collecting every mistake on the way.
//!
//! serde stops at the first mistake, so the document is walked here. `table!` declares a table once: its Rust struct, the keys it knows, and
//! its reference (what `docs/configuration.md` says) come from the same lines.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Span, nearest};
use super::units::{parse_duration, parse_share, parse_size};

/// A value of the document.
pub(super) type Node<'d> = Spanned<DeValue<'d>>;

/// What a file may refer to outside of itself.
pub(super) trait Surroundings {
    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
    /// The text of a file.
    fn file(&self, path: &Path) -> std::io::Result<String>;
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// What became of a key. A wrong one is not an absent one: it has been reported, and nothing should be reported for lack of it.
#[derive(Debug, Clone, Default)]
pub(super) enum Field<T> {
    #[default]
    Absent,
    Wrong(Span),
    Given(At<T>),
}

impl<T> Field<T> {
    pub(super) fn get(&self) -> Option<&At<T>> {
        match self {
            Self::Given(at) => Some(at),
            Self::Absent | Self::Wrong(_) => None,
        }
    }

    pub(super) fn value(&self) -> Option<&T> {
        self.get().map(|at| &at.value)
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Where it stands, be it right or wrong.
    pub(super) fn span(&self) -> Option<Span> {
        match self {
            Self::Absent => None,
            Self::Wrong(span) => Some(span.clone()),
            Self::Given(at) => Some(at.span.clone()),
        }
    }
}

impl<T: Clone> Field<T> {
    pub(super) fn or(&self, default: T) -> T {
        self.value().cloned().unwrap_or(default)
    }
}

/// What can be read from a value of the document.
pub(super) trait Decode: Sized {
    /// What is expected, for messages and the reference: `a duration, as "5m"`.
    const EXPECTS: &'static str;
    /// Whether a list of such values is taken too.
    const LIST: bool = false;
    /// Whether it is a table of names with such values.
    const NAMED: bool = false;

    /// `None`: a mistake has been reported.
    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self>;
}

/// One key of a table, as the reference tells it.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// Lines of its doc comment.
    pub(super) about: &'static [&'static str],
    pub(super) expects: &'static str,
    /// Whether a list of such values is taken too.
    pub(super) list: bool,
    /// Whether it is a table of names with such values.
    pub(super) named: bool,
    /// As it would be written, or a word such as `required`.
    pub(super) default: &'static str,
}

/// A table of the schema.
pub(super) trait Table {
    /// How it is written: `[server]`, `match = { … }`.
    const WRITTEN: &'static str;
    /// Lines of its doc comment.
    const ABOUT: &'static [&'static str];
    /// What it knows.
    const KEYS: &'static [Key];

    /// Where it stands in the file.
    fn span(&self) -> Span;

    /// Whether a key may be reported as missing: not where an unknown one may stand for it.
    fn is_clear(&self) -> bool;
}

/// Declares a table of the configuration file. Each key has a doc comment, a type and, after `=`, its default as text.
macro_rules! table {
    (
        $(#[doc = $about:literal])*
        $name:ident in $written:literal {
            $( $(#[doc = $doc:literal])* $field:ident : $type:ty = $default:literal ),* $(,)?
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Default)]
        pub(super) struct $name {
            /// Where the table stands.
            pub(super) span: $crate::config::mistake::Span,
            /// Whether it has keys that are not known: one of them may be the one that is missing.
            pub(super) puzzling: bool,
            $( $(#[doc = $doc])* pub(super) $field: $crate::config::decode::Field<$type>, )*
        }

        impl $crate::config::decode::Table for $name {
            const WRITTEN: &'static str = $written;
            const ABOUT: &'static [&'static str] = &[$($about),*];
            const KEYS: &'static [$crate::config::decode::Key] = &[$(
                $crate::config::decode::Key {
                    name: $crate::config::decode::key_name(stringify!($field)),
                    about: &[$($doc),*],
                    expects: <$type as $crate::config::decode::Decode>::EXPECTS,
                    list: <$type as $crate::config::decode::Decode>::LIST,
                    named: <$type as $crate::config::decode::Decode>::NAMED,
                    default: $default,
                },
            )*];

            fn span(&self) -> $crate::config::mistake::Span {
                self.span.clone()
            }

            fn is_clear(&self) -> bool {
                !self.puzzling
            }
        }

        impl $crate::config::decode::Decode for $name {
            const EXPECTS: &'static str = concat!("a table: `", $written, "`");

            fn decode(
                node: &$crate::config::decode::Node<'_>,
                reader: &$crate::config::decode::Reader<'_>,
            ) -> Option<Self> {
                let table = reader.table(node, Self::EXPECTS)?;
                Some(Self::from_table(table, node.span(), reader))
            }
        }

        impl $name {
            /// Reads every key; unknown ones are mistakes.
            pub(super) fn from_table(
                table: &toml::de::DeTable<'_>,
                span: $crate::config::mistake::Span,
                reader: &$crate::config::decode::Reader<'_>,
            ) -> Self {
                reader.has_shape::<Self>(table);
                let mut read = Self { span, ..Self::default() };
                for (key, value) in table {
                    match key.get_ref().as_ref() {
                        $(
                            name if name == const {
                                $crate::config::decode::key_name(stringify!($field))
                            } => read.$field = reader.field(value),
                        )*
                        _ => {
                            read.puzzling = true;
                            reader.unknown_key::<Self>(key, value);
                        }
                    }
                }
                read
            }
        }
    };
}
pub(super) use table;

/// `match` is a word of Rust, so its field is written `r#match`.
pub(super) const fn key_name(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// Declares a closed list of words for an enum of the model.
macro_rules! words {
    ($type:ty { $($word:literal => $value:expr),+ $(,)? }) => {
        impl $crate::config::decode::Decode for $type {
            const EXPECTS: &'static str = $crate::config::decode::words!(@list $($word)+);

            fn decode(
                node: &$crate::config::decode::Node<'_>,
                reader: &$crate::config::decode::Reader<'_>,
            ) -> Option<Self> {
                let text = reader.text(node, Self::EXPECTS)?;
                match text.value.as_str() {
                    $($word => Some($value),)+
                    _ => {
                        reader.unknown_word(node, &text, &[$($word),+], Self::EXPECTS);
                        None
                    }
                }
            }
        }
    };
    (@list $first:literal $($word:literal)*) => {
        concat!("one of \"", $first, "\"", $(", \"", $word, "\""),*)
    };
}
pub(super) use words;

/// A string with its variables filled in.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) value: String,
    /// What a message may show: as it stands in the file, so that no value from outside is printed.
    pub(super) shown: String,
    /// Whether something was filled in.
    pub(super) filled: bool,
}

/// Walks the document.
pub(super) struct Reader<'r> {
    surroundings: &'r dyn Surroundings,
    mistakes: RefCell<Vec<Mistake>>,
    secrets: RefCell<Vec<Span>>,
    /// What was filled in. No message shows it, whatever it was made of.
    outside: RefCell<Vec<String>>,
    /// Which tables of the document were read as which of the schema, by where they lie in memory.
    shapes: RefCell<HashMap<usize, Shape>>,
}

/// How a table is written in the reference, and its keys.
type Shape = (&'static str, &'static [Key]);

/// A piece of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'t> {
    Plain(&'t str),
    /// `$${`
    Escaped,
    /// `${file:/path}`
    File(&'t str),
    /// `${NAME}`, `${NAME:-default}`
    Variable {
        name: &'t str,
        default: Option<&'t str>,
    },
}

/// Why a text cannot be taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoParts {
    NeverClosed,
    NoName(String),
}

/// Takes a text apart.
pub(super) fn parts(text: &str) -> Result<Vec<Part<'_>>, NoParts> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            parts.extend([Part::Plain(before), Part::Escaped]);
            rest = &rest[at + 2..];
            continue;
        }
        parts.push(Part::Plain(&rest[..at]));
        let (inside, after) = rest[at + 2..].split_once('}').ok_or(NoParts::NeverClosed)?;
        rest = after;
        if let Some(path) = inside.strip_prefix("file:") {
            parts.push(Part::File(path));
            continue;
        }
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name {
            return Err(NoParts::NoName(inside.to_owned()));
        }
        parts.push(Part::Variable { name, default });
    }
    parts.push(Part::Plain(rest));
    Ok(parts)
}

/// Shorter values are words like `on` or `8080`: masking them would garble messages and hide nothing.
const OUTSIDE_CHARS_MIN: usize = 6;

impl<'r> Reader<'r> {
    pub(super) fn new(surroundings: &'r dyn Surroundings) -> Self {
        Self {
            surroundings,
            mistakes: RefCell::default(),
            secrets: RefCell::default(),
            outside: RefCell::default(),
            shapes: RefCell::default(),
        }
    }

    /// Notes as what a table of the document is read.
    pub(super) fn has_shape<T: Table>(&self, table: &DeTable<'_>) {
        self.shapes.borrow_mut().insert(std::ptr::from_ref(table).addr(), (T::WRITTEN, T::KEYS));
    }

    /// As what a table of the document was read; `None`: its names are the user's own.
    pub(super) fn shape_of(&self, table: &DeTable<'_>) -> Option<Shape> {
        self.shapes.borrow().get(&std::ptr::from_ref(table).addr()).copied()
    }

    /// Whether a variable is what counts: as in a shell, an empty one gives way to a default.
    pub(super) fn has_variable(&self, name: &str, has_default: bool) -> bool {
        self.surroundings.variable(name).is_some_and(|value| !has_default || !value.is_empty())
    }

    /// A text with its variables. `None`: something of it cannot be had, or is a file, which may hold a secret.
    pub(super) fn filled(&self, parts: &[Part<'_>]) -> Option<String> {
        let mut out = String::new();
        for part in parts {
            match *part {
                Part::Plain(text) => out.push_str(text),
                Part::Escaped => out.push_str("${"),
                Part::File(_) => return None,
                Part::Variable { name, default } => {
                    let value = self.surroundings.variable(name);
                    let value = value.filter(|value| default.is_none() || !value.is_empty());
                    out.push_str(value.as_deref().or(default)?);
                }
            }
        }
        Some(out)
    }

    pub(super) fn report(&self, mistake: Mistake) {
        self.mistakes.borrow_mut().push(mistake);
    }

    /// Everything that was reported.
    pub(super) fn take_mistakes(&self) -> Vec<Mistake> {
        std::mem::take(&mut *self.mistakes.borrow_mut())
    }

    /// Where secrets stand.
    pub(super) fn secrets(&self) -> Vec<Span> {
        self.secrets.borrow().clone()
    }

    /// Takes out of messages what came from outside of the file: it may be a secret.
    pub(super) fn mask(&self, mistakes: &mut [Mistake]) {
        let mut outside = self.outside.borrow().clone();
        outside.sort_by_key(|value| std::cmp::Reverse(value.len()));
        let mask = |text: &mut String| {
            for value in &outside {
                *text = text.replace(value, "…");
            }
        };
        for mistake in mistakes {
            mask(&mut mistake.message);
            if let Some(help) = &mut mistake.help {
                mask(help);
            }
            if let Some((_, what)) = &mut mistake.other {
                mask(what);
            }
        }
    }

    fn remember(&self, value: &str) {
        if value.chars().count() >= OUTSIDE_CHARS_MIN {
            self.outside.borrow_mut().push(value.to_owned());
        }
    }

    pub(super) fn field<T: Decode>(&self, node: &Node<'_>) -> Field<T> {
        match T::decode(node, self) {
            Some(value) => Field::Given(At { value, span: node.span() }),
            None => Field::Wrong(node.span()),
        }
    }

    pub(super) fn table<'n, 'd>(&self, node: &'n Node<'d>, expects: &str) -> Option<&'n DeTable<'d>> {
        let table = node.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(node, expects);
        }
        table
    }

    /// A string, variables filled in.
    pub(super) fn text(&self, node: &Node<'_>, expects: &str) -> Option<Text> {
        let Some(shown) = node.get_ref().as_str() else {
            self.wrong_type(node, expects);
            return None;
        };
        if !shown.contains("${") {
            return Some(Text { value: shown.to_owned(), shown: shown.to_owned(), filled: false });
        }
        let value = self.fill_in(shown, node)?;
        Some(Text { value, shown: shown.to_owned(), filled: true })
    }

    /// `${NAME}`, `${NAME:-default}`, `${file:/path}`; `$${` is a plain `${`.
    fn fill_in(&self, text: &str, node: &Node<'_>) -> Option<String> {
        let wrong = |message: String, help: &str| {
            self.report(Mistake::new(node.span(), message).help(help));
            None
        };
        let parts = match parts(text) {
            Ok(parts) => parts,
            Err(NoParts::NeverClosed) => {
                return wrong("a `${` is never closed".into(), "write `$${` where no variable is meant");
            }
            Err(NoParts::NoName(inside)) => {
                return wrong(
                    format!("`${{{inside}}}` names no variable"),
                    "write `${NAME}`, `${NAME:-default}` or `${file:/path}`; `$${` where no variable is meant",
                );
            }
        };
        let mut out = String::with_capacity(text.len());
        for part in parts {
            match part {
                Part::Plain(text) => out.push_str(text),
                Part::Escaped => out.push_str("${"),
                Part::File(path) => match self.surroundings.file(Path::new(path)) {
                    Ok(content) => {
                        let content = content.trim_end_matches(['\r', '\n']);
                        self.remember(content);
                        out.push_str(content);
                    }
                    Err(error) => {
                        return wrong(
                            format!("cannot read `{path}`: {error}"),
                            "the file holds the value, and nothing else",
                        );
                    }
                },
                Part::Variable { name, default } => {
                    // As in a shell: `:-` speaks for an empty variable too.
                    let value = self.surroundings.variable(name);
                    let value = value.filter(|value| default.is_none() || !value.is_empty());
                    if let Some(value) = &value {
                        self.remember(value);
                    }
                    match value.as_deref().or(default) {
                        Some(value) => out.push_str(value),
                        None => {
                            return wrong(
                                format!("the environment has no variable `{name}`"),
                                &format!("set it, or give a default: `${{{name}:-…}}`"),
                            );
                        }
                    }
                }
            }
        }
        Some(out)
    }

    /// Marks a place as not to be shown.
    pub(super) fn conceal(&self, span: Span) {
        self.secrets.borrow_mut().push(span);
    }

    pub(super) fn wrong_type(&self, node: &Node<'_>, expects: &str) {
        let found = match node.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let mistake = Mistake::new(node.span(), format!("expected {expects}, found {found}"));
        let is_bare = matches!(
            node.get_ref(),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_)
        );
        self.report(if is_bare && expects.contains("text") {
            mistake.help("texts stand in quotes")
        } else {
            mistake
        });
    }

    pub(super) fn unknown_word(&self, node: &Node<'_>, text: &Text, known: &[&str], expects: &str) {
        let help = match nearest(&text.value, known.iter().copied()) {
            Some(word) if !text.filled => format!("did you mean `{word}`?"),
            _ => format!("write {expects}"),
        };
        self.report(Mistake::new(node.span(), format!("`{}` is not known here", text.shown)).help(help));
    }

    pub(super) fn unknown_key<T: Table>(&self, key: &Spanned<std::borrow::Cow<'_, str>>, value: &Node<'_>) {
        let name = key.get_ref().as_ref();
        let known = || T::KEYS.iter().map(|key| key.name);
        let message = format!("unknown key `{name}` in {}", in_words(T::WRITTEN));
        let mistake = Mistake::new(key.span(), message);
        let meant = nearest(name, known());
        if meant.is_some_and(|meant| {
            T::KEYS.iter().any(|key| key.name == meant && key.expects == Secret::EXPECTS)
        }) {
            self.conceal(value.span());
        }
        let help = super::schema::alias(T::WRITTEN, name)
            .or_else(|| meant.map(|meant| format!("did you mean `{meant}`?")))
            .unwrap_or_else(|| {
                let all: Vec<String> = known().map(|name| format!("`{name}`")).collect();
                format!("known are {}", all.join(", "))
            });
        self.report(mistake.help(help));
    }
}

fn in_words(written: &str) -> String {
    if written.is_empty() { "the file".to_owned() } else { format!("`{written}`") }
}

/// A secret: read like any text, never shown.
#[derive(Clone)]
pub(super) struct Secret(pub(super) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("(secret)")
    }
}

impl Decode for Secret {
    const EXPECTS: &'static str = "a text, best `${NAME}` or `${file:/path}`";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        reader.conceal(node.span());
        reader.text(node, Self::EXPECTS).map(|text| Self(text.value))
    }
}

impl Decode for Text {
    const EXPECTS: &'static str = "a text";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        reader.text(node, Self::EXPECTS)
    }
}

impl Decode for PathBuf {
    const EXPECTS: &'static str = "a path; relative ones begin at the configuration file";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        let text = reader.text(node, Self::EXPECTS)?;
        if text.value.is_empty() {
            reader.report(Mistake::new(node.span(), "an empty path names no file"));
            return None;
        }
        Some(text.value.into())
    }
}

impl Decode for bool {
    const EXPECTS: &'static str = "true or false";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        if let Some(value) = node.get_ref().as_bool() {
            return Some(value);
        }
        // "${DEBUG:-false}" is the only way to write a variable here.
        if !node.get_ref().as_str().is_some_and(|text| text.contains("${")) {
            reader.wrong_type(node, Self::EXPECTS);
            return None;
        }
        let text = reader.text(node, Self::EXPECTS)?;
        let value = text.value.parse().ok();
        if value.is_none() {
            let message = format!("`{}` does not stand for true or false", text.shown);
            reader.report(Mistake::new(node.span(), message));
        }
        value
    }
}

/// A whole number within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole<const MIN: u64, const MAX: u64>(pub(super) u64);

impl<const MIN: u64, const MAX: u64> Decode for Whole<MIN, MAX> {
    const EXPECTS: &'static str = "a whole number";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        let (number, shown) = match node.get_ref() {
            DeValue::Integer(integer) => {
                (u64::from_str_radix(integer.as_str(), integer.radix()).ok(), integer.to_string())
            }
            DeValue::String(text) if text.contains("${") => {
                let text = reader.text(node, Self::EXPECTS)?;
                (text.value.parse().ok(), text.shown)
            }
            _ => {
                reader.wrong_type(node, Self::EXPECTS);
                return None;
            }
        };
        let number = number.filter(|number| (MIN..=MAX).contains(number));
        if number.is_none() {
            let bounds = match (MIN, MAX) {
                (min, u64::MAX) => format!("a whole number, at least {min}"),
                (min, max) => format!("a whole number from {min} to {max}"),
            };
            let message = format!("`{shown}` is out of bounds");
            reader.report(Mistake::new(node.span(), message).help(format!("write {bounds}")));
        }
        number.map(Self)
    }
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteSize(pub(super) u64);

impl Decode for ByteSize {
    const EXPECTS: &'static str = "a size, as \"64KiB\" or \"1MiB\"";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        let (read, shown) = match node.get_ref() {
            DeValue::Integer(integer) if integer.radix() == 10 => {
                (parse_size(integer.as_str()), integer.to_string())
            }
            _ => {
                let text = reader.text(node, Self::EXPECTS)?;
                (parse_size(&text.value), text.shown)
            }
        };
        read.map(Self).map_err(|error| not_a("size", &shown, &error, node, reader)).ok()
    }
}

/// A share, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Share(pub(super) f64);

impl Decode for Share {
    const EXPECTS: &'static str = "a share, as \"10%\"";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        if let DeValue::Integer(number) = node.get_ref() {
            let mistake = Mistake::new(node.span(), format!("`{number}` has no unit"));
            reader.report(mistake.help(format!("write \"{number}%\"")));
            return None;
        }
        let text = reader.text(node, Self::EXPECTS)?;
        parse_share(&text.value)
            .map(Self)
            .map_err(|error| not_a("share", &text.shown, &error, node, reader))
            .ok()
    }
}

/// A duration, or the name of one in `[ttl]`.
#[derive(Debug, Clone)]
pub(super) enum Lifetime {
    Exact(Duration),
    Named(Text),
}

impl Decode for Lifetime {
    const EXPECTS: &'static str = "a duration, as \"250ms\" or \"5m\", or a name from `[ttl]`";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        if lacks_unit(node, reader) {
            return None;
        }
        let text = reader.text(node, Self::EXPECTS)?;
        let is_name = text.value.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
        if is_name {
            return Some(Self::Named(text));
        }
        let duration = parse_duration(&text.value);
        duration.map(Self::Exact).map_err(|error| not_a("duration", &text.shown, &error, node, reader)).ok()
    }
}

impl Decode for Duration {
    const EXPECTS: &'static str = "a duration, as \"250ms\" or \"5m\"";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        if lacks_unit(node, reader) {
            return None;
        }
        let text = reader.text(node, Self::EXPECTS)?;
        parse_duration(&text.value).map_err(|error| not_a("duration", &text.shown, &error, node, reader)).ok()
    }
}

/// A number alone is a frequent mistake, with an easy answer.
fn lacks_unit(node: &Node<'_>, reader: &Reader<'_>) -> bool {
    let DeValue::Integer(number) = node.get_ref() else { return false };
    let message = format!("`{number}` has no unit");
    let help = format!("write \"{number}s\" for seconds, \"{number}m\" for minutes");
    reader.report(Mistake::new(node.span(), message).help(help));
    true
}

fn not_a(what: &str, shown: &str, error: &dyn std::fmt::Display, node: &Node<'_>, reader: &Reader<'_>) {
    let message = format!("`{shown}` is not a {what}");
    reader.report(Mistake::new(node.span(), message).help(error.to_string()));
}

impl Decode for ipnet::IpNet {
    const EXPECTS: &'static str = "a network, as \"10.0.0.0/8\", or an address";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        let text = reader.text(node, Self::EXPECTS)?;
        let network =
            text.value.parse::<Self>().ok().or_else(|| text.value.parse::<IpAddr>().ok().map(Self::from));
        if network.is_none() {
            let message = format!("`{}` is not a network", text.shown);
            reader.report(Mistake::new(node.span(), message).help(format!("write {}", Self::EXPECTS)));
        }
        network.map(|network| network.trunc())
    }
}

/// One value, or a list of them.
#[derive(Debug, Clone, Default)]
pub(super) struct OneOrMany<T>(pub(super) Vec<At<T>>);

impl<T: Decode> Decode for OneOrMany<T> {
    const EXPECTS: &'static str = T::EXPECTS;
    const LIST: bool = true;

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        let at = |node: &Node<'_>| Some(At { value: T::decode(node, reader)?, span: node.span() });
        match node.get_ref().as_array() {
            // All are read before one that is wrong spoils the list, so that all are reported.
            Some(list) => {
                let read: Vec<Option<At<T>>> = list.iter().map(at).collect();
                read.into_iter().collect::<Option<Vec<_>>>().map(Self)
            }
            None => at(node).map(|one| Self(vec![one])),
        }
    }
}

/// A table of free names.
#[derive(Debug, Clone)]
pub(super) struct Named<T>(pub(super) Vec<(At<String>, At<T>)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Decode> Decode for Named<T> {
    const EXPECTS: &'static str = T::EXPECTS;
    const NAMED: bool = true;

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        let table = reader.table(node, "a table of names")?;
        // `[cache.NAME]`, where a table is what a name stands for.
        let header = T::EXPECTS.split_once("`[").and_then(|(_, rest)| rest.split_once(".NAME]`"));
        let mut read = Vec::new();
        for (key, value) in table {
            if let (Some((table, _)), false) = (header, value.get_ref().is_table()) {
                let message = format!(
                    "`[{table}]` holds tables with names of their own, and `{}` is none",
                    key.get_ref()
                );
                reader.report(
                    Mistake::new(key.span(), message).help(format!("write `[{table}.default]` above it")),
                );
                continue;
            }
            let name = At { value: key.get_ref().to_string(), span: key.span() };
            if let Some(one) = T::decode(value, reader) {
                read.push((name, At { value: one, span: value.span() }));
            }
        }
        Some(Self(read))
    }
}
