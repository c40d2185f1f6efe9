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
    /// Why nothing was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) missing: Option<String>,
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
    ("names", "cached_processor_time", "≤ dnsmasq and unbound"),
    ("names", "dials_before_grant", "0"),
    ("broker", "calls", "≥ 6,000/s"),
    ("broker", "added", "p50 ≤ 250 µs, p99 ≤ 2,000 µs"),
    ("broker", "agent_memory", "≤ 48 MiB"),
    ("broker", "flood_kept_calls", "≥ 0.8 × without"),
    ("broker", "flood_kept_pace", "≤ 1.2 × without"),
    ("broker", "flood_fresh_calls", "≥ 0.8 × without"),
    ("broker", "flood_fresh_pace", "≤ 1.2 × without"),
    ("memory", "agent_at_rest", "≤ 32 MiB"),
    ("memory", "per_session", "≤ 128 KiB"),
];

/// Median and 99th percentile of samples, of which the largest are the worst.
pub(crate) fn summary(samples: &mut [f64]) -> (f64, f64) {
    samples.sort_unstable_by(f64::total_cmp);
    (at(samples, 50), at(samples, 99))
}

fn at(sorted: &[f64], share: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = (sorted.len() * share / 100).min(last);
    sorted.get(place).copied().unwrap_or_default()
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
        let (median, most) = summary(samples);
        // Of a rate the least is the worst.
        let p99 = if unit.ends_with("/s") {
            at(samples, 1)
        } else {
            most
        };
        Self {
            bench,
            subject,
            metric: metric.into(),
            unit,
            median,
            p99,
            n: samples.len() as u64,
            missing: None,
        }
    }

    /// A subject that could not be measured, and why.
    pub(crate) fn missing(
        bench: &'static str,
        subject: &'static str,
        metric: impl Into<String>,
        unit: &'static str,
        why: String,
    ) -> Self {
        Self {
            median: f64::NAN,
            p99: f64::NAN,
            missing: Some(why),
            ..Self::new(bench, subject, metric, unit, &mut [])
        }
    }
}

/// Prints the rows. The ratio is to `bare` where that was measured, else to `stockade`; beside `empty`
/// stands a difference.
pub(crate) fn print(rows: &[Row]) {
    println!(
        "{:<8} {:<32} {:<13} {:>13} {:>13} {:>7} {:<6} {:>7}  to reach",
        "bench", "metric", "subject", "median", "p99", "n", "unit", "ratio"
    );
    for row in rows {
        let Row {
            bench,
            subject,
            metric,
            unit,
            median,
            p99,
            n,
            missing,
        } = row;
        if let Some(why) = missing {
            println!("{bench:<8} {metric:<32} {subject:<13} not measured: {why}");
            continue;
        }
        let reach = REACH
            .iter()
            .find(|(of, start, _)| {
                subject == &"stockade" && of == bench && metric.starts_with(start)
            })
            .map_or("", |(_, _, words)| words);
        let ratio = ratio(row, rows);
        println!(
            "{bench:<8} {metric:<32} {subject:<13} {median:>13.2} {p99:>13.2} {n:>7} {unit:<6} \
             {ratio:>7}  {reach}"
        );
    }
}

fn ratio(row: &Row, rows: &[Row]) -> String {
    let beside = |subject| {
        let same = |other: &&Row| other.bench == row.bench && other.metric == row.metric;
        let mut others = rows.iter().filter(same);
        let other = others.find(|other| other.subject == subject)?;
        (row.subject != subject && other.median > 0.0).then_some(other.median)
    };
    if row.subject == "bare" || row.subject == "empty" {
        return String::new();
    }
    match (beside("bare"), beside("empty"), beside("stockade")) {
        (Some(base), _, _) | (None, None, Some(base)) => format!("{:.3}", row.median / base),
        (None, Some(empty), _) => format!("{:+.1}", row.median - empty),
        (None, None, None) => String::new(),
    }
}
