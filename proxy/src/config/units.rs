//! Durations, sizes and shares as people write them.

use std::time::Duration;

/// Why a text is not what it should be; the sentence after "`5 minuets` is not a duration".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a duration at all.
    #[error("write a number and a unit (ms, s, m, h, d, w), as in \"250ms\", \"90s\", \"5m\", \"1h30m\"")]
    Duration,
    /// Not a size at all.
    #[error("write a number and a unit (B, KiB, MiB, GiB, TiB), as in \"64KiB\", \"1MiB\"")]
    Size,
    /// Not a share at all.
    #[error("write a share from \"0%\" to \"100%\", as in \"10%\"")]
    Share,
    /// More than fits.
    #[error("it is too large: at most {0}")]
    TooLarge(&'static str),
}

/// RFC 9111 §1.2.2: nothing needs to count further than 2^31 seconds, 68 years.
const DURATION_MAX: Duration = Duration::from_secs(1 << 31);

/// `250ms`, `90s`, `5m`, `1h30m`, `24h`, `7d`, `2w`. Larger units come first, each at most once.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    const UNITS: [(&str, u64); 6] =
        [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let too_large = UnitError::TooLarge("\"24855d\"");
    let mut rest = text.trim();
    let mut millis: u64 = 0;
    let mut smallest = None;
    while !rest.is_empty() {
        let (number, after) = leading_number(rest).ok_or(UnitError::Duration)?;
        let len = after.find(|char: char| !char.is_ascii_alphabetic()).unwrap_or(after.len());
        let index = UNITS.iter().position(|(unit, _)| *unit == &after[..len]).ok_or(UnitError::Duration)?;
        if smallest.is_some_and(|smallest| index <= smallest) {
            return Err(UnitError::Duration);
        }
        smallest = Some(index);
        let number: u64 = number.parse().map_err(|_| too_large.clone())?;
        let part = number.checked_mul(UNITS[index].1);
        millis = part.and_then(|part| millis.checked_add(part)).ok_or_else(|| too_large.clone())?;
        rest = after[len..].trim_start();
    }
    let duration = Duration::from_millis(millis);
    match smallest {
        None => Err(UnitError::Duration),
        Some(_) if duration > DURATION_MAX => Err(too_large),
        Some(_) => Ok(duration),
    }
}

/// `512B`, `64KiB`, `1MiB`, `2GiB`, `1TiB`; also powers of ten: `1KB`, `1MB`, `1GB`, `1TB`. A bare number is bytes.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    const UNITS: [(&str, u64); 10] = [
        ("", 1),
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ];
    const MAX: u64 = 1 << 60;
    let (number, unit) = leading_number(text.trim()).ok_or(UnitError::Size)?;
    let (_, factor) =
        UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or(UnitError::Size)?;
    let number: Option<u64> = number.parse().ok();
    let bytes = number.and_then(|number| number.checked_mul(*factor));
    bytes.filter(|bytes| *bytes <= MAX).ok_or(UnitError::TooLarge("\"1048576TiB\""))
}

/// `10%`, as 0.1.
pub fn parse_share(text: &str) -> Result<f64, UnitError> {
    let number = text.trim().strip_suffix('%').ok_or(UnitError::Share)?.trim_end();
    // `parse` alone would take "inf" and "1e1", too.
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(UnitError::Share);
    }
    let percent: f64 = number.parse().map_err(|_| UnitError::Share)?;
    if percent <= 100.0 { Ok(percent / 100.0) } else { Err(UnitError::Share) }
}

fn leading_number(text: &str) -> Option<(&str, &str)> {
    let len = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    (len > 0).then(|| (&text[..len], text[len..].trim_start()))
}

/// A duration as a person would write it.
pub fn show_duration(duration: Duration) -> String {
    const UNITS: [(&str, u128); 6] =
        [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let (unit, factor) =
        UNITS.iter().find(|(_, factor)| millis.is_multiple_of(*factor)).expect("1 divides all");
    format!("{}{unit}", millis / factor)
}

/// A size as a person would write it.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 5] =
        [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
    let (unit, factor) = UNITS
        .iter()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        #[rustfmt::skip]
        let cases = [
            // text          milliseconds
            ("250ms",        Some(250)),
            ("90s",          Some(90_000)),
            ("5m",           Some(300_000)),
            ("5 m",          Some(300_000)),
            ("1h30m",        Some(5_400_000)),
            ("1h 30m",       Some(5_400_000)),
            ("2w",           Some(1_209_600_000)),
            ("0s",           Some(0)),
            ("24855d",       Some(2_147_472_000_000)),
            ("24856d",       None),
            ("99999999999999999999s", None),
            ("",             None),
            ("5",            None),
            ("m",            None),
            ("5 minuets",    None),
            ("30m1h",        None),
            ("1m1m",         None),
            ("-5m",          None),
            ("1.5h",         None),
            ("5M",           None),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_duration(text).ok(), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn sizes() {
        #[rustfmt::skip]
        let cases = [
            ("0",        Some(0)),
            ("512",      Some(512)),
            ("512B",     Some(512)),
            ("64KiB",    Some(65_536)),
            ("64 kib",   Some(65_536)),
            ("1MB",      Some(1_000_000)),
            ("2GiB",     Some(2_147_483_648)),
            ("1048576TiB", Some(1 << 60)),
            ("1048577TiB", None),
            ("64K",      None),
            ("64 kilobytes", None),
            ("",         None),
            ("-1",       None),
            ("1.5MiB",   None),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text).ok(), bytes, "{text}");
        }
    }

    #[test]
    fn shares() {
        #[rustfmt::skip]
        let cases = [
            ("10%",  Some(0.1)), ("0%", Some(0.0)), ("100%", Some(1.0)), ("2.5 %", Some(0.025)),
            ("101%", None), ("10", None), ("%", None), ("inf%", None), ("-1%", None), ("1.2.3%", None),
        ];
        for (text, share) in cases {
            assert_eq!(parse_share(text).ok(), share, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(millis in 0..(1u64 << 41), bytes in 0..(1u64 << 60)) {
            let duration = Duration::from_millis(millis).min(DURATION_MAX);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,16}") {
            let _ = (parse_duration(&text), parse_size(&text), parse_share(&text));
        }
    }
}
