//! What the control socket tells of the agent and its sessions.

use common::decide::Mode;

use super::{
    Engine,
    control::{
        attach::AttachedInfo,
        protocol::{PolicyStatus, ResolverStatus, SelfTest, SessionInfo, Status},
    },
};
use crate::{
    kernel,
    observe::metrics::resident_bytes,
    sandbox::{Enforced, Slipped},
};

impl Engine {
    /// How the agent is.
    pub(super) fn status(&self) -> Result<Status, kernel::Error> {
        let losses = self.losses()?;
        let alive = self.sessions.by_tool();
        let set = self.policies.current();
        let policies = set.by_tool.iter().map(|(tool, loaded)| {
            let policy = &loaded.policy;
            PolicyStatus {
                tool: tool.clone(),
                description: policy.description.clone(),
                mode: mode(policy.mode).to_owned(),
                digest: policy.digest.to_string(),
                generation: loaded.generation.0,
                rules: policy.egress.rules.len(),
                sessions: alive.get(tool).copied().unwrap_or(0),
                self_test: self_test(self.self_tests.outcome(&policy.digest)),
            }
        });
        Ok(Status {
            instance: self.instance.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            cgroup: self.parent.path().display().to_string(),
            policy_folder: self.policies.place(),
            policy_set: set.files.as_ref().map(|files| files.entry.clone()),
            policies: policies.collect(),
            policy_error: self.policies.last_error(),
            attachments: self.attachment_infos(),
            sessions: alive.values().sum(),
            sessions_max: self.sessions_max,
            places: self.place_status(),
            events_lost: losses.events_lost,
            events_suppressed: losses.events_suppressed,
            resolver: self.resolver_status(),
            issuers: self.issuer_statuses(),
            tools_off: self.tools_off(),
            warnings: self.warnings(),
            ailments: self.ailments().into_iter().chain(self.stuck()).collect(),
            resident_bytes: resident_bytes().unwrap_or(0),
        })
    }

    /// What earlier agents left and nobody can remove yet. Not told by `/healthz`: nothing that this agent
    /// does suffers from it, and a restart mends nothing.
    fn stuck(&self) -> impl Iterator<Item = String> {
        self.parent.stuck().into_iter().map(|path| {
            format!(
                "cgroup `{}`: can not be removed: a process in it can not be killed; it reaches nothing, and it is tried again",
                path.display()
            )
        })
    }

    fn resolver_status(&self) -> ResolverStatus {
        let numbers = self.names.numbers();
        ResolverStatus {
            answers: numbers.up,
            port: self.names.port,
            upstreams: self.names.upstreams(),
            upstream_queries: numbers.upstream,
            upstream_failures: numbers.upstream_failures,
            cache_hits: numbers.cache_hits,
            waiting: numbers.waiting,
            grants: numbers.grants,
            grants_refused: numbers.grants_refused,
        }
    }

    /// What is so because it was configured so, and no promise holds for; and whose tokens are refused
    /// for lack of keys, which is no fault of this host.
    fn warnings(&self) -> Vec<String> {
        let set = self.policies.current();
        let observing = set.by_tool.keys().filter(|tool| set.observes(tool));
        let off = self.tools_off();
        let off = off
            .iter()
            .map(|tool| format!("tool `{tool}` is off: none of its calls is taken"));
        let issuers = self.issuer_statuses();
        let keyless = issuers.iter().filter(|one| one.keys == 0).map(|one| {
            format!(
                "issuer `{}` has no keys: every token of it is refused",
                one.issuer
            )
        });
        observing
            .map(|tool| {
                format!(
                    "tool `{tool}` only observes: it reaches what its policy does not name, and asks for any name, so that DNS is a way out"
                )
            })
            .chain(off)
            .chain(keyless)
            .chain(self.shared_doors())
            .chain(self.attachment_warnings())
            .collect()
    }

    /// The sessions that are alive.
    pub(super) fn session_infos(&self) -> Vec<SessionInfo> {
        let mut infos = self.sessions.map(|session, entry| SessionInfo {
            session: session.0,
            tool: entry.policy.tool.to_string(),
            policy: entry.policy.digest.to_string(),
            started: entry.started.to_string(),
            command: entry.command.clone(),
            caller_uid: entry.caller.uid,
            connections: 0,
            bytes_out: 0,
            questions_dropped: 0,
            refused: entry.refusals.distinct(),
            enforced: entry
                .enforced
                .as_ref()
                .map_or_else(Vec::new, Enforced::measures),
            attached: entry.outpost.as_ref().map(|outpost| AttachedInfo {
                cgroup: outpost.cgroup.clone(),
                weak: outpost.weak.clone(),
            }),
        });
        // Asked of the kernel without holding the table.
        for info in &mut infos {
            if let Ok(Some(usage)) = self.attached.usage(common::id::SessionId(info.session)) {
                info.connections = usage.connections;
                info.bytes_out = usage.bytes_out;
                info.questions_dropped = usage.questions_dropped;
            }
        }
        infos
    }
}

fn self_test(outcome: Option<Slipped>) -> SelfTest {
    match outcome {
        None => SelfTest::NotYet,
        Some(slipped) if slipped.is_none() => SelfTest::Passed,
        Some(slipped) => SelfTest::Slipped(slipped.to_string()),
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    }
}
