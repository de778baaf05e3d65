//! `[[cookie]]` and `[vault]`: their shape in the file, and their checks.

use std::sync::Arc;
use std::time::Duration;

use cache_semantics::glob::Glob;
use cookie_jar::{Lifetime as CookieLifetime, Policy, Prefix, Rule, Secure};

use super::decode::{At, Decode, Field, Lifetime, Node, OneOrMany, Reader, Text, table, words};
use super::resolve::{Resolver, many};
use super::schema;
use crate::session::spec::{SameSite, Vault};

table! {
    /// What is changed about cookies of an application that sets them itself, without touching it; see [cookies.md](cookies.md). The first rule that matches a cookie's name holds; what it
    /// does not name stays as the application says.
    CookieRuleTable in "[[cookie]]" {
        /// Which: names as the application gives them; `*` stands for anything.
        name: OneOrMany<Text> = "required",
        /// Whether it is sent over TLS only; `"auto"`: if it was set over TLS.
        secure: SecureWord = "as the application says",
        /// Whether scripts cannot read it.
        http_only: bool = "as the application says",
        /// Whether it is sent with requests from other sites: `"Lax"` with links only, `"Strict"` never, `"None"` always.
        same_site: SameSite = "as the application says",
        /// What the browser knows it by: `"__Host-"` (nobody but this host can set it), or `"__Secure-"` (nobody without TLS). The application sees its own name. Over plain HTTP nothing is changed.
        prefix: Prefix = "none",
        /// Take the cookie without the prefix, too, as long as browsers have it from before.
        takes_unprefixed: bool = "false",
        /// How long a browser keeps it; `"browser"`: until it is closed.
        max_age: CookieAge = "as the application says",
    }
}

table! {
    /// Cookies of applications that Weir keeps, so that the browser has one opaque cookie instead, and the application its own with every request; see [cookies.md](cookies.md). They lie in the stores of
    /// `[session]`, sealed with its `keys`.
    VaultTable in "[vault]" {
        /// Which: names as the application gives them; `*` stands for anything.
        cookies: OneOrMany<Text> = "required",
        /// The browser's cookie. For cookies that have a date there is a second one, with `-kept` behind its name, which has a date, too.
        name: Text = "\"__Host-vault\"",
        /// Whether it is sent over TLS only.
        secure: bool = "true",
        /// Whether it is sent with requests from other sites: `"Lax"` with links only, `"Strict"` never, `"None"` always. The strictest of the cookies that are kept counts, where it is stricter.
        same_site: SameSite = "\"Lax\"",
        /// So long cookies are kept that nobody uses; each ends earlier if it says so.
        idle: Lifetime = "\"14d\"",
        /// Cookies whose new value means that somebody has logged in: the browser gets a new cookie, and the old one is worth what it was. Right for values that name a session, not for those that hold one.
        renew: OneOrMany<Text> = "`sessionid`, `connect.sid`, `JSESSIONID`, `PHPSESSID`, `remember_*`",
    }
}

/// Whether a cookie is sent over TLS only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SecureWord(Secure);

impl Decode for SecureWord {
    const EXPECTS: &'static str = "`true`, `false` or \"auto\"";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        if let Some(yes) = node.get_ref().as_bool() {
            return Some(Self(if yes { Secure::Always } else { Secure::Never }));
        }
        let text = reader.text(node, Self::EXPECTS)?;
        match text.value.as_str() {
            "auto" => Some(Self(Secure::Auto)),
            "true" => Some(Self(Secure::Always)),
            "false" => Some(Self(Secure::Never)),
            _ => {
                reader.unknown_word(node, &text, &["true", "false", "auto"], Self::EXPECTS);
                None
            }
        }
    }
}

words!(Prefix {
    "__Host-" => Prefix::Host,
    "__Secure-" => Prefix::Secure,
});

/// How long a browser keeps a cookie.
#[derive(Debug, Clone)]
pub(super) enum CookieAge {
    Browser,
    Age(Lifetime),
}

impl Decode for CookieAge {
    const EXPECTS: &'static str = "a duration, as \"24h\", a name from `[ttl]`, or \"browser\"";

    fn decode(node: &Node<'_>, reader: &Reader<'_>) -> Option<Self> {
        if node.get_ref().as_str() == Some("browser") {
            return Some(Self::Browser);
        }
        Lifetime::decode(node, reader).map(Self::Age)
    }
}

const IDLE: Duration = Duration::from_secs(14 * 86_400);
/// Names of cookies whose values are names of sessions, and change when somebody logs in: Django, Express, servlets, PHP; and what several frameworks call a login that lasts.
const RENEW: [&str; 5] = ["sessionid", "connect.sid", "JSESSIONID", "PHPSESSID", "remember_*"];

