//! `[model.NAME]`, `[data]` and `[record]`: what a write makes stale, and where things are kept on disk.

use std::collections::BTreeSet;
use std::path::PathBuf;

use http::Method;

use super::{Resolver, many};
use crate::config::decode::{At, Table as _, Text};
use crate::config::mistake::nearest;
use crate::config::model::{Data, Model, Record, WriteRule};
use crate::config::schema;
use crate::routes::path::PathPattern;

impl Resolver<'_> {
    pub(super) fn model(&self, name: &str, model: &schema::Model) -> Option<Model> {
        let mut bound = BTreeSet::new();
        let mut written_by = Vec::new();
        for at in many(&model.written_by) {
            if let Some(rule) = self.write_rule(at) {
                bound.extend(rule.path.names().map(str::to_owned));
                written_by.push(rule);
            }
        }
        if many(&model.purge).next().is_none() {
            self.wrong_with_help(
                &model.span,
                format!("model `{name}` purges nothing"),
                "add `purge = [\"tag\"]`: the tags that its pages carry",
            );
            return None;
        }
        let purge = many(&model.purge).filter_map(|at| self.tag(at, &bound)).collect();
        Some(Model { name: name.into(), written_by, purge })
    }

    /// `PUT|DELETE /api/posts/{id}`, or a path alone.
    pub(super) fn write_rule(&self, at: &At<Text>) -> Option<WriteRule> {
        let text = at.value.value.trim();
        let (words, path) = match text.split_once(char::is_whitespace) {
            Some((methods, path)) => (methods, path.trim_start()),
            None => ("", text),
        };
        // What was filled in from outside may be a secret.
        let show = |text: &str| if at.value.filled { at.value.shown.clone() } else { text.to_owned() };
        let mut methods = Vec::new();
        for word in words.split('|').filter(|word| !word.is_empty()) {
            let known = ["POST", "PUT", "PATCH", "DELETE"];
            let method = Method::from_bytes(word.as_bytes()).ok().filter(|method| !method.is_safe());
            let Some(method) = method.filter(|method| {
                known.contains(&method.as_str())
                    || word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase())
            }) else {
                let help = match nearest(&word.to_ascii_uppercase(), known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        "write methods that change something, as in \"PUT|DELETE /api/posts/{id}\"".to_owned()
                    }
                };
                self.wrong_with_help(&at.span, format!("`{}` is no method that writes", show(word)), help);
                return None;
            };
            methods.push(method);
        }
        match PathPattern::parse(path, false) {
            Ok(path) => Some(WriteRule { methods, path }),
            Err(error) => {
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` is not a path: {error}", show(path)),
                    "write methods and a path, as in \"PUT|DELETE /api/posts/{id}\"",
                );
                None
            }
        }
    }

    pub(super) fn record(&self, record: &schema::Record) -> Record {
        let path = record.path.value().cloned().unwrap_or_else(|| {
            if record.path.is_absent() && record.is_clear() {
                self.wrong_with_help(
                    &record.span,
                    "there is no file to record into",
                    "add `path = \"requests.log\"`",
                );
            }
            PathBuf::new()
        });
        let plain = many(&record.plain).filter(|at| {
            let known = plugin_cases::record::Hider::knows(&at.value.value);
            if !known {
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` is nothing that is recorded", at.value.shown),
                    "there are \"header:NAME\", \"cookie:NAME\", \"query:NAME\", \"session:NAME\", \"client-ip\" and \"body\"",
                );
            }
            known
        });
        Record {
            path: self.folder.join(path),
            size: record.size.value().map_or(64 << 20, |size| size.0),
            plain: plain.map(|at| at.value.value.clone()).collect(),
        }
    }

    pub(super) fn data(&self, data: &schema::Data) -> Data {
        let path = data.path.value().cloned().unwrap_or_else(|| PathBuf::from("weir-data"));
        Data {
            path: self.folder.join(path),
            cache_size: data.cache_size.value().map_or(2 << 30, |size| size.0),
        }
    }
}
