//! A stored response as an answer: conditions, ranges, HEAD, encodings, age.
//!
//! The plain GET is the hit path: it builds a head of slices and a body of one, and does nothing else.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_semantics::cache_status::{CACHE_STATUS, CacheStatus};
use cache_semantics::negotiate::{AcceptEncoding, Coding};
use cache_semantics::range::{self, ContentRange, Multipart, RangePlan, RangeSet};
use cache_semantics::validation::{self, Precondition, Validators};
use http::header::{self, Entry, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};

use crate::answer::StoredAnswer;
use crate::body::Body;
use crate::compress::CODINGS;
use crate::gate::PSEUDONYM;
use crate::http1::spare;
use crate::limit::Said;
use crate::purge::triggers::FOR_PROXIES;
use crate::store::{Encodings, StoredResponse};

/// Fields that are added to a stored head: `Age`, `Cache-Status`, and room for what the route sets.
const FIELDS_ADDED: usize = 4;

/// An answer made of a stored response, and what would have made it better.
#[derive(Debug)]
pub struct Served {
    /// The answer.
    pub response: Response<Body>,
    /// An encoding that the client likes better and that has not been made yet.
    pub wanted: Option<Coding>,
}

/// Answers a GET or HEAD with a stored response of this age.
pub fn from_stored(
    stored: &StoredResponse,
    method: &Method,
    request: &HeaderMap,
    age: Duration,
    status: CacheStatus,
) -> Served {
    // The conditions of a POST were the origin's to evaluate, and it has done what was asked.
    let asks_for_less = *method != Method::POST && validation::may_want_less(request);
    let mut served = if asks_for_less || stored.part.is_some() {
        conditional(stored, method, request)
    } else {
        whole(stored, method, request)
    };
    let headers = served.response.headers_mut();
    if has_fields_for_proxies(stored) {
        for name in &FOR_PROXIES {
            headers.remove(name);
        }
    }
    WRITTEN.with_borrow_mut(|written| {
        headers.insert(header::AGE, written.age(age.as_secs()));
        if headers.contains_key(CACHE_STATUS) {
            status.append(PSEUDONYM, headers);
        } else {
            headers.insert(CACHE_STATUS, written.status(status));
        }
    });
    served
}

/// Whether it carries tags in fields that are not for clients. They stay with what is stored, because a 304 may leave them as they are.
fn has_fields_for_proxies(stored: &StoredResponse) -> bool {
    stored.labels.tags().next().is_some() && FOR_PROXIES.iter().any(|name| stored.head.value(name).is_some())
}

/// The answer to a GET that asks for the whole and sets no condition, straight out of the store; and an encoding that should be made. `None`: an
/// answer must be put together.
pub fn straight(
    stored: &Arc<StoredResponse>,
    method: &Method,
    request: &HeaderMap,
    age: Duration,
    status: CacheStatus,
) -> Option<(StoredAnswer, Option<Coding>)> {
    if *method != Method::GET
        || stored.part.is_some()
        || validation::may_want_less(request)
        || has_fields_for_proxies(stored)
        || matches!(stored.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        return None;
    }
    let (encoded, wanted) = match &stored.encoded {
        Encodings::Never => (None, None),
        Encodings::Made(_) => encoding(stored, request),
    };
    let status = WRITTEN.with_borrow_mut(|written| written.status(status));
    let answer =
        StoredAnswer { stored: stored.clone(), encoded, age: age.as_secs(), status, said: Said::new() };
    answer.head().is_plain().then_some((answer, wanted))
}

/// Values that were written a moment ago: within a second, all hits on one response, and many hits on others, say the same.
#[derive(Default)]
struct Written {
    ages: [Option<(u64, HeaderValue)>; WRITTEN_MAX],
    statuses: [Option<(CacheStatus, HeaderValue)>; WRITTEN_MAX],
}

/// Values remembered of each kind, by their last digits.
const WRITTEN_MAX: usize = 16;

thread_local! {
    static WRITTEN: RefCell<Written> = RefCell::default();
}

impl Written {
    fn age(&mut self, seconds: u64) -> HeaderValue {
        remembered(&mut self.ages, seconds, seconds, HeaderValue::from)
    }

    fn status(&mut self, status: CacheStatus) -> HeaderValue {
        let place = status.ttl.unwrap_or_default().unsigned_abs();
        remembered(&mut self.statuses, place, status, |status| {
            status.value(PSEUDONYM).unwrap_or(HeaderValue::from_static(PSEUDONYM))
        })
    }
}

fn remembered<K: Copy + PartialEq>(
    places: &mut [Option<(K, HeaderValue)>; WRITTEN_MAX],
    place: u64,
    key: K,
    write: impl FnOnce(K) -> HeaderValue,
) -> HeaderValue {
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is less than sixteen")]
    let place = &mut places[(place % WRITTEN_MAX as u64) as usize];
    match place {
        Some((known, value)) if *known == key => value.clone(),
        _ => place.insert((key, write(key))).1.clone(),
    }
}

/// Adds our member to `Cache-Status`.
pub fn put_status(headers: &mut HeaderMap, status: CacheStatus) {
    match headers.entry(CACHE_STATUS) {
        Entry::Occupied(_) => status.append(PSEUDONYM, headers),
        Entry::Vacant(place) => {
            place.insert(WRITTEN.with_borrow_mut(|written| written.status(status)));
        }
    }
}

