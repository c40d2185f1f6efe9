//! From what a tool in `observe` mode did to lines of its policy, and what sessions hold by names.

use std::time::{Duration, SystemTime};

use common::{id::SessionId, rule::TLS};

use super::{
    Engine,
    control::protocol::{GrantInfo, Suggestion},
    error::SuggestError,
};
use crate::{
    clock::BootTime,
    observe::{
        event::protocol_name,
        learned::{Proposal, Unseen},
    },
    timestamp::Timestamp,
};

impl From<Proposal> for Suggestion {
    fn from(proposal: Proposal) -> Self {
        let Proposal {
            toml,
            rules,
            remarks,
            missing,
        } = proposal;
        Self {
            toml,
            rules,
            remarks,
            missing,
        }
    }
}

impl Engine {
    /// The lines that would have allowed what a tool did: in all its sessions or one, in all the
    /// time since the agent started or of late.
    pub fn suggest(
        &self,
        tool: &str,
        session: Option<u64>,
        within: Option<Duration>,
    ) -> Result<Proposal, SuggestError> {
        let set = self.policies.current();
        let since = within.and_then(|within| SystemTime::now().checked_sub(within));
        let record = self
            .learned
            .record(tool, session, since.map(Timestamp::from));
        let Some(record) = record else {
            return Err(match session {
                Some(session) if set.observes(tool) => SuggestError::NoSession {
                    tool: tool.to_owned(),
                    session,
                },
                _ if set.by_tool.contains_key(tool) => SuggestError::NotObserved(tool.to_owned()),
                _ => SuggestError::NoPolicy {
                    tool: tool.to_owned(),
                    near: set.near(tool),
                },
            });
        };
        // Of sessions that live; what ended ones had suppressed is in the record.
        let alive = self.sessions.map(|id, entry| {
            let wanted = session.is_none_or(|session| session == id.0);
            (wanted && entry.policy.tool.as_str() == tool).then_some(id)
        });
        let mut suppressed = 0_u64;
        for session in alive.into_iter().flatten() {
            let usage = self.attached.usage(session)?.unwrap_or_default();
            suppressed = suppressed.saturating_add(usage.suppressed);
        }
        let ring = self.losses()?.events_lost;
        Ok(Proposal::new(tool, &record, Unseen { suppressed, ring }))
    }

    /// What the sessions of a tool hold by names, grants that have ended or whose rule is gone left
    /// out.
    pub(super) fn grants_of(&self, tool: &str) -> Vec<GrantInfo> {
        let set = self.policies.current();
        let now = BootTime::now();
        let sessions = self.sessions.map(|session, entry| {
            let policy = (entry.policy.tool.as_str() == tool).then_some(entry.policy_id);
            Some((session, policy?))
        });
        let mut grants = Vec::new();
        for (session, policy) in sessions.into_iter().flatten() {
            for (address, held) in self.names.grants.of_session(SessionId(session.0)) {
                let count = held.count as usize;
                for grant in held.grants.iter().take(count) {
                    let left = grant.expires_ns.saturating_sub(now.0);
                    let Some(rule) = set.names.rule(policy, grant.range.rule) else {
                        continue;
                    };
                    if left == 0 {
                        continue;
                    }
                    grants.push(GrantInfo {
                        session: session.0,
                        address: address.into(),
                        rule: rule.to_owned(),
                        protocol: protocol_name(grant.range.protocol.into()),
                        first_port: grant.range.low,
                        last_port: grant.range.high,
                        tls: grant.range.flags & TLS != 0,
                        seconds: Duration::from_nanos(left).as_secs(),
                    });
                }
            }
        }
        grants
    }
}
