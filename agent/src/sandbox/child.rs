//! The last steps of a worker's process, from its making to its program. Carries out; decides nothing.
//!
//! The process shares memory with the template that waits for it, so it owns nothing, and whatever it
//! does to this memory is done to the template's.

use std::{
    convert::Infallible,
    os::fd::{AsFd, BorrowedFd},
};

use nix::{
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        stat,
    },
    unistd::{
        Gid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, getppid, setgroups, setresgid, setresuid,
        setsid,
    },
};

use super::{
    error::{At, Step, StepError},
    plan::Plan,
    program::Program,
    rlimit::{self, Limited},
    selftest::{Slipped, attempt},
};
use crate::sys::{
    self,
    clone::Point,
    process::{Vectors, close_from_on_exec, execute, exit_now},
};

/// Process 1 of the session: the worker's parent.
const INIT: i32 = 1;
/// Descriptors from here on do not reach the worker.
const FIRST_PRIVATE: u32 = 3;

/// What the process does when every layer is in force.
#[derive(Debug)]
pub enum Task {
    /// Becomes this program.
    Execute(Program),
    /// Tries what the fence must refuse.
    SelfTest,
}

/// What a worker starts with.
#[derive(Clone, Copy, Debug)]
pub struct Worker<'session> {
    /// The fence.
    pub plan: &'session Plan,
    /// Whether a controller counts its memory.
    pub memory_counted: bool,
    /// What it does.
    pub task: &'session Task,
    /// The environment.
    pub environment: &'session Vectors,
    /// Standard input, output and error.
    pub stdio: [BorrowedFd<'session>; 3],
    /// Landlock's rules, those of the session's own mounts included.
    pub rules: BorrowedFd<'session>,
}

impl Worker<'_> {
    /// Carries the task out. Process 1, which has made this one, gave up every privilege before.
    /// Returns only when a step failed; the process must then end.
    pub fn execute(self, point: &Point) -> Result<Infallible, StepError> {
        let [input, output, error] = self.stdio;
        setsid().at(Step::TerminalSession, "setsid")?;
        stat::umask(stat::Mode::from_bits_truncate(0o077));
        dup2_stdin(input).at(Step::Stdio, "standard input")?;
        dup2_stdout(output).at(Step::Stdio, "standard output")?;
        dup2_stderr(error).at(Step::Stdio, "standard error")?;
        for limit in &self.plan.limits {
            if limit.limited != Limited::Data || !self.memory_counted {
                rlimit::apply(limit)?;
            }
        }
        prctl::set_pdeathsig(Signal::SIGKILL).at(Step::DeathSignal, "death signal")?;
        if getppid().as_raw() != INIT {
            return Err(StepError::new(Step::DeathSignal, "process 1 is gone"));
        }
        nix::unistd::chdir(super::plan::WORKDIR).at(Step::Mounts, super::plan::WORKDIR)?;
        sys::landlock::restrict(self.rules).at(Step::Landlock, "rules")?;
        // The program's own descriptor is among them: it is needed until the execution.
        close_from_on_exec(FIRST_PRIVATE).at(Step::Descriptors, "close_range")?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
            .at(Step::TerminalSession, "signals")?;
        self.plan.filters.enter_session()?;
        let Program { file, arguments } = match self.task {
            Task::Execute(program) => program,
            Task::SelfTest => {
                let mut slipped = Slipped::default();
                attempt(&mut slipped);
                point.pass();
                exit_now(slipped.code().into())
            }
        };
        execute(file.as_fd(), arguments, self.environment, point).map_err(|source| StepError {
            step: Step::Execute,
            detail: format!(
                "program `{}`: can not be executed\n\
                 hint: it, or its ELF interpreter, may lie outside `filesystem.execute`",
                arguments.first().to_string_lossy()
            ),
            errno: source.raw_os_error().unwrap_or_default(),
        })
    }
}

/// Gives up user, groups, keys and every capability, for good. The bounding and the ambient set are
/// empty and the securebits are locked already, once per policy.
pub fn give_up(uid: u32) -> Result<(), StepError> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[]).at(Step::Identity, "setgroups")?;
    setresgid(group, group, group).at(Step::Identity, "setresgid")?;
    setresuid(user, user, user).at(Step::Identity, "setresuid")?;
    sys::keyring::join_empty_session().at(Step::Keyring, "session keyring")?;
    sys::credentials::empty_capability_sets().at(Step::Capabilities, "capabilities")?;
    prctl::set_no_new_privs().at(Step::NoNewPrivileges, "no_new_privs")
}
