//! The arithmetic against a naive reference, and several proxies with one server against what the policy promises.

use std::time::Duration;

use proptest::prelude::*;

use crate::bucket::grant;
use crate::{
    Bucket, Decision, LEASE, OVERLAP, PerQuota, Policy, QUOTAS_MAX, Question, Quota, SECOND, Step, Ticks,
};

/// Remembers every unit, and lets each drain at its own time: slow, and obvious.
struct Naive {
    quota: Quota,
    /// When each unit that has passed will have drained.
    drains: Vec<Ticks>,
}

impl Naive {
    fn fits(&mut self, now: Ticks, cost: u64) -> bool {
        self.drains.retain(|at| *at > now);
        let mut last = self.drains.last().copied().unwrap_or(now);
        for _ in 0..cost {
            last += self.quota.interval();
        }
        last - now <= self.quota.burst() * self.quota.interval()
    }

    fn take(&mut self, now: Ticks, cost: u64) {
        for _ in 0..cost {
            let last = self.drains.last().copied().unwrap_or(now).max(now);
            self.drains.push(last + self.quota.interval());
        }
    }
}

fn quotas() -> impl Strategy<Value = Vec<Quota>> {
    let quota = (1..50_u64, 1..100_u64, prop::option::of(1..60_u64)).prop_map(|(units, tenths, burst)| {
        Quota::new(units, Duration::from_millis(tenths * 100), burst).unwrap()
    });
    prop::collection::vec(quota, 1..=QUOTAS_MAX)
}

/// What passed, and when.
fn assert_within(policy: &Policy, passed: &[(Ticks, u64)], slack: Ticks) -> Result<(), TestCaseError> {
    for quota in policy.quotas() {
        for (from, (begin, _)) in passed.iter().enumerate() {
            let mut units = 0;
            for (end, cost) in &passed[from..] {
                units += cost;
                let most = quota.burst() + (end - begin + slack) / quota.interval();
                prop_assert!(units <= most, "{units} in {} ticks of {quota:?}", end - begin);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn it_decides_as_the_naive_one_does(
        quotas in quotas(),
        steps in prop::collection::vec((0..2 * SECOND, 1..4_u64), 1..200),
    ) {
        let policy = Policy::new(quotas.clone()).unwrap();
        let mut naive: Vec<Naive> = quotas.into_iter().map(|quota| Naive { quota, drains: Vec::new() }).collect();
        let (mut bucket, mut now, mut passed) = (Bucket::default(), SECOND, Vec::new());
        for (wait, cost) in steps {
            // Half of them come at once.
            now += if wait % 2 == 0 { 0 } else { wait };
            let cost = cost.min(policy.cost_max());
            let fits = naive.iter_mut().all(|naive| naive.fits(now, cost));
            match bucket.decide(&policy, now, cost, 1) {
                Decision::Admitted(_) => {
                    prop_assert!(fits);
                    naive.iter_mut().for_each(|naive| naive.take(now, cost));
                    passed.push((now, cost));
                }
                Decision::Refused(refusal) => {
                    prop_assert!(!fits && refusal.retry_after > 0 && refusal.violated != 0);
                    // What it says is exact: not a tick earlier, and then at once.
                    let mut then = bucket;
                    prop_assert!(matches!(then.decide(&policy, now + refusal.retry_after - 1, cost, 1), Decision::Refused(_)));
                    prop_assert!(matches!(then.decide(&policy, now + refusal.retry_after, cost, 1), Decision::Admitted(_)));
                }
            }
        }
        assert_within(&policy, &passed, 0)?;
    }

    /// Proxies whose clocks disagree, one server, answers that come late, a server that forgets everything now and then.
    #[test]
    fn proxies_that_share_a_server_never_let_more_pass_than_one_would(
        (units, window, burst) in (1..20_000_u64, 1..20_u64, 1..2_000_u64),
        steps in prop::collection::vec((0..3_usize, 0..SECOND / 20, 0..SECOND / 200, prop::bool::weighted(0.02)), 1..400),
    ) {
        let Ok(quota) = Quota::new(units, Duration::from_secs(window), Some(burst)) else { return Ok(()) };
        let policy = Policy::new(vec![quota]).unwrap();
        let skews = [0, 5 * SECOND, 11 * SECOND];
        let mut buckets = [Bucket::default(); 3];
        let (mut server, mut now, mut passed) = ([0; QUOTAS_MAX], SECOND, Vec::new());
        // Answers on their way, and when they are there: other requests come meanwhile.
        let mut under_way: Vec<(Ticks, usize, Question, u64, PerQuota)> = Vec::new();
        for (who, wait, late, forgets) in steps {
            now += if wait % 3 == 0 { wait } else { 0 };
            for (at, who, question, granted, owed) in under_way.extract_if(.., |(at, ..)| *at <= now) {
                let answered = buckets[who].answered(&policy, &question, at + skews[who], granted, &owed);
                if matches!(answered, Decision::Admitted(_)) {
                    passed.push((at, 1));
                }
            }
            if forgets {
                // A proxy that has not asked for long knows less than the server did: what passes from here on is counted anew.
                server = [0; QUOTAS_MAX];
                buckets = [Bucket::default(); 3];
                passed.clear();
                under_way.clear();
            }
            let local = now + skews[who];
            match buckets[who].step(&policy, local, 1) {
                Step::Known(Decision::Admitted(_)) => passed.push((now, 1)),
                Step::Known(Decision::Refused(_)) => {}
                Step::Ask(question) => {
                    let (granted, owed) = serve(&policy, &mut server, now, &question.owed, question.least, question.most);
                    under_way.push((now + late, who, question, granted, owed));
                }
            }
        }
        passed.sort_unstable();
        // A lease is used up to its end, and for a while longer while the next one is asked for; the last quarter of one goes on with the next.
        assert_within(&policy, &passed, 2 * LEASE + OVERLAP + SECOND / 200)?;
    }
}

/// What the script in Redis does.
fn serve(
    policy: &Policy,
    until: &mut PerQuota,
    now: Ticks,
    known: &PerQuota,
    least: u64,
    most: u64,
) -> (u64, PerQuota) {
    let mut owed = [0; QUOTAS_MAX];
    for (index, quota) in policy.quotas().iter().enumerate() {
        owed[index] = until[index].saturating_sub(now).max(known[index]).min(quota.tolerance());
    }
    let (granted, after) = grant(policy, &owed, least, most, 1);
    if granted > 0 {
        for (until, owed) in until.iter_mut().zip(after) {
            *until = now + owed;
        }
    }
    (granted, after)
}

#[test]
fn a_server_that_forgot_everything_does_not_give_the_quota_again_to_those_who_remember() {
    let policy = Policy::new(vec![Quota::new(60, Duration::from_secs(60), None).unwrap()]).unwrap();
    let (mut server, mut bucket, now) = ([0; QUOTAS_MAX], Bucket::default(), SECOND);
    let mut passed = 0;
    for round in 0..200 {
        if round == 40 {
            server = [0; QUOTAS_MAX];
        }
        if let Step::Ask(question) = bucket.step(&policy, now, 1) {
            let (granted, owed) = serve(&policy, &mut server, now, &question.owed, 1, question.most);
            passed += u32::from(matches!(
                bucket.answered(&policy, &question, now, granted, &owed),
                Decision::Admitted(_)
            ));
        }
    }
    assert_eq!(passed, 60);
}
