//! A session of this process's own, without a worker: it enters the session's cgroup and makes sockets
//! there, whose packets the programs then see.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use agent::{
    config::Instance,
    kernel::{
        Attached, Kernel, PolicyInForce,
        cgroup::{Parent, SessionCgroup},
        remove_pins,
    },
    policy::compiled::CompiledPolicy,
    sys::bpf::ProgramInfo,
};
use anyhow::{Context as _, Result, anyhow};
use common::id::{PolicyId, SessionId};
use lab::binary::Scratch;

/// The name that its policy opens, at port 443.
pub(crate) const NAME: &str = "site.example";
/// Its session.
pub(crate) const SESSION: SessionId = SessionId(1);
const POLICY: PolicyId = PolicyId(1);

/// An instance with one policy and one session.
pub(crate) struct Fenced {
    instance: Instance,
    parent: Parent,
    pub(crate) cgroup: SessionCgroup,
    pub(crate) kernel: Kernel,
    attached: Attached,
}

impl Fenced {
    pub(crate) fn new() -> Result<Self> {
        let instance = Instance::new(&lab::agent::instance_name()).context("a name")?;
        let parent = Parent::create(&instance)?;
        let kernel = Kernel::open(&instance, &parent)?;
        let policy = Arc::new(policy()?);
        let synced = kernel.sync(&[PolicyInForce {
            id: POLICY,
            policy: Arc::clone(&policy),
        }])?;
        let attached = kernel.attach(&parent, &synced)?;
        let cgroup = parent.session(SESSION, &policy.limits)?;
        let _admitted = attached.admit(SESSION, cgroup.id(), POLICY)?;
        Ok(Self {
            instance,
            parent,
            cgroup,
            kernel,
            attached,
        })
    }

    /// What the kernel has counted for the program of a hook.
    pub(crate) fn runs(&self, hook: &str) -> Result<ProgramInfo> {
        let programs = self.kernel.programs()?;
        let mut programs = programs.into_iter().filter(|(name, _)| *name == hook);
        let (_, info) = programs.next().context("no such program")?;
        Ok(info)
    }

    pub(crate) fn end(self) -> Result<()> {
        drop(self.attached);
        self.cgroup.remove()?;
        remove_pins(&self.instance)?;
        Ok(self.parent.remove()?)
    }
}

/// Its policy.
pub(crate) fn policy() -> Result<CompiledPolicy> {
    let scratch = Scratch::new()?;
    let text = format!(
        "version = 1\ntool = \"bench\"\ndescription = \"What is measured\"\n\
         [worker]\ncommand = [\"{0}/prober\"]\nprotocol = \"exec\"\n\
         [filesystem]\nread = [\"/usr\"]\nexecute = [\"{0}\"]\n\
         [[egress.allow]]\ndomain = \"{NAME}\"\nports = [443]\n",
        scratch.path().display()
    );
    agent::policy::compile("bench.toml", &text).map_err(|error| anyhow!("{error}"))
}

/// This process in another cgroup, which its sockets then belong to, until it is dropped.
pub(crate) struct Stay {
    home: PathBuf,
}

impl Stay {
    pub(crate) fn begin(cgroup: &Path) -> Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let home = lab::cgroup::mount()?.join(own.context("no cgroup v2")?);
        enter(cgroup)?;
        Ok(Self { home })
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        // Where it fails, the cgroup can not be removed, which is reported.
        enter(&self.home).ok();
    }
}

fn enter(cgroup: &Path) -> Result<()> {
    let path = cgroup.join("cgroup.procs");
    fs::write(&path, "0").with_context(|| path.display().to_string())
}
