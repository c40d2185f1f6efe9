//! The steps of a script.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, getsockopt, recv, sockopt},
};

use lab::sys::{RawAddress, ring, socket};

use crate::{address, hello, names, payload};

const PATIENCE: Duration = Duration::from_millis(lab::prober::PATIENCE_MS as u64);

/// Why a script ended early.
pub(crate) enum Refused {
    /// The kernel said so.
    Errno(Errno),
    /// Nothing came in time.
    Timeout,
    /// The script is wrong.
    Script(String),
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<String> for Refused {
    fn from(message: String) -> Self {
        Self::Script(message)
    }
}

impl From<&str> for Refused {
    fn from(message: &str) -> Self {
        Self::Script(message.to_owned())
    }
}

type Done<T = ()> = Result<T, Refused>;

/// The state of a script, and the sockets that outlive it.
#[derive(Default)]
pub(crate) struct Probe {
    current: Option<OwnedFd>,
    kept: BTreeMap<String, OwnedFd>,
    patience: Option<Duration>,
    payload: Option<Vec<u8>>,
    /// Bytes that the kernel took.
    pub(crate) sent: u64,
    /// Bytes that came back.
    pub(crate) received: u64,
    /// Calls made by a step that makes many.
    pub(crate) calls: u64,
    /// Of these, how many were refused.
    pub(crate) refused: u64,
    /// What steps have read.
    pub(crate) values: Vec<String>,
}

impl Probe {
    /// Forgets everything but the kept sockets.
    pub(crate) fn begin(&mut self) {
        *self = Self {
            kept: std::mem::take(&mut self.kept),
            ..Self::default()
        };
    }

    /// Closes the socket, but for a kept copy of it.
    pub(crate) fn close(&mut self) {
        self.current = None;
    }

    /// Makes one step.
    pub(crate) fn step(&mut self, words: &[&str]) -> Done {
        match words {
            ["try", rest @ ..] => {
                self.calls += 1;
                match self.step(rest) {
                    Err(Refused::Script(message)) => Err(Refused::Script(message)),
                    Err(Refused::Errno(_) | Refused::Timeout) => {
                        self.refused += 1;
                        Ok(())
                    }
                    Ok(()) => Ok(()),
                }
            }
            ["unshare"] => unshare(),
            ["socket", family, kind] => self.socket(family, kind, "0"),
            ["socket", family, kind, protocol] => self.socket(family, kind, protocol),
            ["fd", number] => {
                self.current = Some(socket::inherited(parsed(number)?)?);
                Ok(())
            }
            ["keep", name] => {
                let copy = self
                    .fd()?
                    .try_clone_to_owned()
                    .map_err(|error| last(&error))?;
                self.kept.insert((*name).to_owned(), copy);
                Ok(())
            }
            ["use", name] => {
                let kept = self.kept.get(*name).ok_or("no socket of this name")?;
                self.current = Some(kept.try_clone().map_err(|error| last(&error))?);
                Ok(())
            }
            ["drop", name] => {
                self.kept.remove(*name).ok_or("no socket of this name")?;
                Ok(())
            }
            ["patience", ms] => {
                self.patience = Some(Duration::from_millis(parsed(ms)?));
                Ok(())
            }
            ["sleep", ms] => {
                std::thread::sleep(Duration::from_millis(parsed(ms)?));
                Ok(())
            }
            ["opt", name, value @ ..] => {
                let value = option_value(value)?;
                Ok(socket::set(self.fd()?, names::option(name)?, &value)?)
            }
            ["bind", address] => Ok(socket::bind(self.fd()?, &address::parse(address)?)?),
            ["connect", address] => self.connect(&address::parse(address)?),
            ["listen"] => Ok(socket::listen(self.fd()?)?),
            ["accept"] => self.accept(),
            ["recv"] => self.receive(),
            ["name"] => self.name(),
            ["payload", rest @ ..] => self.set_payload(rest),
            ["send", rest @ ..] => self.send(None, rest),
            ["sendpart", from, to] => self.send_part(parsed(from)?, parsed(to)?),
            ["sendto", address, rest @ ..] => self.send(Some(&address::parse(address)?), rest),
            ["sendmsg", address, rest @ ..] => self.sendmsg(address, rest),
            ["sendmmsg", addresses @ ..] => self.sendmmsg(addresses),
            ["race", first, second, ms, rest @ ..] => self.race(first, second, parsed(ms)?, rest),
            ["pump", address, ms, gap_us] => self.pump(address, parsed(ms)?, parsed(gap_us)?),
            ["churn", address, ms] => {
                self.churn(address, parsed(ms)?);
                Ok(())
            }
            ["measure", what, address, amount] => self.measure(what, address, amount),
            ["uring", what, address] => self.uring(what, address),
            _ => self.name_step(words),
        }
    }

