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

use common::id::{CgroupId, SessionId};
use nix::{
    fcntl::OFlag,
    sys::{socket::SockFlag, stat::fstat},
    unistd::pipe2,
};
use tokio::sync::{Mutex, OnceCell};

use super::{
    channel::Channel,
    error::LaunchError,
    protocol::{self, Launch, PING, Prepare, Reply, SUBCOMMAND, Work},
    running::Running,
    streams,
};
use crate::{
    audit::Receipt,
    config::Instance,
    kernel::{Admitted, cgroup},
    policy::compiled::{CompiledPolicy, Digest},
    sandbox::{Enforced, Plan, enforced, output::Left, sockets, uids},
    sys::seqpacket,
};

/// A fence that does not stand by then is given up.
const LAUNCH_TIME_MAX: Duration = Duration::from_secs(10);

/// What a launch needs. Its last two members are proofs: without hooks that know the session, or
/// without a record of it, there is no launch.
#[derive(Debug)]
pub struct LaunchRequest {
    /// Its policy.
    pub policy: Arc<CompiledPolicy>,
    /// What runs in it.
    pub work: Work,
    /// Standard input, output and error.
    pub stdio: [OwnedFd; 3],
    /// The session's folder of cgroup v2.
    pub cgroup: OwnedFd,
    /// What the cgroup limits, for the record.
    pub cgroup_measures: Vec<cgroup::Measure>,
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
    channel: Channel,
    templates: SyncMutex<HashMap<Digest, Arc<OnceCell<Arc<Template>>>>>,
    process: Process,
}

/// A policy's template process. It, and the sessions it cloned, end when the last handle is dropped.
#[derive(Debug)]
pub(super) struct Template {
    plan: Plan,
    /// One launch at a time is asked for; the answer comes when the worker's program was executed.
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
    /// Starts the process from this binary and claims a block of user ids.
    pub fn start(instance: &Instance) -> Result<Self, LaunchError> {
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
            (Reply::Failed(_) | Reply::Started, _) => {
                Err(LaunchError::Lost(io::ErrorKind::InvalidData.into()))
            }
        }
    }

    /// Starts a session. When this returns a session, its program runs and every layer is in force;
    /// when it returns an error, nothing runs.
    pub async fn launch(&self, request: LaunchRequest) -> Result<Running, LaunchError> {
        tokio::time::timeout(LAUNCH_TIME_MAX, self.launch_now(request))
            .await
            .map_err(|_elapsed| LaunchError::Late {
                seconds: LAUNCH_TIME_MAX.as_secs(),
            })?
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
            policy,
            work,
            stdio,
            cgroup,
            cgroup_measures,
            admitted,
            receipt,
        } = request;
        streams::check(&stdio)?;
        let session = receipt.session();
        proofs_fit(&admitted, session, &cgroup)?;
        let memory_counted = enforced::memory_counted(&cgroup_measures);
        let unix_hooks = admitted.unix_hooks();
        let template = self.template(&policy).await?;
        let uid = self.uids.take()?;
        let (status, writer) =
            pipe2(OFlag::O_CLOEXEC).map_err(|errno| LaunchError::Lost(errno.into()))?;
        let launch = Launch {
            uid: uid.get(),
            work,
            memory_counted,
        };
        let mut fds: Vec<_> = stdio.iter().map(AsRawFd::as_raw_fd).collect();
        fds.extend([writer.as_raw_fd(), cgroup.as_raw_fd()]);
        let (pidfd, left) = match template.ask(&launch, &fds).await {
            Err(error @ LaunchError::Lost(_)) => {
                self.templates().remove(&policy.digest);
                return Err(error);
            }
            answer => answer?,
        };
        // Theirs now: an end of file must mean that process 1 is gone.
        drop((writer, stdio, cgroup));
        let enforced = template.enforced(memory_counted, &cgroup_measures, unix_hooks)?;
        let enforced = Enforced::new(enforced, uid.get());
        Running::started(session, uid, status, (pidfd, left), enforced, template)
    }

    async fn template(&self, policy: &CompiledPolicy) -> Result<Arc<Template>, LaunchError> {
        let cell = self.cell(policy.digest);
        let template = cell
            .get_or_try_init(|| Template::new(&self.instance, &self.channel, policy))
            .await?;
        Ok(Arc::clone(template))
    }

    /// The place of a policy's template; an empty one where its root holds a socket of a server that
    /// has started again since.
    fn cell(&self, digest: Digest) -> Arc<OnceCell<Arc<Template>>> {
        let mut templates = self.templates();
        let template = templates.get(&digest).and_then(|cell| cell.get());
        if template.is_some_and(|template| !sockets::are_same(&template.plan.sockets)) {
            templates.remove(&digest);
        }
        Arc::clone(templates.entry(digest).or_default())
    }

    fn templates(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<Digest, Arc<OnceCell<Arc<Template>>>>> {
        self.templates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Template {
    async fn new(
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
            (Reply::Ready, _) => Ok(Arc::new(Self {
                plan,
                asking: Mutex::new(Asking {
                    channel,
                    owed: false,
                }),
                enforced: SyncMutex::default(),
            })),
            (Reply::Failed(error), _) => Err(LaunchError::Step(error)),
            (Reply::Started, _) => Err(LaunchError::Lost(io::ErrorKind::InvalidData.into())),
        }
    }

    fn enforced(
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

    async fn ask(
        &self,
        launch: &Launch,
        fds: &[i32],
    ) -> Result<(OwnedFd, Option<Left>), LaunchError> {
        let mut asking = self.asking.lock().await;
        if asking.owed {
            return Err(LaunchError::Lost(io::ErrorKind::Interrupted.into()));
        }
        asking.owed = true;
        let sent = asking.channel.send(launch, fds).await;
        sent.map_err(LaunchError::Lost)?;
        let reply = answer(&mut asking.channel).await?;
        asking.owed = false;
        drop(asking);
        match reply {
            (Reply::Started, fds) => {
                let mut fds = fds.into_iter();
                let pidfd = fds.next();
                let odd = || LaunchError::Lost(io::ErrorKind::InvalidData.into());
                Ok((pidfd.ok_or_else(odd)?, fds.next().map(Left::from)))
            }
            (Reply::Failed(error), _) => Err(LaunchError::Step(error)),
            (Reply::Ready, _) => Err(LaunchError::Lost(io::ErrorKind::InvalidData.into())),
        }
    }
}

/// The proofs are of this session and of the cgroup that it will be in.
fn proofs_fit(
    admitted: &Admitted,
    session: SessionId,
    cgroup: &OwnedFd,
) -> Result<(), LaunchError> {
    let found = fstat(cgroup).map_err(|errno| LaunchError::Lost(errno.into()))?;
    if admitted.session() == session && admitted.cgroup() == CgroupId(found.st_ino) {
        Ok(())
    } else {
        Err(LaunchError::ForeignProof { session })
    }
}

async fn answer(channel: &mut Channel) -> Result<(Reply, Vec<OwnedFd>), LaunchError> {
    let message = channel.receive().await.map_err(LaunchError::Lost)?;
    let reply = protocol::decode(&message.bytes).map_err(LaunchError::Lost)?;
    Ok((reply, message.fds))
}
