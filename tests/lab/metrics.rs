//! Reads what Prometheus would scrape.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{netns::Netns, patience::scaled};

const PATIENCE: Duration = Duration::from_secs(5);

/// One sample.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// Its labels as they are written, without braces.
    pub labels: String,
    /// Its value.
    pub value: f64,
}

/// The body that a path answers with.
pub fn get(netns: &Netns, address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = netns
        .enter(|| TcpStream::connect_timeout(&address, scaled(PATIENCE)))?
        .with_context(|| format!("nobody listens on {address}"))?;
    stream.set_read_timeout(Some(scaled(PATIENCE)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
    Ok(dechunked(head, body))
}

/// The samples of an exposition.
pub fn parse(text: &str) -> Vec<Sample> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            Some(Sample {
                name: name.to_owned(),
                labels: labels.trim_end_matches('}').to_owned(),
                value: value.parse().ok()?,
            })
        })
        .collect()
}

/// The sum of a metric's samples whose labels contain all the given ones.
pub fn sum(samples: &[Sample], name: &str, labels: &[&str]) -> f64 {
    samples
        .iter()
        .filter(|sample| {
            sample.name == name && labels.iter().all(|label| sample.labels.contains(label))
        })
        .map(|sample| sample.value)
        .sum()
}

fn dechunked(head: &str, body: &str) -> String {
    if !head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        return body.to_owned();
    }
    let mut rest = body;
    let mut whole = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or_default();
        let (Some(chunk), Some(next)) = (after.get(..size), after.get(size..)) else {
            break;
        };
        if size == 0 {
            break;
        }
        whole.push_str(chunk);
        rest = next.trim_start_matches("\r\n");
    }
    whole
}
