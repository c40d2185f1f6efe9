//! The last steps of a worker's process, from its fork to its program. Carries out; decides nothing.

use std::{
    convert::Infallible,
    ffi::CString,
    os::fd::{AsFd, OwnedFd},
};

use landlock::RulesetCreated;
use nix::{
    sys::{prctl, signal::Signal, stat},
    unistd::{
        Gid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, getppid, setgroups, setresgid, setresuid,
        setsid,
    },
};

use super::{
    error::{At, Step, StepError},
    landlock::enforce,
    plan::Plan,
    program::Program,
    rlimit::{self, Limited},
    selftest::{Slipped, attempt},
};
use crate::sys;

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
#[derive(Debug)]
pub struct Worker<'plan> {
    /// The fence.
    pub plan: &'plan Plan,
    /// User and group.
    pub uid: u32,
    /// Whether a controller counts its memory.
    pub memory_counted: bool,
    /// What it does.
    pub task: Task,
    /// The environment.
    pub environment: Vec<CString>,
    /// Standard input, output and error.
    pub stdio: [OwnedFd; 3],
    /// Landlock's rules, made after the mounts.
    pub ruleset: RulesetCreated,
}

impl Worker<'_> {
    /// Carries the task out. Returns only when a step failed; the process must then end.
    pub fn execute(self) -> Result<Infallible, StepError> {
        let Self {
            plan,
            uid,
            memory_counted,
            task,
            environment,
            stdio: [input, output, error],
            ruleset,
        } = self;
        sys::signals::reset().at(Step::TerminalSession, "signals")?;
        setsid().at(Step::TerminalSession, "setsid")?;
        stat::umask(stat::Mode::from_bits_truncate(0o077));
        dup2_stdin(input).at(Step::Stdio, "standard input")?;
        dup2_stdout(output).at(Step::Stdio, "standard output")?;
        dup2_stderr(error).at(Step::Stdio, "standard error")?;
        for limit in &plan.limits {
            if limit.limited != Limited::Data || !memory_counted {
                rlimit::apply(limit)?;
            }
        }
        give_up(uid)?;
        // Cleared by a change of ids, so only now.
        prctl::set_pdeathsig(Signal::SIGKILL).at(Step::DeathSignal, "death signal")?;
        if getppid().as_raw() != INIT {
            return Err(StepError::new(Step::DeathSignal, "process 1 is gone"));
        }
        nix::unistd::chdir(super::plan::WORKDIR).at(Step::Mounts, super::plan::WORKDIR)?;
        enforce(ruleset)?;
        // The program's own descriptor is among them: it is needed until the execution.
        sys::process::close_from_on_exec(FIRST_PRIVATE).at(Step::Descriptors, "close_range")?;
        for filter in &plan.filters {
            filter.install()?;
        }
        let Program { file, arguments } = match task {
            Task::Execute(program) => program,
            Task::SelfTest => {
                let mut slipped = Slipped::default();
                attempt(&mut slipped);
                sys::process::exit_now(slipped.code().into())
            }
        };
        sys::process::execute(file.as_fd(), &arguments, &environment).map_err(|source| {
            let name = arguments
                .first()
                .map(|name| name.to_string_lossy().into_owned());
            StepError {
                step: Step::Execute,
                detail: format!(
                    "program `{}`: can not be executed\n\
                     hint: it, or its ELF interpreter, may lie outside `filesystem.execute`",
                    name.unwrap_or_default()
                ),
                errno: source.raw_os_error().unwrap_or_default(),
            }
        })
    }
}

/// Gives up user, groups, keys and every capability, for good. The bounding set is empty and the
/// securebits are locked already, once per policy.
pub fn give_up(uid: u32) -> Result<(), StepError> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[]).at(Step::Identity, "setgroups")?;
    setresgid(group, group, group).at(Step::Identity, "setresgid")?;
    setresuid(user, user, user).at(Step::Identity, "setresuid")?;
    sys::keyring::join_empty_session().at(Step::Keyring, "session keyring")?;
    sys::credentials::empty_capability_sets().at(Step::Capabilities, "capabilities")?;
    prctl::set_no_new_privs().at(Step::NoNewPrivileges, "no_new_privs")
}
