//! The reference of the configuration file, made of the schema: what `weir reference` prints and `docs/configuration.md` holds.

use std::fmt::Write as _;

use super::schema;

/// Every table and key, as Markdown.
pub fn markdown() -> String {
    let mut out = String::new();
    for (written, about, keys) in schema::tables() {
        let title = if written.is_empty() { "The file".to_owned() } else { format!("`{written}`") };
        let about: Vec<&str> = about.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        write!(out, "## {title}\n\n{}\n\n", joined(&about)).expect("a string takes all");
        for key in keys {
            let named =
                if key.named && !key.expects.starts_with("a table") { "names, each with " } else { "" };
            let list = if key.list { ", or a list" } else { "" };
            let default = match key.default {
                "required" => "required".to_owned(),
                default if default.starts_with(|char: char| matches!(char, '"' | '0'..='9')) => {
                    format!("default `{default}`")
                }
                default @ ("true" | "false") => format!("default `{default}`"),
                default => format!("default: {default}"),
            };
            let about: Vec<&str> = key.about.iter().map(|line| line.trim()).collect();
            let text = about.join(" ");
            writeln!(out, "- **`{}`** ({named}{}{list}; {default}). {text}", key.name, short(key.expects))
                .expect("a string takes all");
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Without examples (`, as "250ms" or "5m"`): the reference begins with them.
fn short(expects: &str) -> String {
    let Some((before, examples)) = expects.split_once(", as \"") else { return expects.to_owned() };
    let mut rest = examples.split_once('"').map_or("", |(_, rest)| rest);
    while let Some((_, after)) = rest.strip_prefix(" or \"").and_then(|more| more.split_once('"')) {
        rest = after;
    }
    format!("{before}{rest}")
}

/// Lines of prose joined, paragraphs and code kept apart.
fn joined(lines: &[&str]) -> String {
    let mut out = String::new();
    let mut in_code = false;
    for line in lines {
        let fence = line.starts_with("```");
        if in_code || fence || line.is_empty() {
            if !out.is_empty() && !out.ends_with('\n') {
                out.push('\n');
            }
            writeln!(out, "{line}").expect("a string takes all");
        } else {
            if !out.is_empty() && !out.ends_with('\n') {
                out.push(' ');
            }
            out.push_str(line);
        }
        in_code ^= fence;
    }
    out.trim_end().to_owned()
}
