//! The text of OpenMetrics 1.0, a family at a time.

use std::fmt::Write as _;

use super::count::{BUCKETS, Histogram, bound_text};

/// The text under way. Writing to a `String` cannot fail, hence the ignored results.
#[derive(Default)]
pub(super) struct Page {
    pub(super) text: String,
    family: &'static str,
}

impl Page {
    pub(super) fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
        for unit in ["seconds", "bytes"] {
            if name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')) {
                let _ = writeln!(self.text, "# UNIT {name} {unit}");
            }
        }
        let _ = writeln!(self.text, "# HELP {name} {help}");
    }

    pub(super) fn counter(&mut self, name: &'static str, help: &str, count: u64) {
        self.family(name, "counter", help);
        let _ = writeln!(self.text, "{name}_total {count}");
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        let _ = writeln!(self.text, "{name} {value}");
    }

    pub(super) fn labelled(
        &mut self,
        name: &'static str,
        label: &str,
        help: &str,
        counts: impl Iterator<Item = (&'static str, u64)>,
    ) {
        self.family(name, "counter", help);
        for (value, count) in counts {
            let _ = writeln!(self.text, "{name}_total{{{label}=\"{value}\"}} {count}");
        }
    }

    pub(super) fn histogram(&mut self, name: &'static str, help: &str, fill: impl FnOnce(&mut Self)) {
        self.family(name, "histogram", help);
        fill(self);
    }

    /// One histogram's lines; none at all while it is empty.
    pub(super) fn buckets<'a>(
        &mut self,
        labels: &[(&str, &str)],
        histograms: impl Iterator<Item = &'a Histogram>,
    ) {
        let mut counts = [0_u64; BUCKETS];
        let mut nanoseconds = 0_u64;
        for histogram in histograms {
            nanoseconds = nanoseconds.wrapping_add(histogram.nanoseconds.count());
            for (sum, counter) in counts.iter_mut().zip(&histogram.buckets) {
                *sum += counter.count();
            }
        }
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return;
        }
        let name = self.family;
        let mut so_far = 0;
        for (bucket, count) in counts.iter().enumerate() {
            so_far += count;
            let bound = bound_text(bucket);
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            let _ = writeln!(self.text, "{name}_bucket{} {so_far}", label_text(&labels));
        }
        let labels = label_text(labels);
        let _ = writeln!(self.text, "{name}_count{labels} {total}");
        let _ = writeln!(
            self.text,
            "{name}_sum{labels} {}.{:09}",
            nanoseconds / 1_000_000_000,
            nanoseconds % 1_000_000_000
        );
    }
}

/// `{a="b",c="d"}`, escaped; nothing where there are no labels.
pub(super) fn label_text(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let mut text = String::from("{");
    for (at, (name, value)) in labels.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        let _ = write!(text, "{name}=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text.push('}');
    text
}