/// The whole of it, in the encoding that the client likes best.
fn whole(stored: &StoredResponse, method: &Method, request: &HeaderMap) -> Served {
    let (head, wanted) = match &stored.encoded {
        Encodings::Never => (None, None),
        Encodings::Made(_) => encoding(stored, request),
    };
    let encoded = head.and_then(|at| stored.encodings().get(at)?.head.as_ref());
    let body = match encoded {
        Some(encoded) => Body::full(encoded.content()),
        None => stored.body(),
    };
    let mut headers = spare::take();
    encoded.unwrap_or(&stored.head).add_to(&mut headers, FIELDS_ADDED);
    Served { response: answer(stored.status, headers, body, method), wanted }
}

/// Which of the encodings to use, if one is there and liked better; else the coding that should be made.
fn encoding(stored: &StoredResponse, request: &HeaderMap) -> (Option<usize>, Option<Coding>) {
    let made = stored.encodings();
    if !request.contains_key(header::ACCEPT_ENCODING) {
        return (None, None);
    }
    let accepted = AcceptEncoding::of(request);
    match accepted.best_of(&CODINGS) {
        Some(coding) if accepted.quality(coding) >= accepted.quality(Coding::Identity) => {
            match made.iter().position(|encoded| encoded.coding == coding) {
                // One that did not get smaller has no head of its own.
                Some(at) => (made[at].head.is_some().then_some(at), None),
                None => (None, Some(coding)),
            }
        }
        Some(_) | None => (None, None),
    }
}

/// The answer to a request with conditions or ranges (RFC 9110 §13.2.2, §14.2). Ranges are of the content as the origin sent it.
fn conditional(stored: &StoredResponse, method: &Method, request: &HeaderMap) -> Served {
    let headers = stored.head.to_map(FIELDS_ADDED);
    let validators = Validators::of(&headers);
    match validation::evaluate(method, request, stored.status, &validators, &stored.terms) {
        Precondition::Proceed => {}
        Precondition::NotModified => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.headers_mut() = validation::not_modified_headers(&headers);
            return Served { response, wanted: None };
        }
        Precondition::PreconditionFailed => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::PRECONDITION_FAILED;
            return Served { response, wanted: None };
        }
    }
    if let Some(part) = &stored.part {
        // The lookup has made sure that the part holds what is asked for.
        let range = RangeSet::of(method, request).and_then(|set| part.satisfy(&set));
        let (range, offset) =
            range.and_then(|range| Some((range, part.offset_of(&range)?))).unwrap_or((part.range, 0));
        let body = stored.slice(offset, offset + range.length() - 1);
        let response = one_part(headers, ContentRange { range, complete: part.complete }, body);
        return Served { response, wanted: None };
    }
    let len = stored.content_len();
    match range::plan(method, request, stored.status, &validators, len) {
        RangePlan::Whole => whole(stored, method, request),
        RangePlan::Single(range) => {
            let body = stored.slice(range.first, range.last);
            let response = one_part(headers, ContentRange { range, complete: Some(len) }, body);
            Served { response, wanted: None }
        }
        RangePlan::Multiple(ranges) => {
            let boundary = boundary();
            let Some(parts) = Multipart::new(&ranges, len, headers.get(header::CONTENT_TYPE), &boundary)
            else {
                return whole(stored, method, request);
            };
            let mut pieces: Vec<Bytes> = Vec::new();
            for (before, range) in parts.parts {
                pieces.push(before);
                pieces.extend(stored.slice(range.first, range.last));
            }
            pieces.push(parts.end);
            let mut headers = headers;
            headers.insert(header::CONTENT_TYPE, parts.content_type);
            let response = answer(StatusCode::PARTIAL_CONTENT, headers, Body::pieces(pieces), method);
            Served { response, wanted: None }
        }
        RangePlan::Unsatisfiable => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            response.headers_mut().insert(header::CONTENT_RANGE, range::unsatisfied_value(len));
            Served { response, wanted: None }
        }
    }
}

fn one_part(mut headers: HeaderMap, content_range: ContentRange, body: Vec<Bytes>) -> Response<Body> {
    headers.insert(header::CONTENT_RANGE, content_range.value());
    answer(StatusCode::PARTIAL_CONTENT, headers, Body::pieces(body), &Method::GET)
}

/// Puts an answer together; for HEAD, its length without its content (RFC 9110 §9.3.2).
fn answer(status: StatusCode, mut headers: HeaderMap, body: Body, method: &Method) -> Response<Body> {
    let body = if *method == Method::HEAD {
        if let Some(len) = body.exact_len() {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        }
        Body::empty()
    } else {
        body
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Sixteen letters and digits that content does not hold but by chance in 2^64.
fn boundary() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{:016x}", RandomState::new().hash_one(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_what_would_be_written() {
        let mut written = Written::default();
        for seconds in [0, 1, 16, 17, 1, 0, 1 << 40, 16] {
            assert_eq!(written.age(seconds), HeaderValue::from(seconds));
            let ttl = i64::try_from(seconds).unwrap();
            for status in [CacheStatus::hit(ttl), CacheStatus::hit(-ttl)] {
                assert_eq!(Some(written.status(status)), status.value(PSEUDONYM));
            }
        }
    }
}
