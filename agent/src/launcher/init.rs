//! Process 1 of a session: puts up what is the session's own, starts the worker, then only reaps,
//! forwards signals and tells how the worker ended. Without privileges from the moment the worker
//! exists; the kernel ends everything in the namespace when it ends.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal, killpg},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, sethostname},
};

use super::protocol::{self, Launch, Status};
use crate::{
    sandbox::{
        Plan,
        child::{Worker, give_up},
        error::{At, Step, StepError},
        output::Left,
        plan::HOST_NAME,
        program::Program,
        root,
    },
    sys::{
        process::{Side, SingleThreaded, exit_now, fork},
        signals,
    },
};

/// Exit code of process 1 where the worker's is not its own; nobody reads it.
const ENDED: i32 = 0;
/// Exit code of a worker's process that became no worker; the pipe said why.
const NOT_EXECUTED: i32 = 125;
/// And of one whose pipe failed as well: process 1 sees an end without a report.
const NOT_TOLD: i32 = 126;
/// Longest report of a failed step, bytes.
const REPORT_BYTES_MAX: u64 = 8 * 1024;

/// What process 1 starts with.
pub(super) struct Init<'one> {
    pub(super) plan: Plan,
    pub(super) launch: Launch,
    pub(super) program: Program,
    pub(super) left: Option<Left>,
    pub(super) stdio: [OwnedFd; 3],
    pub(super) status: OwnedFd,
    pub(super) alive: OwnedFd,
    pub(super) one: &'one SingleThreaded,
}

/// A worker that executes its program.
struct Started {
    worker: Pid,
    signals: SignalFd,
}

impl Init<'_> {
    pub(super) fn run(self) -> ! {
        let (Ok(status), Ok(alive)) = (self.status.try_clone(), self.alive.try_clone()) else {
            exit_now(ENDED)
        };
        let status = File::from(status);
        let ended = match self.start() {
            Ok(started) => {
                report(&status, &Status::Started);
                match supervise(&started, &alive) {
                    Ok(ended) => ended,
                    Err(error) => Status::Failed(error),
                }
            }
            Err(error) => Status::Failed(error),
        };
        report(&status, &ended);
        exit_now(ENDED)
    }

    fn start(self) -> Result<Started, StepError> {
        prctl::set_pdeathsig(Signal::SIGKILL).at(Step::Supervise, "death signal")?;
        if hung_up(&self.alive).at(Step::Supervise, "the template's pipe")? {
            return Err(StepError::new(Step::Supervise, "the template is gone"));
        }
        signals::reset().at(Step::Supervise, "signals")?;
        let all = SigSet::all();
        all.thread_block().at(Step::Supervise, "signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&all, flags).at(Step::Supervise, "signalfd")?;
        sethostname(HOST_NAME).at(Step::HostName, HOST_NAME)?;
        root::session(&self.plan, self.left.as_ref(), self.launch.uid)?;
        drop(self.left);
        let ruleset = self.plan.landlock.ruleset()?;
        let environment = self
            .plan
            .environment
            .iter()
            .map(|variable| CString::new(variable.as_str()))
            .collect::<Result<_, _>>()
            .at(Step::Request, "environment")?;
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).at(Step::Fork, "pipe")?;
        let worker = Worker {
            plan: &self.plan,
            uid: self.launch.uid,
            memory_counted: self.launch.memory_counted,
            program: self.program,
            environment,
            stdio: self.stdio,
            ruleset,
        };
        let worker = match fork(self.one).at(Step::Fork, "the worker's process")? {
            Side::Child => {
                drop((reader, signals));
                become_worker(worker, writer)
            }
            Side::Parent(pid) => {
                drop((worker, writer));
                Pid::from_raw(pid)
            }
        };
        nothing_open().at(Step::Descriptors, "process 1")?;
        give_up(self.launch.uid)?;
        // Cleared by the change of ids.
        prctl::set_pdeathsig(Signal::SIGKILL).at(Step::Supervise, "death signal")?;
        prctl::set_dumpable(false).at(Step::Supervise, "dumpable")?;
        executed(reader)?;
        Ok(Started { worker, signals })
    }
}

fn become_worker(worker: Worker<'_>, writer: OwnedFd) -> ! {
    let Err(error) = worker.execute();
    let told = protocol::encode(&error).and_then(|bytes| File::from(writer).write_all(&bytes));
    exit_now(match told {
        Ok(()) => NOT_EXECUTED,
        Err(_) => NOT_TOLD,
    })
}

/// The pipe closes when the program is executed; what comes before that is why it was not.
fn executed(reader: OwnedFd) -> Result<(), StepError> {
    let mut bytes = Vec::new();
    File::from(reader)
        .take(REPORT_BYTES_MAX)
        .read_to_end(&mut bytes)
        .at(Step::Supervise, "the worker's pipe")?;
    if bytes.is_empty() {
        return Ok(());
    }
    let error: StepError = protocol::decode(&bytes).at(Step::Supervise, "the worker's report")?;
    Err(error)
}

fn supervise(started: &Started, alive: &OwnedFd) -> Result<Status, StepError> {
    loop {
        let mut fds = [
            PollFd::new(started.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(alive.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).at(Step::Supervise, "poll"),
        }
        if hung_up(alive).at(Step::Supervise, "the template's pipe")? {
            // The death signal is on its way as well; without a word is how it looks either way.
            exit_now(ENDED);
        }
        while let Some(received) = started
            .signals
            .read_signal()
            .at(Step::Supervise, "signalfd")?
        {
            let number = i32::try_from(received.ssi_signo).unwrap_or_default();
            match Signal::try_from(number) {
                Ok(Signal::SIGCHLD) | Err(_) => {}
                // Of the worker's own group, as a terminal would: a shell and what it waits for.
                // ESRCH: it ended in this moment; the next turn of the loop sees that.
                Ok(signal) => match killpg(started.worker, signal) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(errno).at(Step::Supervise, "forwarding a signal"),
                },
            }
        }
        if let Some(ended) = reap(started.worker).at(Step::Supervise, "waitpid")? {
            return Ok(ended);
        }
    }
}

/// Reaps what ended; tells how the worker did.
fn reap(worker: Pid) -> nix::Result<Option<Status>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == worker => {
                return Ok(Some(Status::Exited(
                    u8::try_from(code & 0xff).unwrap_or(u8::MAX),
                )));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == worker => {
                return Ok(Some(Status::Signalled(signal as i32)));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn hung_up(alive: &OwnedFd) -> nix::Result<bool> {
    let mut fds = [PollFd::new(alive.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO)?;
    let seen = fds.first().and_then(PollFd::revents);
    Ok(seen.is_some_and(|seen| seen.contains(PollFlags::POLLHUP)))
}

/// Standard input, output and error of process 1 lead nowhere.
fn nothing_open() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

/// Tells the agent. When it does not listen any more there is nobody left to tell.
fn report(mut pipe: &File, status: &Status) {
    let Ok(mut line) = protocol::encode(status) else {
        return;
    };
    line.push(b'\n');
    if pipe.write_all(&line).is_err() {
        exit_now(ENDED);
    }
}
