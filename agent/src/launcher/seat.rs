//! What a session will have, whoever asks for it: its cgroup, its user, its mounts, and process 1, which
//! waits in them to be told what to do. Nobody's code runs in it, and the hooks refuse whatever is in a
//! cgroup that they do not know.

use std::{
    ffi::OsString,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use common::id::CgroupId;
use nix::{
    fcntl::OFlag,
    sys::{socket::SockFlag, stat::fstat},
    unistd::pipe2,
};
use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::{
    error::LaunchError,
    handle::{Template, odd},
    protocol::{ANSWER_BYTES, Ask, Reply, Work},
    running::ProcessOne,
};
use crate::{
    kernel::cgroup::Measure,
    sandbox::{
        child,
        error::{Step, StepError},
        output::Left,
        uids::SessionUid,
    },
    sys::{
        errand::{DONE, FAILED, KILLED, UNREADABLE},
        seqpacket,
    },
};

/// The cgroup that a session will be in.
#[derive(Clone, Copy, Debug)]
pub struct Place<'cgroup> {
    /// Its folder of cgroup v2.
    pub cgroup: BorrowedFd<'cgroup>,
    /// What it limits.
    pub measures: &'cgroup [Measure],
}

/// Whether a session can be started in a place that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    /// It can.
    Yes,
    /// The root in which it was made is not that of the policy any more.
    OldRoot,
    /// Its process 1 ended.
    Ended,
}

/// A session that nobody has asked for yet. Its process 1 is killed when this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Seat {
    pub(super) cgroup: CgroupId,
    pub(super) measures: Vec<Measure>,
    /// Where errands go.
    errand: OwnedFd,
    /// Landlock's rules.
    rules: OwnedFd,
    taken: Taken,
    pub(super) template: Arc<Template>,
}

/// What of it a running session keeps.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) status: pipe::Receiver,
    pub(super) process_one: ProcessOne,
    /// What the worker leaves, where its policy hands that out.
    pub(super) left: Option<Left>,
    // After process 1: a number rests only when nothing runs under it.
    pub(super) uid: SessionUid,
    _template: Arc<Template>,
}

impl Seat {
    pub(super) async fn reserve(
        template: Arc<Template>,
        uid: SessionUid,
        place: Place<'_>,
    ) -> Result<Self, LaunchError> {
        let lost = |errno: nix::Error| LaunchError::Lost(errno.into());
        let cgroup = CgroupId(fstat(place.cgroup).map_err(lost)?.st_ino);
        let (status, writer) = pipe2(OFlag::O_CLOEXEC).map_err(lost)?;
        let status = pipe::Receiver::from_owned_fd(status).map_err(LaunchError::Lost)?;
        let (errand, theirs) = seqpacket::pair(SockFlag::empty()).map_err(LaunchError::Lost)?;
        let fds = [
            writer.as_raw_fd(),
            place.cgroup.as_raw_fd(),
            theirs.as_raw_fd(),
        ];
        let ask = Ask::Reserve { uid: uid.get() };
        let (Reply::Waiting, fds) = template.ask(&ask, &fds).await? else {
            return Err(odd());
        };
        // Theirs now: an end of file must mean that process 1 is gone.
        drop((writer, theirs));
        let mut fds = fds.into_iter();
        let (Some(pidfd), Some(rules)) = (fds.next(), fds.next()) else {
            return Err(odd());
        };
        let left = fds.next().map(Left::from);
        let process_one = ProcessOne::new(pidfd)?;
        Ok(Self {
            cgroup,
            measures: place.measures.to_vec(),
            errand,
            rules,
            taken: Taken {
                status,
                process_one,
                left,
                uid,
                _template: Arc::clone(&template),
            },
            template,
        })
    }

    /// Whether process 1 is there still.
    pub(super) fn waits(&self) -> bool {
        self.taken.process_one.is_there()
    }

    /// Kills process 1 and waits until it is gone, and its mounts and namespaces with it.
    pub async fn give_up(self) {
        self.taken.process_one.kill();
        if let Err(error) = self.taken.process_one.gone().await {
            tracing::warn!(%error, "end of a waiting process 1 not seen");
        }
    }

    /// Has process 1 start this work. When this returns, it runs.
    pub(super) async fn take(
        self,
        work: Work,
        memory_counted: bool,
        stdio: [OwnedFd; 3],
    ) -> Result<Taken, LaunchError> {
        let Self {
            errand,
            rules,
            mut taken,
            template,
            ..
        } = self;
        let ask = Ask::Launch {
            work,
            memory_counted,
        };
        template.start(&ask, &errand, &rules, &stdio).await?;
        drop((stdio, errand, rules));
        let mut answer = [0; ANSWER_BYTES];
        if taken.status.read_exact(&mut answer).await.is_err() {
            return Err(killed("process 1 of the session"));
        }
        let Ask::Launch { work, .. } = &ask else {
            return Err(odd());
        };
        let (words, _) = answer.as_chunks();
        match words {
            [kind, ..] if i32::from_ne_bytes(*kind) == DONE => Ok(taken),
            [kind, tag, errno] => {
                let [kind, tag, errno] = [kind, tag, errno].map(|word| i32::from_ne_bytes(*word));
                Err(match kind {
                    FAILED => {
                        let name = name(work);
                        LaunchError::Step(child::failed(&template.plan, &name, tag, errno))
                    }
                    KILLED if errno == 0 => killed("the worker's process"),
                    KILLED => LaunchError::Step(StepError {
                        step: Step::Fork,
                        detail: "the worker's process".to_owned(),
                        errno,
                    }),
                    UNREADABLE => LaunchError::Step(StepError::new(
                        Step::Request,
                        "process 1 can not read what it is to do",
                    )),
                    _ => odd(),
                })
            }
            _ => Err(odd()),
        }
    }
}

fn killed(who: &str) -> LaunchError {
    let detail = format!("{who} was killed before its program");
    LaunchError::Step(StepError::new(Step::Execute, detail))
}

fn name(work: &Work) -> String {
    match work {
        Work::Command(command) => {
            let first = command.first().map(OsString::as_os_str);
            first.unwrap_or_default().to_string_lossy().into_owned()
        }
        Work::SelfTest => "self-test".to_owned(),
    }
}
