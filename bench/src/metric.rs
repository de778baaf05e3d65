//! What is measured, in which unit, and how samples become one figure.

use std::collections::BTreeMap;

use serde::Serialize;

/// One column of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// CPU time of the server per request, in microseconds.
    #[serde(rename = "cpu_us")]
    Cpu,
    /// CPU time per request beyond that of the scenario it is compared with, in the same round, in microseconds.
    #[serde(rename = "added_us")]
    Added,
    /// CPU time of the Redis behind it per request, in microseconds.
    #[serde(rename = "redis_us")]
    RedisCpu,
    /// Instructions of the server per request; the kernel's are not among them.
    Instructions,
    /// Instructions beyond those of the scenario it is compared with.
    AddedInstructions,
    #[serde(rename = "user_us")]
    User,
    #[serde(rename = "system_us")]
    System,
    /// Voluntary context switches per request.
    Switches,
    RequestsPerSecond,
    #[serde(rename = "p50_us")]
    P50,
    #[serde(rename = "p99_us")]
    P99,
    /// How many requests reached the origin.
    OriginRequests,
    /// Milliseconds until all clients had their answers, beyond the time the origin takes for one.
    #[serde(rename = "beyond_origin_ms")]
    BeyondOrigin,
    /// Bytes of memory for each stored response beside its key, head and body.
    #[serde(rename = "overhead_bytes")]
    Overhead,
    /// Responses that were no longer stored when all had been asked for.
    Lost,
    #[serde(rename = "first_byte_ms")]
    FirstByte,
    #[serde(rename = "mebibytes_per_second")]
    Throughput,
    /// The highest memory over the memory before, in MiB.
    #[serde(rename = "peak_growth_mib")]
    PeakGrowth,
    /// By how many percent the p99 of other clients grew.
    #[serde(rename = "others_slowdown_percent")]
    OthersSlowdown,
    /// Milliseconds from asking for a purge to the answer.
    #[serde(rename = "purge_ms")]
    Purge,
    /// Responses that a purge has taken.
    Purged,
    /// Commands that took Redis longer than a millisecond.
    SlowCommands,
    #[serde(rename = "memory_mib")]
    Memory,
    /// How much of its core the load generator used, with the origin.
    #[serde(rename = "load_core_percent")]
    LoadCore,
    /// How much of the server's core went to strangers: above a few percent a round is worth repeating.
    #[serde(rename = "disturbed_percent")]
    Disturbed,
}

impl Metric {
    pub(crate) const ALL: [Self; 25] = [
        Self::Cpu,
        Self::Added,
        Self::RedisCpu,
        Self::Instructions,
        Self::AddedInstructions,
        Self::User,
        Self::System,
        Self::Switches,
        Self::RequestsPerSecond,
        Self::P50,
        Self::P99,
        Self::OriginRequests,
        Self::BeyondOrigin,
        Self::Overhead,
        Self::Lost,
        Self::FirstByte,
        Self::Throughput,
        Self::PeakGrowth,
        Self::OthersSlowdown,
        Self::Purge,
        Self::Purged,
        Self::SlowCommands,
        Self::Memory,
        Self::LoadCore,
        Self::Disturbed,
    ];

    /// The head of the column and the digits after the point.
    pub(crate) fn column(self) -> (&'static str, usize) {
        match self {
            Self::Cpu => ("CPU us", 2),
            Self::Added => ("added us", 2),
            Self::RedisCpu => ("redis us", 2),
            Self::Instructions => ("instructions", 0),
            Self::AddedInstructions => ("added", 0),
            Self::User => ("user us", 2),
            Self::System => ("sys us", 2),
            Self::Switches => ("switches", 3),
            Self::RequestsPerSecond => ("req/s", 0),
            Self::P50 => ("p50 us", 0),
            Self::P99 => ("p99 us", 0),
            Self::OriginRequests => ("origin saw", 0),
            Self::BeyondOrigin => ("beyond origin ms", 1),
            Self::Overhead => ("bytes beside", 0),
            Self::Lost => ("lost", 0),
            Self::FirstByte => ("first byte ms", 2),
            Self::Throughput => ("MiB/s", 0),
            Self::PeakGrowth => ("peak growth MiB", 1),
            Self::OthersSlowdown => ("others' p99 +%", 0),
            Self::Purge => ("purge ms", 2),
            Self::Purged => ("purged", 0),
            Self::SlowCommands => ("slow in redis", 0),
            Self::Memory => ("memory MiB", 1),
            Self::LoadCore => ("load core %", 0),
            Self::Disturbed => ("disturbed %", 1),
        }
    }
}

/// What one server did in one round.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Sample(BTreeMap<Metric, f64>);

impl Sample {
    pub(crate) fn set(&mut self, metric: Metric, value: f64) {
        self.0.insert(metric, value);
    }

    pub(crate) fn value(&self, metric: Metric) -> Option<f64> {
        self.0.get(&metric).copied()
    }

    /// What it costs more than `base`, which was measured in the same round.
    pub(crate) fn compare(&mut self, base: &Self) {
        let costs = [(Metric::Cpu, Metric::Added), (Metric::Instructions, Metric::AddedInstructions)];
        for (cost, added) in costs {
            if let (Some(with), Some(without)) = (self.value(cost), base.value(cost)) {
                self.set(added, with - without);
            }
        }
    }

    /// CPU time, or instructions where those were counted.
    pub(crate) fn cost(&self) -> Option<f64> {
        self.value(Metric::Cpu).or_else(|| self.value(Metric::Instructions))
    }

    /// The same without what means nothing in a scenario.
    pub(crate) fn only(mut self, metrics: &[Metric]) -> Self {
        self.0.retain(|metric, _| metrics.contains(metric));
        self
    }

    /// The median of each metric by itself.
    pub(crate) fn median(rounds: &[Self]) -> Self {
        let values = |metric| rounds.iter().filter_map(move |round| round.value(metric));
        Self(Metric::ALL.into_iter().filter_map(|metric| Some((metric, median(values(metric))?))).collect())
    }

    /// How many times the [cost](Self::cost) of `other` this took: the median of the ratios of rounds that ran side by side.
    pub(crate) fn ratio(rounds: &[Self], other: &[Self]) -> Option<f64> {
        let pairs = rounds.iter().zip(other);
        median(pairs.filter_map(|(ours, theirs)| Some(ours.cost()? / theirs.cost()?)))
    }
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(cpu: &[f64]) -> Vec<Sample> {
        let sample = |value| {
            let mut sample = Sample::default();
            sample.set(Metric::Cpu, value);
            sample
        };
        cpu.iter().copied().map(sample).collect()
    }

    #[test]
    fn a_ratio_compares_rounds_pair_by_pair() {
        // The machine was slow in the second round, for both.
        let ratio = Sample::ratio(&rounds(&[6.0, 60.0, 7.2]), &rounds(&[5.0, 50.0, 6.0]));
        assert_eq!(ratio.map(|ratio| (ratio * 100.0).round()), Some(120.0));
        assert_eq!(Sample::ratio(&rounds(&[1.0]), &[]), None);
    }

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([3.0, 1.0].into_iter()), Some(2.0));
        assert_eq!(median([].into_iter()), None);
    }
}