    /// The steps that names are about.
    fn name_step(&mut self, words: &[&str]) -> Done {
        match words {
            ["ask", how, server, name, record] => self.ask(how, server, name, record),
            ["askall", name, record, servers @ ..] => self.ask_all(name, record, servers),
            ["lookup", name] => {
                self.lookup(name);
                Ok(())
            }
            ["rounds", server, name, port, count] => self.rounds(server, name, port, count),
            ["load", rest @ ..] => self.load(rest),
            ["flood", rest @ ..] => self.flood(rest),
            ["tls", name, authority] => self.tls(name, authority),
            ["handshakes", to, name, authority, count] => {
                self.handshakes(to, name, authority, count)
            }
            _ => Err(Refused::Script(format!("`{}` is no step", words.join(" ")))),
        }
    }

    pub(crate) fn fd(&self) -> Done<BorrowedFd<'_>> {
        match &self.current {
            Some(fd) => Ok(fd.as_fd()),
            None => Err("no socket yet".into()),
        }
    }

    pub(crate) fn data(&self, words: &[&str]) -> Done<Vec<u8>> {
        if let Some(payload) = &self.payload {
            return Ok(payload.clone());
        }
        Ok(vec![b'x'; words.first().map_or(Ok(5), |n| parsed(n))?])
    }

    fn socket(&mut self, family: &str, kind: &str, protocol: &str) -> Done {
        let (family, kind) = (names::family(family)?, names::kind(kind)?);
        self.current = Some(socket::socket(family, kind, names::protocol(protocol)?)?);
        Ok(())
    }

    fn connect(&mut self, address: &RawAddress) -> Done {
        match socket::connect(self.fd()?, address) {
            Err(Errno::EINPROGRESS) => self.connected(),
            other => Ok(other?),
        }
    }

    pub(crate) fn connected(&self) -> Done {
        self.wait(PollFlags::POLLOUT)?;
        match getsockopt(&self.fd()?, sockopt::SocketError)? {
            0 => Ok(()),
            errno => Err(Errno::from_raw(errno).into()),
        }
    }

    fn accept(&mut self) -> Done {
        self.wait(PollFlags::POLLIN)?;
        self.current = Some(socket::accept(self.fd()?)?);
        Ok(())
    }

    fn receive(&mut self) -> Done {
        self.wait(PollFlags::POLLIN)?;
        let mut buffer = [0; 4096];
        let length = recv(self.fd()?.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        self.received += length as u64;
        Ok(())
    }

    fn name(&mut self) -> Done {
        let bytes = socket::own_address(self.fd()?)?;
        let port = match bytes.get(2..4) {
            Some([high, low]) => u16::from_be_bytes([*high, *low]),
            _ => 0,
        };
        self.values.push(port.to_string());
        Ok(())
    }

    fn set_payload(&mut self, words: &[&str]) -> Done {
        self.payload = Some(match words {
            ["echo"] => payload::echo(8),
            ["echo6"] => payload::echo(128),
            ["udp4", source, destination, port] => {
                payload::udp_packet(source, destination, parsed(port)?)?
            }
            ["hex", digits] => payload::hex(digits)?,
            ["hello", rest @ ..] => hello::bytes(rest)?,
            _ => return Err(Refused::Script(format!("no such payload: {words:?}"))),
        });
        Ok(())
    }

    fn uring(&mut self, what: &str, address: &str) -> Done {
        let address = address::parse(address)?;
        let outcome = match what {
            "connect" => ring::connect(self.fd()?, &address),
            "sendmsg" => ring::sendmsg(self.fd()?, b"probe", &address),
            "socket" => {
                self.current = Some(ring::socket(&address)?);
                return Ok(());
            }
            _ => return Err("uring connect|sendmsg|socket ADDRESS".into()),
        };
        match outcome {
            Err(Errno::EINPROGRESS) => self.connected(),
            Ok(sent) => {
                self.sent += sent as u64;
                Ok(())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits for the socket; a socket in error is ready.
    pub(crate) fn wait(&self, flags: PollFlags) -> Done {
        let until = Instant::now() + self.patience.unwrap_or(PATIENCE);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.fd()?, flags)];
            match poll(&mut fds, timeout) {
                Ok(0) if left.is_zero() => return Err(Refused::Timeout),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// On a thread of its own: the steps that follow stay where they are.
fn unshare() -> Done {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET));
        Ok(thread.join().unwrap_or(Err(Errno::EFAULT))?)
    })
}

fn option_value(words: &[&str]) -> Done<Vec<u8>> {
    Ok(match words {
        ["int", number] => parsed::<i32>(number)?.to_ne_bytes().to_vec(),
        ["str", text] => text.as_bytes().to_vec(),
        ["hex", digits] => payload::hex(digits)?,
        ["rthdr", waypoint] => payload::routing_header(waypoint)?,
        ["lsrr", waypoint] => payload::loose_route(waypoint)?,
        ["mreq", group] => [crate::address::bytes4(group)?, [0; 4]].concat(),
        _ => return Err(Refused::Script(format!("no such value: {words:?}"))),
    })
}

/// A number in a script.
pub(crate) fn parsed<T: std::str::FromStr>(text: &str) -> Done<T> {
    text.parse()
        .map_err(|_shape| Refused::Script(format!("`{text}` is not a number that fits")))
}

pub(crate) fn last(error: &std::io::Error) -> Refused {
    Refused::Errno(Errno::from_raw(error.raw_os_error().unwrap_or_default()))
}
