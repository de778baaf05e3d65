//! The one reading of the clock that every decision takes, and HTTP's notations of time.
//!
//! Nothing here reads a clock (`proxy/src/clock.rs` does). Dates on the wire compare with the wall clock; how long something has been
//! held inside this process is measured by the monotonic one, so that a step of the wall clock changes no age.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, header};

/// One moment, read from both clocks at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Compares with `Date`, `Expires` and `Last-Modified`, and outlives the process. May step backwards.
    pub wall: SystemTime,
    /// Measures how long this process has held something. Never steps back.
    pub mono: Instant,
}

impl Now {
    /// How long ago `earlier` was, by the monotonic clock; zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Now) -> Duration {
        self.mono.saturating_duration_since(earlier.mono)
    }

    /// The moment `by` later on both clocks, or this one where a clock cannot represent it. For tests and schedules.
    #[must_use]
    pub fn after(self, by: Duration) -> Now {
        Now {
            wall: self.wall.checked_add(by).unwrap_or(self.wall),
            mono: self.mono.checked_add(by).unwrap_or(self.mono),
        }
    }
}

/// The largest `delta-seconds` kept; larger ones are read as this (RFC 9111 §1.2.2).
pub const DELTA_SECONDS_MAX: u32 = 1 << 31;

/// Reads `delta-seconds`: digits and nothing else; too large a number is [`DELTA_SECONDS_MAX`] (RFC 9111 §1.2.2).
#[must_use]
pub fn parse_delta_seconds(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    let mut value: u32 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.saturating_mul(10).saturating_add(u32::from(digit - b'0')).min(DELTA_SECONDS_MAX);
    }
    Some(value)
}

/// Reads an HTTP-date in any of its three forms (RFC 9110 §5.6.7).
#[must_use]
pub fn parse_http_date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?.trim()).ok()
}

/// Writes an HTTP-date, in the form to be sent (RFC 9110 §5.6.7). Moments that it cannot write are cut to the nearest it can.
#[must_use]
pub fn http_date(wall: SystemTime) -> HeaderValue {
    /// The last second of the year 9999.
    const LAST: u64 = 253_402_300_799;
    let seconds = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().min(LAST);
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    HeaderValue::try_from(text).expect("a date consists of visible ASCII characters")
}

/// Gives a response that has no valid `Date` the one at which it was received, as it must have before it is stored or forwarded
/// (RFC 9110 §6.6.1).
pub fn ensure_date(headers: &mut HeaderMap, received: SystemTime) {
    if crate::freshness::date(headers).is_none() {
        headers.insert(header::DATE, http_date(received));
    }
}

/// Milliseconds since the epoch; zero before it. Eight bytes instead of the sixteen of a `SystemTime`.
pub(crate) fn to_millis(wall: SystemTime) -> u64 {
    let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The inverse of [`to_millis`], as far as the clock can represent it.
pub(crate) fn from_millis(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    #[test]
    fn section_1_2_2_delta_seconds() {
        #[rustfmt::skip]
        let cases = [
            // what                       digits          expected
            ("zero",                      "0",            Some(0)),
            ("leading zeros",             "003600",       Some(3600)),
            ("the largest kept",          "2147483648",   Some(DELTA_SECONDS_MAX)),
            ("one more saturates",        "2147483649",   Some(DELTA_SECONDS_MAX)),
            ("very long saturates",       "99999999999999999999999", Some(DELTA_SECONDS_MAX)),
            ("empty is invalid",          "",             None),
            ("a sign is invalid",         "-1",           None),
            ("plus is invalid",           "+1",           None),
            ("a fraction is invalid",     "1.0",          None),
            ("letters are invalid",       "60s",          None),
            ("space is invalid",          " 60",          None),
        ];
        for (what, digits, expected) in cases {
            assert_eq!(parse_delta_seconds(digits.as_bytes()), expected, "{what}");
        }
    }

    #[test]
    fn a_clock_that_steps_back_gives_zero() {
        let now = start();
        let later = now.after(Duration::from_secs(5));
        assert_eq!(now.since(later), Duration::ZERO);
        assert_eq!(later.since(now), Duration::from_secs(5));
    }

    #[test]
    fn dates_in_all_three_forms() {
        let expected = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(parse_http_date(&HeaderValue::from_static(text)), Some(expected), "{text}");
        }
        for text in ["", "0", "-1", "tomorrow", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(parse_http_date(&HeaderValue::from_static(text)), None, "{text}");
        }
    }

    #[test]
    fn dates_are_written_for_any_clock() {
        assert_eq!(http_date(UNIX_EPOCH + Duration::from_secs(784_111_777)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(UNIX_EPOCH - Duration::from_secs(9)), "Thu, 01 Jan 1970 00:00:00 GMT");
        let far = UNIX_EPOCH + Duration::from_secs(1 << 50);
        assert_eq!(http_date(far), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(from_millis(to_millis(start().wall)), start().wall);
        assert_eq!(to_millis(UNIX_EPOCH - Duration::from_secs(9)), 0);
    }

    #[test]
    fn a_response_without_a_valid_date_gets_one() {
        let mut headers = HeaderMap::new();
        ensure_date(&mut headers, start().wall);
        assert_eq!(headers[header::DATE], "Thu, 01 Jan 2026 00:00:00 GMT");
        headers.insert(header::DATE, HeaderValue::from_static("foo"));
        ensure_date(&mut headers, start().wall);
        assert_eq!(headers[header::DATE], "Thu, 01 Jan 2026 00:00:00 GMT");
        let earlier = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
        headers.insert(header::DATE, earlier.clone());
        ensure_date(&mut headers, start().wall);
        assert_eq!(headers[header::DATE], earlier);
    }
}
