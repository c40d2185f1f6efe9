//! The agent's handle on its launcher.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex as SyncMutex, PoisonError},
    time::Duration,
};

use nix::sys::socket::SockFlag;

use super::{
    channel::Channel,
    error::LaunchError,
    handle::{SILENCE_TIME_MAX, Template, TemplateCell, answer},
    protocol::{self, PING, Reply, SUBCOMMAND, Work},
    running::Running,
    seat::{Fit, Place, Seat},
    streams,
    visit::{Visit, Visited},
};
use crate::{
    audit::Receipt,
    config::Instance,
    kernel::Admitted,
    policy::compiled::{CompiledPolicy, Digest},
    sandbox::{Enforced, enforced, rlimit, uids},
    sys::seqpacket,
};

/// A fence that does not stand by then is given up.
const LAUNCH_TIME_MAX: Duration = Duration::from_secs(10);
const _: () = assert!(SILENCE_TIME_MAX.as_secs() < LAUNCH_TIME_MAX.as_secs());

/// What a launch needs. Its last two members are proofs: without hooks that know the session, or
/// without a record of it, there is no launch.
#[derive(Debug)]
pub struct LaunchRequest {
    /// Where it will be, and its policy with it.
    pub seat: Seat,
    /// What runs in it.
    pub work: Work,
    /// Standard input, output and error.
    pub stdio: [OwnedFd; 3],
    /// The session's cgroup is known to the hooks. Only what is attached admits.
    pub admitted: Admitted,
    /// The record of the intent.
    pub receipt: Receipt,
}

/// The launcher process and its templates.
#[derive(Debug)]
pub struct Launcher {
    instance: Instance,
    uids: Arc<uids::Pool>,
    pub(super) channel: Channel,
    templates: SyncMutex<Templates>,
    process: Process,
}

/// One that is let go of lives on while a session of it does.
type Templates = HashMap<Digest, Arc<TemplateCell>>;

/// A launcher's process that nobody has asked anything yet. Ended when it is dropped.
///
/// Made before the agent has a runtime: what the agent gives up afterwards its launcher keeps.
#[derive(Debug)]
pub struct Hatched {
    instance: Instance,
    uids: Arc<uids::Pool>,
    socket: OwnedFd,
    process: Process,
}

/// Killed and reaped when it goes.
#[derive(Debug)]
struct Process(SyncMutex<Child>);

impl Hatched {
    /// Starts the process from this binary and claims a block of user ids. This process, which holds keys
    /// and tokens, leaves no core dump from here on.
    pub fn start(instance: &Instance) -> Result<Self, LaunchError> {
        // The launcher inherits it, and each worker.
        rlimit::without_core();
        Self::start_from(Path::new("/proc/self/exe"), instance)
    }

    fn start_from(binary: &Path, instance: &Instance) -> Result<Self, LaunchError> {
        let uids = uids::Pool::claim(instance)?;
        let (socket, theirs) = seqpacket::pair(SockFlag::empty()).map_err(LaunchError::Start)?;
        let process = Command::new(binary)
            .arg(SUBCOMMAND)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(LaunchError::Start)?;
        Ok(Self {
            instance: instance.clone(),
            uids,
            socket,
            process: Process(SyncMutex::new(process)),
        })
    }
}

