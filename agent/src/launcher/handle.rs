//! A template process as the agent knows it: what it may be asked, and what needs no asking.

mod cell;
mod standing;

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};

pub(super) use cell::TemplateCell;

use self::{
    cell::{LOOK_TIME_MAX, unanswered},
    standing::Standing,
};
use super::{
    again::Again,
    channel::Channel,
    error::LaunchError,
    protocol::{self, Ask, Prepare, Reply},
};
use crate::{
    kernel::cgroup,
    policy::compiled::{CompiledPolicy, Digest},
    sandbox::{
        Plan, child, enforced,
        error::{At, Step},
    },
    sys::seqpacket,
};

/// A template that has not made a place by then is of no use any more. Less than a launch may take: there
/// is time to make another.
const RESERVE_TIME_MAX: Duration = Duration::from_secs(4);
/// Nor is one that has not said for so long that it is at it. Less than a launch may take: the next one
/// finds another template.
pub(super) const SILENCE_TIME_MAX: Duration = Duration::from_secs(9);

/// A policy's template process. It, and the sessions it cloned, end when the last handle is dropped.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) plan: Arc<Plan>,
    pub(super) digest: Digest,
    /// Its root, to look up paths in.
    root: OwnedFd,
    /// The program that it found last.
    again: SyncMutex<Option<Arc<Again>>>,
    /// One thing at a time is asked for.
    asking: Arc<Mutex<Asking>>,
    /// Bytes of pinned files that it has summed, while it is at it.
    summing: SyncMutex<Option<u64>>,
    standing: Standing,
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
    /// Of a plan that was begun to be computed at this time.
    async fn new(
        launcher: &Channel,
        policy: &Arc<CompiledPolicy>,
        plan: Plan,
        began: Instant,
    ) -> Result<Arc<Self>, LaunchError> {
        let (mut channel, theirs) = Channel::pair().map_err(LaunchError::Lost)?;
        let prepare = Prepare { plan };
        launcher
            .send(&prepare, &[theirs.as_raw_fd()])
            .await
            .map_err(LaunchError::Lost)?;
        drop(theirs);
        let Prepare { plan } = prepare;
        match answer(&mut channel).await? {
            (Reply::Ready, fds) => {
                let root = fds.into_iter().next().ok_or_else(odd)?;
                Ok(Arc::new(Self::of(channel, root, policy, plan, began)))
            }
            (Reply::Failed(error), _) => Err(LaunchError::Step(error)),
            (Reply::Waiting | Reply::Told(_) | Reply::Summing { .. }, _) => Err(odd()),
        }
    }

    fn of(
        channel: Channel,
        root: OwnedFd,
        policy: &Arc<CompiledPolicy>,
        plan: Plan,
        began: Instant,
    ) -> Self {
        let plan = Arc::new(plan);
        let asking = Asking {
            channel,
            owed: false,
        };
        Self {
            plan: Arc::clone(&plan),
            digest: policy.digest,
            root,
            again: SyncMutex::default(),
            asking: Arc::new(Mutex::new(asking)),
            summing: SyncMutex::default(),
            standing: Standing::new(plan, Arc::clone(policy), began),
            enforced: SyncMutex::default(),
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
        self: &Arc<Self>,
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
    fn owes(&self) -> bool {
        self.asking.try_lock().is_ok_and(|asking| asking.owed)
    }

    /// Not where its root is not any more what its policy would get now, nor where somebody gave up waiting
    /// for an answer of it.
    pub(super) async fn is_of_use(&self) -> Result<bool, LaunchError> {
        if self.owes() {
            return Ok(false);
        }
        let same = timeout(LOOK_TIME_MAX, self.standing.is_same()).await;
        same.map_err(|_elapsed| unanswered())
    }

    /// The same, for somebody who can not wait: not where it takes long to tell. Wants a runtime.
    pub(super) fn is_of_use_at_once(&self) -> bool {
        !self.owes() && self.standing.is_same_at_once()
    }

    fn summing(&self) -> MutexGuard<'_, Option<u64>> {
        self.summing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why it took too long, where it has said.
    pub(super) fn explain(&self, error: LaunchError) -> LaunchError {
        let summed = *self.summing();
        match summed {
            Some(bytes) if matches!(error, LaunchError::Late { .. }) => {
                LaunchError::Summing { bytes }
            }
            Some(_) | None => error,
        }
    }

    /// Asks the template process; its answer, which is that it was done, and the descriptors with it.
    pub(super) async fn ask(
        self: &Arc<Self>,
        ask: &Ask,
        fds: &[RawFd],
    ) -> Result<(Reply, Vec<OwnedFd>), LaunchError> {
        let mut asking = Arc::clone(&self.asking).lock_owned().await;
        if asking.owed {
            return Err(LaunchError::Lost(io::ErrorKind::Interrupted.into()));
        }
        asking.owed = true;
        let sent = asking.channel.send(ask, fds).await;
        sent.map_err(LaunchError::Lost)?;
        let (reply, fds) = match ask {
            Ask::Reserve { .. } => {
                let answered = timeout(RESERVE_TIME_MAX, answer(&mut asking.channel)).await;
                let answered = answered.map_err(|_elapsed| silent())??;
                asking.owed = false;
                drop(asking);
                answered
            }
            Ask::Launch { .. } => {
                let heard = tokio::spawn(hear(asking, Arc::downgrade(self))).await;
                heard.map_err(|error| LaunchError::Lost(error.into()))??
            }
        };
        match reply {
            Reply::Failed(error) => Err(LaunchError::Step(error)),
            Reply::Summing { .. } => Err(odd()),
            Reply::Ready | Reply::Waiting | Reply::Told(_) => Ok((reply, fds)),
        }
    }
}

/// Hears the answer to a launch out, whether or not who asked is there still: what a template has summed
/// would be lost with it.
///
/// Nothing runs for one who went away. Its seat went with it, and process 1 with the seat: the template
/// holds this end of the errand's socket until it has answered, and finds the other one gone. So long it
/// holds the standard streams as well; whoever reads from them sees no end before.
async fn hear(
    mut asking: OwnedMutexGuard<Asking>,
    template: Weak<Template>,
) -> Result<(Reply, Vec<OwnedFd>), LaunchError> {
    let heard = heard(&mut asking.channel, &template).await;
    asking.owed = heard.is_err();
    if let Some(template) = template.upgrade() {
        *template.summing() = None;
    }
    heard
}

async fn heard(
    channel: &mut Channel,
    template: &Weak<Template>,
) -> Result<(Reply, Vec<OwnedFd>), LaunchError> {
    loop {
        let answered = timeout(SILENCE_TIME_MAX, answer(channel)).await;
        let (reply, fds) = answered.map_err(|_elapsed| silent())??;
        let Reply::Summing { bytes } = reply else {
            return Ok((reply, fds));
        };
        // Of a policy that is no more; the process ends when it finds nobody at its socket.
        let template = template.upgrade().ok_or_else(silent)?;
        *template.summing() = Some(bytes);
    }
}

fn silent() -> LaunchError {
    LaunchError::Lost(io::ErrorKind::TimedOut.into())
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

#[cfg(test)]
mod tests;
