//! Surrogate tags and their templates.
#![no_main]

use cache_semantics::tags::{TagLimits, TagTemplate, Tags};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let headers = weir_fuzz::headers(data);
    let limits = TagLimits { count: 5, bytes: 9 };
    for tags in [Tags::of_response(&headers, limits), Tags::invalidated_by(&headers, limits)] {
        assert!(tags.names.len() <= limits.count);
        assert!(tags.names.iter().all(|name| !name.is_empty() && name.len() <= limits.bytes));
    }
    if let Ok(source) = std::str::from_utf8(data)
        && let Ok(template) = source.parse::<TagTemplate>()
    {
        assert_eq!(template.as_str(), source);
        let names: Vec<String> = template.parameters().map(|name| format!("{{{name}}}")).collect();
        let rendered = template.render(|name| {
            names
                .iter()
                .map(|braced| &braced[..])
                .find(|braced| braced[1..].starts_with(name) && braced.len() == name.len() + 2)
        });
        assert_eq!(rendered.as_deref(), Some(source));
    }
});
