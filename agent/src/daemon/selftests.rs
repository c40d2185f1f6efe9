//! The self-test of each policy's fence, before its first launch, and of one policy's when the agent
//! starts.
//!
//! A test costs as much as a launch, and each policy's first one a template process: so a policy that
//! nobody uses is not tested, and one test at the start shows that hooks and layers work on this host
//! at all. What held is not tried again until the policy changes; what slipped stands until a reload.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use common::id::SessionId;
use tokio::{sync::OnceCell, time::timeout};

use super::{
    Engine,
    ahead::Waiting,
    error::{LaunchError, chain},
    policies::Loaded,
};
use crate::{
    audit::Receipt,
    kernel::cgroup::SessionCgroup,
    launcher::{LaunchRequest, Seat, Work},
    policy::compiled::Digest,
    sandbox::Slipped,
};

/// How long a process that makes a dozen system calls may take.
const TEST_TIME_MAX: Duration = Duration::from_secs(10);

/// What came of the self-tests, by policy.
#[derive(Debug, Default)]
pub(super) struct SelfTests {
    outcomes: Mutex<HashMap<Digest, Arc<OnceCell<Slipped>>>>,
    /// Sessions of tests: what they are refused is no event.
    running: Mutex<BTreeSet<SessionId>>,
}

impl SelfTests {
    /// What came of a policy's test; none before it.
    pub(super) fn outcome(&self, policy: &Digest) -> Option<Slipped> {
        lock(&self.outcomes).get(policy)?.get().copied()
    }

    /// Whether a session is a test.
    pub(super) fn is_test(&self, session: SessionId) -> bool {
        lock(&self.running).contains(&session)
    }

    /// After a reload: forgets policies that are gone, and what slipped, so that it is tried again.
    pub(super) fn retain(&self, in_force: impl Fn(&Digest) -> bool) {
        let slipped = |cell: &OnceCell<Slipped>| cell.get().is_some_and(|s| !s.is_none());
        lock(&self.outcomes).retain(|digest, cell| in_force(digest) && !slipped(cell));
    }

    fn cell(&self, policy: Digest) -> Arc<OnceCell<Slipped>> {
        Arc::clone(lock(&self.outcomes).entry(policy).or_default())
    }
}

impl Engine {
    /// Passes where the fence of a policy has held. The first to ask has it tested, and all who ask
    /// meanwhile wait for the answer.
    pub(super) async fn prove(&self, loaded: &Loaded) -> Result<(), LaunchError> {
        let cell = self.self_tests.cell(loaded.policy.digest);
        let slipped = cell.get_or_try_init(|| self.self_test(loaded)).await?;
        if slipped.is_none() {
            return Ok(());
        }
        Err(LaunchError::Slipped {
            tool: loaded.policy.tool.to_string(),
            slipped: *slipped,
        })
    }

    /// Has the fence of a tool's policy tested, unless it was.
    pub async fn self_test_of(&self, tool: &str) -> Result<(), LaunchError> {
        let set = self.policies.current();
        let loaded = set.by_tool.get(tool).ok_or_else(|| LaunchError::NoPolicy {
            tool: tool.to_owned(),
            near: set.near(tool),
        })?;
        self.prove(loaded).await
    }

    /// The test at the start of an agent.
    pub(super) async fn prove_one(self: Arc<Self>) {
        let set = self.policies.current();
        if let Some(loaded) = set.by_tool.values().next()
            && let Err(error) = self.prove(loaded).await
        {
            tracing::error!(error = chain(&error), "self-test at the start");
        }
    }

    async fn self_test(&self, loaded: &Loaded) -> Result<Slipped, LaunchError> {
        let begun = Instant::now();
        let policy = &loaded.policy;
        let digest = policy.digest.to_string();
        let receipt = self.journal.self_test(policy.tool.as_str(), &digest)?;
        let session = receipt.session();
        lock(&self.self_tests.running).insert(session);
        let tested = self.self_test_in_place(loaded, receipt).await;
        // Its refusals are in the ring by now.
        self.drain_events().await;
        lock(&self.self_tests.running).remove(&session);
        let told = tested.as_ref().map_err(|error| chain(error));
        let told = told.map(|slipped| slipped.names().collect::<Vec<_>>());
        if let Err(error) = self.journal.self_tested(session, &told) {
            tracing::error!(error = chain(&error), "self-test not recorded");
        }
        let seconds = begun.elapsed().as_secs_f64();
        match &told {
            Ok(slipped) if slipped.is_empty() => {
                tracing::info!(
                    policy.tool = policy.tool.as_str(),
                    seconds,
                    "self-test passed"
                );
            }
            Ok(slipped) => {
                tracing::error!(
                    policy.tool = policy.tool.as_str(),
                    ?slipped,
                    "fence has holes"
                );
            }
            Err(error) => {
                tracing::warn!(policy.tool = policy.tool.as_str(), error, "no self-test");
            }
        }
        tested
    }

    async fn self_test_in_place(
        &self,
        loaded: &Loaded,
        receipt: Receipt,
    ) -> Result<Slipped, LaunchError> {
        let session = receipt.session();
        let Waiting { seat, cgroup } = self.reserve(loaded).await?;
        let cgroup = cgroup.give_to(session)?;
        let tested = self.self_test_in(&cgroup, seat, loaded, receipt).await;
        self.clear(session, cgroup).await;
        tested
    }

    async fn self_test_in(
        &self,
        cgroup: &SessionCgroup,
        seat: Seat,
        loaded: &Loaded,
        receipt: Receipt,
    ) -> Result<Slipped, LaunchError> {
        let session = receipt.session();
        let admitted = self.attached.admit(session, cgroup.id(), loaded.id)?;
        let null = || {
            let device = File::options().read(true).write(true).open("/dev/null");
            device.map(OwnedFd::from).map_err(LaunchError::Descriptors)
        };
        let request = LaunchRequest {
            seat,
            work: Work::SelfTest,
            stdio: [null()?, null()?, null()?],
            admitted,
            receipt,
        };
        let mut running = self.launcher.launch(request).await?;
        let silent = |why| LaunchError::NoReport {
            tool: loaded.policy.tool.to_string(),
            why,
        };
        let exit = match timeout(TEST_TIME_MAX, running.wait()).await {
            Ok(Ok(exit)) => exit,
            Ok(Err(error)) => return Err(silent(chain(&error))),
            Err(_elapsed) => return Err(silent("it does not end".to_owned())),
        };
        // Its number rests only when nothing runs under it.
        if timeout(TEST_TIME_MAX, running.gone()).await.is_err() {
            return Err(silent("its processes are not gone in time".to_owned()));
        }
        Slipped::reported(exit).ok_or_else(|| silent(format!("it ended with {exit:?}")))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one insertion or removal: a panic can not leave half of one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
