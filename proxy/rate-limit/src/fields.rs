//! What a client is told: `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11), and seconds for `Retry-After`.

use std::fmt::Write as _;

use crate::{Policy, SECOND, Standing, Ticks};

/// `RateLimit-Policy`: `"api";q=60;w=60`, an item for each quota. `names`: one for each, fit to stand in a String of RFC 9651.
pub fn policy(names: &[impl AsRef<str>], policy: &Policy) -> String {
    let mut out = String::new();
    for (name, quota) in names.iter().zip(policy.quotas()) {
        let between = if out.is_empty() { "" } else { ", " };
        // The draft counts whole seconds; a shorter window is a second, with as many units as pass in it.
        let seconds = quota.window().as_secs().max(1);
        let units = if quota.window().as_secs() == 0 {
            quota.burst().max(SECOND / quota.interval())
        } else {
            quota.units()
        };
        write!(out, "{between}\"{}\";q={units};w={seconds}", name.as_ref()).expect("a string takes all");
    }
    out
}

/// `RateLimit`: `"api";r=59;t=1`. What stands there before the numbers, which are [written](write_standing) behind it.
pub fn standing(name: &str) -> String {
    format!("\"{name}\";r=")
}

/// The numbers of `RateLimit`: `59;t=1`. `t` is when there is one more, and left out where there is nothing more to come.
pub fn write_standing(out: &mut Vec<u8>, standing: &Standing) {
    write_number(out, standing.remaining);
    if standing.until_more > 0 {
        out.extend_from_slice(b";t=");
        write_number(out, seconds(standing.until_more));
    }
}

/// Whole seconds, rounded up: nobody is sent back too early.
pub const fn seconds(ticks: Ticks) -> u64 {
    ticks.div_ceil(SECOND)
}

/// Writes a number; faster than the formatting machinery, which every request would pay for.
pub fn write_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0_u8; 20];
    let (mut rest, mut at) = (number, digits.len());
    loop {
        at -= 1;
        let digit = (rest % 10) as u8;
        digits[at] = b'0' + digit;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Quota;

    #[test]
    fn fields_are_those_of_the_draft() {
        let quota = |units, millis| Quota::new(units, Duration::from_millis(millis), None).unwrap();
        let two = Policy::new(vec![quota(100, 60_000), quota(5, 500)]).unwrap();
        assert_eq!(policy(&["burst", "short"], &two), "\"burst\";q=100;w=60, \"short\";q=10;w=1");
        let said = |remaining, until_more| {
            let mut out = standing("api").into_bytes();
            write_standing(&mut out, &Standing { quota: 0, remaining, until_more });
            String::from_utf8(out).unwrap()
        };
        assert_eq!(said(59, SECOND), "\"api\";r=59;t=1");
        assert_eq!(said(0, SECOND + 1), "\"api\";r=0;t=2");
        assert_eq!(said(u64::MAX, 0), "\"api\";r=18446744073709551615");
    }
}
