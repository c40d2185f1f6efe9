//! From the making of a session's process 1 to the execution of its own program: puts up what is the
//! session's own, gives up every privilege, makes the worker.
//!
//! It shares memory with the template, which waits: no step here owns anything of it. What comes
//! afterwards is the program of process 1, `sys/process_one`.

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

use super::{program::ProcessOne, protocol::Launch};
use crate::{
    sandbox::{
        Plan,
        child::{Task, Worker, give_up},
        error::{At, Step, StepError},
        landlock::Rules,
        plan::HOST_NAME,
        root::{self, Ready},
    },
    sys::{
        clone::{Became, Made, Place, Point, Stack, make},
        process::{SingleThreaded, Vectors, close_from_on_exec, execute},
        signals,
    },
};

/// The worker: the first process that process 1 makes. Its program knows it by this number.
const WORKER: i32 = 2;
/// Descriptors from here on do not reach the program of process 1.
const FIRST_PRIVATE: u32 = 3;

/// What process 1 starts with.
#[derive(Clone, Copy)]
pub(super) struct Init<'session> {
    pub(super) plan: &'session Plan,
    pub(super) rules: &'session Rules,
    pub(super) environment: &'session Vectors,
    pub(super) program: &'session ProcessOne,
    pub(super) launch: &'session Launch,
    pub(super) task: &'session Task,
    pub(super) ready: &'session Ready,
    pub(super) stdio: &'session [OwnedFd; 3],
    pub(super) status: &'session OwnedFd,
    pub(super) alive: &'session OwnedFd,
    /// The null device.
    pub(super) null: &'session OwnedFd,
    /// For the worker, until it executes its program.
    pub(super) stack: &'session Stack,
    pub(super) one: &'session SingleThreaded,
}

impl Init<'_> {
    /// Becomes the program of process 1, its worker started. Returns only when a step failed; the
    /// process must then end.
    pub(super) fn run(self, point: &Point) -> Result<Infallible, StepError> {
        self.watched_over()?;
        // What comes before the program of process 1 listens waits for it.
        SigSet::all()
            .thread_block()
            .at(Step::Supervise, "signals")?;
        signals::default_children().at(Step::Supervise, "signals")?;
        sethostname(HOST_NAME).at(Step::HostName, HOST_NAME)?;
        root::session(self.plan, self.launch.uid, self.ready)?;
        self.rules.add_process_list(&self.ready.rules)?;
        // The worker inherits all of it.
        give_up(self.launch.uid)?;
        // Cleared by the change of ids.
        self.watched_over()?;
        self.start_worker()?;
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

    fn start_worker(&self) -> Result<(), StepError> {
        let [input, output, error] = self.stdio;
        let worker = Worker {
            plan: self.plan,
            memory_counted: self.launch.memory_counted,
            task: self.task,
            environment: self.environment,
            stdio: [input.as_fd(), output.as_fd(), error.as_fd()],
            rules: self.ready.rules.as_fd(),
        };
        let made = make(self.one, self.stack, Place::Here, |point| {
            worker.execute(point)
        });
        match made.at(Step::Fork, "the worker's process")? {
            Made {
                became: Became::Failed(error),
                ..
            } => Err(error),
            Made {
                became: Became::Killed,
                ..
            } => Err(StepError::new(
                Step::Execute,
                "the worker's process was killed before its program",
            )),
            Made {
                became: Became::Program,
                pid: WORKER,
                ..
            } => Ok(()),
            Made { pid, .. } => Err(StepError::new(
                Step::Fork,
                format!("the worker is process {pid}, not {WORKER}"),
            )),
        }
    }

    fn become_program(&self, point: &Point) -> Result<Infallible, StepError> {
        let told = || -> io::Result<()> {
            dup2_stdin(self.alive)?;
            dup2_stdout(self.status)?;
            dup2_stderr(self.null)?;
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
