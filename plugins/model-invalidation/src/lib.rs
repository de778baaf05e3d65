//! What a write to a model makes stale, from a table like that of an application's signals: `Post` clears `home_page_data_*` and `blog_posts_*`.
//!
//! Weir's own `[model]` does it for paths. This plugin also takes names from the JSON that was sent and from the answer's `Location`.

use std::collections::BTreeMap;

use serde::Deserialize;
use weir_plugin::path::{Rule, Template};
use weir_plugin::{Error, InvalidateHook, Manifest, Plugin, Purge, Request, Response, text};

struct ModelInvalidation {
    models: BTreeMap<String, Model>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    model: BTreeMap<String, Model>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    /// Methods and paths that write it: `PUT|DELETE /api/posts/{id}`.
    written_by: Vec<Rule>,
    /// The tags to purge: `{name}` is what the path, the JSON or the location says, `*` any text.
    purge: Vec<String>,
    /// Where names stand in the JSON that was sent: JSON Pointers.
    #[serde(default)]
    json: BTreeMap<String, String>,
    /// The path in the answer's `Location`: `/api/posts/{id}`.
    location: Option<Template>,
    /// Only makes it stale.
    #[serde(default)]
    soft: bool,
}

impl Plugin for ModelInvalidation {
    type Config = Config;

    fn new(config: Config) -> Result<Self, Error> {
        if config.model.is_empty() {
            return Err("config: `model` names none".into());
        }
        for (name, model) in &config.model {
            if model.written_by.is_empty() || model.purge.is_empty() {
                return Err(Error::new(format!("config: `model.{name}` needs `written_by` and `purge`")));
            }
            for tag in &model.purge {
                for piece in pieces(tag)
                    .map_err(|error| Error::new(format!("config: `model.{name}.purge`: {error}")))?
                {
                    if let Piece::Name(hole) = piece
                        && !model.binds(hole)
                    {
                        return Err(Error::new(format!(
                            "config: `model.{name}.purge`: nothing says what `{{{hole}}}` of `{tag}` is: no path in `written_by`, `json` or `location`"
                        )));
                    }
                }
            }
        }
        Ok(Self { models: config.model })
    }

    fn manifest(&self) -> Manifest {
        let pointers = self.models.values().flat_map(|model| model.json.values());
        let manifest =
            pointers.fold(Manifest::new().method().path(), |manifest, pointer| manifest.body_json(pointer));
        if self.models.values().any(|model| model.location.is_some()) {
            return manifest.response_header("location");
        }
        manifest
    }
}

impl InvalidateHook for ModelInvalidation {
    fn on_write(&self, request: &Request, _: Option<&str>, response: &Response) -> Result<Vec<Purge>, Error> {
        let mut purges: Vec<Purge> = Vec::new();
        for model in self.models.values() {
            let written =
                model.written_by.iter().find_map(|rule| rule.matches(request.method(), request.path()));
            let Some(bound) = written else { continue };
            let location = model.location.as_ref().and_then(|_| response.header("location")).map(path_of);
            let created =
                model.location.as_ref().zip(location).and_then(|(template, path)| template.matches(path));
            let says = |name: &str| -> Option<String> {
                let in_path = bound.get(name).or_else(|| created.as_ref()?.get(name));
                let in_path =
                    in_path.map(|value| text::percent_decoded(value).unwrap_or_else(|| value.to_owned()));
                in_path.or_else(|| plain(request.body_json(model.json.get(name)?)?))
            };
            for tag in &model.purge {
                let purge = purge(tag, &says);
                let purge = if model.soft { purge.soft() } else { purge };
                if !purges.contains(&purge) {
                    purges.push(purge);
                }
            }
        }
        Ok(purges)
    }
}

impl Model {
    fn binds(&self, name: &str) -> bool {
        let templates = self.written_by.iter().map(Rule::template).chain(&self.location);
        self.json.contains_key(name)
            || templates.into_iter().any(|template| template.names().any(|bound| bound == name))
    }
}

/// The tag with its names filled in. What nothing says stands for all: purging too much costs a fetch, purging too little shows what is wrong.
fn purge(tag: &str, says: &dyn Fn(&str) -> Option<String>) -> Purge {
    let mut filled = String::with_capacity(tag.len());
    let mut is_glob = tag.contains('*');
    for piece in pieces(tag).into_iter().flatten() {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Name(name) => match says(name) {
                // A tag with a star in it cannot be told from a pattern, so it is one.
                Some(value) => {
                    is_glob |= value.contains('*');
                    filled.push_str(&value);
                }
                None => {
                    is_glob = true;
                    filled.push('*');
                }
            },
        }
    }
    if is_glob { Purge::tags(filled) } else { Purge::tag(filled) }
}

enum Piece<'t> {
    Text(&'t str),
    Name(&'t str),
}

fn pieces(tag: &str) -> Result<Vec<Piece<'_>>, Error> {
    let mut pieces = Vec::new();
    let mut rest = tag;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else {
            return Err(Error::new(format!("`{tag}` has a `{{` without a `}}`")));
        };
        pieces.extend([Piece::Text(before), Piece::Name(name)]);
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// A text or a number of JSON as it would stand in a path; of anything else no name can be made.
fn plain(json: &str) -> Option<String> {
    if json.starts_with('"') {
        return weir_plugin::config::parse(json).ok();
    }
    json.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-').then(|| json.to_owned())
}

/// The path of a URL, or of a reference without scheme and host.
fn path_of(location: &str) -> &str {
    let after_host = match location.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => location,
    };
    after_host.split(['?', '#']).next().unwrap_or(after_host)
}

weir_plugin::export!(ModelInvalidation: invalidate);

#[cfg(test)]
mod tests;
