//! From nothing to a running [`Engine`], and back: each step leaves what the next one needs, and what
//! a failed start has made is taken away again.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use common::id::{CgroupId, SessionId};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Engine,
    ahead::{self, Ahead},
    attachments::{Attachments, Kept, follow, forget, read_kept},
    error::{StartError, chain},
    lock::InstanceLock,
    names::{self, Names},
    opening::{open_journal, open_tokens},
    policies::{Keeping, Policies},
    prepared::{Holder, Prepared},
    selftests::SelfTests,
    table::{Table, Why},
    tasks,
};
use crate::{
    audit::Journal,
    broker::door,
    config::{Broker, Calls, DEFAULT_INSTANCE, Dns, Instance, KernelLog},
    dns::Sockets,
    kernel::{self, Kernel, cgroup, closing::CLOSING_SECONDS_MAX, lines::Lines, outpost::Earlier},
    launcher::Launcher,
    observe::{
        destinations::Destinations, dispatch::Dispatcher, learned::Learned, metrics::Metrics,
    },
    policy::compiled::CompiledPolicy,
    shutdown,
};

/// How long sessions have to end when the agent stops.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the sockets of ended sessions have, with some time for the look at them.
const SEEN_OFF_TIME_MAX: Duration = Duration::from_secs(CLOSING_SECONDS_MAX + 2);
const LOOK: Duration = Duration::from_millis(2);
/// Questions for a drain of the event ring that wait.
const DRAINS_MAX: usize = 64;
/// Chores for the one who destroys sockets that wait.
const CHORES_MAX: usize = 64;

/// How an engine is set up.
#[derive(Debug)]
pub struct Setup {
    /// Its instance.
    pub instance: Instance,
    /// Its policies.
    pub policies: PolicySource,
    /// Where the sets that were in force are kept; nowhere for an engine that is gone at its end.
    pub keeping: Option<Keeping>,
    /// Sessions alive at once.
    pub sessions_max: u32,
    /// Places that wait for sessions at most.
    pub sessions_ahead: u32,
    /// How names are resolved.
    pub dns: Dns,
    /// How calls are checked; none for an engine that takes no calls.
    pub broker: Option<Broker>,
    /// What the kernel programs log of themselves.
    pub kernel_log: KernelLog,
    /// The journal.
    pub journal: PathBuf,
    /// Tools that have labels of their own in metrics.
    pub metrics_tools: usize,
    /// What becomes of the hooks at the end.
    pub ending: Ending,
    /// What was made before; made now where it is none.
    pub prepared: Option<Prepared>,
    /// The resolver's sockets, where the service manager made them.
    pub resolver: Vec<OwnedFd>,
}

/// Where policies come from.
#[derive(Clone, Debug)]
pub enum PolicySource {
    /// Every file of a folder; read again on a reload.
    Folder(PathBuf),
    /// One policy, for a stand-alone run.
    One(Arc<CompiledPolicy>),
}

/// What becomes of hooks, pins, cgroup and folders when the engine ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// They stay: the fence holds until the next agent of the instance takes it over.
    Keep,
    /// They go, after every session has ended.
    Remove,
}

impl Engine {
    /// Brings everything up. Where it fails and the instance was to be removed at the end, it is
    /// removed now. Wants a runtime.
    pub fn start(mut setup: Setup) -> Result<Arc<Self>, StartError> {
        let (instance, ending) = (setup.instance.clone(), setup.ending);
        let prepared = setup.prepared.take().map_or_else(
            || Prepared::new(&instance, Holder::Any),
            Ok::<_, StartError>,
        )?;
        let started = Self::start_prepared(setup, prepared);
        if started.is_err() && ending == Ending::Remove {
            remove_traces(&instance);
        }
        started
    }

