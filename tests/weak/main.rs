//! A launcher whose fences lack a layer: it stands between an agent and the real launcher, which lies
//! beside it as `stockade`, and takes the layer for which it is named out of every plan. For tests of
//! what notices.

use std::{
    env,
    io::{self, Error},
    os::fd::{AsFd as _, AsRawFd},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use agent::{
    launcher::protocol::{Prepare, decode, encode},
    sandbox::landlock::Grant,
    sys::seqpacket::{MESSAGE_BYTES_MAX, pair, receive, send},
};
use nix::sys::socket::SockFlag;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weak launcher: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    // Its name, not its file: tests make links.
    let own = env::args_os().next().map(PathBuf::from);
    let own = own.ok_or_else(|| Error::other("no name"))?;
    let weaken = weakness(&own)?;
    let (launcher, theirs) = pair(SockFlag::empty())?;
    let mut child = Command::new(own.with_file_name("stockade"))
        .args(env::args_os().skip(1))
        .env_clear()
        .stdin(Stdio::from(theirs))
        .spawn()?;
    let agent = io::stdin().as_fd().try_clone_to_owned()?;
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    while let Some(message) = receive(&agent, &mut buffer)? {
        let mut prepare: Prepare = decode(&message.bytes)?;
        weaken(&mut prepare);
        let fds: Vec<_> = message.fds.iter().map(AsRawFd::as_raw_fd).collect();
        send(&launcher, &encode(&prepare)?, &fds)?;
    }
    drop(launcher);
    child.wait()?;
    Ok(())
}

/// What the name of the program says.
fn weakness(own: &Path) -> io::Result<fn(&mut Prepare)> {
    match own.file_name().and_then(|name| name.to_str()) {
        Some("no-filters") => Ok(|prepare| {
            prepare.plan.filters.template.clear();
            prepare.plan.filters.session.clear();
        }),
        Some("no-landlock") => Ok(|prepare| {
            let everywhere = ("/".into(), Grant::Write);
            prepare.plan.landlock.rules.push(everywhere);
        }),
        Some("whole") => Ok(|_prepare| {}),
        _ => Err(Error::other(format!("{}: no such weakness", own.display()))),
    }
}
