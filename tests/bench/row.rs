//! One measurement, and the table of them.

use serde::Serialize;

/// One measurement of one subject.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// Which bench.
    pub(crate) bench: &'static str,
    /// `stockade`, `bare`, or a peer's name.
    pub(crate) subject: &'static str,
    /// What was measured.
    pub(crate) metric: String,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// The middle one.
    pub(crate) median: f64,
    /// 99 of 100 are no worse.
    pub(crate) p99: f64,
    /// How many were taken.
    pub(crate) n: u64,
}

/// What the design wants to reach: metric (a prefix), what is compared, in words.
const REACH: &[(&str, &str, &str)] = &[
    ("network", "tcp_connect", "≤ 1.10 × bare at 10,000 rules"),
    ("network", "udp_send_connected", "≤ 1.05 × bare"),
    ("network", "udp_send_unconnected", "≤ 1.15 × bare"),
    ("network", "bulk_tcp", "≥ 0.97 × bare"),
    ("packet", "packet_path", "≤ 40 ns over empty"),
    ("packet", "tls_first_packet", "≤ 1,500 ns over empty"),
    (
        "launch",
        "to_first_instruction",
        "p50 ≤ 800 µs, p99 ≤ 2,500 µs",
    ),
    ("launch", "sustained", "≥ 1,200/s"),
    ("policy", "publish_10000_rules", "≤ 100 ms"),
    ("policy", "flip", "≤ 20 µs"),
    ("names", "cached_answers", "≥ dnsmasq and unbound"),
    ("names", "cached_latency", "≤ dnsmasq and unbound"),
    ("names", "dials_before_grant", "0"),
    ("memory", "agent_at_rest", "≤ 32 MiB"),
    ("memory", "per_session", "≤ 128 KiB"),
];

/// Median and 99th percentile of samples.
pub(crate) fn summary(samples: &mut [f64]) -> (f64, f64) {
    samples.sort_unstable_by(f64::total_cmp);
    let at = |share: usize| {
        let last = samples.len().saturating_sub(1);
        samples
            .get((samples.len() * share / 100).min(last))
            .copied()
            .unwrap_or_default()
    };
    (at(50), at(99))
}

impl Row {
    /// A row from its samples.
    pub(crate) fn new(
        bench: &'static str,
        subject: &'static str,
        metric: impl Into<String>,
        unit: &'static str,
        samples: &mut [f64],
    ) -> Self {
        let (median, p99) = summary(samples);
        Self {
            bench,
            subject,
            metric: metric.into(),
            unit,
            median,
            p99,
            n: samples.len() as u64,
        }
    }
}

/// Prints the rows; those of a metric that `bare` was measured for get a ratio, those that `empty` was
/// measured for a difference.
pub(crate) fn print(rows: &[Row]) {
    println!(
        "{:<8} {:<32} {:<11} {:>13} {:>13} {:>7} {:<6} {:>7}  to reach",
        "bench", "metric", "subject", "median", "p99", "n", "unit", "ratio"
    );
    for row in rows {
        let beside = |subject| {
            rows.iter().find(|other| {
                other.bench == row.bench && other.metric == row.metric && other.subject == subject
            })
        };
        let ratio = match (beside("bare"), beside("empty")) {
            (Some(bare), _) if row.subject != "bare" && bare.median > 0.0 => {
                format!("{:.3}", row.median / bare.median)
            }
            (_, Some(empty)) if row.subject != "empty" => {
                format!("{:+.1}", row.median - empty.median)
            }
            _ => String::new(),
        };
        let reach = REACH
            .iter()
            .find(|(bench, metric, _)| {
                row.subject == "stockade" && row.bench == *bench && row.metric.starts_with(metric)
            })
            .map_or("", |(_, _, words)| words);
        println!(
            "{:<8} {:<32} {:<11} {:>13.2} {:>13.2} {:>7} {:<6} {ratio:>7}  {reach}",
            row.bench, row.metric, row.subject, row.median, row.p99, row.n, row.unit
        );
    }
}
