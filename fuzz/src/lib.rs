//! How the targets read their input.

use std::time::{Duration, Instant, UNIX_EPOCH};

use cache_semantics::Now;
use http::{HeaderMap, HeaderName, HeaderValue};

/// A header section: a field line for each line of the input, `name: value`. What is none is left out.
pub fn headers(data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// The input split at the first zero byte; the second part is empty if there is none.
pub fn two(data: &[u8]) -> (&[u8], &[u8]) {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    (&data[..at], data.get(at + 1..).unwrap_or_default())
}

/// The input split at the first two zero bytes.
pub fn three(data: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let (first, rest) = two(data);
    let (second, third) = two(rest);
    (first, second, third)
}

/// A header section with one field, each line of which is a line of the input.
pub fn field(name: HeaderName, data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(16) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(name.clone(), value);
        }
    }
    headers
}

/// A moment: the same on the wall each time, so that findings repeat.
pub fn now() -> Now {
    Now { wall: UNIX_EPOCH + Duration::from_secs(1_767_225_600), mono: Instant::now() }
}
