//! Key plans: what is checked is run; what is forwarded is part of what came, and would be forwarded again as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plugin_inputs::grants::Grants;
use plugin_inputs::plan::{KeyPlan, Planned, SaidPlan};
use plugin_inputs::request::{Attribute, Request, isomorphic};

/// A list on a line, between commas; `-` is none.
fn list(line: &str) -> Option<Vec<String>> {
    let names = line.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
    (line != "-").then(|| names.collect())
}

fn said(text: &str) -> SaidPlan {
    let mut lines = text.split('\n');
    let flags = lines.next().unwrap_or_default();
    let mut next = || list(lines.next().unwrap_or_default());
    let (keep, drop, headers, cookies, session) = (next(), next(), next(), next(), next());
    SaidPlan {
        lower_path: flags.contains('l'),
        keep,
        drop: drop.unwrap_or_default(),
        sort: flags.contains('s'),
        headers: headers.unwrap_or_default(),
        cookies,
        session: session.unwrap_or_default(),
    }
}

fuzz_target!(|data: &[u8]| {
    let (text, query, fields) = weir_fuzz::three(data);
    let said = said(&String::from_utf8_lossy(text));
    let names_nothing =
        said.headers.is_empty() && said.session.is_empty() && said.cookies.as_ref().is_none_or(Vec::is_empty);
    let Ok(plan) = KeyPlan::check(said) else { return };
    assert_eq!(plan.missing(&Grants::everything()), []);
    let headers = weir_fuzz::headers(fields);
    let text = isomorphic(query);
    let query = (!query.is_empty()).then_some(&*text);
    let request = Request {
        method: "GET",
        scheme: "http",
        authority: "a.test",
        path: "/",
        query,
        route: "r",
        headers: &headers,
        client_ip: None,
        tls_sni: None,
        session: &[Attribute { name: "tier", value: "gold", is_text: query.is_some() }],
        content: None,
        allowance: None,
        now: weir_fuzz::now(),
    };
    let mut planned = Planned::default();
    plan.apply(&request, &mut planned);
    let part = planned.part.clone();
    assert_eq!(part.is_empty(), names_nothing);
    let forwarded =
        if planned.changed { planned.query().map(str::to_owned) } else { query.map(str::to_owned) };
    let came: Vec<&str> = query.into_iter().flat_map(|query| query.split('&')).collect();
    for kept in forwarded.iter().flat_map(|query| query.split('&')) {
        assert!(came.contains(&kept), "{kept:?} was not among {came:?}");
    }
    // Memory that is used again says nothing of what it held before, and what a plan leaves it leaves again.
    plan.apply(&Request { query: forwarded.as_deref(), ..request }, &mut planned);
    assert!(!planned.changed, "{query:?} became {forwarded:?}, and that {:?}", planned.query());
    assert_eq!(planned.part, part);
});