    fn start_prepared(setup: Setup, prepared: Prepared) -> Result<Arc<Self>, StartError> {
        let Setup {
            instance,
            policies: source,
            keeping,
            sessions_max,
            sessions_ahead,
            dns,
            broker,
            kernel_log,
            journal,
            metrics_tools,
            ending,
            prepared: _,
            resolver,
        } = setup;
        let (lock, parent, launcher) = (prepared.lock, prepared.parent, prepared.launcher);
        let journal = open_journal(&journal)?;
        let (calls, tokens) = open_tokens(broker, &instance, &journal)?;
        // Before the kernel side forgets the sessions: as long as they run, they are fenced.
        end_leftovers(&parent, &journal)?;
        let sockets = names::bind(&dns, resolver, &instance.run_folder())?;
        let kernel = Kernel::open_with_log(&instance, &parent, kernel_log)?;
        let earlier = read_kept(&instance)?;
        kernel.keep(earlier.iter().filter_map(earlier_fence).collect());
        let (policies, synced) = Policies::first(source, keeping, &instance, &kernel, &journal)?;
        let attached = kernel.attach(&parent, &synced)?;
        let launcher = Launcher::of(launcher)?;
        let (events, destroyer) = (kernel.events()?, kernel.destroyer()?);
        let (lines, local_addresses) = (kernel.lines()?, kernel.local_addresses()?);
        let (drains, drains_asked) = mpsc::channel(DRAINS_MAX);
        let (chores, chores_asked) = mpsc::channel(CHORES_MAX);
        let (stop, stopping) = shutdown::pair();
        let engine = Arc::new(Self {
            names: Names::new(dns, sockets.port(), &kernel),
            tokens: tokens.map(Arc::new),
            instance,
            ending,
            _lock: lock,
            parent,
            kernel,
            attached,
            launcher,
            journal,
            broker: OnceLock::new(),
            doors: door::Pulse::default(),
            checkpoints: OnceLock::new(),
            policies,
            sessions: Table::default(),
            self_tests: SelfTests::default(),
            ahead: Ahead::new(sessions_ahead),
            attachments: Attachments::new(earlier),
            slots: Arc::new(Semaphore::new(sessions_max as usize)),
            sessions_max,
            learned: Learned::default(),
            destinations: Destinations::default(),
            dispatcher: Dispatcher::default(),
            metrics: Metrics::new(metrics_tools)?,
            drains,
            chores,
            started: Instant::now(),
            stop,
            stopping,
            tasks: Mutex::new(JoinSet::new()),
        });
        engine.spawn(tasks::events(Arc::clone(&engine), events, drains_asked));
        engine.spawn(tasks::destroy(destroyer, chores_asked));
        engine.spawn(tasks::local_addresses(local_addresses));
        engine.watch(lines);
        // Before the first session: a worker's first query has an answer.
        engine.open_up(sockets, calls.as_ref())?;
        // Not among the tasks: these are cut short at the end, and a test clears up after itself.
        tokio::spawn(Arc::clone(&engine).prove_one());
        Ok(engine)
    }

    /// What is looked at and cleared away from time to time.
    fn watch(self: &Arc<Self>, lines: Option<Lines>) {
        if let Some(lines) = lines {
            self.spawn(tasks::lines(lines));
        }
        self.spawn(names::sweep(Arc::clone(self)));
        self.spawn(ahead::sweep(Arc::clone(self)));
        self.spawn(follow(Arc::clone(self)));
        self.spawn(tasks::suppressed_lines());
        self.spawn(tasks::looks(Arc::clone(self)));
    }

    /// Answers names and takes calls; where either fails, nothing goes on.
    fn open_up(
        self: &Arc<Self>,
        sockets: Sockets,
        calls: Option<&Calls>,
    ) -> Result<(), StartError> {
        let opened = self.answer_names(sockets);
        let opened = opened.and_then(|()| match calls {
            Some(calls) => self.take_calls(calls),
            None => Ok(()),
        });
        if opened.is_err() {
            // They hold the engine.
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.abort_all();
        }
        opened
    }

    /// Takes nothing new, lets idle workers go, and gives those that work this long to end.
    pub async fn drain(&self, within: Duration) {
        self.stop.now();
        if let Some(broker) = self.broker.get() {
            broker.close();
        }
        if !becomes(within, || self.sessions.len() == 0).await {
            let sessions = self.sessions.len();
            tracing::warn!(sessions, "sessions are ended before their work is done");
        }
    }

