//! A template process as the agent knows it: what it may be asked, and what needs no asking.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Mutex, time::timeout};

use super::{
    again::Again,
    channel::Channel,
    error::LaunchError,
    protocol::{self, Ask, Prepare, Reply},
};
use crate::{
    config::Instance,
    kernel::cgroup,
    policy::compiled::{CompiledPolicy, Digest},
    sandbox::{
        Plan, child, enforced,
        error::{At, Step},
    },
    sys::seqpacket,
};

/// A template that has not made a place by then is of no use any more. Less than a launch may take: there
/// is time to make another. To look at a program may take as long as a launch: it may be pinned, and large.
const RESERVE_TIME_MAX: Duration = Duration::from_secs(4);

/// A policy's template process. It, and the sessions it cloned, end when the last handle is dropped.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) plan: Plan,
    pub(super) digest: Digest,
    /// Its root, to look up paths in.
    root: OwnedFd,
    /// The program that it found last.
    again: SyncMutex<Option<Arc<Again>>>,
    /// One thing at a time is asked for.
    asking: Mutex<Asking>,
    /// What the sessions' records have in common.
    enforced: SyncMutex<Option<Arc<enforced::Shared>>>,
}

#[derive(Debug)]
struct Asking {
    channel: Channel,
    /// An answer is owed: to the one who asks now, or to one who went away. Then the next answer
    /// would be another's, and the template is of no use any more.
    owed: bool,
}

impl Template {
    pub(super) async fn new(
        instance: &Instance,
        launcher: &Channel,
        policy: &CompiledPolicy,
    ) -> Result<Arc<Self>, LaunchError> {
        let plan = Plan::new(instance, policy)?;
        let (mut channel, theirs) = Channel::pair().map_err(LaunchError::Lost)?;
        let prepare = Prepare { plan };
        launcher
            .send(&prepare, &[theirs.as_raw_fd()])
            .await
            .map_err(LaunchError::Lost)?;
        drop(theirs);
        let Prepare { plan } = prepare;
        match answer(&mut channel).await? {
            (Reply::Ready, fds) => Ok(Arc::new(Self {
                plan,
                digest: policy.digest,
                root: fds.into_iter().next().ok_or_else(odd)?,
                again: SyncMutex::default(),
                asking: Mutex::new(Asking {
                    channel,
                    owed: false,
                }),
                enforced: SyncMutex::default(),
            })),
            (Reply::Failed(error), _) => Err(LaunchError::Step(error)),
            (Reply::Waiting | Reply::Told(_), _) => Err(odd()),
        }
    }

    pub(super) fn enforced(
        &self,
        memory_counted: bool,
        limits: &[cgroup::Measure],
        unix_hooks: bool,
    ) -> Result<Arc<enforced::Shared>, LaunchError> {
        let mut known = self.enforced.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known
            .as_ref()
            .filter(|known| known.is_of(memory_counted, limits, unix_hooks))
        {
            return Ok(Arc::clone(same));
        }
        let new = enforced::Shared::new(&self.plan, memory_counted, limits, unix_hooks);
        let new = Arc::new(new.map_err(|error| LaunchError::Lost(error.into()))?);
        *known = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Has a waiting process 1, that `errand` leads to, do this: tells it, where it is known what; else
    /// has the template look and tell it.
    pub(super) async fn start(
        &self,
        ask: &Ask,
        errand: &OwnedFd,
        rules: &OwnedFd,
        stdio: &[OwnedFd; 3],
    ) -> Result<(), LaunchError> {
        let Ask::Launch {
            work,
            memory_counted,
        } = ask
        else {
            return Err(odd());
        };
        let again = self.again().clone();
        if let Some(again) = again
            && let Some(arguments) = again.arguments(&self.root, work)
        {
            let steps = child::errand(&self.plan, *memory_counted, Some(&arguments));
            let [input, output, error] = stdio;
            let fds = [input, output, error].map(AsFd::as_fd);
            let fds = fds.into_iter().chain([again.file(), rules.as_fd()]);
            let fds: Vec<_> = fds.map(|fd| fd.as_raw_fd()).collect();
            let sent = steps.and_then(|steps| {
                seqpacket::send(errand, &steps, &fds).at(Step::Supervise, "process 1")
            });
            return sent.map_err(LaunchError::Step);
        }
        let fds = stdio.iter().chain([errand, rules]);
        let fds: Vec<_> = fds.map(AsRawFd::as_raw_fd).collect();
        let (Reply::Told(found), fds) = self.ask(ask, &fds).await? else {
            return Err(odd());
        };
        if let (Some(found), Some(file)) = (found, fds.into_iter().next()) {
            *self.again() = Again::new(work, found, file).map(Arc::new);
        }
        Ok(())
    }

    fn again(&self) -> MutexGuard<'_, Option<Arc<Again>>> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an answer is on its way that nobody waits for: who asked has given up.
    pub(super) fn owes(&self) -> bool {
        self.asking.try_lock().is_ok_and(|asking| asking.owed)
    }

    /// Asks the template process; its answer, which is that it was done, and the descriptors with it.
    pub(super) async fn ask(
        &self,
        ask: &Ask,
        fds: &[RawFd],
    ) -> Result<(Reply, Vec<OwnedFd>), LaunchError> {
        let mut asking = self.asking.lock().await;
        if asking.owed {
            return Err(LaunchError::Lost(io::ErrorKind::Interrupted.into()));
        }
        asking.owed = true;
        let sent = asking.channel.send(ask, fds).await;
        sent.map_err(LaunchError::Lost)?;
        let answer = answer(&mut asking.channel);
        let (reply, fds) = match ask {
            Ask::Reserve { .. } => {
                let late = |_| LaunchError::Lost(io::ErrorKind::TimedOut.into());
                let answered = timeout(RESERVE_TIME_MAX, answer).await;
                answered.map_err(late)??
            }
            Ask::Launch { .. } => answer.await?,
        };
        asking.owed = false;
        drop(asking);
        match reply {
            Reply::Failed(error) => Err(LaunchError::Step(error)),
            Reply::Ready | Reply::Waiting | Reply::Told(_) => Ok((reply, fds)),
        }
    }
}

/// An answer to another question.
pub(super) fn odd() -> LaunchError {
    LaunchError::Lost(io::ErrorKind::InvalidData.into())
}

pub(super) async fn answer(channel: &mut Channel) -> Result<(Reply, Vec<OwnedFd>), LaunchError> {
    let message = channel.receive().await.map_err(LaunchError::Lost)?;
    let reply = protocol::decode(&message.bytes).map_err(LaunchError::Lost)?;
    Ok((reply, message.fds))
}
