//! Bounds that both sides share. Each is a size of a table or of a loop that the verifier must see.

/// Sessions alive or closing at once, per instance.
pub const SESSIONS_MAX: u32 = 4_096;
/// Policies loaded at once, per instance. Slot 0 is never used: a zeroed word means "no policy".
pub const POLICIES_MAX: u32 = 1_024;
/// Port ranges that one address may have, after merging and with all covering prefixes united.
pub const PORT_RANGES_MAX: usize = 16;
/// Addresses and prefixes of all policies in both generations of a push.
pub const PREFIXES_MAX: u32 = 262_144;
/// Rules of one policy.
pub const RULES_PER_POLICY_MAX: u32 = 110_000;
/// Rules alive in all policies, in both generations of a push.
pub const LIVE_RULES_MAX: u32 = 262_144;
/// Ancestors of a socket's cgroup that are asked for a session, from this level (exclusive) up to
/// the root (level 0).
pub const ANCESTORS_MAX: i32 = 8;
/// Addresses of this host that a connect is refused for at once.
pub const LOCAL_ADDRESSES_MAX: u32 = 4_096;
/// Event ring, bytes; a power of two and a multiple of the page size.
pub const EVENT_RING_BYTES: u32 = 1 << 20;
/// Ring of sockets to destroy, bytes.
pub const DESTROY_RING_BYTES: u32 = 1 << 18;
/// Events that one session may emit in one second; the rest is counted, not sent.
pub const EVENTS_PER_SECOND: u32 = 500;
/// Grants that one address may have in one session.
pub const GRANTS_PER_ADDRESS_MAX: usize = 8;
/// Addresses with grants, of all sessions.
pub const GRANTS_MAX: u32 = 262_144;
/// Addresses with grants, of one session.
pub const GRANTS_PER_SESSION_MAX: u32 = 8_192;
/// Names and wildcards of domain rules of all policies, in both generations of a push.
pub const NAMES_MAX: u32 = 262_144;
/// Unix sockets that rules name, of all policies, in both generations of a push.
pub const UNIX_DOORS_MAX: u32 = 16_384;
/// Unix sockets that the rules of one policy may name.
pub const UNIX_DOORS_PER_POLICY_MAX: usize = 64;
/// Sockets on their way to the resolver, of all sessions.
pub const CLIENTS_MAX: u32 = 262_144;
/// Sockets of one session that may turn to the resolver in one second.
pub const CLIENTS_PER_SECOND: u32 = 2_048;
/// Network namespaces, beside the agent's own, in which the resolver listens.
pub const RESOLVER_NAMESPACES_MAX: u32 = 256;
/// Pieces of a client hello that are held back (dropped, to be sent again in one piece) before the
/// connection is refused.
pub const HELLO_PIECES_MAX: u16 = 8;
/// How long the event of an allowed flow may lie in the ring unannounced after one that woke the
/// agent, milliseconds. The agent looks again by itself within that time.
pub const EVENT_PAUSE_MS: u32 = 50;
/// Unread bytes of the event ring from which on every event wakes the agent.
pub const EVENT_RING_BUSY_BYTES: u32 = EVENT_RING_BYTES / 4;
/// Distinct (policy, verdict, reason, protocol, hook) counters.
pub const COUNTERS_MAX: u32 = 16_384;

const _: () = assert!(
    PREFIXES_MAX >= 2 * RULES_PER_POLICY_MAX,
    "a push holds two generations"
);
const _: () = assert!(
    LIVE_RULES_MAX >= 2 * RULES_PER_POLICY_MAX,
    "a push holds two generations"
);