    /// Ends every session, then the engine. What stays is told by its [`Ending`].
    pub async fn close(self: Arc<Self>) {
        self.stop.now();
        if let Some(broker) = self.broker.get() {
            broker.close();
        }
        self.sessions.end(Why::AgentStopped, |_| true);
        let no_session = || self.sessions.len() == 0;
        if !becomes(STOP_TIME_MAX, no_session).await {
            tracing::error!(
                sessions = self.sessions.len(),
                "sessions did not end in time"
            );
        }
        if self.ending == Ending::Remove {
            self.abandon_attachments().await;
        }
        self.silence_names().await;
        self.give_up_ahead(|_| true).await;
        let mut tasks =
            std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let (instance, ending) = (self.instance.clone(), self.ending);
        if ending == Ending::Remove {
            // What their sockets have begun may go on to its end, under the fence.
            let seen_off = || self.kernel.sessions().is_ok_and(|known| known.is_empty());
            if !becomes(SEEN_OFF_TIME_MAX, seen_off).await {
                tracing::error!("sessions were not seen off in time");
            }
        }
        tasks.shutdown().await;
        if !becomes(STOP_TIME_MAX, || Arc::strong_count(&self) == 1).await {
            tracing::error!("a connection did not end in time");
        }
        // The launcher ends with it, before the ground under it goes.
        drop(self);
        if ending == Ending::Remove {
            remove_traces(&instance);
        }
    }
}

fn earlier_fence(kept: &Kept) -> Option<Earlier> {
    let fence = kept.fence.as_ref()?;
    Some(Earlier {
        session: SessionId(fence.session),
        cgroup: CgroupId(fence.cgroup),
        tool: kept.tool.clone(),
    })
}

/// Waits until something is so; tells whether it became so in time.
async fn becomes(within: Duration, so: impl Fn() -> bool) -> bool {
    let wait = async {
        while !so() {
            sleep(LOOK).await;
        }
    };
    timeout(within, wait).await.is_ok()
}

/// Removes what an agent that does not run has left standing. What can not be removed is logged; the
/// journal is a record and stays.
pub fn remove(instance: &Instance) -> Result<(), StartError> {
    // Held to the end: nobody starts what is being removed.
    let _lock = InstanceLock::take(instance)?;
    forget(instance)?;
    remove_traces(instance);
    if instance.pin_root().exists() || instance.run_folder().exists() {
        let source = io::Error::other("something of it is left: see above");
        return Err(StartError::Remove {
            instance: instance.clone(),
            source,
        });
    }
    Ok(())
}

/// Removes what stand-alone runs that were killed left behind: those whose lock nobody holds.
pub fn sweep_abandoned() {
    let Ok(folders) = fs::read_dir("/run") else {
        return;
    };
    let prefix = format!("{DEFAULT_INSTANCE}-run-");
    for folder in folders.flatten() {
        let name = folder.file_name();
        let instance = name
            .to_str()
            .filter(|name| name.starts_with(&prefix))
            .and_then(|name| Instance::new(name).ok());
        // Held to the end: nobody starts what is being removed.
        if let Some(instance) = instance
            && let Some(_lock) = InstanceLock::of_abandoned(&instance)
        {
            tracing::info!(instance = instance.name(), "removing an abandoned instance");
            remove_traces(&instance);
        }
    }
}

/// Kills what an agent that was killed left running, and records it before its end is waited for: what can
/// not be killed is recorded as well, and does not keep this agent from its work.
fn end_leftovers(parent: &cgroup::Parent, journal: &Journal) -> Result<(), StartError> {
    let left = cgroup::leftovers(parent)?;
    for cgroup in &left {
        let path = cgroup.path().display().to_string();
        let session = cgroup.session();
        tracing::warn!(
            session.id = session.0,
            cgroup.path = path,
            "ending a session of an earlier agent"
        );
        cgroup.kill()?;
        journal.leftover(session, &path)?;
    }
    Ok(parent.end_leftovers(&left)?)
}

/// Removes cgroup, pins and run folder of an instance; what can not be removed is logged. The journal
/// is a record and stays.
///
/// Processes first: as long as one lives, the hooks stay. The run folder last: it tells the next run
/// that something is left.
fn remove_traces(instance: &Instance) {
    if let Err(error) = remove_cgroups(instance) {
        tracing::error!(error = chain(&error), "cgroup not removed");
        if instance.pin_root().exists() {
            return;
        }
    }
    if let Err(error) = kernel::remove_pins(instance) {
        tracing::error!(error = chain(&error), "pins not removed");
        return;
    }
    remove_folder(&instance.run_folder());
}

fn remove_cgroups(instance: &Instance) -> Result<(), kernel::Error> {
    let parent = cgroup::Parent::create(instance)?;
    for cgroup in cgroup::leftovers(&parent)? {
        cgroup.kill()?;
        cgroup.remove()?;
    }
    parent.remove()
}

fn remove_folder(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::error!(folder = %folder.display(), %error, "folder not removed");
        }
    }
}
