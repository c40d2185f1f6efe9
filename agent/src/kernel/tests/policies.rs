//! Tiny policies, made by hand.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use common::{
    decide::Mode,
    flow::Address,
    id::RuleId,
    rule::{DOOR, PortRange, RuleSet},
};

use crate::policy::{
    compiled::{
        CompiledPolicy, Digest, DomainRule, Ech, Egress, EgressLimits, Filesystem, Limits,
        LockRule, Prefix, Profile, Record, Reuse, Rule, RuleKind, Syscalls, TableEntry, Target,
        Tls, ToolName, Worker, WorkerProtocol,
    },
    domain::DomainPattern,
};

/// What a rule opens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) prefix: Prefix,
    pub(super) protocol: u8,
    pub(super) port: u16,
    pub(super) door: bool,
    pub(super) rule: u64,
}

pub(super) fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    let ip: std::net::IpAddr = address.parse().unwrap();
    let length: u8 = length.parse().unwrap();
    Prefix {
        network: Address::from(ip),
        length: if ip.is_ipv4() { 96 + length } else { length },
    }
}

pub(super) fn open(prefix_text: &str, protocol: u16, port: u16, rule: u64) -> Open {
    Open {
        prefix: prefix(prefix_text),
        protocol: u8::try_from(protocol).unwrap(),
        port,
        door: false,
        rule,
    }
}

pub(super) fn door(prefix_text: &str, protocol: u16, port: u16, rule: u64) -> Open {
    Open {
        door: true,
        ..open(prefix_text, protocol, port, rule)
    }
}

pub(super) const NO_LIMITS: EgressLimits = EgressLimits {
    connections: u64::MAX,
    bytes_out: u64::MAX,
};

/// A policy with these rules; each address and prefix has what covers it, as compiled ones have.
pub(super) fn policy(mode: Mode, limits: EgressLimits, rules: &[Open]) -> Arc<CompiledPolicy> {
    let mut table: BTreeMap<Prefix, RuleSet> = BTreeMap::new();
    for Open { prefix, .. } in rules {
        let set = table.entry(*prefix).or_default();
        *set = RuleSet::EMPTY;
        for rule in rules.iter().filter(|rule| rule.prefix.covers(prefix)) {
            set.ranges[set.count as usize] = PortRange {
                rule: RuleId(rule.rule),
                low: rule.port,
                high: rule.port,
                protocol: rule.protocol,
                flags: if rule.door { DOOR } else { 0 },
                pad: 0,
            };
            set.count += 1;
        }
    }
    Arc::new(CompiledPolicy {
        tool: ToolName::parse("test").unwrap(),
        description: String::new(),
        mode,
        digest: Digest([0; 32]),
        worker: Worker {
            command: Vec::new(),
            protocol: WorkerProtocol::Exec,
            environment: BTreeMap::new(),
            idle_timeout: Duration::ZERO,
            wall_timeout: Duration::ZERO,
            pins: Vec::new(),
            lock: LockRule::Optional,
            reuse: Reuse::Never,
        },
        egress: Egress {
            rules: Vec::new(),
            table: table
                .into_iter()
                .map(|(prefix, set)| TableEntry { prefix, set })
                .collect(),
            names: crate::policy::names::NameTable::default(),
            limits,
        },
        filesystem: Filesystem {
            read: Vec::new(),
            execute: Vec::new(),
            write: Vec::new(),
            workdir_size: 0,
            workdir_inodes: 0,
            tmp_size: 0,
            tmp_inodes: 0,
            output: None,
        },
        syscalls: Syscalls {
            profile: Profile::Default,
            allow: Vec::new(),
            deny: Vec::new(),
        },
        limits: LIMITS,
        verbs: Vec::new(),
        units: Vec::new(),
    })
}

pub(super) const LIMITS: Limits = Limits {
    memory: 256 << 20,
    processes: 32,
    cpus_milli: 1_000,
    open_files: 64,
    cpu_time: Duration::MAX,
    output: 64 << 20,
};

/// The same policy with domain rules of these ids, each for one protocol and port.
pub(super) fn with_names(
    policy: &Arc<CompiledPolicy>,
    rules: &[(u64, u16, u16)],
) -> Arc<CompiledPolicy> {
    let mut policy = (**policy).clone();
    for (id, protocol, port) in rules {
        policy.egress.rules.push(Rule {
            id: RuleId(*id),
            kind: RuleKind::Allow,
            target: Target::Domain(DomainRule {
                pattern: DomainPattern::parse("api.example").unwrap(),
                tls: Tls::Off,
                ech: Ech::Refuse,
                records: vec![Record::A, Record::Aaaa],
            }),
            protocol: *protocol,
            ports: vec![(*port, *port)],
            reason: String::new(),
            line: 1,
            text: String::new(),
        });
    }
    Arc::new(policy)
}
