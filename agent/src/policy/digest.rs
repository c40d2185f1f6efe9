//! Canonical texts and their hashes: the id of a rule, the digest of a policy.
//!
//! Spelling does not count: order of rules, comments, spaces, merged ports. Every field is fed with
//! its length, so that no two policies run into one byte string.

use common::{
    decide::Mode,
    flow::{TCP, UDP},
    id::RuleId,
};
use sha2::{Digest as _, Sha256};

use super::{
    compiled::{
        CompiledPolicy, Digest, DomainRule, Ech, Egress, EgressLimits, Filesystem, Limits, Output,
        Pin, Profile, Record, Rule, RuleKind, Syscalls, Target, Tls, Unbounded, Verb, VerbLimits,
        Worker, WorkerProtocol,
    },
    port,
};

/// Version of the canonical form: a change of it changes every digest.
const FORM: &[u8] = b"policy 2";

/// `cidr 192.0.2.0/24 tcp 443`, `domain api.example tcp 443 tls=off records=A,TXT`: what is not
/// said has its default.
pub(super) fn rule_text(
    kind: RuleKind,
    target: &Target,
    protocol: u16,
    ports: &[(u16, u16)],
) -> String {
    let (word, place) = match (kind, target) {
        (RuleKind::Allow, Target::Prefix(prefix)) => ("cidr", prefix.to_string()),
        (RuleKind::AllowPrivate, Target::Prefix(prefix)) => ("private", prefix.to_string()),
        (RuleKind::Local, Target::Prefix(prefix)) => ("local", prefix.to_string()),
        (_, Target::Domain(domain)) => ("domain", domain.pattern.to_string()),
        (_, Target::Own) => ("loopback", "own".to_owned()),
        (_, Target::Unix(path)) => ("unix", path.display().to_string()),
    };
    let mut text = format!("{word} {place}");
    if !ports.is_empty() {
        text.push(' ');
        text.push_str(&protocol_text(protocol));
        text.push(' ');
        text.push_str(&port::text(ports));
    }
    if let Target::Domain(domain) = target {
        text.push_str(&demands_text(domain, protocol));
    }
    text
}

/// ` tls=off ech=allow records=A,TXT`, without what has its default.
fn demands_text(domain: &DomainRule, protocol: u16) -> String {
    let DomainRule {
        pattern: _,
        tls,
        ech,
        records,
    } = domain;
    let mut text = String::new();
    // Nothing else can be said of udp.
    if *tls == Tls::Off && protocol == TCP {
        text.push_str(" tls=off");
    }
    if *ech == Ech::Allow {
        text.push_str(" ech=allow");
    }
    if records != Record::DEFAULT {
        let words: Vec<&str> = records.iter().map(|record| record.word()).collect();
        text.push_str(" records=");
        text.push_str(&words.join(","));
    }
    text
}

/// `tcp`, `udp`, or the number.
#[must_use]
pub fn protocol_text(protocol: u16) -> String {
    match protocol {
        TCP => "tcp".to_owned(),
        UDP => "udp".to_owned(),
        other => other.to_string(),
    }
}

/// The id of a rule with this canonical text. Zero means "no rule" and is never given.
pub(super) fn rule_id(text: &str) -> RuleId {
    let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    RuleId(u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1))
}

/// The digest of a policy; its `digest` field and the places of its rules do not count.
pub(super) fn of(policy: &CompiledPolicy) -> Digest {
    let CompiledPolicy {
        tool,
        description,
        mode,
        digest: _,
        worker,
        egress,
        filesystem,
        syscalls,
        limits,
        verbs,
        units,
    } = policy;
    let mut feed = Feed(Sha256::new());
    feed.bytes(FORM);
    feed.text(tool.as_str());
    feed.text(description);
    feed.text(mode_text(*mode));
    feed.worker(worker);
    feed.egress(egress);
    feed.filesystem(filesystem);
    feed.syscalls(syscalls);
    feed.limits(*limits);
    feed.count(verbs);
    for verb in verbs {
        feed.verb(verb);
    }
    // A policy without keeps the digest that it had before there was `[match]`.
    if !units.is_empty() {
        feed.count(units);
        for unit in units {
            feed.text(unit.as_str());
        }
    }
    Digest(feed.0.finalize().into())
}

/// `enforce` or `observe`.
#[must_use]
pub const fn mode_text(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    }
}

/// The word of the policy file.
#[must_use]
pub const fn worker_protocol_text(protocol: WorkerProtocol) -> &'static str {
    match protocol {
        WorkerProtocol::Mcp => "mcp",
        WorkerProtocol::Json => "json",
        WorkerProtocol::Exec => "exec",
    }
}

/// The word of the policy file.
#[must_use]
pub const fn profile_text(profile: Profile) -> &'static str {
    match profile {
        Profile::Default => "default",
        Profile::Interpreter => "interpreter",
        Profile::Strict => "strict",
    }
}

