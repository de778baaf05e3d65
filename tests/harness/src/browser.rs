//! A browser, as far as cookies go: what it keeps, what it sends, and what it forgets when it is closed.

use crate::weir::Weir;
use crate::wire::{Conn, Response, request_bytes};

/// Whom it asks: this machine, of which browsers take secure cookies without TLS.
const HOST: &str = "localhost";

/// One profile of a browser. Where a request names no `Host`, it asks for `localhost`.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    cookies: Vec<Cookie>,
}

#[derive(Clone, Debug)]
struct Cookie {
    name: String,
    value: String,
    path: String,
    /// It outlives the browser.
    dated: bool,
    line: String,
}

impl Browser {
    /// One without cookies.
    pub fn new() -> Browser {
        Browser::default()
    }

    /// Asks, and keeps the cookies of the answer.
    #[track_caller]
    pub fn ask(
        &mut self,
        weir: &Weir,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let mut client = weir.client();
        client.send(self.request(method, target, headers, body));
        self.take(&mut client, method)
    }

    /// Asks for a page.
    #[track_caller]
    pub fn get(&mut self, weir: &Weir, target: &str) -> Response {
        self.ask(weir, "GET", target, &[], b"")
    }

    /// Sends a form.
    #[track_caller]
    pub fn post(&mut self, weir: &Weir, target: &str, fields: &[(&str, &str)]) -> Response {
        let pairs = fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        let body = pairs.collect::<Vec<_>>().join("&");
        let kind = [("Content-Type", "application/x-www-form-urlencoded")];
        self.ask(weir, "POST", target, &kind, body.as_bytes())
    }

    /// The bytes of a request with its cookies.
    pub fn request(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut all = headers.to_vec();
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            all.push(("Host", HOST));
        }
        let cookies = self.cookies_for(target);
        if !cookies.is_empty() {
            all.push(("Cookie", &cookies));
        }
        request_bytes(method, target, &all, body)
    }

    /// Reads an answer, and keeps its cookies.
    #[track_caller]
    pub fn take(&mut self, client: &mut Conn, method: &str) -> Response {
        let response = client.expect_response(method);
        for line in response.headers.all("set-cookie") {
            self.set(line);
        }
        response
    }

    fn set(&mut self, line: &str) {
        let mut pieces = line.split(';').map(str::trim);
        let (name, value) = pieces.next().unwrap_or_default().split_once('=').expect("a cookie has a name");
        let (mut path, mut age, mut dated, mut secure, mut domain) = ("/", None, false, false, false);
        for piece in pieces {
            let (attribute, value) = piece.split_once('=').unwrap_or((piece, ""));
            match attribute.to_ascii_lowercase().as_str() {
                "path" => path = value,
                "max-age" => age = Some(value.parse::<i64>().expect("an age is a number")),
                // No other year is set here.
                "expires" if value.contains(" 1970 ") => age = age.or(Some(0)),
                "expires" => dated = true,
                "secure" => secure = true,
                "domain" => domain = true,
                _ => {}
            }
        }
        assert!(
            !name.starts_with("__Host-") || (secure && !domain && path == "/"),
            "a browser takes no such cookie: {line}"
        );
        self.cookies.retain(|cookie| cookie.name != name || cookie.path != path);
        if age.is_none_or(|age| age > 0) {
            let (name, value, path) = (name.to_owned(), value.to_owned(), path.to_owned());
            let dated = dated || age.is_some();
            self.cookies.push(Cookie { name, value, path, dated, line: line.to_owned() });
        }
    }

    fn cookies_for(&self, target: &str) -> String {
        let path = target.split('?').next().unwrap_or_default();
        let goes = |cookie: &&Cookie| {
            let rest = path.strip_prefix(&cookie.path);
            rest.is_some_and(|rest| rest.is_empty() || cookie.path.ends_with('/') || rest.starts_with('/'))
        };
        let pairs =
            self.cookies.iter().filter(goes).map(|cookie| format!("{}={}", cookie.name, cookie.value));
        pairs.collect::<Vec<_>>().join("; ")
    }

    /// It is closed and opened again: cookies without a date are gone.
    pub fn reopen(&mut self) {
        self.cookies.retain(|cookie| cookie.dated);
    }

    /// The names of its cookies, in the order in which they were last set.
    pub fn names(&self) -> Vec<&str> {
        self.cookies.iter().map(|cookie| cookie.name.as_str()).collect()
    }

    /// The value of a cookie.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.cookies.iter().find(|cookie| cookie.name == name).map(|cookie| cookie.value.as_str())
    }

    /// The line that has set a cookie.
    #[track_caller]
    pub fn line(&self, name: &str) -> &str {
        let found = self.cookies.iter().find(|cookie| cookie.name == name);
        &found.unwrap_or_else(|| panic!("no cookie `{name}` among {:?}", self.names())).line
    }

    /// Somebody else plants a cookie.
    pub fn plant(&mut self, line: &str) {
        self.set(line);
    }
}

/// As a value of a form.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
