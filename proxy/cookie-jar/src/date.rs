//! Dates of cookies (RFC 6265bis §5.1.1): read leniently, for what servers write there is seldom an HTTP date.

/// Seconds since 1970 of a cookie's date; `None`: it is none. Dates before 1970 are 0.
#[must_use]
pub fn parse(text: &[u8]) -> Option<u64> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    let tokens = text.split(|byte| is_delimiter(*byte)).filter(|token| !token.is_empty());
    for token in tokens {
        // §5.1.1: each token is the first thing that it can be and that has not been found yet.
        if time.is_none()
            && let Some(found) = time_of(token)
        {
            time = Some(found);
        } else if day.is_none()
            && let Some(found) = number(token, 1, 2)
        {
            day = Some(found);
        } else if month.is_none()
            && let Some(found) = month_of(token)
        {
            month = Some(found);
        } else if year.is_none()
            && let Some(found) = number(token, 2, 4)
        {
            year = Some(found);
        }
    }
    let ((hour, minute, second), day, month, year) = (time?, day?, month?, year?);
    let year = match year {
        70..=99 => year + 1900,
        0..=69 => year + 2000,
        _ => year,
    };
    if !(1..=days_of(month, year)).contains(&day) || year < 1601 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + i64::from(hour * 3_600 + minute * 60 + second);
    Some(u64::try_from(seconds).unwrap_or(0))
}

const fn is_delimiter(byte: u8) -> bool {
    matches!(byte, 0x09 | 0x20..=0x2f | 0x3b..=0x40 | 0x5b..=0x60 | 0x7b..=0x7e)
}

/// So many digits, and after them nothing or something that is no digit.
fn number(token: &[u8], least: usize, most: usize) -> Option<u32> {
    let digits = token.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(least..=most).contains(&digits) {
        return None;
    }
    Some(token[..digits].iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
}

fn time_of(token: &[u8]) -> Option<(u32, u32, u32)> {
    let mut fields = token.splitn(3, |byte| *byte == b':');
    let (hour, minute, second) = (fields.next()?, fields.next()?, fields.next()?);
    let whole = |field: &[u8]| number(field, 1, 2).filter(|_| field.iter().all(u8::is_ascii_digit));
    Some((whole(hour)?, whole(minute)?, number(second, 1, 2)?))
}

fn month_of(token: &[u8]) -> Option<u32> {
    const MONTHS: [&[u8]; 12] =
        [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
    let first = token.get(..3)?;
    let at = MONTHS.iter().position(|month| first.eq_ignore_ascii_case(month))?;
    u32::try_from(at + 1).ok()
}

const fn days_of(month: u32, year: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Of the Gregorian calendar, whose years are made to begin in March, so that the leap day is the last.
fn days_since_1970(year: u32, month: u32, day: u32) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    i64::from(days) - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_5_1_1_dates() {
        #[rustfmt::skip]
        let cases = [
            // what                          date                                expected, s
            ("as RFC 9110 writes it",        "Wed, 09 Jun 2021 10:18:14 GMT",    Some(1_623_233_894)),
            ("with dashes",                  "Wed, 09-Jun-2021 10:18:14 GMT",    Some(1_623_233_894)),
            ("with two digits",              "Wed, 09-Jun-21 10:18:14 GMT",      Some(1_623_233_894)),
            ("as asctime has it",            "Wed Jun  9 10:18:14 2021",         Some(1_623_233_894)),
            ("the beginning",                "Thu, 01 Jan 1970 00:00:00 GMT",    Some(0)),
            ("before it",                    "Mon, 01 Jan 1900 00:00:00 GMT",    Some(0)),
            ("a leap day",                   "29 Feb 2024 00:00:00",             Some(1_709_164_800)),
            ("no leap day",                  "29 Feb 2023 00:00:00",             None),
            ("a century without one",        "29 Feb 2100 00:00:00",             None),
            ("1970 to 1999 of two digits",   "1 Jan 70 00:00:00",                Some(0)),
            ("2000 to 2069 of two digits",   "1 Jan 69 00:00:00",                Some(3_124_224_000)),
            ("short fields of time",         "1 Jan 1970 1:2:3",                 Some(3_723)),
            ("hour 24",                      "1 Jan 1970 24:00:00",              None),
            ("without a time",               "1 Jan 1970",                       None),
            ("a zone is not read",           "1 Jan 1970 00:00:01 PST",          Some(1)),
            ("nothing",                      "",                                 None),
        ];
        for (what, text, expected) in cases {
            assert_eq!(parse(text.as_bytes()), expected, "{what}: {text}");
        }
    }
}
