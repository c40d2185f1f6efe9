//! From the making of a session's process 1 to the execution of its own program: puts up what is the
//! session's own and gives up every privilege, all of it before anybody has asked for the session.
//!
//! It shares memory with the template, which waits: no step here owns anything of it. What comes
//! afterwards, the worker first of all, is the business of the program of process 1, `sys/process_one`.

use std::{
    convert::Infallible,
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal},
    },
    unistd::{dup2_stderr, dup2_stdin, dup2_stdout, sethostname},
};

use super::program::ProcessOne;
use crate::{
    sandbox::{
        Plan,
        child::give_up,
        error::{At, Step, StepError},
        landlock::Rules,
        plan::HOST_NAME,
        root::{self, Ready},
    },
    sys::{
        clone::Point,
        process::{close_from_on_exec, execute, move_to},
        signals,
    },
};

/// Where the program of process 1 looks for its errand.
pub(super) const ERRAND: i32 = 3;
/// Descriptors from here on do not reach it.
const FIRST_PRIVATE: u32 = 4;

/// What process 1 starts with.
#[derive(Clone, Copy)]
pub(super) struct Init<'session> {
    pub(super) plan: &'session Plan,
    pub(super) rules: &'session Rules,
    pub(super) program: &'session ProcessOne,
    pub(super) uid: u32,
    pub(super) ready: &'session Ready,
    pub(super) status: &'session OwnedFd,
    /// The socket at which it waits.
    pub(super) errand: &'session OwnedFd,
    pub(super) alive: &'session OwnedFd,
    /// The null device, under the number that the errand's socket gets.
    pub(super) null: &'session OwnedFd,
}

impl Init<'_> {
    /// Becomes the program of process 1. Returns only when a step failed; the
    /// process must then end.
    pub(super) fn run(self, point: &Point) -> Result<Infallible, StepError> {
        self.watched_over()?;
        // What comes before the program of process 1 listens waits for it.
        SigSet::all()
            .thread_block()
            .at(Step::Supervise, "signals")?;
        signals::default_children().at(Step::Supervise, "signals")?;
        sethostname(HOST_NAME).at(Step::HostName, HOST_NAME)?;
        root::session(self.plan, self.uid, self.ready)?;
        self.rules.add_process_list(&self.ready.rules)?;
        // The worker will inherit all of it.
        give_up(self.uid)?;
        // Cleared by the change of ids.
        self.watched_over()?;
        self.become_program(point)
    }

    /// Ends with the template, which may be gone already.
    fn watched_over(&self) -> Result<(), StepError> {
        prctl::set_pdeathsig(Signal::SIGKILL).at(Step::Supervise, "death signal")?;
        if hung_up(self.alive).at(Step::Supervise, "the template's pipe")? {
            return Err(StepError::new(Step::Supervise, "the template is gone"));
        }
        Ok(())
    }

    fn become_program(&self, point: &Point) -> Result<Infallible, StepError> {
        let told = || -> io::Result<()> {
            dup2_stdin(self.alive)?;
            dup2_stdout(self.status)?;
            dup2_stderr(self.null)?;
            move_to(self.errand, ERRAND)?;
            close_from_on_exec(FIRST_PRIVATE)
        };
        told().at(Step::Descriptors, "process 1")?;
        let ProcessOne {
            file,
            arguments,
            environment,
        } = self.program;
        execute(file, arguments, environment, point).at(Step::Supervise, "the program of process 1")
    }
}

fn hung_up(alive: &OwnedFd) -> nix::Result<bool> {
    let mut fds = [PollFd::new(alive.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO)?;
    let seen = fds.first().and_then(PollFd::revents);
    Ok(seen.is_some_and(|seen| seen.contains(PollFlags::POLLHUP)))
}
