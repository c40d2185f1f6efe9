//! A template process: lives in a policy's root and clones that policy's sessions.

use std::{
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
    protocol::{self, LAUNCH_FDS, Launch, Reply},
};
use crate::{
    sandbox::{
        Plan,
        error::{At, Step, StepError},
        output::{self, Left},
        pins::Pins,
        root,
    },
    sys::{
        credentials,
        process::{Cloned, Side, SingleThreaded, clone_session, exit_now},
        seqpacket::{self, MESSAGE_BYTES_MAX, Message},
    },
};

/// Exit code of a template that could not go on; its last message said why.
const FAILED: i32 = 70;

pub(super) struct Template<'one> {
    plan: Plan,
    pins: Pins,
    socket: OwnedFd,
    /// Hangs up for every init when this process is gone. The writing end is never written to.
    alive: (OwnedFd, OwnedFd),
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
    pub(super) fn run(plan: Plan, socket: OwnedFd, one: &'one SingleThreaded) -> ! {
        let code = match Self::prepare(&plan) {
            Ok(alive) => {
                let pins = Pins::new(plan.pins.clone());
                let template = Self {
                    plan,
                    pins,
                    socket,
                    alive,
                    one,
                };
                match template.serve() {
                    Ok(()) => 0,
                    Err(error) => {
                        eprintln!("launcher: template: {error}");
                        FAILED
                    }
                }
            }
            Err(error) => match reply(&socket, &Reply::Failed(error), &[]) {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("launcher: template: {error}");
                    FAILED
                }
            },
        };
        exit_now(code)
    }

    fn prepare(plan: &Plan) -> Result<(OwnedFd, OwnedFd), StepError> {
        let launcher = getppid();
        prctl::set_pdeathsig(Signal::SIGKILL).at(Step::Supervise, "death signal")?;
        if getppid() != launcher || launcher.as_raw() == 1 {
            return Err(StepError::new(Step::Supervise, "the launcher is gone"));
        }
        root::enter(plan)?;
        credentials::lock_securebits().at(Step::Bounding, "securebits")?;
        credentials::empty_bounding_set().at(Step::Bounding, "bounding set")?;
        pipe2(OFlag::O_CLOEXEC).at(Step::Supervise, "pipe")
    }

    fn serve(mut self) -> io::Result<()> {
        reply(&self.socket, &Reply::Ready, &[])?;
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        while let Some(message) = seqpacket::receive(&self.socket, &mut buffer)? {
            let prepared = Request::new(message).and_then(|request| {
                let program = self.pins.open(&request.launch.command)?;
                Ok((request, program))
            });
            let (request, program) = match prepared {
                Ok(prepared) => prepared,
                Err(error) => {
                    reply(&self.socket, &Reply::Failed(error), &[])?;
                    continue;
                }
            };
            let left = match self.left(request.launch.uid) {
                Ok(left) => left,
                Err(error) => {
                    reply(&self.socket, &Reply::Failed(error), &[])?;
                    continue;
                }
            };
            match clone_session(self.one, request.cgroup.as_fd()) {
                Ok(Side::Parent(Cloned { pidfd, .. })) => {
                    let left = left.as_ref().map(|left| left.as_fd().as_raw_fd());
                    let fds: Vec<_> = [pidfd.as_raw_fd()].into_iter().chain(left).collect();
                    reply(&self.socket, &Reply::Cloned, &fds)?;
                }
                Ok(Side::Child) => {
                    let Self {
                        plan,
                        pins,
                        socket,
                        alive: (alive, keeps_alive),
                        one,
                    } = self;
                    drop((pins, socket, keeps_alive, buffer));
                    let Request {
                        launch,
                        stdio,
                        status,
                        cgroup,
                    } = request;
                    drop(cgroup);
                    Init {
                        plan,
                        launch,
                        program,
                        left,
                        stdio,
                        status,
                        alive,
                        one,
                    }
                    .run();
                }
                Err(source) => {
                    let error = Err::<(), _>(source).at(Step::Clone, "process 1 of the session");
                    if let Err(error) = error {
                        reply(&self.socket, &Reply::Failed(error), &[])?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The session's folder for what is handed out, where its policy has one.
    fn left(&self, uid: u32) -> Result<Option<Left>, StepError> {
        let make = |space| Left::make(space, uid).at(Step::Mounts, output::FOLDER);
        self.plan.output.map(make).transpose()
    }
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
