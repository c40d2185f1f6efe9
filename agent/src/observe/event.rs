//! An event of the kernel side in the words of the policy: tool, rule, reason.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use common::{
    event::{self, Hook},
    flow::{MPTCP, TCP, UDP},
    id::{PolicyId, RuleId, SessionId},
    verdict::{Outcome, Reason},
};
use serde::{Deserialize, Serialize};

use crate::{
    policy::{
        compiled::{CompiledPolicy, Rule},
        domain::DomainPattern,
    },
    timestamp::Timestamp,
};

/// One decision of the kernel side.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// When the agent read it (RFC 3339, UTC).
    pub time: String,
    /// The session, where one is known.
    pub session: Option<u64>,
    /// Its tool, where one is known.
    pub tool: Option<String>,
    /// What was decided.
    #[serde(with = "outcome_label")]
    pub outcome: Outcome,
    /// Why.
    #[serde(with = "reason_label")]
    pub reason: Reason,
    /// Where.
    #[serde(with = "hook_label")]
    pub hook: Hook,
    /// The rule that allowed it, canonical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The name of a query or of a TLS handshake, harmless ([`super::name::shown`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The domain by whose grants a refused address is known to the session: it opens other ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted_for: Option<String>,
    /// The record type of a query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// IP protocol number (262 is MPTCP).
    pub protocol: u16,
    /// Destination; the source where the hook is `ingress`.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The worker's own port, or 0.
    pub local_port: u16,
    /// Address family of the socket, or 0.
    pub family: u16,
    /// Type of the socket where the hook is `sock_create`, else 0.
    pub socket_type: u8,
    /// Process, or 0 where the hook does not know it.
    pub pid: u32,
    /// Cgroup where no session is known, else 0.
    pub cgroup: u64,
    /// Events of the session that the rate limit suppressed before this one.
    pub suppressed: u32,
}

/// The policies in force, by the numbers that events carry.
#[derive(Debug, Default)]
pub struct Names {
    policies: HashMap<PolicyId, Named>,
}

#[derive(Debug)]
struct Named {
    policy: Arc<CompiledPolicy>,
    /// Place of each rule in the policy, ordered by id.
    rules: Vec<(RuleId, usize)>,
}

/// The kernel side sent a number that this agent does not know.
#[derive(Debug, thiserror::Error)]
#[error("event: {what} {number} is unknown")]
pub struct UnknownNumber {
    what: &'static str,
    number: u8,
}

impl Names {
    /// The names of these policies.
    pub fn new<'a>(
        policies: impl IntoIterator<Item = (PolicyId, &'a Arc<CompiledPolicy>)>,
    ) -> Self {
        let policies = policies
            .into_iter()
            .map(|(id, policy)| (id, Named::new(Arc::clone(policy))))
            .collect();
        Self { policies }
    }

    /// The tool of a policy.
    #[must_use]
    pub fn tool(&self, policy: PolicyId) -> Option<&str> {
        Some(self.policies.get(&policy)?.policy.tool.as_str())
    }

    /// The canonical words of a rule.
    #[must_use]
    pub fn rule(&self, policy: PolicyId, rule: RuleId) -> Option<&str> {
        Some(&self.found(policy, rule)?.text)
    }

    /// The name or wildcard of a domain rule.
    #[must_use]
    pub fn domain(&self, policy: PolicyId, rule: RuleId) -> Option<&DomainPattern> {
        Some(&self.found(policy, rule)?.domain()?.pattern)
    }

    fn found(&self, policy: PolicyId, rule: RuleId) -> Option<&Rule> {
        let named = self.policies.get(&policy)?;
        let at = named
            .rules
            .binary_search_by_key(&rule, |(id, _)| *id)
            .ok()?;
        let (_, place) = named.rules.get(at)?;
        named.policy.egress.rules.get(*place)
    }
}

impl Named {
    fn new(policy: Arc<CompiledPolicy>) -> Self {
        let rules = policy.egress.rules.iter().enumerate();
        let mut rules: Vec<_> = rules.map(|(place, rule)| (rule.id, place)).collect();
        rules.sort_unstable();
        Self { policy, rules }
    }
}

impl Event {
    /// Puts names to the numbers.
    pub fn decode(
        raw: &event::Event,
        names: &Names,
        now: Timestamp,
    ) -> Result<Self, UnknownNumber> {
        let unknown = |what, number| UnknownNumber { what, number };
        Ok(Self {
            time: now.to_string(),
            session: (raw.session != SessionId(0)).then_some(raw.session.0),
            tool: names.tool(raw.policy).map(str::to_owned),
            outcome: Outcome::from_number(raw.outcome)
                .ok_or_else(|| unknown("outcome", raw.outcome))?,
            reason: Reason::from_number(raw.reason).ok_or_else(|| unknown("reason", raw.reason))?,
            hook: Hook::from_number(raw.hook).ok_or_else(|| unknown("hook", raw.hook))?,
            rule: names.rule(raw.policy, raw.rule).map(str::to_owned),
            name: None,
            granted_for: None,
            record: None,
            protocol: raw.protocol,
            address: raw.address.into(),
            port: raw.port,
            local_port: raw.local_port,
            family: raw.family,
            socket_type: raw.socket_type,
            pid: raw.pid,
            cgroup: raw.cgroup,
            suppressed: raw.suppressed,
        })
    }

