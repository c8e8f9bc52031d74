//! The samples on a server's `/metrics`, parsed from its text.

use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    labels: Vec<(String, String)>,
    value: f64,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Samples(BTreeMap<String, Vec<Sample>>);

impl Samples {
    /// Parses the text. Lines not in Prometheus's format are skipped.
    pub fn read(text: &str) -> Self {
        let mut samples = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, sample)) = sample(line) {
                samples.0.entry(name).or_default().push(sample);
            }
        }
        samples
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn sum(&self, name: &str, label: Option<(&str, &str)>) -> f64 {
        let chosen = |sample: &&Sample| {
            label.is_none_or(|(name, value)| {
                sample.labels.iter().any(|(known, has)| known == name && has == value)
            })
        };
        self.0.get(name).into_iter().flatten().filter(chosen).map(|sample| sample.value).sum()
    }

    pub fn max(&self, name: &str) -> f64 {
        self.0.get(name).into_iter().flatten().map(|sample| sample.value).fold(0.0, f64::max)
    }

    pub fn buckets(&self, histogram: &str) -> Buckets {
        let mut counts: Vec<(f64, f64)> = Vec::new();
        for Sample { labels, value } in self.0.get(&format!("{histogram}_bucket")).into_iter().flatten() {
            let bound = labels.iter().find(|(name, _)| name == "le").and_then(|(_, le)| le.parse().ok());
            let Some(bound): Option<f64> = bound else { continue };
            match counts.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, count)) => *count += value,
                None => counts.push((bound, *value)),
            }
        }
        counts.sort_by(|a, b| a.0.total_cmp(&b.0));
        Buckets(counts)
    }
}

/// Cumulative counts by upper bound, ascending.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    pub fn since(&self, before: &Self) -> Self {
        let of =
            |bound: f64| before.0.iter().find(|(known, _)| *known == bound).map_or(0.0, |(_, count)| *count);
        Self(self.0.iter().map(|(bound, count)| (*bound, (count - of(*bound)).max(0.0))).collect())
    }

    pub fn plus(&self, other: &Self) -> Self {
        if self.0.is_empty() {
            return other.clone();
        }
        let of =
            |bound: f64| other.0.iter().find(|(known, _)| *known == bound).map_or(0.0, |(_, count)| *count);
        Self(self.0.iter().map(|(bound, count)| (*bound, count + of(*bound))).collect())
    }

    /// Returns a quantile, interpolated within its bucket as Prometheus does; `None` without observations.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let total = self.0.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let rank = quantile * total;
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= rank {
                let share = if *count > below { (rank - below) / (count - below) } else { 0.0 };
                return Some(if bound.is_finite() { lower + (bound - lower) * share } else { lower });
            }
            (lower, below) = (*bound, *count);
        }
        None
    }
}

/// Parses `name{label="value",…} 1.5`.
fn sample(line: &str) -> Option<(String, Sample)> {
    let (series, value) = line.trim_end().rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = series.split_once('{') else {
        return Some((series.to_owned(), Sample { labels: Vec::new(), value }));
    };
    // No label of Roomlog contains a quote or a comma.
    let labels = labels.strip_suffix('}')?.split(',').filter_map(|label| {
        let (name, value) = label.split_once('=')?;
        Some((name.to_owned(), value.trim_matches('"').to_owned()))
    });
    Some((name.to_owned(), Sample { labels: labels.collect(), value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"2\",y=\"2\"} 4\n\nb 1.5\n\
        h_bucket{le=\"0.1\"} 50\nh_bucket{le=\"0.2\"} 90\nh_bucket{le=\"+Inf\"} 100\nnonsense\n";

    #[test]
    fn series_are_found_by_name_and_label() {
        let samples = Samples::read(TEXT);
        assert_eq!((samples.sum("a", None), samples.sum("a", Some(("x", "2")))), (7.0, 4.0));
        assert_eq!((samples.max("a"), samples.sum("b", None), samples.sum("c", None)), (4.0, 1.5, 0.0));
        assert!(samples.has("b") && !samples.has("nonsense"));
    }

    #[test]
    fn quantiles_are_taken_within_their_bucket() {
        let buckets = Samples::read(TEXT).buckets("h");
        assert_eq!(buckets.quantile(0.5), Some(0.1));
        assert!(buckets.quantile(0.7).is_some_and(|value| (value - 0.15).abs() < 1e-9));
        assert_eq!(buckets.quantile(0.99), Some(0.2), "above the last bound nothing more is known");
        assert_eq!(buckets.since(&buckets).quantile(0.5), None);
        assert_eq!(buckets.plus(&buckets).quantile(0.5), Some(0.1));
    }
}
