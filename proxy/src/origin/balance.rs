//! Which server of a pool takes a request. Pure: what is known of each server goes in, an index comes out.

use crate::config::model::Balance;

/// What is known of a server when a choice is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    /// Its index in the pool.
    pub(super) index: usize,
    /// Its share; less than configured while it starts.
    pub(super) weight: f64,
    /// Requests under way.
    pub(super) requests: usize,
}

/// What round robin remembers between two choices: how much each server is owed.
#[derive(Debug, Default, Clone)]
pub(super) struct Turns {
    owed: Vec<f64>,
}

/// Chooses among the candidates. `turn` differs from choice to choice, so that ties do not all go to the first.
pub(super) fn choose(
    balance: Balance,
    candidates: &[Candidate],
    turns: &mut Turns,
    turn: usize,
    hash: u64,
) -> Option<usize> {
    if candidates.len() < 2 {
        return candidates.first().map(|only| only.index);
    }
    match balance {
        Balance::RoundRobin => round_robin(candidates, turns),
        Balance::LeastRequests => least_requests(candidates, turn),
        Balance::Hash => rendezvous(candidates, hash),
    }
}

/// Smooth weighted round robin: each is owed its weight more with every choice, the one that is owed most is chosen and pays for all.
/// A server of weight 2 between two of weight 1 gets every second request, not two in a row.
fn round_robin(candidates: &[Candidate], turns: &mut Turns) -> Option<usize> {
    let last = candidates.iter().map(|candidate| candidate.index).max()?;
    if turns.owed.len() <= last {
        turns.owed.resize(last + 1, 0.0);
    }
    let mut total = 0.0;
    let mut chosen: Option<usize> = None;
    for candidate in candidates {
        turns.owed[candidate.index] += candidate.weight;
        total += candidate.weight;
        if chosen.is_none_or(|best| turns.owed[candidate.index] > turns.owed[best]) {
            chosen = Some(candidate.index);
        }
    }
    let chosen = chosen?;
    turns.owed[chosen] -= total;
    Some(chosen)
}

/// The fewest requests per weight; counting the one to come, so that weights matter among idle servers too.
fn least_requests(candidates: &[Candidate], turn: usize) -> Option<usize> {
    #[expect(clippy::cast_precision_loss, reason = "2^52 requests under way are not counted exactly")]
    let load =
        |candidate: &Candidate| (candidate.requests + 1) as f64 / candidate.weight.max(f64::MIN_POSITIVE);
    let start = turn % candidates.len();
    let in_turn = candidates[start..].iter().chain(&candidates[..start]);
    in_turn.min_by(|one, other| load(one).total_cmp(&load(other))).map(|candidate| candidate.index)
}

/// Highest random weight: every server draws a number from the hash, the highest wins. A server that leaves moves only its own URLs.
fn rendezvous(candidates: &[Candidate], hash: u64) -> Option<usize> {
    let score = |candidate: &Candidate| {
        let drawn = mix(hash ^ mix(candidate.index as u64 + 1));
        #[expect(clippy::cast_precision_loss, reason = "53 bits are taken, which f64 holds exactly")]
        let uniform = ((drawn >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        // With -w/ln(u) the chance to be highest is proportional to the weight.
        -candidate.weight / uniform.ln()
    };
    candidates
        .iter()
        .max_by(|one, other| score(one).total_cmp(&score(other)))
        .map(|candidate| candidate.index)
}

/// A bijection that changes half of the bits when one changes: xor-shift and multiply, twice, with odd constants from the digits of the
/// golden ratio and of pi.
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 29)).wrapping_mul(0x2437_6a88_85a3_08d3);
    value ^ (value >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(of: &[(f64, usize)]) -> Vec<Candidate> {
        of.iter()
            .enumerate()
            .map(|(index, &(weight, requests))| Candidate { index, weight, requests })
            .collect()
    }

    fn counts(balance: Balance, candidates: &[Candidate], choices: u64) -> Vec<u64> {
        let mut turns = Turns::default();
        let mut counts = vec![0; candidates.len()];
        for turn in 0..choices {
            let hash = mix(turn);
            counts[choose(balance, candidates, &mut turns, usize::try_from(turn).unwrap(), hash).unwrap()] +=
                1;
        }
        counts
    }

    #[test]
    fn nobody_is_chosen_from_nobody() {
        assert_eq!(choose(Balance::RoundRobin, &[], &mut Turns::default(), 0, 0), None);
    }

    #[test]
    fn round_robin_gives_each_its_weight_and_never_two_in_a_row_without_need() {
        let pool = candidates(&[(2.0, 0), (1.0, 0), (1.0, 0)]);
        let mut turns = Turns::default();
        let choices: Vec<_> =
            (0..8).map(|turn| choose(Balance::RoundRobin, &pool, &mut turns, turn, 0).unwrap()).collect();
        assert_eq!(choices, [0, 1, 2, 0, 0, 1, 2, 0]);
    }

    #[test]
    fn least_requests_takes_the_least_loaded_by_weight() {
        #[rustfmt::skip]
        let cases = [
            // what                        (weight, requests)                      chosen
            ("the idle one",               vec![(1.0, 3), (1.0, 0), (1.0, 1)],     1),
            ("twice the weight",           vec![(1.0, 1), (2.0, 2)],               1),
            ("a starting one gets less",   vec![(1.0, 4), (0.1, 0)],               0),
        ];
        for (what, of, chosen) in cases {
            assert_eq!(
                choose(Balance::LeastRequests, &candidates(&of), &mut Turns::default(), 0, 0),
                Some(chosen),
                "{what}"
            );
        }
        assert_eq!(
            counts(Balance::LeastRequests, &candidates(&[(1.0, 0), (1.0, 0)]), 10),
            [5, 5],
            "ties go in turn"
        );
    }

    #[test]
    fn a_hash_spreads_by_weight() {
        let counts = counts(Balance::Hash, &candidates(&[(1.0, 0), (2.0, 0), (1.0, 0)]), 10_000);
        assert!((2_200..2_800).contains(&counts[0]) && (4_700..5_300).contains(&counts[1]), "{counts:?}");
    }

    proptest::proptest! {
        #[test]
        fn a_server_that_leaves_moves_only_its_own_urls(hash: u64, leaves in 0_usize..5) {
            let all = candidates(&[(1.0, 0); 5]);
            let left: Vec<_> = all.iter().copied().filter(|candidate| candidate.index != leaves).collect();
            let before = choose(Balance::Hash, &all, &mut Turns::default(), 0, hash);
            let after = choose(Balance::Hash, &left, &mut Turns::default(), 0, hash);
            proptest::prop_assert!(before == after || before == Some(leaves));
        }
    }
}
