//! What a worker left is handed out by a child of the launcher: the agent has confined itself and can write
//! into no folder of the host but its own.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use nix::{
    sys::{prctl, signal::Signal},
    unistd::getppid,
};
use serde::{Deserialize, Serialize};

use super::{channel::Channel, client::Launcher, protocol};
use crate::{
    policy::compiled::Output,
    sandbox::output::{Handed, Left},
    sys::{process::SingleThreaded, seqpacket},
};

/// Longest reason, bytes: names of the worker's are in it, and an answer has a bound.
const REASON_BYTES_MAX: usize = 4_096;

/// Agent to launcher; with what is left and the socket for the answer, in this order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HandOut {
    /// Where to, and how much.
    pub(super) output: Output,
    /// The new folder's name.
    pub(super) name: String,
}

/// What came of it: nothing where nothing was left, or why nothing is handed out.
pub(super) type Answer = Result<Option<Handed>, String>;

impl Launcher {
    /// Makes what a worker left a folder of the host, once nothing of its session runs any more. An error
    /// is in words, with nothing in it that a terminal would obey.
    pub async fn hand_out(&self, left: Left, output: Output, name: String) -> Answer {
        let asked = async {
            let (mut channel, theirs) = Channel::pair()?;
            let fds = [left.as_fd().as_raw_fd(), theirs.as_raw_fd()];
            let ask = HandOut { output, name };
            self.channel.send(&ask, &fds).await?;
            // Whoever holds the other end from now on answers, or its end is seen.
            drop((theirs, left));
            let message = channel.receive().await?;
            protocol::decode::<Answer>(&message.bytes)
        };
        let lost = |error: io::Error| Err(format!("output: whoever hands it out is gone: {error}"));
        asked.await.unwrap_or_else(lost)
    }
}

/// Hands out and tells on this socket. For a process of its own, which ends with the launcher.
pub(super) fn carry_out(
    ask: &HandOut,
    left: OwnedFd,
    socket: &OwnedFd,
    _one: &SingleThreaded,
) -> io::Result<()> {
    let launcher = getppid();
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != launcher || launcher.as_raw() == 1 {
        return Err(io::Error::other("the launcher is gone"));
    }
    let handed = Left::from(left).hand_out(&ask.output, &ask.name);
    tell(socket, &handed.map_err(|error| error.to_string()))
}

/// Tells what came of it.
pub(super) fn tell(socket: &OwnedFd, answer: &Answer) -> io::Result<()> {
    let answer = answer.clone().map_err(|mut reason| {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        reason
    });
    seqpacket::send(socket, &protocol::encode(&answer)?, &[])
}
