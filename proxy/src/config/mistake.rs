//! What is wrong in a configuration file, all of it at once, each with its line, a caret and a way to mend it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::model::Place;

/// A range of bytes in the file.
pub(super) type Span = Range<usize>;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where, in bytes of the file.
    pub span: Span,
    /// What: lower case, no final stop, literals in backticks.
    pub message: String,
    /// How to mend it.
    pub help: Option<String>,
    /// Another place that belongs to it, and what is there.
    pub other: Option<(Span, String)>,
}

impl Mistake {
    pub(super) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None, other: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn other(mut self, span: Span, what: impl Into<String>) -> Self {
        self.other = Some((span, what.into()));
        self
    }
}

/// A file and its lines, for messages. Secrets in it are masked before anything of it is shown.
#[derive(Debug, Clone)]
pub struct Source {
    file: Arc<str>,
    text: Arc<str>,
}

impl Source {
    /// `secrets` are blotted out for good.
    pub(super) fn new(file: Arc<str>, text: &str, secrets: &[Span]) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        for secret in secrets {
            for byte in bytes.get_mut(secret.clone()).into_iter().flatten() {
                if *byte != b'\n' && *byte != b'\r' {
                    *byte = b'*';
                }
            }
        }
        Self { file, text: String::from_utf8_lossy(&bytes).into() }
    }

    /// Where the file is broken, nobody knows which values are secret: here the name of a key decides.
    pub(super) fn of_broken(file: Arc<str>, text: &str) -> Self {
        let mut secrets = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            if let Some((key, value)) = line.split_once('=') {
                let key_says = key.to_ascii_lowercase();
                let is_secret = ["token", "secret", "password"].iter().any(|word| key_says.contains(word));
                if is_secret && !value.contains("${") {
                    let from = start + line.len() - value.trim_start().len();
                    secrets.push(from..from + value.trim().len());
                }
            }
            start += line.len();
        }
        Self::new(file, text, &secrets)
    }

    /// Line and column, both from 1; columns count characters.
    pub fn position(&self, offset: usize) -> (u32, u32) {
        let offset = self.text.floor_char_boundary(offset.min(self.text.len()));
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        (count(before.matches('\n').count() + 1), count(before[line_start..].chars().count() + 1))
    }

    /// The place of a byte.
    pub fn place(&self, offset: usize) -> Place {
        Place { file: Arc::clone(&self.file), line: self.position(offset).0 }
    }

    /// The line with its number, and carets under the span.
    fn excerpt(&self, span: &Span, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.position(span.start);
        let text = self.text.split('\n').nth(line as usize - 1).unwrap_or_default().trim_end_matches('\r');
        let from = column as usize - 1;
        let spanned = self.text.get(span.clone()).unwrap_or_default();
        let wide = spanned.split('\n').next().unwrap_or_default().trim_end().chars().count().max(1);
        // A long line is cut to what surrounds the mistake.
        let skip = if from > 90 { from - 40 } else { 0 };
        let shown: String = text.chars().skip(skip).take(120).map(printable).collect();
        let cut_front = if skip > 0 { "…" } else { "" };
        let cut_back = if text.chars().count() > skip + 120 { "…" } else { "" };
        let indent: String = text
            .chars()
            .skip(skip)
            .take(from - skip)
            .map(|char| if char == '\t' { '\t' } else { ' ' })
            .collect();
        let wide = wide.min(120usize.saturating_sub(from - skip)).max(1);
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        let front = if skip > 0 { " " } else { "" };
        writeln!(out, "{gutter} --> {}:{line}:{column}", self.file)?;
        writeln!(out, "{gutter} |")?;
        writeln!(out, "{number} | {cut_front}{shown}{cut_back}")?;
        writeln!(out, "{gutter} | {front}{indent}{}", "^".repeat(wide))
    }
}

/// Terminals obey control characters, and a file may hold anything.
fn printable(char: char) -> char {
    if char.is_control() && char != '\t' { '\u{fffd}' } else { char }
}

/// Everything that is wrong in one file. Its text form is what a person sees.
#[derive(Debug, Clone)]
pub struct Mistakes {
    source: Source,
    list: Vec<Mistake>,
}

impl Mistakes {
    pub(super) fn new(source: Source, mut list: Vec<Mistake>) -> Self {
        list.sort_by_key(|mistake| (mistake.span.start, mistake.span.end));
        list.dedup();
        Self { source, list }
    }

    /// Says of each that these variables were read: nobody who typed a URL has them before their eyes.
    pub(super) fn with_note(mut self, variables: &[&str]) -> Self {
        if !variables.is_empty() {
            for mistake in &mut self.list {
                let help = mistake.help.take().map(|help| format!("{help}; ")).unwrap_or_default();
                let names = variables.join(", ");
                mistake.help = Some(format!(
                    "{help}read from the environment: {names} (`USE_REDIS=false` does without Redis)"
                ));
            }
        }
        self
    }

