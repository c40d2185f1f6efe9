//! Verdicts and the one table of reasons: number, label and sentence of each.
//!
//! The number is stable across versions; the label is the metric label, the log field and the audit
//! code. A reason is never renumbered and never reused.

use crate::id::RuleId;

/// The outcome of a decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Verdict {
    /// Allowed by this rule.
    Allow(RuleId),
    /// Allowed by this rule, once the first bytes of the connection are a TLS handshake for a name
    /// that a rule opens on this port.
    AllowNamed(RuleId),
    /// Allowed by this rule where the socket at the other end is of the same session.
    AllowOwn(RuleId),
    /// A flow of port 53 on its way to the agent's resolver.
    Resolver,
    /// Not allowed by any rule, passed because the policy's mode is `observe`.
    Observe(Reason),
    /// Refused.
    Deny(Reason),
}

impl Verdict {
    /// Whether the flow goes on, as far as addresses and names tell: what [`Self::AllowNamed`] and
    /// [`Self::AllowOwn`] demand beside is for the caller to see to.
    #[inline(always)]
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(
            self,
            Self::Allow(_)
                | Self::AllowNamed(_)
                | Self::AllowOwn(_)
                | Self::Resolver
                | Self::Observe(_)
        )
    }

    /// Its kind, as it stands in events and metrics.
    #[inline(always)]
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Allow(_) | Self::AllowNamed(_) | Self::AllowOwn(_) | Self::Resolver => {
                Outcome::Allow
            }
            Self::Observe(_) => Outcome::Observe,
            Self::Deny(_) => Outcome::Deny,
        }
    }

    /// Its reason; [`Reason::Rule`] where a rule allowed, [`Reason::Resolver`] on the way to the
    /// resolver.
    #[inline(always)]
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match *self {
            Self::Allow(_) | Self::AllowNamed(_) | Self::AllowOwn(_) => Reason::Rule,
            Self::Resolver => Reason::Resolver,
            Self::Observe(reason) | Self::Deny(reason) => reason,
        }
    }

    /// The rule that allowed, or 0.
    #[inline(always)]
    #[must_use]
    pub const fn rule(&self) -> RuleId {
        match *self {
            Self::Allow(rule) | Self::AllowNamed(rule) | Self::AllowOwn(rule) => rule,
            Self::Resolver | Self::Observe(_) | Self::Deny(_) => RuleId(0),
        }
    }
}

/// The kind of a verdict as it stands in events and metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Outcome {
    /// Allowed by a rule.
    Allow = 1,
    /// Passed in `observe` mode only.
    Observe = 2,
    /// Refused.
    Deny = 3,
}

impl Outcome {
    /// The outcome with this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Allow),
            2 => Some(Self::Observe),
            3 => Some(Self::Deny),
            _ => None,
        }
    }

    /// Metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Observe => "observe",
            Self::Deny => "deny",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $label:literal, $sentence:literal;)*) => {
        /// Why a flow was refused, or that a rule allowed it.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $name = $number,)*
        }

        impl Reason {
            /// Every reason, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The reason with this number, if there is one.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Metric label, log field and audit code.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

reasons! {
    /// A rule allowed the flow.
    Rule = 1, "rule", "a rule of the policy allows it";
    /// The socket's cgroup belongs to no session.
    UnknownWorker = 2, "unknown_worker", "the socket belongs to no session that the agent knows";
    /// The protocol is neither TCP nor UDP.
    Protocol = 3, "protocol", "only TCP and UDP leave a fence";
    /// IPv4 options or IPv6 extension headers.
    SourceRouted = 4, "source_routed", "the packet carries IP options, extension headers or fragments of its own making";
    /// A packet for port 53 that is not on its way to the resolver.
    DnsNotRedirected = 5, "dns_not_redirected", "port 53 is reached through the agent's resolver only";
    /// A destination on this host.
    LocalAddress = 6, "local_address", "the destination is this host";
    /// A destination in a special-purpose range.
    PrivateAddress = 7, "private_address", "the destination is a private, special-purpose or metadata address";
    /// The session has used up its connections.
    LimitConnections = 8, "limit_connections", "the session has used up `egress.limits.connections`";
    /// The session has used up its bytes.
    LimitBytes = 9, "limit_bytes", "the session has used up `egress.limits.bytes_out`";
    /// No rule allows the destination.
    NotAllowed = 10, "not_allowed", "no rule of the policy names the destination, protocol and port";
    /// A bind to a port of the worker's choice.
    BindPort = 11, "bind_port", "a worker binds to port 0, or to a free port from 1024 of its own loopback where the policy opens that";
    /// A packet that would open a connection to the worker, or comes from where it may not send to.
    Inbound = 12, "inbound", "nobody dials a worker";
    /// A socket of a family or type that no worker gets.
    SocketType = 13, "socket_type", "only stream sockets of TCP and datagram sockets of UDP are made in a fence";
    /// A table in the kernel is full.
    TableFull = 14, "table_full", "a table in the kernel is full";
    /// A flow of port 53 goes to the agent's resolver.
    Resolver = 15, "resolver", "port 53 goes to the agent's resolver";
    /// A name that no rule covers.
    NameNotAllowed = 16, "name_not_allowed", "no rule of the policy covers the name";
    /// A record type that no rule of the name lists.
    RecordNotAllowed = 17, "record_not_allowed", "no rule that covers the name lists this record type";
    /// The session asks more often than it may.
    QueryLimit = 18, "query_limit", "the session asks the resolver more often than it may";
    /// Names under wildcards: too many distinct ones or too many bytes in a minute.
    NameBudget = 19, "name_budget", "too many distinct names or label bytes under a wildcard in a minute";
    /// A query that is no query.
    QueryMalformed = 20, "query_malformed", "the query is malformed or of a kind that the resolver does not take";
    /// Every address of an answer was special-purpose and no door names one.
    PrivateAnswer = 21, "private_answer", "the name's addresses are private, special-purpose or this host's";
    /// No room for another grant.
    GrantsFull = 22, "grants_full", "the session or the agent holds as many grants as it may";
    /// A handshake for a name that no rule opens on this port.
    TlsName = 23, "tls_name", "the TLS handshake names a server that no rule opens on this port";
    /// A handshake without a name.
    TlsNoName = 24, "tls_no_name", "the TLS handshake names no server";
    /// A handshake that hides a name.
    TlsHidden = 25, "tls_hidden", "the TLS handshake may hide its name (encrypted client hello)";
    /// The first bytes are no whole, plain `ClientHello`.
    TlsMalformed = 26, "tls_malformed", "the connection does not begin with one well-formed TLS client hello";
    /// The `ClientHello` never became whole.
    TlsIncomplete = 27, "tls_incomplete", "the TLS client hello never came in one piece";
    /// A unix socket that no rule names.
    UnixSocket = 28, "unix_socket", "no rule of the policy names this unix socket";
    /// Nobody of the session is at the other end of a flow on loopback.
    NotOwn = 29, "not_own", "no process of the session is at the other end";
    /// A packet to the resolver from a source that its socket does not have.
    SourceForged = 30, "source_forged", "the packet's source is not its socket's own";
}

const _: () = {
    let mut i = 0;
    while i < Reason::ALL.len() {
        #[expect(
            clippy::indexing_slicing,
            reason = "bounded by the loop, evaluated at compile time"
        )]
        let reason = Reason::ALL[i];
        assert!(
            reason as usize == i + 1,
            "reasons are numbered without a gap"
        );
        i += 1;
    }
};