    /// What was wanted, in a few words: `tcp 192.0.2.1:443`, `udp [2001:db8::1]:53`,
    /// `icmp 192.0.2.1`; with the name of a handshake `tcp 192.0.2.1:443 (api.example)`; of a query
    /// `name api.example A`.
    #[must_use]
    pub fn destination(&self) -> String {
        let name = self.name.as_deref();
        if self.hook == Hook::Resolver {
            let record = self.record.as_deref().unwrap_or_default();
            return format!("name {} {record}", name.unwrap_or("."))
                .trim_end()
                .to_owned();
        }
        let destination = destination(self.hook, self.protocol, self.address, self.port);
        match (name, &self.granted_for) {
            (Some(name), _) => format!("{destination} ({name})"),
            (None, Some(domain)) => format!("{destination} (granted for {domain})"),
            (None, None) => destination,
        }
    }
}

/// Protocol and address in one word; a socket alone where there is no address yet.
fn destination(hook: Hook, protocol: u16, address: IpAddr, port: u16) -> String {
    let protocol = protocol_name(protocol);
    match (hook, port, address) {
        (Hook::SockCreate, _, _) => format!("{protocol} socket"),
        (Hook::Unix, _, _) => "unix socket".to_owned(),
        (_, 0, address) => format!("{protocol} {address}"),
        (_, port, IpAddr::V4(v4)) => format!("{protocol} {v4}:{port}"),
        (_, port, IpAddr::V6(v6)) => format!("{protocol} [{v6}]:{port}"),
    }
}

/// Name of a protocol number, or `protocol-<number>`.
#[must_use]
pub fn protocol_name(protocol: u16) -> String {
    let name = match protocol {
        0 => "unspecified",
        1 => "icmp",
        TCP => "tcp",
        UDP => "udp",
        33 => "dccp",
        58 => "icmpv6",
        132 => "sctp",
        136 => "udplite",
        255 => "raw",
        MPTCP => "mptcp",
        other => return format!("protocol-{other}"),
    };
    name.to_owned()
}

/// Metric label of a protocol number: bounded, whatever number a worker tries.
#[must_use]
pub fn protocol_label(protocol: u16) -> &'static str {
    match protocol {
        TCP => "tcp",
        UDP => "udp",
        _ => "other",
    }
}

macro_rules! by_label {
    ($module:ident, $type:ty, $all:expr) => {
        mod $module {
            use serde::{Deserialize, Deserializer, Serializer, de};

            use super::*;

            pub(super) fn serialize<S: Serializer>(value: &$type, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(value.label())
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<$type, D::Error> {
                let label = String::deserialize(d)?;
                ($all)
                    .find(|value: &$type| value.label() == label)
                    .ok_or_else(|| de::Error::custom(format!("unknown label `{label}`")))
            }
        }
    };
}

by_label!(
    outcome_label,
    Outcome,
    (0..=u8::MAX).filter_map(Outcome::from_number)
);
by_label!(
    hook_label,
    Hook,
    (0..=u8::MAX).filter_map(Hook::from_number)
);
by_label!(reason_label, Reason, Reason::ALL.iter().copied());

#[cfg(test)]
mod tests {
    use common::{
        event::{self, Hook},
        flow::Address,
        verdict::{Outcome, Reason},
    };
    use expect_test::expect;

    use super::{Event, Names};
    use crate::timestamp::Timestamp;

    fn raw() -> event::Event {
        event::Event {
            session: common::id::SessionId(9),
            address: Address::from_v4([192, 0, 2, 1]),
            protocol: 6,
            port: 443,
            family: 2,
            outcome: Outcome::Deny as u8,
            reason: Reason::NotAllowed as u8,
            hook: Hook::Connect as u8,
            ..event::Event::default()
        }
    }

    #[test]
    fn an_event_survives_its_json_form() {
        let epoch = Timestamp::from(std::time::UNIX_EPOCH);
        let event = Event::decode(&raw(), &Names::default(), epoch).expect("known numbers");
        assert_eq!(event.destination(), "tcp 192.0.2.1:443");
        let json = serde_json::to_string(&event).expect("json");
        expect![[r#"{"time":"1970-01-01T00:00:00.000000Z","session":9,"tool":null,"outcome":"deny","reason":"not_allowed","hook":"connect","protocol":6,"address":"192.0.2.1","port":443,"local_port":0,"family":2,"socket_type":0,"pid":0,"cgroup":0,"suppressed":0}"#]]
            .assert_eq(&json);
        assert_eq!(serde_json::from_str::<Event>(&json).expect("event"), event);
    }

    #[test]
    fn unknown_numbers_are_errors() {
        let mut event = raw();
        event.reason = 200;
        let error =
            Event::decode(&event, &Names::default(), Timestamp::now()).expect_err("unknown");
        assert_eq!(error.to_string(), "event: reason 200 is unknown");
    }
}
