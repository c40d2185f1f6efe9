//! A template process: lives in a policy's root and makes that policy's sessions.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use nix::{
    fcntl::OFlag,
    sys::{prctl, signal::Signal},
    unistd::{getppid, pipe2},
};

use super::{
    init::Init,
    program::ProcessOne,
    protocol::{self, LAUNCH_FDS, Launch, Reply, Work},
};
use crate::{
    sandbox::{
        Plan,
        child::Task,
        error::{At, Step, StepError},
        landlock::Rules,
        output::Left,
        pins::Pins,
        root::{self, Ready},
    },
    sys::{
        clone::{Became, Made, Place, Stack, make},
        credentials,
        process::{SingleThreaded, Vectors, exit_now},
        seqpacket::{self, MESSAGE_BYTES_MAX, Message},
    },
};

/// Exit code of a template that could not go on; its last message said why.
const FAILED: i32 = 70;
/// Of these as many are kept as launches come at once on a small host.
const READY_MAX: usize = 4;

pub(super) struct Template<'one> {
    plan: Plan,
    rules: Rules,
    pins: Pins,
    environment: Vectors,
    program: ProcessOne,
    ready: Vec<Ready>,
    /// For process 1 and for the worker, until each executes its program.
    stacks: [Stack; 2],
    /// Hangs up for every init when this process is gone. The writing end is never written to.
    alive: (OwnedFd, OwnedFd),
    /// The null device, for every process 1.
    null: OwnedFd,
    one: &'one SingleThreaded,
}

/// A request with its descriptors told apart.
struct Request {
    launch: Launch,
    stdio: [OwnedFd; 3],
    status: OwnedFd,
    cgroup: OwnedFd,
}

impl<'one> Template<'one> {
    /// Enters the policy's root, then serves until the agent closes the socket.
    pub(super) fn run(
        plan: Plan,
        program: ProcessOne,
        socket: &OwnedFd,
        one: &'one SingleThreaded,
    ) -> ! {
        let served = match Self::prepare(plan, program, one) {
            Ok(template) => template.serve(socket),
            Err(error) => reply(socket, &Reply::Failed(error), &[]),
        };
        let code = match served {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("launcher: template: {error}");
                FAILED
            }
        };
        exit_now(code)
    }

    fn prepare(
        plan: Plan,
        program: ProcessOne,
        one: &'one SingleThreaded,
    ) -> Result<Self, StepError> {
        let launcher = getppid();
        prctl::set_pdeathsig(Signal::SIGKILL).at(Step::Supervise, "death signal")?;
        if getppid() != launcher || launcher.as_raw() == 1 {
            return Err(StepError::new(Step::Supervise, "the launcher is gone"));
        }
        root::enter(&plan)?;
        credentials::lock_securebits().at(Step::Bounding, "securebits")?;
        credentials::empty_bounding_set().at(Step::Bounding, "bounding set")?;
        credentials::empty_ambient_set().at(Step::Bounding, "ambient set")?;
        let variables = plan.environment.iter();
        let variables = variables.map(|variable| CString::new(variable.as_str()));
        let environment = variables
            .collect::<Result<_, _>>()
            .at(Step::Request, "environment")?;
        let template = Self {
            rules: plan.landlock.open()?,
            pins: Pins::new(plan.pins.clone()),
            environment: Vectors::new(environment),
            program,
            ready: Vec::with_capacity(READY_MAX),
            stacks: stacks()?,
            alive: pipe2(OFlag::O_CLOEXEC).at(Step::Supervise, "pipe")?,
            null: null().at(Step::Supervise, "/dev/null")?,
            plan,
            one,
        };
        template.plan.filters.enter_template()?;
        Ok(template)
    }

    fn serve(mut self, socket: &OwnedFd) -> io::Result<()> {
        reply(socket, &Reply::Ready, &[])?;
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        while let Some(message) = seqpacket::receive(socket, &mut buffer)? {
            match Request::new(message).and_then(|request| self.launch(&request)) {
                Ok((pidfd, left)) => {
                    let left = left.as_ref().map(|left| left.as_fd().as_raw_fd());
                    let fds: Vec<_> = [pidfd.as_raw_fd()].into_iter().chain(left).collect();
                    reply(socket, &Reply::Started, &fds)?;
                }
                Err(error) => reply(socket, &Reply::Failed(error), &[])?,
            }
            // Nobody waits for it. Where it fails now, the next launch says so.
            if self.ready.len() < READY_MAX
                && let Ok(ready) = Ready::new(&self.plan, &self.rules)
            {
                self.ready.push(ready);
            }
        }
        Ok(())
    }

    /// Starts a session; when this returns its process 1, and the place of its output where its
    /// policy has one, the worker's program runs.
    fn launch(&mut self, request: &Request) -> Result<(OwnedFd, Option<Left>), StepError> {
        let task = match &request.launch.work {
            Work::Command(command) => Task::Execute(self.pins.open(command)?),
            Work::SelfTest => Task::SelfTest,
        };
        let ready = match self.ready.pop() {
            Some(ready) => ready,
            None => Ready::new(&self.plan, &self.rules)?,
        };
        ready.give_to(request.launch.uid)?;
        let [outer, inner] = &self.stacks;
        let init = Init {
            plan: &self.plan,
            rules: &self.rules,
            environment: &self.environment,
            program: &self.program,
            launch: &request.launch,
            task: &task,
            ready: &ready,
            stdio: &request.stdio,
            status: &request.status,
            alive: &self.alive.0,
            null: &self.null,
            stack: inner,
            one: self.one,
        };
        let place = Place::Session(request.cgroup.as_fd());
        let made = make(self.one, outer, place, |point| init.run(point));
        let Made { became, pidfd, .. } = made.at(Step::Clone, "process 1 of the session")?;
        match (became, pidfd) {
            (Became::Program, Some(pidfd)) => Ok((pidfd, ready.output)),
            (Became::Failed(error), _) => Err(error),
            (Became::Killed, _) => {
                // It may have left its worker's stack in use, and all its processes are gone.
                self.stacks = stacks()?;
                Err(StepError::new(
                    Step::Clone,
                    "process 1 of the session was killed before its program",
                ))
            }
            (Became::Program, None) => Err(StepError::new(Step::Clone, "no descriptor of it")),
        }
    }
}

fn null() -> io::Result<OwnedFd> {
    let file = File::options().read(true).write(true).open("/dev/null")?;
    Ok(file.into())
}

fn stacks() -> Result<[Stack; 2], StepError> {
    let stack = || Stack::new().at(Step::Supervise, "stack");
    Ok([stack()?, stack()?])
}

impl Request {
    fn new(message: Message) -> Result<Self, StepError> {
        let launch = protocol::decode(&message.bytes).at(Step::Request, "request")?;
        let [input, output, error, status, cgroup] = <[OwnedFd; LAUNCH_FDS]>::try_from(message.fds)
            .map_err(|fds| {
                let detail = format!("request: {} descriptors, not {LAUNCH_FDS}", fds.len());
                StepError::new(Step::Request, detail)
            })?;
        Ok(Self {
            launch,
            stdio: [input, output, error],
            status,
            cgroup,
        })
    }
}

fn reply(socket: &OwnedFd, reply: &Reply, fds: &[i32]) -> io::Result<()> {
    seqpacket::send(socket, &protocol::encode(reply)?, fds)
}