    /// Each of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.list.iter()
    }

    /// Each in a line of its own, for logs: `weir.toml:3:1: unknown key …; did you mean …?`
    pub fn in_lines(&self) -> String {
        let line = |mistake: &Mistake| {
            let (line, column) = self.source.position(mistake.span.start);
            let help = mistake
                .help
                .as_ref()
                .map(|help| format!("; {}", help.split_whitespace().collect::<Vec<_>>().join(" ")));
            format!("{}:{line}:{column}: {}{}", self.source.file, mistake.message, help.unwrap_or_default())
        };
        self.list.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.list.len()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.list {
            show(out, "error", mistake, &self.source)?;
            writeln!(out)?;
        }
        let count = self.list.len();
        let things = if count == 1 { "mistake" } else { "mistakes" };
        write!(out, "{count} {things} in {}", self.source.file)
    }
}

impl std::error::Error for Mistakes {}

/// Something that is allowed and hardly meant.
#[derive(Debug, Clone)]
pub struct Warning {
    source: Source,
    mistake: Mistake,
}

impl Warning {
    pub(super) fn new(source: &Source, mistake: Mistake) -> Self {
        Self { source: source.clone(), mistake }
    }

    /// What.
    pub fn message(&self) -> &str {
        &self.mistake.message
    }

    /// Where.
    pub fn place(&self) -> Place {
        self.source.place(self.mistake.span.start)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(out, "warning", &self.mistake, &self.source)
    }
}

fn show(out: &mut fmt::Formatter<'_>, word: &str, mistake: &Mistake, source: &Source) -> fmt::Result {
    writeln!(out, "{word}: {}", mistake.message)?;
    source.excerpt(&mistake.span, out)?;
    if let Some((span, what)) = &mistake.other {
        writeln!(out, " note: {what}")?;
        source.excerpt(span, out)?;
    }
    if let Some(help) = &mistake.help {
        writeln!(out, " help: {help}")?;
    }
    Ok(())
}

/// The known name that was probably meant.
pub(super) fn nearest<'n>(wrong: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', ' ', '.'], "_");
    let wrong = plain(wrong);
    known
        .into_iter()
        .map(|name| (distance(&wrong, &plain(name)), name))
        .filter(|(distance, name)| *distance <= (name.len().max(wrong.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many letters must be changed, added, removed or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) =
        (one.chars().take(64).collect(), other.chars().take(64).collect());
    let width = other.len() + 1;
    let mut rows = vec![0; (one.len() + 1) * width];
    for row in 0..=one.len() {
        for column in 0..width {
            rows[row * width + column] = if row == 0 || column == 0 {
                row + column
            } else {
                let (above, left) = ((row - 1) * width + column, row * width + column - 1);
                let same = one[row - 1] == other[column - 1];
                let mut best =
                    (rows[above] + 1).min(rows[left] + 1).min(rows[above - 1] + usize::from(!same));
                if row > 1
                    && column > 1
                    && one[row - 1] == other[column - 2]
                    && one[row - 2] == other[column - 1]
                {
                    best = best.min(rows[(row - 2) * width + column - 2] + 1);
                }
                best
            };
        }
    }
    rows[one.len() * width + other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_that_was_meant() {
        let known = ["listen", "limits", "trusted_proxies", "drain"];
        assert_eq!(nearest("lsiten", known), Some("listen"));
        assert_eq!(nearest("limit", known), Some("limits"));
        assert_eq!(nearest("trusted-proxys", known), Some("trusted_proxies"));
        assert_eq!(nearest("Drain", known), Some("drain"));
        assert_eq!(nearest("zebra", known), None);
    }

    #[test]
    fn secrets_are_blotted_out() {
        let text = "a = 1\ntoken = \"hunter2\"\nb = \"hunter2\"\napi_token = \"${TOKEN}\"\n";
        let at = text.rfind("\"hunter2\"").unwrap();
        let known = Source::new("f".into(), text, std::slice::from_ref(&(at..at + 9)));
        assert_eq!(known.text.matches("hunter2").count(), 1, "{}", known.text);
        let guessed = Source::of_broken("f".into(), text);
        assert!(guessed.text.contains("token = *********\n"), "{}", guessed.text);
        assert!(guessed.text.contains("${TOKEN}"));
        assert_eq!((known.text.len(), guessed.text.len()), (text.len(), text.len()));
    }

    #[test]
    fn columns_count_characters_and_long_lines_are_cut() {
        let text = format!("é = {}x\n", "y".repeat(300));
        let source = Source::new("f".into(), &text, &[]);
        let at = text.len() - 2;
        assert_eq!(source.position(at), (1, 305));
        let shown = Warning::new(&source, Mistake::new(at..at + 1, "m")).to_string();
        let column = |line: usize, wanted| shown.lines().nth(line)?.chars().position(|char| char == wanted);
        assert!(shown.lines().all(|line| line.chars().count() < 140), "{shown}");
        assert!(column(3, 'x').is_some() && column(3, 'x') == column(4, '^'), "{shown}");
    }
}
