//! What `policy check` says of rules that are right and weaker than the rest.

use std::path::Path;

use common::{decide::Mode, flow::UDP};

use super::{
    compiled::{CompiledPolicy, DomainRule, Ech, Record, Rule, Target, Tls, Unbounded, Verb},
    special_name,
};

/// A rule with a weaker guarantee.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caution<'a> {
    /// Line of the file, where it is about a rule.
    pub line: Option<u32>,
    /// What it is about: a rule's canonical text, or a setting.
    pub about: &'a str,
    /// What is weaker.
    pub text: String,
}

/// Everything in a policy that guarantees less, in the order of the file.
#[must_use]
pub fn cautions(policy: &CompiledPolicy) -> Vec<Caution<'_>> {
    let mode = (policy.mode == Mode::Observe && !policy.egress.names.is_empty()).then(|| Caution {
        line: None,
        about: "mode = \"observe\"",
        text: "any name is answered and reported: DNS is a way out, and what no rule allows passes"
            .to_owned(),
    });
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
    mode.into_iter().chain(rules).chain(verbs).collect()
}

fn of_verb(verb: &Verb) -> Vec<String> {
    let quarantine = verb
        .quarantine
        .iter()
        .map(|why| format!("the verb is in quarantine, every call of it is refused: {why}"));
    let open = verb.unbounded.iter().map(|open| {
        let Unbounded { schema, path, .. } = open;
        format!("anything passes in the {} at `{path}`", schema.word())
    });
    let unchecked = verb.result.is_none().then(|| {
        "without a schema of its result, what the worker answers is not checked".to_owned()
    });
    quarantine.chain(open).chain(unchecked).collect()
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
