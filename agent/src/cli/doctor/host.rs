//! What this host has and lacks. Hooks are not guessed from the kernel's version: they are loaded and
//! attached in a throw-away instance, and taken away again.

use std::{borrow::Cow, fs, path::Path};

use serde::Serialize;

use crate::{
    config::{Config, Instance},
    daemon::told,
    kernel::{
        self, Kernel, cgroup,
        probe::{self, release},
    },
    policy::store,
    sys::landlock,
};

/// Landlock ABI below which nothing is launched: files and their renames.
const LANDLOCK_ABI_NEEDED: i32 = 1;
/// Landlock ABI from which on every measure is Landlock's own.
const LANDLOCK_ABI_FULL: i32 = 6;
/// Controllers that limit a session.
const CONTROLLERS: &[&str] = &["memory", "pids", "cpu", "io"];

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    name: Cow<'static, str>,
    state: State,
    detail: String,
    /// What to do about it.
    fix: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// It works without; something is weaker or covered by another layer.
    Weaker,
    /// Nothing works without.
    Missing,
}

impl Check {
    pub(super) fn ok(name: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            state: State::Ok,
            detail: detail.into(),
            fix: None,
        }
    }

    pub(super) fn gap(
        name: impl Into<Cow<'static, str>>,
        state: State,
        detail: impl Into<String>,
        fix: &str,
    ) -> Self {
        Self {
            name: name.into(),
            state,
            detail: detail.into(),
            fix: Some(fix.to_owned()),
        }
    }

    /// Its row in the table.
    pub(super) fn cells(&self) -> Vec<String> {
        let state = match self.state {
            State::Ok => "ok",
            State::Weaker => "weaker",
            State::Missing => "MISSING",
        };
        let first_line = self.detail.lines().next().unwrap_or_default();
        vec![
            self.name.to_string(),
            state.to_owned(),
            first_line.to_owned(),
        ]
    }

    /// Its name and what to do, where there is something.
    pub(super) fn remedy(&self) -> Option<(&str, &str)> {
        Some((&self.name, self.fix.as_deref()?))
    }

    /// Whether workers can be fenced with it as it is.
    pub(super) fn is_no_obstacle(&self) -> bool {
        self.state != State::Missing
    }
}

/// Looks at everything.
pub(super) fn checks(config: Option<&Path>) -> Vec<Check> {
    let mut checks = vec![Check::ok("kernel", release()), root()];
    checks.extend(kernel_side(config));
    checks.extend([
        security_modules(),
        landlock_abi(),
        seccomp(),
        memory_files(),
    ]);
    checks.extend(super::clock::checks());
    checks.extend(configuration(config));
    checks
}

/// Features that are looked at by themselves: the kernel side tells which.
fn features() -> Vec<Check> {
    // The others have a row of their own here.
    const NAMES: &[&str] = &[
        "cgroup.kill",
        "bpffs",
        "bpf jit",
        "btf",
        "SOCK_DESTROY",
        "network namespace cookies",
        "grace periods",
    ];
    let all = probe::features().into_iter();
    let ours = all.filter(|feature| NAMES.contains(&feature.name.as_str()));
    ours.map(|feature| {
        if feature.present {
            return Check::ok(feature.name, feature.detail);
        }
        let state = match feature.need {
            probe::Need::Required => State::Missing,
            probe::Need::Wanted => State::Weaker,
        };
        Check::gap(feature.name, state, feature.detail, feature.fix)
    })
    .collect()
}

fn security_modules() -> Check {
    const LIST: &str = "/sys/kernel/security/lsm";
    const NAME: &str = "security modules";
    match fs::read_to_string(LIST) {
        Ok(list) => Check::ok(NAME, list.trim()),
        Err(error) => {
            let fix = "none needed: `landlock` below asks the kernel itself; `mount -t securityfs` tells more";
            Check::gap(NAME, State::Weaker, format!("{LIST}: {error}"), fix)
        }
    }
}

fn root() -> Check {
    if nix::unistd::geteuid().is_root() {
        Check::ok("root", "uid 0")
    } else {
        let fix = "run it as root: hooks, cgroups and namespaces need it";
        Check::gap("root", State::Missing, "not root", fix)
    }
}

/// Cgroup, controllers, hooks and what each policy comes to with them, by making them.
fn kernel_side(config: Option<&Path>) -> Vec<Check> {
    let instance = Instance::stand_alone(std::process::id());
    let mut checks = Vec::new();
    let parent = match cgroup::Parent::create(&instance) {
        Ok(parent) => parent,
        Err(error) => {
            let fix = "mount cgroup v2, or boot with systemd.unified_cgroup_hierarchy=1";
            return vec![Check::gap("cgroup v2", State::Missing, told(&error), fix)];
        }
    };
    checks.push(layout(parent.path().parent().unwrap_or(parent.path())));
    checks.push(controllers(parent.path()));
    checks.extend(features());
    let set = Config::load(config).map(|config| store::read_directory(&config.policies));
    if let Ok(Ok(set)) = set {
        checks.extend(super::policies::checks(&instance, &parent, &set));
    }
    checks.push(match attach(&instance, &parent) {
        Ok(()) => Check::ok(
            "hooks",
            "connect, sendmsg, recvmsg, getpeername, bind, sock_create and packets: loaded, attached in a throw-away instance, removed again",
        ),
        Err(error) => {
            let fix = "a kernel from 6.1 on with CONFIG_CGROUP_BPF, and no lockdown of bpf()";
            Check::gap("hooks", State::Missing, told(&error), fix)
        }
    });
    for removed in [kernel::remove_pins(&instance), parent.remove()] {
        if let Err(error) = removed {
            let fix = "remove it by hand; nothing uses it";
            checks.push(Check::gap("clean end", State::Weaker, told(&error), fix));
        }
    }
    checks
}

