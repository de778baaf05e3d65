//! What a decision that asks nobody costs by itself, in nanoseconds: `cargo bench -p rate-limit`.
//!
//! A batch is long enough to be timed and the fastest of many counts, for whatever disturbs a batch only ever adds to it.

use std::hint::black_box;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use rate_limit::{Decision, Policy, Quota, SECOND, Step, Table, fields};

const BATCHES: usize = 60;
const CALLS: u32 = 20_000;

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    let mut row = |question: &str, nanos: f64| writeln!(out, "{nanos:>8.1} ns  {question}");
    let quota =
        |units, seconds| Quota::new(units, Duration::from_secs(seconds), None).map_err(io::Error::other);
    let one = Policy::new(vec![quota(1_000_000, 1)?]).map_err(io::Error::other)?;
    let two =
        Policy::new(vec![quota(1_000_000, 1)?, quota(100_000_000, 3_600)?]).map_err(io::Error::other)?;
    let table = Table::new(65_536);
    let mut now = SECOND;
    let mut key = 0_u128;
    let mut next = |of: u128| {
        now += 10;
        key = key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (key % of, now)
    };

    row(
        "local, one key, one quota",
        fastest(|| {
            let (_, now) = next(1);
            table.with(7, now, |bucket| bucket.decide(&one, now, 1, 1))
        }),
    )?;
    row(
        "local, one key, two quotas",
        fastest(|| {
            let (_, now) = next(1);
            table.with(8, now, |bucket| bucket.decide(&two, now, 1, 1))
        }),
    )?;
    row(
        "local, one of 50,000 keys",
        fastest(|| {
            let (key, now) = next(50_000);
            table.with(key << 64 | key, now, |bucket| bucket.decide(&one, now, 1, 1))
        }),
    )?;
    row(
        "leased, or asked for a lease of 20,000",
        fastest(|| {
            let (_, now) = next(1);
            table.with(9, now, |bucket| match bucket.step(&one, now, 1) {
                Step::Known(decision) => decision,
                Step::Ask(question) => bucket.answered(&one, &question, now, question.most, &[0; 4]),
            })
        }),
    )?;
    let slow = Policy::new(vec![quota(1, 3_600)?]).map_err(io::Error::other)?;
    row(
        "a refusal that is remembered",
        fastest(|| {
            let (_, now) = next(1);
            table.with(10, now, |bucket| match bucket.step(&slow, now, 1) {
                Step::Known(decision) => decision,
                Step::Ask(question) => bucket.answered(&slow, &question, now, 0, &[3_600 * SECOND, 0, 0, 0]),
            })
        }),
    )?;
    let Decision::Admitted(standing) = table.with(11, SECOND, |bucket| bucket.decide(&one, SECOND, 1, 1))
    else {
        return Err(io::Error::other("the first one passes"));
    };
    let (begins, mut line) = (fields::standing("api"), Vec::new());
    row(
        "the `RateLimit` field",
        fastest(|| {
            line.clear();
            line.extend_from_slice(begins.as_bytes());
            fields::write_standing(&mut line, black_box(&standing));
            line.len()
        }),
    )
}

/// Nanoseconds of a call, in the fastest batch.
fn fastest<T>(mut call: impl FnMut() -> T) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..BATCHES {
        let begun = Instant::now();
        for _ in 0..CALLS {
            black_box(call());
        }
        best = best.min(begun.elapsed());
    }
    best.as_secs_f64() * 1e9 / f64::from(CALLS)
}
