//! What is said of limits in an answer.
//!
//! A hit is written line by line, so this is the lines themselves: what does not change of them is made once for each quota, and only two numbers are
//! written for a request. Where an answer is a map of fields, the lines are read back.

use std::cell::RefCell;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use rate_limit::{Standing, fields};

use super::spec::{Fields, Rate};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const NAMES: [HeaderName; 5] = [RATE_LIMIT, RATE_LIMIT_POLICY, LIMIT, REMAINING, RESET];

/// Memory for lines that a worker keeps, and how much of it at most in one piece.
const SPARE_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 1_024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What is to be said of limits in an answer.
#[derive(Debug, Clone, Default)]
pub struct Said(Vec<u8>);

impl Said {
    /// Nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// And this, too.
    pub fn add(&mut self, more: Self) {
        if self.0.is_empty() {
            *self = more;
        } else {
            self.0.extend_from_slice(&more.0);
        }
    }

    /// As lines of HTTP/1.1.
    pub fn lines(&self) -> &[u8] {
        &self.0
    }

    fn fields(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.0.split(|byte| *byte == b'\n').filter_map(|line| {
            let line = line.strip_suffix(b"\r")?;
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = NAMES.into_iter().find(|name| name.as_str().as_bytes() == &line[..colon])?;
            let value = HeaderValue::from_bytes(line[colon..].strip_prefix(b": ")?).ok()?;
            Some((name, value))
        })
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        if !(1..=SPARE_BYTES_MAX).contains(&self.0.capacity()) {
            return;
        }
        let mut lines = std::mem::take(&mut self.0);
        lines.clear();
        // A thread that ends keeps nothing.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_MAX {
                spare.push(lines);
            }
        });
    }
}

/// Says it in an answer. What the origin says of limits of its own stays.
pub fn say(headers: &mut HeaderMap, said: &Said) {
    for (name, value) in said.fields() {
        headers.append(name, value);
    }
}

/// What a limit says, as far as that is known before it decides: for each quota, all that stands before the numbers.
#[derive(Debug)]
pub(super) struct Words(Box<[OfQuota]>);

#[derive(Debug)]
struct OfQuota {
    draft: Option<Box<str>>,
    legacy: Option<Box<str>>,
}

impl Words {
    pub(super) fn new(rate: &Rate, told: Fields) -> Self {
        let (draft, legacy) = match told {
            Fields::Draft => (true, false),
            Fields::Legacy => (false, true),
            Fields::Both => (true, true),
            Fields::Off => (false, false),
        };
        let policy = fields::policy(&rate.names, &rate.policy);
        let of_quota = |(name, quota): (&std::sync::Arc<str>, &rate_limit::Quota)| OfQuota {
            draft: draft.then(|| {
                let begins = fields::standing(name);
                format!("{RATE_LIMIT_POLICY}: {policy}\r\n{RATE_LIMIT}: {begins}").into()
            }),
            legacy: legacy.then(|| format!("{LIMIT}: {}\r\n{REMAINING}: ", quota.units()).into()),
        };
        Self(rate.names.iter().zip(rate.policy.quotas()).map(of_quota).collect())
    }

    /// Says how a quota stands.
    pub(super) fn say(&self, standing: &Standing, said: &mut Said) {
        let Some(words) = self.0.get(standing.quota) else { return };
        let lines = &mut said.0;
        if lines.capacity() == 0
            && let Some(spare) = SPARE.with_borrow_mut(Vec::pop)
        {
            *lines = spare;
        }
        if let Some(draft) = &words.draft {
            lines.extend_from_slice(draft.as_bytes());
            fields::write_standing(lines, standing);
            lines.extend_from_slice(b"\r\n");
        }
        if let Some(legacy) = &words.legacy {
            lines.extend_from_slice(legacy.as_bytes());
            fields::write_number(lines, standing.remaining);
            for part in ["\r\n", RESET.as_str(), ": "] {
                lines.extend_from_slice(part.as_bytes());
            }
            fields::write_number(lines, fields::seconds(standing.until_more));
            lines.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rate_limit::{Policy, Quota, SECOND};

    use super::*;

    /// What is told, of which quota, and in which fields.
    type Case = (Fields, usize, &'static [(&'static str, &'static str)]);

    #[test]
    fn what_is_said_in_lines_is_what_is_said_in_fields() {
        let quota = |units, seconds| Quota::new(units, Duration::from_secs(seconds), None).unwrap();
        let policy = Policy::new(vec![quota(60, 60), quota(1_000, 3_600)]).unwrap();
        let rate = Rate { policy, names: vec!["api-1m".into(), "api-1h".into()] };
        #[rustfmt::skip]
        let cases: [Case; 5] = [
            (Fields::Off, 0, &[]),
            (Fields::Draft, 0, &[("ratelimit-policy", "\"api-1m\";q=60;w=60, \"api-1h\";q=1000;w=3600"), ("ratelimit", "\"api-1m\";r=7;t=2")]),
            (Fields::Draft, 1, &[("ratelimit-policy", "\"api-1m\";q=60;w=60, \"api-1h\";q=1000;w=3600"), ("ratelimit", "\"api-1h\";r=7;t=2")]),
            (Fields::Legacy, 1, &[("x-ratelimit-limit", "1000"), ("x-ratelimit-remaining", "7"), ("x-ratelimit-reset", "2")]),
            (Fields::Both, 0, &[
                ("ratelimit-policy", "\"api-1m\";q=60;w=60, \"api-1h\";q=1000;w=3600"), ("ratelimit", "\"api-1m\";r=7;t=2"),
                ("x-ratelimit-limit", "60"), ("x-ratelimit-remaining", "7"), ("x-ratelimit-reset", "2"),
            ]),
        ];
        for (told, quota, expected) in cases {
            let words = Words::new(&rate, told);
            let mut said = Said::new();
            words.say(&Standing { quota, remaining: 7, until_more: SECOND + 1 }, &mut said);
            let lines: String = expected.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            assert_eq!(String::from_utf8_lossy(said.lines()), lines, "{told:?}");
            let mut headers = HeaderMap::new();
            say(&mut headers, &said);
            let fields: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            let mut found = fields.clone();
            found.sort_unstable();
            assert_eq!(found, expected, "{told:?}");
        }
    }

    #[test]
    fn memory_is_used_again_and_nothing_of_what_stood_there() {
        let policy = Policy::new(vec![Quota::new(60, Duration::from_secs(60), None).unwrap()]).unwrap();
        let words = Words::new(&Rate { policy, names: vec!["api".into()] }, Fields::Draft);
        let (mut first, mut second) = (Said::new(), Said::new());
        words.say(&Standing { quota: 0, remaining: 59, until_more: SECOND }, &mut first);
        let at = first.lines().as_ptr();
        drop(first);
        words.say(&Standing { quota: 0, remaining: 7, until_more: 0 }, &mut second);
        assert_eq!(second.lines().as_ptr(), at);
        assert!(second.lines().ends_with(b"\r\nratelimit: \"api\";r=7\r\n"));
        let mut both = Said::new();
        both.add(second);
        both.add(both.clone());
        assert_eq!(both.fields().count(), 4);
    }
}