/// Whether cgroup v2 is all there is, or stands beside v1, which then has the controllers.
fn layout(mount: &Path) -> Check {
    const NAME: &str = "cgroup v2";
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let old: Vec<_> = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (path, kind) = (words.next()?, words.next()?);
            (kind == "cgroup").then(|| path.rsplit('/').next().unwrap_or(path))
        })
        .collect();
    if old.is_empty() {
        return Check::ok(NAME, format!("unified, at {}", mount.display()));
    }
    let detail = format!(
        "hybrid: v2 at {}, beside v1 for {}",
        mount.display(),
        old.join(" ")
    );
    let fix = "boot with systemd.unified_cgroup_hierarchy=1";
    Check::gap(NAME, State::Weaker, detail, fix)
}

fn attach(instance: &Instance, parent: &cgroup::Parent) -> Result<(), kernel::Error> {
    let kernel = Kernel::open(instance, parent)?;
    let synced = kernel.sync(&[])?;
    let attached = kernel.attach(parent, &synced)?;
    drop(attached);
    Ok(())
}

fn controllers(cgroup: &Path) -> Check {
    let file = cgroup.join("cgroup.controllers");
    let available = fs::read_to_string(file).unwrap_or_default();
    let lacks = |wanted: &&&str| !available.split_whitespace().any(|there| there == **wanted);
    let missing: Vec<_> = CONTROLLERS.iter().filter(lacks).copied().collect();
    if missing.is_empty() {
        return Check::ok("controllers", CONTROLLERS.join(" "));
    }
    let detail = format!(
        "cgroup v2 lacks {}: rlimits per process instead",
        missing.join(", ")
    );
    let fix = "boot with systemd.unified_cgroup_hierarchy=1, so that they are not on cgroup v1";
    Check::gap("controllers", State::Weaker, detail, fix)
}

fn landlock_abi() -> Check {
    let fix = "a kernel with CONFIG_SECURITY_LANDLOCK and `landlock` in the lsm= list";
    match landlock::abi() {
        Ok(abi) if abi >= LANDLOCK_ABI_FULL => Check::ok("landlock", format!("ABI {abi}")),
        Ok(abi) if abi >= LANDLOCK_ABI_NEEDED => {
            let detail = format!("ABI {abi}: later rights are covered by other layers");
            Check::gap(
                "landlock",
                State::Weaker,
                detail,
                "a kernel from 6.12 on has ABI 6",
            )
        }
        Ok(abi) => Check::gap("landlock", State::Missing, format!("ABI {abi}"), fix),
        Err(error) => Check::gap("landlock", State::Missing, error.to_string(), fix),
    }
}

fn seccomp() -> Check {
    const ACTIONS: &str = "/proc/sys/kernel/seccomp/actions_avail";
    let actions = fs::read_to_string(ACTIONS).unwrap_or_default();
    if actions.split_whitespace().any(|action| action == "errno") {
        return Check::ok("seccomp", actions.trim());
    }
    let fix = "a kernel with CONFIG_SECCOMP_FILTER";
    Check::gap(
        "seccomp",
        State::Missing,
        "no filter that answers with an errno",
        fix,
    )
}

fn memory_files() -> Check {
    if Path::new("/proc/sys/vm/memfd_noexec").exists() {
        return Check::ok(
            "memory files",
            "vm.memfd_noexec in each session's pid namespace",
        );
    }
    let detail = "no vm.memfd_noexec: workers get no memory files at all";
    Check::gap(
        "memory files",
        State::Weaker,
        detail,
        "a kernel from 6.3 on",
    )
}

fn configuration(file: Option<&Path>) -> Vec<Check> {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(error) => {
            let fix = "correct the line that it names";
            return vec![Check::gap(
                "configuration",
                State::Missing,
                told(&error),
                fix,
            )];
        }
    };
    let mut checks = vec![Check::ok("configuration", config.instance.name())];
    checks.extend(super::selftest::checks(&config));
    let read = store::read_trusted(&config.policies).map(|sources| sources.set);
    checks.push(match read {
        Ok(set) => Check::ok(
            "policies",
            format!("{} in {}", set.len(), config.policies.display()),
        ),
        Err(error) => {
            let fix =
                "`stockade policy check` shows each place; a run with --policy needs no folder";
            Check::gap("policies", State::Weaker, told(&error), fix)
        }
    });
    checks.extend(super::names::checks(&config.dns));
    checks.extend(super::groups::checks(&config));
    checks
}
