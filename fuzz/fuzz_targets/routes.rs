//! Path patterns, templates and globs, and the ways to read a path: nothing panics, and a request is taken only if every reading of its path
//! selects the same route.
#![no_main]

use std::sync::Arc;

use cache_semantics::glob::Glob;
use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use weir::config::model::{Action, Route};
use weir::routes::path::{PathPattern, canonical};
use weir::routes::template::Template;
use weir::routes::{HostPattern, Matcher, RequestView, Routes};
use weir_fuzz::three;

fuzz_target!(|data: &[u8]| {
    let (pattern, path, query) = three(data);
    let (Ok(pattern), Ok(path)) = (std::str::from_utf8(pattern), std::str::from_utf8(path)) else { return };
    let query = std::str::from_utf8(query).ok();
    let _ = Glob::new(pattern).matches(path.as_bytes());
    HostPattern::parse(pattern);
    if let Ok(template) = Template::parse(pattern) {
        template.render(|name| Some(name.to_owned().into()));
    }
    let Ok(parsed) = PathPattern::parse(pattern, false) else { return };
    assert!(parsed.covers(&parsed), "{pattern} covers itself");
    let taken = parsed.matches(&canonical(path.as_bytes()));
    for name in parsed.names() {
        assert!(
            !taken || !path.starts_with('/') || parsed.bound(name, path).is_some(),
            "{name} of {pattern} on {path}"
        );
    }
    let first = Matcher { paths: vec![parsed], ..Matcher::default() };
    let routes = [first, Matcher::default()]
        .map(|matcher| Arc::new(Route::new("r", matcher, Action::RedirectToHttps)));
    let routes = Routes::new(routes.into());
    let headers = HeaderMap::new();
    let view = RequestView {
        https: false,
        method: &Method::GET,
        host: "a",
        path,
        query,
        headers: &headers,
        client: None,
    };
    if let Ok(found) = routes.find(&view) {
        assert_eq!(found.index == 0, taken);
    }
});
