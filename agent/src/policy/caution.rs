//! What `policy check` says of rules that are right and weaker than the rest, and of settings that do
//! nothing.

use std::path::Path;

use common::{decide::Mode, flow::UDP};

use super::{
    compiled::{
        CompiledPolicy, DomainRule, Ech, Filesystem, Record, Rule, Target, Tls, Unbounded, Verb,
    },
    quantity, special_name,
};

/// A rule with a weaker guarantee, or a setting without effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caution<'a> {
    /// Line of the file, where it is about a rule.
    pub line: Option<u32>,
    /// What it is about: a rule's canonical text, or a setting.
    pub about: &'a str,
    /// What is weaker or does nothing.
    pub text: String,
}

/// Everything in a policy that guarantees less or does nothing, in the order of the file.
#[must_use]
pub fn cautions(policy: &CompiledPolicy) -> Vec<Caution<'_>> {
    let settings = of_mode(policy)
        .into_iter()
        .chain(of_time(policy))
        .chain(of_sizes(policy))
        .chain(of_names(policy));
    let rules = policy.egress.rules.iter().flat_map(|rule| {
        let texts = match &rule.target {
            Target::Domain(domain) => of(rule, domain),
            Target::Unix(path) => of_unix(path),
            Target::Prefix(_) | Target::Own => Vec::new(),
        };
        texts.into_iter().map(|text| Caution {
            line: Some(rule.line),
            about: &rule.text,
            text,
        })
    });
    let verbs = policy.verbs.iter().flat_map(|verb| {
        of_verb(verb).into_iter().map(|text| Caution {
            line: None,
            about: &verb.name,
            text,
        })
    });
    settings.chain(rules).chain(verbs).collect()
}

fn of_setting(about: &'static str, text: String) -> Caution<'static> {
    Caution {
        line: None,
        about,
        text,
    }
}

fn of_mode(policy: &CompiledPolicy) -> Option<Caution<'static>> {
    let text =
        "any name is answered and reported: DNS is a way out, and what no rule allows passes";
    (policy.mode == Mode::Observe).then(|| of_setting("mode = \"observe\"", text.to_owned()))
}

/// Whether a folder is one in which programs are installed, and no server has a socket.
#[must_use]
pub fn of_system(folder: &Path) -> bool {
    let system = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"];
    system.iter().any(|parent| folder.starts_with(parent))
}

/// Mounts are read-only, which keeps nobody from connecting (`unix(7)`: the mode of the socket does).
fn of_names(policy: &CompiledPolicy) -> Option<Caution<'static>> {
    let Filesystem {
        read,
        execute,
        write,
        ..
    } = &policy.filesystem;
    let listed = [read, execute, write].into_iter().flatten();
    let open: Vec<_> = listed
        .filter(|path| !of_system(path))
        .map(|path| format!("`{}`", path.display()))
        .collect();
    let text = format!(
        "its programs have unix sockets by name: one of the host's beneath {} can be connected to if its mode lets anybody, unless the kernel has landlock ABI 9",
        open.join(", ")
    );
    (policy.syscalls.profile.has_unix_names() && !open.is_empty())
        .then(|| of_setting("syscalls.profile = \"interpreter\"", text))
}

/// A time that is the default may be nobody's choice, and then it is no mistake that it never counts.
fn of_time(policy: &CompiledPolicy) -> Option<Caution<'static>> {
    let (idle, wall) = (policy.worker.idle_timeout, policy.worker.wall_timeout);
    let text = "it never counts: `wall_timeout` is shorter";
    (idle > wall && idle != quantity::IDLE_TIMEOUT_DEFAULT)
        .then(|| of_setting("worker.idle_timeout", text.to_owned()))
}

/// Both folders are in memory, which is charged to whoever writes there (`shmem` of `memory.stat`, in the
/// kernel's `Documentation/admin-guide/cgroup-v2.rst`). Where they are alike one says it.
fn of_sizes(policy: &CompiledPolicy) -> Vec<Caution<'static>> {
    let memory = policy.limits.memory;
    let (workdir, tmp) = (policy.filesystem.workdir_size, policy.filesystem.tmp_size);
    let most = quantity::size_text(memory);
    [
        ("filesystem.workdir_size", workdir, workdir > memory),
        ("filesystem.tmp_size", tmp, tmp > memory && tmp != workdir),
    ]
    .into_iter()
    .filter(|(_, _, never)| *never)
    .map(|(about, size, _)| {
        let size = quantity::size_text(size);
        let text = format!(
            "files in it count as memory: `limits.memory` ({most}) ends the session before {size} are used"
        );
        of_setting(about, text)
    })
    .collect()
}

fn of_verb(verb: &Verb) -> Vec<String> {
    let quarantine = verb
        .quarantine
        .iter()
        .map(|why| format!("the verb is in quarantine, every call of it is refused: {why}"));
    let approval = verb.approval.then(|| {
        "`approve_if` needs an approval that nobody can give in this version: every call of the verb is refused"
            .to_owned()
    });
    let open = verb.unbounded.iter().map(|open| {
        let Unbounded { schema, path, .. } = open;
        format!("anything passes in the {} at `{path}`", schema.word())
    });
    let unchecked = verb.result.is_none().then(|| {
        "without a schema of its result, what the worker answers is not checked".to_owned()
    });
    quarantine
        .chain(approval)
        .chain(open)
        .chain(unchecked)
        .collect()
}

/// Names of sockets whose servers do as root what they are told.
const RULERS: &[&str] = &[
    "docker.sock",
    "podman.sock",
    "containerd.sock",
    "crio.sock",
    "buildkitd.sock",
    "libvirt-sock",
    "system_bus_socket",
    "snapd.socket",
];

fn of_unix(path: &Path) -> Vec<String> {
    let name = path.file_name().unwrap_or_default();
    let ruler = RULERS.iter().any(|ruler| name == *ruler) || path.starts_with("/run/systemd");
    let mut texts = vec![
        "its server is trusted with the fence: it can hand over descriptors, also of sockets that no hook sees"
            .to_owned(),
    ];
    if ruler {
        texts.push(
            "whoever speaks to this server rules the host: nothing of the fence is left".to_owned(),
        );
    }
    texts
}

fn of(rule: &Rule, domain: &DomainRule) -> Vec<String> {
    let mut texts = Vec::new();
    if domain.gives_addresses() && domain.tls == Tls::Off {
        let ports = super::port::text(&rule.ports);
        let what = if rule.protocol == UDP {
            "no name is looked for in datagrams"
        } else {
            "no name is checked"
        };
        texts.push(format!(
            "{what}: any name on that address is reachable on port {ports}"
        ));
    }
    if domain.ech == Ech::Allow {
        let text = "the name that is seen is not always the name that is reached: a hidden one on that address passes";
        texts.push(text.to_owned());
    } else if domain.answers(Record::Https) || domain.answers(Record::Svcb) {
        let text = "service bindings may hold keys for encrypted client hello: clients that use them are refused (`tls_hidden`)";
        texts.push(text.to_owned());
    }
    if let Some(zone) = special_name::shared(&domain.pattern) {
        texts.push(format!(
            "anybody can rent a name below {zone}: what is sent there may reach anybody"
        ));
    }
    texts
}
