//! Steps that measure: many calls, the time of each, a median.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::socket::{setsockopt, sockopt},
    time::{ClockId, clock_gettime},
};

use crate::steps::{Probe, Refused, last, parsed};

const BATCH: u64 = 50;
const CHUNK_BYTES: usize = 128 << 10;

type Done<T = ()> = Result<T, Refused>;

/// Nanoseconds of the monotonic clock, which all processes of this host share.
pub(crate) fn stamp() -> Done<u128> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(Duration::from(now).as_nanos())
}

impl Probe {
    /// `tcp|udp|connected ADDRESS COUNT` gives median, 99th percentile (nanoseconds a call) and
    /// count; `bulk ADDRESS MS` gives bytes a second.
    pub(crate) fn measure(&mut self, what: &str, address: &str, amount: &str) -> Done {
        let address: SocketAddr = address
            .parse()
            .map_err(|error| Refused::Script(format!("{address}: {error}")))?;
        let samples = match what {
            "tcp" => connects(address, parsed(amount)?)?,
            "udp" => datagrams(address, parsed(amount)?, false)?,
            "connected" => datagrams(address, parsed(amount)?, true)?,
            "bulk" => {
                let rate = bulk(address, Duration::from_millis(parsed(amount)?))?;
                self.values.push(rate.to_string());
                return Ok(());
            }
            _ => return Err("measure tcp|udp|connected|bulk".into()),
        };
        self.values
            .extend(summary(samples).map(|value| value.to_string()));
        Ok(())
    }
}

fn summary(mut samples: Vec<u64>) -> [u64; 3] {
    samples.sort_unstable();
    let at = |share: usize| {
        samples
            .get(samples.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    [at(50), at(99), samples.len() as u64]
}

fn nanoseconds(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Opens and resets connections: a reset leaves no port behind that waits.
fn connects(address: SocketAddr, count: usize) -> Done<Vec<u64>> {
    let reset = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    (0..count)
        .map(|_| {
            let began = Instant::now();
            let stream = TcpStream::connect(address).map_err(|error| last(&error))?;
            let elapsed = nanoseconds(began);
            setsockopt(&stream, sockopt::Linger, &reset)?;
            Ok(elapsed)
        })
        .collect()
}

fn datagrams(address: SocketAddr, count: u64, connected: bool) -> Done<Vec<u64>> {
    let unspecified: SocketAddr = if address.is_ipv4() {
        ([0; 4], 0).into()
    } else {
        ([0; 16], 0).into()
    };
    let socket = UdpSocket::bind(unspecified).map_err(|error| last(&error))?;
    if connected {
        socket.connect(address).map_err(|error| last(&error))?;
    }
    (0..count / BATCH)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..BATCH {
                let sent = if connected {
                    socket.send(b"measured")
                } else {
                    socket.send_to(b"measured", address)
                };
                sent.map_err(|error| last(&error))?;
            }
            Ok(nanoseconds(began) / BATCH)
        })
        .collect()
}

fn bulk(address: SocketAddr, time: Duration) -> Done<u64> {
    let mut stream = TcpStream::connect(address).map_err(|error| last(&error))?;
    let chunk = vec![0; CHUNK_BYTES];
    let began = Instant::now();
    let mut bytes: u128 = 0;
    while began.elapsed() < time {
        stream.write_all(&chunk).map_err(|error| last(&error))?;
        bytes += CHUNK_BYTES as u128;
    }
    let rate = bytes * 1_000_000_000 / began.elapsed().as_nanos().max(1);
    Ok(u64::try_from(rate).unwrap_or(u64::MAX))
}