struct Feed(Sha256);

impl Feed {
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn count<T>(&mut self, items: &[T]) {
        self.number(u64::try_from(items.len()).unwrap_or(u64::MAX));
    }

    fn paths(&mut self, paths: &[std::path::PathBuf]) {
        self.count(paths);
        for path in paths {
            self.bytes(path.as_os_str().as_encoded_bytes());
        }
    }

    fn texts(&mut self, texts: &[String]) {
        self.count(texts);
        for text in texts {
            self.text(text);
        }
    }

    fn worker(&mut self, worker: &Worker) {
        let Worker {
            command,
            protocol,
            environment,
            idle_timeout,
            wall_timeout,
            pins,
            lock,
            reuse,
        } = worker;
        self.texts(command);
        self.text(worker_protocol_text(*protocol));
        self.number(u64::try_from(environment.len()).unwrap_or(u64::MAX));
        for (name, value) in environment {
            self.text(name);
            self.text(value);
        }
        self.number(idle_timeout.as_secs());
        self.number(wall_timeout.as_secs());
        self.count(pins);
        for Pin { path, kind, sha256 } in pins {
            self.bytes(path.as_os_str().as_encoded_bytes());
            self.text(kind.word());
            self.bytes(sha256);
        }
        self.text(lock.word());
        self.text(reuse.word());
    }

    fn egress(&mut self, egress: &Egress) {
        // The tables follow from the rules.
        let Egress {
            rules,
            table: _,
            names: _,
            limits:
                EgressLimits {
                    connections,
                    bytes_out,
                },
        } = egress;
        let mut ordered: Vec<(&str, &str)> = rules
            .iter()
            .map(|Rule { text, reason, .. }| (text.as_str(), reason.as_str()))
            .collect();
        ordered.sort_unstable();
        self.count(&ordered);
        for (text, reason) in ordered {
            self.text(text);
            self.text(reason);
        }
        self.number(*connections);
        self.number(*bytes_out);
    }

    fn filesystem(&mut self, filesystem: &Filesystem) {
        let Filesystem {
            read,
            execute,
            write,
            workdir_size,
            workdir_inodes,
            tmp_size,
            tmp_inodes,
            output,
        } = filesystem;
        self.paths(read);
        self.paths(execute);
        self.paths(write);
        for number in [workdir_size, workdir_inodes, tmp_size, tmp_inodes] {
            self.number(*number);
        }
        self.number(u64::from(output.is_some()));
        if let Some(Output {
            path,
            size,
            entries,
            depth,
            umask,
            owner,
            group,
        }) = output
        {
            self.bytes(path.as_os_str().as_encoded_bytes());
            self.number(*size);
            self.number(*entries);
            for number in [depth, umask, owner, group] {
                self.number(u64::from(*number));
            }
        }
    }

    fn syscalls(&mut self, syscalls: &Syscalls) {
        let Syscalls {
            profile,
            allow,
            deny,
        } = syscalls;
        self.text(profile_text(*profile));
        self.texts(allow);
        self.texts(deny);
    }

    fn limits(&mut self, limits: Limits) {
        let Limits {
            memory,
            processes,
            cpus_milli,
            open_files,
            cpu_time,
            output,
        } = limits;
        self.number(memory);
        self.number(processes.into());
        self.number(cpus_milli.into());
        self.number(open_files.into());
        self.number(cpu_time.as_secs());
        self.number(output);
    }

    fn verb(&mut self, verb: &Verb) {
        let Verb {
            name,
            worker_tool,
            scope,
            description,
            arguments,
            result,
            unbounded,
            limits:
                VerbLimits {
                    rates,
                    concurrency,
                    per_day,
                    repeats,
                },
            // Follows from the conditions.
            approval: _,
            conditions,
            durable,
            idempotency,
            body_proof,
            // Follows from the schemas.
            quarantine: _,
            pin,
        } = verb;
        for text in [name, worker_tool, scope, description] {
            self.text(text);
        }
        self.bytes(&arguments.digest());
        self.bytes(&result.as_ref().map_or([0; 32], |result| result.digest()));
        self.count(unbounded);
        for Unbounded {
            schema,
            path,
            reason,
        } in unbounded
        {
            self.text(schema.word());
            self.text(path);
            self.text(reason);
        }
        self.texts(&rates.iter().map(ToString::to_string).collect::<Vec<_>>());
        self.texts(&per_day.iter().map(ToString::to_string).collect::<Vec<_>>());
        self.number((*concurrency).into());
        self.number((*repeats).into());
        self.texts(conditions);
        self.number(u64::from(*durable));
        self.text(idempotency.word());
        self.number(u64::from(*body_proof));
        self.bytes(&pin.unwrap_or_default());
    }
}
