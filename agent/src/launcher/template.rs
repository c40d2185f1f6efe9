//! A template process: lives in a policy's root and makes that policy's sessions.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use nix::{
    fcntl::{OFlag, open},
    sys::{prctl, signal::Signal, stat::Mode},
    unistd::{dup3, getppid, pipe2},
};

use super::{
    init::Init,
    program::ProcessOne,
    protocol::{self, Ask, LAUNCH_FDS, RESERVE_FDS, Reply, Work},
};
use crate::{
    sandbox::{
        Plan, child,
        error::{At, Step, StepError},
        landlock::Rules,
        pins::Pins,
        program::Program,
        root::{self, Ready},
        sum::AtIt,
    },
    sys::{
        clone::{Became, Made, Place, Stack, make},
        credentials,
        errand::DESCRIPTORS,
        process::{SingleThreaded, exit_now},
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
    program: ProcessOne,
    ready: Vec<Ready>,
    /// For process 1, until it executes its program.
    stack: Stack,
    /// Hangs up for every init when this process is gone. The writing end is never written to.
    alive: (OwnedFd, OwnedFd),
    /// The null device, for every process 1.
    null: OwnedFd,
    one: &'one SingleThreaded,
}

impl<'one> Template<'one> {
    /// Enters the policy's root, then serves until the agent closes the socket.
    pub(super) fn run(
        plan: Plan,
        program: ProcessOne,
        place: OwnedFd,
        socket: &OwnedFd,
        one: &'one SingleThreaded,
    ) -> ! {
        let served = match Self::prepare(plan, program, place, socket, one) {
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
        mut place: OwnedFd,
        socket: &OwnedFd,
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
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = null.at(Step::Supervise, "/dev/null")?;
        dup3(null, &mut place, OFlag::O_CLOEXEC).at(Step::Supervise, "/dev/null")?;
        let told = socket.try_clone().at(Step::Supervise, "socket")?;
        let at_it = AtIt::telling(move |bytes| reply(&told, &Reply::Summing { bytes }, &[]));
        let template = Self {
            rules: plan.landlock.open()?,
            pins: Pins::new(plan.pins.clone(), at_it),
            program,
            ready: Vec::with_capacity(READY_MAX),
            stack: Stack::new().at(Step::Supervise, "stack")?,
            alive: pipe2(OFlag::O_CLOEXEC).at(Step::Supervise, "pipe")?,
            null: place,
            plan,
            one,
        };
        template.plan.filters.enter_template()?;
        Ok(template)
    }

    fn serve(mut self, socket: &OwnedFd) -> io::Result<()> {
        // To look up paths in, neither readable nor writable.
        let root = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        reply(socket, &Reply::Ready, &[root.as_raw_fd()])?;
        drop(root);
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        while let Some(message) = seqpacket::receive(socket, &mut buffer)? {
            let done = self.answer(message);
            let (said, fds) = match &done {
                Ok(Done::Waiting(process_one, ready)) => {
                    let left = ready.output.as_ref().map(|left| left.as_fd().as_raw_fd());
                    let fds = [process_one.as_raw_fd(), ready.rules.as_raw_fd()];
                    (Reply::Waiting, fds.into_iter().chain(left).collect())
                }
                Ok(Done::Told(program)) => {
                    let found = program.as_ref().and_then(|program| program.found.clone());
                    let file = found.as_ref().and(program.as_ref());
                    let fds = file.map(|program| program.file.as_raw_fd());
                    (Reply::Told(found), fds.into_iter().collect())
                }
                Err(error) => (Reply::Failed(error.clone()), Vec::new()),
            };
            reply(socket, &said, &fds)?;
            drop(done);
            // Nobody waits for it. Where it fails now, the next request says so.
            if self.ready.len() < READY_MAX
                && let Ok(ready) = Ready::new(&self.plan, &self.rules)
            {
                self.ready.push(ready);
            }
        }
        Ok(())
    }

    fn answer(&mut self, message: Message) -> Result<Done, StepError> {
        match protocol::decode(&message.bytes).at(Step::Request, "request")? {
            Ask::Reserve { uid } => {
                let fds = told_apart::<RESERVE_FDS>(message.fds)?;
                let (process_one, ready) = self.reserve(uid, &fds)?;
                Ok(Done::Waiting(process_one, ready))
            }
            Ask::Launch {
                work,
                memory_counted,
            } => {
                let fds = told_apart::<LAUNCH_FDS>(message.fds)?;
                Ok(Done::Told(self.launch(&work, memory_counted, &fds)?))
            }
        }
    }

    /// Makes process 1 of a session. When this returns it runs its program, waits, and has nothing any
    /// more that its worker will not have.
    fn reserve(
        &mut self,
        uid: u32,
        [status, cgroup, errand]: &[OwnedFd; RESERVE_FDS],
    ) -> Result<(OwnedFd, Ready), StepError> {
        let ready = match self.ready.pop() {
            Some(ready) => ready,
            None => Ready::new(&self.plan, &self.rules)?,
        };
        ready.give_to(uid)?;
        let init = Init {
            plan: &self.plan,
            rules: &self.rules,
            program: &self.program,
            uid,
            ready: &ready,
            status,
            errand,
            alive: &self.alive.0,
            null: &self.null,
        };
        let place = Place::Session(cgroup.as_fd());
        let made = make(self.one, &self.stack, place, |point| init.run(point));
        let Made { became, pidfd, .. } = made.at(Step::Clone, "process 1 of the session")?;
        match (became, pidfd) {
            (Became::Program, Some(pidfd)) => Ok((pidfd, ready)),
            (Became::Failed(error), _) => Err(error),
            (Became::Killed, _) => Err(StepError::new(
                Step::Clone,
                "process 1 of the session was killed before its program",
            )),
            (Became::Program, None) => Err(StepError::new(Step::Clone, "no descriptor of it")),
        }
    }

    /// Opens the program, checked, and tells a waiting process 1 what its worker is to do.
    fn launch(
        &mut self,
        work: &Work,
        memory_counted: bool,
        [input, output, error, errand, rules]: &[OwnedFd; LAUNCH_FDS],
    ) -> Result<Option<Program>, StepError> {
        let program = match work {
            Work::Command(command) => Some(self.pins.open(command)?),
            Work::SelfTest => None,
        };
        let arguments = program.as_ref().map(|program| program.arguments.as_slice());
        let steps = child::errand(&self.plan, memory_counted, arguments)?;
        // The form wants a file; where nothing is executed it is any.
        let file = program.as_ref().map(|program| program.file.as_fd());
        let file = file.unwrap_or(self.null.as_fd());
        let fds = [
            input.as_fd(),
            output.as_fd(),
            error.as_fd(),
            file,
            rules.as_fd(),
        ];
        let fds: [_; DESCRIPTORS] = fds.map(|fd| fd.as_raw_fd());
        seqpacket::send(errand, &steps, &fds).at(Step::Supervise, "process 1")?;
        Ok(program)
    }
}

/// What came of a request.
enum Done {
    /// Process 1, and what its session was given.
    Waiting(OwnedFd, Ready),
    /// Process 1 has its errand, which was to execute this.
    Told(Option<Program>),
}

fn told_apart<const COUNT: usize>(fds: Vec<OwnedFd>) -> Result<[OwnedFd; COUNT], StepError> {
    fds.try_into().map_err(|fds: Vec<_>| {
        let detail = format!("request: {} descriptors, not {COUNT}", fds.len());
        StepError::new(Step::Request, detail)
    })
}

fn reply(socket: &OwnedFd, reply: &Reply, fds: &[i32]) -> io::Result<()> {
    seqpacket::send(socket, &protocol::encode(reply)?, fds)
}