impl Resolver<'_> {
    pub(super) fn cookies(&mut self, field: &Field<OneOrMany<CookieRuleTable>>) -> Arc<Policy> {
        let rules = many(field).map(|at| self.cookie_rule(&at.value)).collect();
        Arc::new(Policy { rules })
    }

    fn cookie_rule(&mut self, table: &CookieRuleTable) -> Rule {
        let secure = table.secure.value().map(|word| word.0);
        let prefix = table.prefix.value().copied();
        if let (Some(at), Some(Secure::Never), Some(prefix)) = (table.secure.get(), secure, prefix) {
            let help = "leave `secure` out: a cookie with a prefix always is";
            self.wrong_with_help(
                &at.span,
                format!("browsers take a `{}` cookie only if it is secure", prefix.text()),
                help,
            );
        }
        if let (Some(at), Some(Secure::Never), Some(SameSite::None)) =
            (table.same_site.get(), secure, table.same_site.value())
        {
            self.wrong_with_help(
                &at.span,
                "browsers take such a cookie only if it is secure",
                "leave `secure` out, or write \"auto\"",
            );
        }
        if let (Some(at), Some(true), None) =
            (table.takes_unprefixed.get(), table.takes_unprefixed.value(), prefix)
        {
            self.wrong_with_help(
                &at.span,
                "there is no prefix to be without",
                "add `prefix = \"__Host-\"`, or leave this out",
            );
        }
        let lifetime = table.max_age.value().map(|age| match age {
            CookieAge::Browser => CookieLifetime::Browser,
            CookieAge::Age(age) => {
                let span = table.max_age.span().unwrap_or_else(|| table.span.clone());
                let age = Field::Given(At { value: age.clone(), span });
                CookieLifetime::Seconds(self.limit_duration(&age, IDLE).as_secs().max(1))
            }
        });
        Rule {
            names: self.cookie_globs(&table.name, &table.span, "[[cookie]]", "name"),
            secure,
            http_only: table.http_only.value().copied(),
            same_site: table.same_site.value().copied(),
            prefix,
            takes_unprefixed: table.takes_unprefixed.or(false),
            lifetime,
        }
    }

    fn cookie_globs(
        &self,
        field: &Field<OneOrMany<Text>>,
        table: &super::mistake::Span,
        written: &str,
        key: &str,
    ) -> Vec<Glob> {
        if field.is_absent() || field.value().is_some_and(|many| many.0.is_empty()) {
            let help = format!("add `{key} = \"sessionid\"`; `*` stands for anything");
            self.wrong_with_help(table, format!("`{written}` does not say which cookies"), help);
        }
        let mut globs = Vec::new();
        for at in many(field) {
            let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b';' | b'=' | b',' | b'"');
            if at.value.value.is_empty() || !at.value.value.bytes().all(fits) {
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` is not the name of a cookie", at.value.shown),
                    "as in \"sessionid\", or \"session*\"",
                );
            }
            globs.push(Glob::new(&at.value.value));
        }
        globs
    }

    pub(super) fn vault(&mut self, file: &schema::File) -> Option<Arc<Vault>> {
        let table = file.vault.value()?;
        let cookies = self.cookie_globs(&table.cookies, &table.span, "[vault]", "cookies");
        match file.session.value() {
            None if file.session.is_absent() => {
                let help = "add `[session]` with its `keys`; the vault keeps cookies where sessions are kept";
                self.wrong_with_help(&table.span, "there is no place to keep cookies in", help);
            }
            Some(session) if session.keys.is_absent() => {
                let help = "add `keys = [\"${SESSION_KEY}\"]` to `[session]`";
                self.wrong_with_help(
                    &table.span,
                    "cookies are kept sealed, and there is no key to seal them with",
                    help,
                );
            }
            _ => {}
        }
        let name = table.name.get().map_or("__Host-vault", |at| at.value.value.as_str());
        let secure = table.secure.or(true);
        if let Some(at) = table.name.get()
            && http::HeaderName::from_bytes(name.as_bytes()).is_err()
        {
            self.wrong_with_help(
                &at.span,
                format!("`{}` is not the name of a cookie", at.value.shown),
                "as in \"__Host-vault\"",
            );
        }
        if let (Some(at), false, true) = (table.secure.get(), secure, name.starts_with("__")) {
            let help = "name the cookie in another way, as `name = \"vault\"`";
            self.wrong_with_help(&at.span, format!("browsers take `{name}` only if it is secure"), help);
        }
        if let (Some(at), Some(SameSite::None), false) =
            (table.same_site.get(), table.same_site.value(), secure)
        {
            self.wrong_with_help(
                &at.span,
                "browsers take such a cookie only if it is secure",
                "leave `secure` out",
            );
        }
        let name_dated = format!("{name}-kept");
        for own in [name, &name_dated] {
            if cookies.iter().any(|glob| glob.matches(own)) {
                self.wrong_with_help(
                    &table.span,
                    format!("the vault would keep `{own}`, its own cookie"),
                    "choose another `name`, or narrower `cookies`",
                );
            }
        }
        for route in many(&file.route) {
            let Some(schema::RouteCache::Table(cache)) = route.value.cache.value() else { continue };
            for at in
                many(&cache.cookies).filter(|at| cookies.iter().any(|glob| glob.matches(&at.value.value)))
            {
                let help = "leave it out, or out of `[vault]`: what is in the vault is looked up after the cache was asked";
                self.wrong_with_help(
                    &at.span,
                    format!("`{}` is in the vault, and cannot be part of a key", at.value.shown),
                    help,
                );
            }
        }
        let renew = if table.renew.is_absent() {
            RENEW.iter().map(|name| Glob::new(name)).collect()
        } else {
            many(&table.renew).map(|at| Glob::new(&at.value.value)).collect()
        };
        Some(Arc::new(Vault {
            cookies,
            name: name.into(),
            name_dated: name_dated.into(),
            secure,
            same_site: table.same_site.or(SameSite::Lax),
            idle: self.limit_duration(&table.idle, IDLE),
            renew,
        }))
    }
}
