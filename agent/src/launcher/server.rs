//! The launcher process: makes a template process for each policy and does nothing else.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::stat::{Mode, umask},
    unistd::{dup2_stdin, setsid},
};

use super::{
    init::ERRAND,
    program::ProcessOne,
    protocol::{self, PING, Prepare, Reply},
    template::Template,
    visit::{self, Visit},
};
use crate::sys::{
    process::{Side, SingleThreaded, close_inherited, exit_now, fork},
    seqpacket::{self, MESSAGE_BYTES_MAX},
    signals,
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
    // First: it gets the lowest number, so nothing that a template needs ever has that one.
    let place = OwnedFd::from(File::open("/dev/null")?);
    if place.as_raw_fd() != ERRAND {
        return Err(io::Error::other("descriptors of the one who started it"));
    }
    let program = ProcessOne::new()?;
    let socket = take_stdin()?;
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    while let Some(mut message) = seqpacket::receive(&socket, &mut buffer)? {
        let Some(template_socket) = message.fds.pop() else {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        };
        if protocol::decode::<String>(&message.bytes).is_ok_and(|word| word == PING) {
            // Who asked may not wait any more.
            drop(seqpacket::send(
                &template_socket,
                &protocol::encode(&Reply::Ready)?,
                &[],
            ));
            continue;
        }
        if let Ok(visit) = protocol::decode::<Visit>(&message.bytes) {
            if let Side::Child = fork(&one)? {
                drop((socket, buffer));
                // Who asked hears by the end of this socket that it failed.
                let told = visit::carry_out(&visit, &template_socket, &one);
                exit_now(i32::from(told.is_err()));
            }
            continue;
        }
        let Prepare { plan } = protocol::decode(&message.bytes)?;
        match fork(&one)? {
            Side::Parent(_) => {}
            Side::Child => {
                drop((socket, buffer));
                Template::run(plan, program, place, &template_socket, &one);
            }
        }
    }
    Ok(())
}

/// Moves the socket away from descriptor 0, which children must not find.
fn take_stdin() -> io::Result<OwnedFd> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}
