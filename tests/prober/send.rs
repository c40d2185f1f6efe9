//! The steps that send.

use std::{
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use lab::sys::{RawAddress, socket};
use nix::{errno::Errno, libc, poll::PollFlags};

use crate::{
    address::{self, bytes4, bytes6},
    names, payload,
    steps::{Probe, Refused, last, parsed},
};

type Done<T = ()> = Result<T, Refused>;

impl Probe {
    /// `[BYTES] [FLAGS]`
    pub(crate) fn send(&mut self, address: Option<&RawAddress>, words: &[&str]) -> Done {
        let flags = names::flags(words.get(1).copied())?;
        let data = self.data(words)?;
        match socket::send(self.fd()?, &data, flags, address) {
            Ok(sent) => self.sent += sent as u64,
            Err(Errno::EINPROGRESS) => self.connected()?,
            Err(Errno::EAGAIN) => {
                self.wait(PollFlags::POLLOUT)?;
                self.sent += socket::send(self.fd()?, &data, flags, address)? as u64;
            }
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    /// Sends a part of the payload: the rest stays where it is.
    pub(crate) fn send_part(&mut self, from: usize, to: usize) -> Done {
        let whole = self.data(&[])?;
        let part = whole.get(from..to.min(whole.len())).ok_or("no such part")?;
        self.sent += socket::send(self.fd()?, part, 0, None)? as u64;
        Ok(())
    }

    /// `ADDRESS|- BYTES [CONTROL=VALUE]…`
    pub(crate) fn sendmsg(&mut self, address: &str, words: &[&str]) -> Done {
        let address = match address {
            "-" => None,
            text => Some(address::parse(text)?),
        };
        let data = self.data(words)?;
        let control = controls(words.get(1..).unwrap_or_default())?;
        self.sent += socket::sendmsg(self.fd()?, &data, address.as_ref(), &control)? as u64;
        Ok(())
    }

    /// One datagram to each address in one call. `calls` is how many were asked for, `refused` how
    /// many the kernel did not take.
    pub(crate) fn sendmmsg(&mut self, addresses: &[&str]) -> Done {
        let addresses = addresses
            .iter()
            .map(|text| address::parse(text))
            .collect::<Result<Vec<_>, _>>()?;
        let sent = socket::sendmmsg(self.fd()?, b"probe", &addresses)?;
        self.calls += addresses.len() as u64;
        self.refused += (addresses.len() - sent) as u64;
        self.sent += 5 * sent as u64;
        Ok(())
    }

    /// One thread connects the socket to one address and the other by turns; another sends.
    /// `[CONTROL=VALUE]…`
    pub(crate) fn race(&mut self, first: &str, second: &str, ms: u64, words: &[&str]) -> Done {
        let control = controls(words)?;
        let addresses = [address::parse(first)?, address::parse(second)?];
        let unspecified = address::parse("unspec")?;
        let until = Instant::now() + Duration::from_millis(ms);
        let fd = self
            .fd()?
            .try_clone_to_owned()
            .map_err(|error| last(&error))?;
        let (mut sent, mut calls, mut refused) = (0, 0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while Instant::now() < until {
                    for address in &addresses {
                        // Refusals are what the race is about; the counts come from the sender.
                        socket::connect(fd.as_fd(), &unspecified).ok();
                        socket::connect(fd.as_fd(), address).ok();
                    }
                }
            });
            while Instant::now() < until {
                calls += 1;
                match socket::sendmsg(fd.as_fd(), b"probe", None, &control) {
                    Ok(bytes) => sent += bytes as u64,
                    Err(_) => refused += 1,
                }
            }
        });
        self.sent += sent;
        self.calls += calls;
        self.refused += refused;
        Ok(())
    }

    /// Sends datagrams for a while, to an address or (`-`) where the socket is connected to.
    pub(crate) fn pump(&mut self, address: &str, ms: u64, gap_us: u64) -> Done {
        let address = match address {
            "-" => None,
            text => Some(address::parse(text)?),
        };
        let until = Instant::now() + Duration::from_millis(ms);
        while Instant::now() < until {
            self.calls += 1;
            match socket::send(self.fd()?, b"probe", 0, address.as_ref()) {
                Ok(bytes) => self.sent += bytes as u64,
                Err(_) => self.refused += 1,
            }
            std::thread::sleep(Duration::from_micros(gap_us));
        }
        Ok(())
    }

    /// Opens and closes TCP connections for a while.
    pub(crate) fn churn(&mut self, address: &str, ms: u64) {
        let until = Instant::now() + Duration::from_millis(ms);
        let family = if address.starts_with('[') {
            "inet6"
        } else {
            "inet"
        };
        while Instant::now() < until {
            self.calls += 1;
            let tried = self
                .step(&["socket", family, "stream"])
                .and_then(|()| self.step(&["connect", address]));
            if tried.is_err() {
                self.refused += 1;
            }
        }
    }
}

fn controls(words: &[&str]) -> Done<Vec<u8>> {
    let all = words.iter().map(|word| control(word));
    Ok(all.collect::<Done<Vec<_>>>()?.concat())
}

pub(crate) fn control(word: &str) -> Done<Vec<u8>> {
    let (name, value) = word.split_once('=').ok_or("CONTROL=VALUE")?;
    let number = |level, kind| -> Done<Vec<u8>> {
        let value = parsed::<i32>(value)?;
        Ok(socket::control(level, kind, &value.to_ne_bytes()))
    };
    Ok(match name {
        "pktinfo" => {
            let data = [[0; 4], bytes4(value)?, [0; 4]].concat();
            socket::control(libc::IPPROTO_IP, libc::IP_PKTINFO, &data)
        }
        "pktinfo6" => {
            let data = [&bytes6(value)?[..], &[0; 4]].concat();
            socket::control(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data)
        }
        "device" => {
            let data = [&parsed::<i32>(value)?.to_ne_bytes()[..], &[0; 8]].concat();
            socket::control(libc::IPPROTO_IP, libc::IP_PKTINFO, &data)
        }
        "lsrr" => socket::control(
            libc::IPPROTO_IP,
            libc::IP_RETOPTS,
            &payload::loose_route(value)?,
        ),
        "options" => socket::control(libc::IPPROTO_IP, libc::IP_RETOPTS, &payload::hex(value)?),
        "rthdr" => socket::control(
            libc::IPPROTO_IPV6,
            libc::IPV6_RTHDR,
            &payload::routing_header(value)?,
        ),
        "rthdr2" => socket::control(
            libc::IPPROTO_IPV6,
            libc::IPV6_RTHDR,
            &payload::mobile_header(value)?,
        ),
        "hopopts" => socket::control(
            libc::IPPROTO_IPV6,
            libc::IPV6_HOPOPTS,
            &payload::hex(value)?,
        ),
        "dstopts" => socket::control(
            libc::IPPROTO_IPV6,
            libc::IPV6_DSTOPTS,
            &payload::hex(value)?,
        ),
        "ttl" => number(libc::IPPROTO_IP, libc::IP_TTL)?,
        "tos" => number(libc::IPPROTO_IP, libc::IP_TOS)?,
        "hoplimit" => number(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)?,
        "tclass" => number(libc::IPPROTO_IPV6, libc::IPV6_TCLASS)?,
        "segment" => socket::control(
            libc::IPPROTO_UDP,
            libc::UDP_SEGMENT,
            &parsed::<u16>(value)?.to_ne_bytes(),
        ),
        _ => return Err(Refused::Script(format!("no such control message: {name}"))),
    })
}
