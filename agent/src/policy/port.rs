//! Ports and port ranges: numbers that a rule may open, ordered and merged.

use common::flow::DNS_PORT;

use super::raw::{Located, RawPort};

/// The text or number is no port that a rule may open.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PortError {
    /// Not a number, nor two with a hyphen.
    #[error("`{0}` is neither a port nor a range of ports")]
    Malformed(String),
    /// Port 0.
    #[error("port 0 is not a port")]
    Zero,
    /// Beyond 65535 or negative.
    #[error("port {0} is beyond 1 to 65535")]
    Beyond(String),
    /// The last port comes before the first.
    #[error("range `{low}-{high}` ends before it begins")]
    Reversed {
        /// First port as written.
        low: u16,
        /// Last port as written.
        high: u16,
    },
    /// Port 53.
    #[error("port 53 is opened by no rule")]
    Dns,
}

impl PortError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Malformed(_) | Self::Beyond(_) => {
                "write a number, or a range like \"9000-9010\"".to_owned()
            }
            Self::Zero => "every port is written \"1-65535\"".to_owned(),
            Self::Reversed { low, high } => format!("write \"{high}-{low}\""),
            Self::Dns => "port 53 always goes to the agent's resolver; drop it".to_owned(),
        }
    }
}

/// Reads one item of `ports`.
pub(super) fn parse(port: &RawPort) -> Result<(u16, u16), PortError> {
    let range = match port {
        RawPort::Number(number) => {
            let port = in_bounds(&number.to_string())?;
            (port, port)
        }
        RawPort::Range(text) => {
            let (low, high) = text.split_once('-').unwrap_or((text, text));
            let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            if !digits(low) || !digits(high) {
                return Err(PortError::Malformed(text.clone()));
            }
            (in_bounds(low)?, in_bounds(high)?)
        }
    };
    match range {
        (low, high) if low > high => Err(PortError::Reversed { low, high }),
        (DNS_PORT, DNS_PORT) => Err(PortError::Dns),
        range => Ok(range),
    }
}

fn in_bounds(digits: &str) -> Result<u16, PortError> {
    match digits.parse::<u16>() {
        Ok(0) => Err(PortError::Zero),
        Ok(port) => Ok(port),
        Err(_) => Err(PortError::Beyond(digits.to_owned())),
    }
}

/// Orders ranges and merges those that touch or overlap.
pub(super) fn merge(ranges: &[Located<(u16, u16)>]) -> Vec<(u16, u16)> {
    let mut ordered: Vec<(u16, u16)> = ranges.iter().map(|range| range.value).collect();
    ordered.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ordered.len());
    for (low, high) in ordered {
        match merged.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    merged
}

/// `443,9000-9010`
pub(super) fn text(ranges: &[(u16, u16)]) -> String {
    let parts: Vec<String> = ranges
        .iter()
        .map(|(low, high)| {
            if low == high {
                low.to_string()
            } else {
                format!("{low}-{high}")
            }
        })
        .collect();
    parts.join(",")
}
