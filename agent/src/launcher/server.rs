//! The launcher process: makes a template process for each policy and does nothing else.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::stat::{Mode, umask},
    unistd::{dup2_stdin, setsid},
};

use super::{
    hand_out::{self, HandOut},
    init::ERRAND,
    program::ProcessOne,
    protocol::{self, PING, Prepare, Reply},
    template::Template,
    visit::{self, Visit, Visited},
};
use crate::{
    sandbox::error::{Step, StepError},
    sys::{
        process::{Side, SingleThreaded, close_inherited, exit_now, fork},
        seqpacket::{self, MESSAGE_BYTES_MAX, Message},
        signals,
    },
};

/// Exit code of a launcher that could not go on.
const FAILED: i32 = 70;
/// Nothing but the standard three is the launcher's.
const FIRST_INHERITED: u32 = 3;

/// Runs the launcher on the socket that is its standard input, until the agent closes it. Called
/// before the process has a second thread.
pub fn launcher_main() -> ! {
    let code = match serve() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("launcher: {error}");
            FAILED
        }
    };
    exit_now(code)
}

fn serve() -> io::Result<()> {
    let one = SingleThreaded::prove()?;
    close_inherited(&one, FIRST_INHERITED)?;
    // Out of the agent's terminal: an interrupt is the agent's to judge.
    match setsid() {
        Ok(_) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    signals::reset()?;
    signals::ignore_children()?;
    // What is made in a root is to be seen by workers where its mode says so.
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    keep_memory_out_of_dumps()?;
    // First: it gets the lowest number, so nothing that a template needs ever has that one.
    let place = OwnedFd::from(File::open("/dev/null")?);
    if place.as_raw_fd() != ERRAND {
        return Err(io::Error::other("descriptors of the one who started it"));
    }
    let program = ProcessOne::new()?;
    let socket = take_stdin()?;
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    while let Some(message) = next(&socket, &mut buffer)? {
        let Some((request, asker, fds)) = read(message) else {
            complain("a request that can not be read");
            continue;
        };
        if matches!(request, Request::Ping) {
            // Who asked may not wait any more.
            drop(seqpacket::send(
                &asker,
                &protocol::encode(&Reply::Ready)?,
                &[],
            ));
            continue;
        }
        match fork(&one) {
            Ok(Side::Parent(_)) => {}
            Ok(Side::Child) => {
                drop((socket, buffer));
                let told = match request {
                    Request::Prepare(prepare) => {
                        Template::run(prepare.plan, program, place, &asker, &one)
                    }
                    // Who asked hears by the end of this socket that it failed.
                    Request::Visit(visit) => visit::carry_out(&visit, &asker, &one),
                    Request::HandOut(ask) => match fds.into_iter().next() {
                        Some(left) => hand_out::carry_out(&ask, left, &asker, &one),
                        None => Err(io::ErrorKind::InvalidData.into()),
                    },
                    Request::Ping => Ok(()),
                };
                exit_now(i32::from(told.is_err()));
            }
            // The host has no room for another process. Those that run must not pay for it.
            Err(error) => {
                complain(&format!("no process made: {error}"));
                drop(request.refuse(&asker, &error));
            }
        }
    }
    Ok(())
}

/// What the agent asks for.
enum Request {
    Ping,
    Visit(Visit),
    HandOut(HandOut),
    Prepare(Box<Prepare>),
}

impl Request {
    /// Tells who asked that it is not done.
    fn refuse(&self, asker: &OwnedFd, error: &io::Error) -> io::Result<()> {
        let why = format!("the launcher can make no process: {error}");
        let answer = match self {
            Self::Ping => return Ok(()),
            Self::Visit(_) => protocol::encode(&Visited {
                failed: Some(why),
                ..Visited::default()
            })?,
            Self::HandOut(_) => return hand_out::tell(asker, &Err(why)),
            Self::Prepare(_) => protocol::encode(&Reply::Failed(StepError {
                step: Step::Fork,
                detail: "the policy's template".to_owned(),
                errno: error.raw_os_error().unwrap_or_default(),
            }))?,
        };
        seqpacket::send(asker, &answer, &[])
    }
}

/// The next message; none at the end. One whose descriptors this process has no room for is lost, and who
/// sent it sees that nobody answers.
fn next(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<Message>> {
    loop {
        match seqpacket::receive(socket, buffer) {
            Err(error)
                if error.raw_os_error() == Some(Errno::ENOBUFS as i32)
                    || error.kind() == io::ErrorKind::InvalidData =>
            {
                complain(&format!("a request that did not arrive whole: {error}"));
            }
            received => return received,
        }
    }
}

/// What is asked, the socket for the answer, and what came with it.
fn read(mut message: Message) -> Option<(Request, OwnedFd, Vec<OwnedFd>)> {
    let asker = message.fds.pop()?;
    let bytes = message.bytes.as_slice();
    let request = if protocol::decode::<String>(bytes).is_ok_and(|word| word == PING) {
        Request::Ping
    } else if let Ok(visit) = protocol::decode::<Visit>(bytes) {
        Request::Visit(visit)
    } else if let Ok(ask) = protocol::decode::<HandOut>(bytes) {
        Request::HandOut(ask)
    } else {
        Request::Prepare(protocol::decode(bytes).ok()?)
    };
    Some((request, asker, message.fds))
}

/// Whoever gets a core dump of a worker gets none of its memory: all that is forked from here inherits it,
/// programs that are executed too, and no worker may write the file (`core(5)`).
fn keep_memory_out_of_dumps() -> io::Result<()> {
    match fs::write("/proc/self/coredump_filter", "0") {
        // A kernel without core dumps.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        written => written,
    }
}

fn complain(why: &str) {
    eprintln!("launcher: {why}");
}

/// Moves the socket away from descriptor 0, which children must not find.
fn take_stdin() -> io::Result<OwnedFd> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}