impl Process {
    fn kill(&self) {
        let mut process = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // It has nothing to save; its templates and their sessions end with it.
        if let Err(error) = process.kill().and_then(|()| process.wait()) {
            tracing::warn!(error = %error, "launcher not ended");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Launcher {
    /// The handle on a process that was started before. Wants a runtime.
    pub fn of(hatched: Hatched) -> Result<Self, LaunchError> {
        let Hatched {
            instance,
            uids,
            socket,
            process,
        } = hatched;
        Ok(Self {
            instance,
            uids,
            channel: Channel::new(socket).map_err(LaunchError::Start)?,
            templates: SyncMutex::default(),
            process,
        })
    }

    /// Starts the launcher from another copy of this binary, as tests do. Wants a runtime.
    pub fn start_from(binary: &Path, instance: &Instance) -> Result<Self, LaunchError> {
        Self::of(Hatched::start_from(binary, instance)?)
    }

    /// Whether the launcher's process answers, within the time of a launch.
    pub async fn answers(&self) -> Result<(), LaunchError> {
        tokio::time::timeout(LAUNCH_TIME_MAX, self.ping())
            .await
            .map_err(|_elapsed| LaunchError::Late {
                seconds: LAUNCH_TIME_MAX.as_secs(),
            })?
    }

    async fn ping(&self) -> Result<(), LaunchError> {
        let (mut channel, theirs) = Channel::pair().map_err(LaunchError::Lost)?;
        self.channel
            .send(&PING, &[theirs.as_raw_fd()])
            .await
            .map_err(LaunchError::Lost)?;
        drop(theirs);
        match answer(&mut channel).await? {
            (Reply::Ready, _) => Ok(()),
            (Reply::Waiting | Reply::Told(_) | Reply::Summing { .. } | Reply::Failed(_), _) => {
                Err(LaunchError::Lost(io::ErrorKind::InvalidData.into()))
            }
        }
    }

    /// Has a child of the launcher look at a cgroup that somebody else made; with the descriptors that
    /// belong to the namespaces it tells of.
    pub async fn visit(&self, visit: &Visit) -> Result<(Visited, Vec<OwnedFd>), LaunchError> {
        let asked = async {
            let (mut channel, theirs) = Channel::pair().map_err(LaunchError::Lost)?;
            self.channel
                .send(visit, &[theirs.as_raw_fd()])
                .await
                .map_err(LaunchError::Lost)?;
            drop(theirs);
            let message = channel.receive().await.map_err(LaunchError::Lost)?;
            let visited = protocol::decode(&message.bytes).map_err(LaunchError::Lost)?;
            Ok((visited, message.fds))
        };
        in_time(asked).await
    }

    /// Makes everything of a session of a policy that does not depend on who asks for it: its user, and
    /// in this cgroup its process 1 with namespaces, mounts and identity, which waits.
    pub async fn reserve(
        &self,
        policy: &Arc<CompiledPolicy>,
        place: Place<'_>,
    ) -> Result<Seat, LaunchError> {
        let reserve = async {
            match self.reserve_now(policy, place).await {
                Err(LaunchError::Lost(error)) => {
                    let tool = policy.tool.as_str();
                    tracing::warn!(policy.tool = tool, %error, "template of a policy replaced");
                    self.reserve_now(policy, place).await
                }
                reserved => reserved,
            }
        };
        let reserved = in_time(reserve).await;
        reserved.map_err(|error| match self.known(&policy.digest) {
            Some(template) => template.explain(error),
            None => error,
        })
    }

    /// Whether a session can be started here still: its process 1 waits, and a new one would be made in
    /// the same root.
    #[must_use]
    pub fn fit(&self, seat: &Seat) -> Fit {
        let current = self.known(&seat.template.digest);
        let same = current.is_some_and(|current| {
            Arc::ptr_eq(&current, &seat.template) && current.is_of_use_at_once()
        });
        match (same, seat.waits()) {
            (true, true) => Fit::Yes,
            (false, true) => Fit::OldRoot,
            (_, false) => Fit::Ended,
        }
    }

    /// Starts a session. When this returns a session, its program runs and every layer is in force;
    /// when it returns an error, nothing runs.
    pub async fn launch(&self, request: LaunchRequest) -> Result<Running, LaunchError> {
        let template = Arc::clone(&request.seat.template);
        let launched = in_time(self.launch_now(request)).await;
        launched.map_err(|error| template.explain(error))
    }

    /// Lets go of the templates of policies that are no more. Their sessions go on to their end.
    pub fn retain(&self, in_force: impl Fn(&Digest) -> bool) {
        self.templates().retain(|digest, _| in_force(digest));
    }

    /// Kills the launcher, and with it every session: the way a crash of it would. For tests and
    /// for an agent that gives up.
    pub fn kill_process(&self) {
        self.process.kill();
    }

    async fn launch_now(&self, request: LaunchRequest) -> Result<Running, LaunchError> {
        let LaunchRequest {
            seat,
            work,
            stdio,
            admitted,
            receipt,
        } = request;
        streams::check(&stdio)?;
        let session = receipt.session();
        if admitted.session() != session || admitted.cgroup() != seat.cgroup {
            return Err(LaunchError::ForeignProof { session });
        }
        let template = Arc::clone(&seat.template);
        let memory_counted = enforced::memory_counted(&seat.measures);
        let limits = seat.measures.clone();
        let taken = seat.take(work, memory_counted, stdio).await;
        let taken = self.forget_lost(&template, taken)?;
        let enforced = template.enforced(memory_counted, &limits, admitted.unix_hooks())?;
        Ok(Running::started(session, taken, |uid| {
            Enforced::new(enforced, uid)
        }))
    }

    async fn reserve_now(
        &self,
        policy: &Arc<CompiledPolicy>,
        place: Place<'_>,
    ) -> Result<Seat, LaunchError> {
        let template = self.template(policy).await?;
        let uid = self.uids.take()?;
        let reserved = Seat::reserve(Arc::clone(&template), uid, place).await;
        self.forget_lost(&template, reserved)
    }

    /// A template that can not be spoken to is not asked again; another that took its place meanwhile is.
    fn forget_lost<T>(
        &self,
        template: &Arc<Template>,
        answer: Result<T, LaunchError>,
    ) -> Result<T, LaunchError> {
        if matches!(answer, Err(LaunchError::Lost(_))) {
            self.forget(template);
        }
        answer
    }

    fn forget(&self, template: &Arc<Template>) {
        let mut templates = self.templates();
        let current = templates.get(&template.digest).and_then(|cell| cell.get());
        if current.is_some_and(|current| Arc::ptr_eq(current, template)) {
            templates.remove(&template.digest);
        }
    }

    /// The template of a policy, of use or not.
    fn known(&self, digest: &Digest) -> Option<Arc<Template>> {
        let templates = self.templates();
        let template = templates.get(digest).and_then(|cell| cell.get());
        template.cloned()
    }

    async fn template(&self, policy: &Arc<CompiledPolicy>) -> Result<Arc<Template>, LaunchError> {
        if let Some(template) = self.known(&policy.digest)
            && !template.is_of_use().await?
        {
            self.forget(&template);
        }
        let cell = Arc::clone(self.templates().entry(policy.digest).or_default());
        cell.get_or_make(&self.instance, &self.channel, policy)
            .await
    }

    fn templates(&self) -> std::sync::MutexGuard<'_, Templates> {
        self.templates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives up what is not done in time.
async fn in_time<T>(what: impl Future<Output = Result<T, LaunchError>>) -> Result<T, LaunchError> {
    let done = tokio::time::timeout(LAUNCH_TIME_MAX, what).await;
    done.map_err(|_elapsed| LaunchError::Late {
        seconds: LAUNCH_TIME_MAX.as_secs(),
    })?
}
