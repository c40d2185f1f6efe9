//! Keys and values of the kernel's maps. All are packed by hand: no padding, so that a key has one
//! form only.

use crate::{
    decide::Mode,
    flow::Address,
    id::{Generation, PolicyId, RuleId, SessionId},
};

/// Value of the worker table (hash, key: cgroup id). A missing entry means *deny*.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Worker {
    /// The session.
    pub session: SessionId,
    /// Its policy.
    pub policy: PolicyId,
    /// 0, or [`WORKER_CLOSING`].
    pub flags: u32,
}

/// The session has ended; its sockets may finish what they have begun, nothing new starts.
pub const WORKER_CLOSING: u32 = 1;

/// The word that puts a generation of a policy in force: written through a shared mapping in one
/// store, read once per decision. Zero means that the policy is not in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct PolicyWord(pub u64);

impl PolicyWord {
    const OBSERVE: u64 = 1 << 32;
    const LIMITED: u64 = 1 << 33;
    const UNIX_NAMES: u64 = 1 << 34;
    const LEFT: u64 = 1 << 35;

    /// The word for a generation; `limited` says that `[egress.limits]` are set.
    #[must_use]
    pub const fn new(generation: Generation, mode: Mode, limited: bool) -> Self {
        let mode = match mode {
            Mode::Enforce => 0,
            Mode::Observe => Self::OBSERVE,
        };
        Self(generation.0 as u64 | mode | if limited { Self::LIMITED } else { 0 })
    }

    /// The same, where `own` says that the profile has unix sockets by name within the session.
    #[must_use]
    pub const fn with_unix_names(self, own: bool) -> Self {
        Self(self.0 | if own { Self::UNIX_NAMES } else { 0 })
    }

    /// The same, where a session has ended whose sockets may live on.
    #[must_use]
    pub const fn with_left(self) -> Self {
        Self(self.0 | Self::LEFT)
    }

    /// Whether a session of this generation has ended whose sockets may live on: that of an attached
    /// cgroup, whose processes go on. Each packet is then asked whether its session still is.
    #[inline(always)]
    #[must_use]
    pub const fn left(self) -> bool {
        self.0 & Self::LEFT != 0
    }

    /// The generation, or `None` where the policy is not in force.
    #[inline(always)]
    #[must_use]
    pub const fn generation(self) -> Option<Generation> {
        #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are meant")]
        match self.0 as u32 {
            0 => None,
            generation => Some(Generation(generation)),
        }
    }

    /// The mode.
    #[inline(always)]
    #[must_use]
    pub const fn mode(self) -> Mode {
        if self.0 & Self::OBSERVE == 0 {
            Mode::Enforce
        } else {
            Mode::Observe
        }
    }

    /// Whether `[egress.limits]` are set: flows are then counted.
    #[inline(always)]
    #[must_use]
    pub const fn limited(self) -> bool {
        self.0 & Self::LIMITED != 0
    }

    /// Whether paths of unix sockets that no rule names are left to the worker's root.
    #[inline(always)]
    #[must_use]
    pub const fn unix_names(self) -> bool {
        self.0 & Self::UNIX_NAMES != 0
    }
}

/// Key of the exact-address table (hash). Value: [`crate::rule::RuleSet`]. An address that stands
/// here carries the rules of all prefixes that cover it, so a hit needs no second look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct ExactKey {
    /// The policy.
    pub policy: PolicyId,
    /// The generation.
    pub generation: Generation,
    /// The address, canonical.
    pub address: Address,
}

/// Data of a key of the prefix table (longest-prefix trie, after the four bytes of length).
/// Value: [`crate::rule::RuleSet`]. Big-endian, because the trie compares from the first bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct PrefixData {
    /// The policy, big-endian.
    pub policy: [u8; 4],
    /// The generation, big-endian.
    pub generation: [u8; 4],
    /// The address, canonical.
    pub address: Address,
}

impl PrefixData {
    /// Bits before the address.
    pub const SCOPE_BITS: u32 = 64;

    /// The data for an address in a scope.
    #[inline(always)]
    #[must_use]
    pub const fn new(policy: PolicyId, generation: Generation, address: Address) -> Self {
        Self {
            policy: policy.0.to_be_bytes(),
            generation: generation.0.to_be_bytes(),
            address,
        }
    }
}

/// A whole key of the prefix table (`struct bpf_lpm_trie_key`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct PrefixKey {
    /// Bits that count, of scope and address together.
    pub length: u32,
    /// The bits.
    pub data: PrefixData,
}

/// Key of the table of living rules (hash, value `u32` 1): is this rule part of this generation?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct LiveKey {
    /// The policy.
    pub policy: PolicyId,
    /// The generation.
    pub generation: Generation,
    /// The rule.
    pub rule: RuleId,
}

/// Key of the table of limits (hash, value [`Limits`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct LimitsKey {
    /// The policy.
    pub policy: PolicyId,
    /// The generation.
    pub generation: Generation,
}

/// `[egress.limits]` of a policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Limits {
    /// Connections that a session may open in its life; `u64::MAX` for no limit.
    pub connections: u64,
    /// Bytes of IP packets that a session may send in its life; `u64::MAX` for no limit.
    pub bytes_out: u64,
}

/// Value of the session table (hash, key: session id): what a session has used. Counted with atomic
/// additions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Usage {
    /// Connections opened (TCP connects, UDP connects, new destinations of unconnected UDP).
    pub connections: u64,
    /// Bytes of IP packets sent; counted only where the policy limits something.
    pub bytes_out: u64,
    /// The second in which `event_count` counts (`bpf_ktime_get_boot_ns` / 10^9).
    pub event_second: u64,
    /// Events emitted in that second.
    pub event_count: u64,
    /// Events suppressed since the last that was sent.
    pub suppressed: u64,
    /// The second in which `client_count` counts.
    pub client_second: u64,
    /// Sockets that turned to the resolver in that second.
    pub client_count: u64,
    /// When the session's questions have used up what it may ask, nanoseconds of `CLOCK_BOOTTIME`: each
    /// moves it on by [`Config::QuestionNs`] from no earlier than now.
    pub asked_until_ns: u64,
    /// Datagrams to the resolver that were over the session's rate, and dropped.
    pub questions_dropped: u64,
}

/// Key of the table of the resolver's clients (hash, value [`Client`]): the source of a datagram or
/// connection as the resolver sees it. Written by egress before the packet is delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ClientKey {
    /// Cookie of the network namespace.
    pub netns: u64,
    /// Source address, canonical.
    pub address: Address,
    /// Source port, host order.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: u16,
    /// Zero.
    pub pad: u32,
}

/// Who turned to the resolver. Overwritten by each packet; the agent removes old ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Client {
    /// The session.
    pub session: SessionId,
    /// When, nanoseconds of `CLOCK_BOOTTIME`.
    pub seen_ns: u64,
}

/// Key of the table of grants (hash, value [`crate::rule::GrantSet`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct GrantKey {
    /// The session.
    pub session: SessionId,
    /// The address, canonical.
    pub address: Address,
}

/// Key of the counter table (per-CPU hash, value `u64`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct CounterKey {
    /// The policy, or 0.
    pub policy: PolicyId,
    /// Protocol number; other than TCP and UDP as 0.
    pub protocol: u16,
    /// [`crate::verdict::Outcome`]
    pub outcome: u8,
    /// [`crate::verdict::Reason`]
    pub reason: u8,
    /// [`crate::event::Hook`]
    pub hook: u8,
    /// Zero.
    pub pad: [u8; 7],
}

/// Slots of the tally table (per-CPU array of `u64`): what was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Tally {
    /// Events that found the ring full.
    EventsLost = 0,
    /// Events that the per-session rate limit suppressed.
    EventsSuppressed = 1,
    /// Orders to destroy that found their ring full.
    DestroyLost = 2,
    /// Counter keys that found the counter table full.
    CountersFull = 3,
    /// Sockets that got no state because no memory was left: their packets are refused.
    StateMissing = 4,
}

/// Slots in the tally table.
pub const TALLIES: u32 = 5;

/// What a socket has been allowed to do. Kept in socket storage.
///
/// Written by hooks that may run at once on two processors: `sequence` is odd while one writes, and
/// a reader that meets an odd or a changed sequence decides anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct SocketState {
    /// Odd while a hook writes.
    pub sequence: u64,
    /// The session that made the socket.
    pub session: SessionId,
    /// The rule that admitted the destination, or 0.
    pub rule: RuleId,
    /// The verified destination.
    pub address: Address,
    /// Cookie of the socket's network namespace; 0 where the socket was not made through
    /// `sock_create`.
    pub netns: u64,
    /// The session's policy.
    pub policy: PolicyId,
    /// The generation in which the destination was verified; 0 while none is.
    pub generation: Generation,
    /// The verified port, host order.
    pub port: u16,
    /// The verified protocol.
    pub protocol: u16,
    /// The `STATE_` flags.
    pub flags: u32,
    /// Where a flow that goes to the resolver was meant to go.
    pub original: Address,
    /// Its port, host order.
    pub original_port: u16,
    /// Pieces of a client hello that were held back.
    pub hello_pieces: u16,
    /// Sequence number of the connection's SYN, host order: where its stream begins.
    pub initial_sequence: u32,
}

/// The destination passed in `observe` mode only.
pub const STATE_OBSERVED: u32 = 1;
/// The destination was verified as one on this host or in a special-purpose range: its packets may
/// leave by the loopback device. Without this flag a packet that does is decided anew.
pub const STATE_DOOR: u32 = 2;
/// The order to destroy this socket has been given.
pub const STATE_ORDERED: u32 = 4;
/// The connection owes a TLS handshake for a name: data of another kind does not pass.
pub const STATE_NAME_OWED: u32 = 8;
/// The destination is the agent's resolver; `original` says what the program asked for.
pub const STATE_RESOLVER: u32 = 16;
/// `initial_sequence` is set.
pub const STATE_SYN_SEEN: u32 = 32;
/// The destination is loopback among the session's own processes. Nothing leaves the session, so
/// nothing is charged.
pub const STATE_OWN: u32 = 64;
/// The other end is still to be seen to be the session's own: each packet is asked for it.
pub const STATE_PEER_OWED: u32 = 128;

/// Slots of the configuration table (array of `u64`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Config {
    /// Cookie of the network namespace whose addresses the table of local addresses holds.
    AgentNetns = 0,
    /// The last generation that any policy was given. Kept here, so that none is ever given twice.
    LastGeneration = 1,
    /// Port of the resolver on 127.0.0.1 and `::1`, below 1024; 0 while there is none.
    ResolverPort = 2,
    /// Nanoseconds that a datagram to the resolver takes of a session's time.
    QuestionNs = 3,
    /// How far a session's questions may be ahead of the clock, nanoseconds.
    QuestionsAheadNs = 4,
}

/// Slots in the configuration table.
pub const CONFIGS: u32 = 5;

const _: () = assert!(size_of::<SocketState>() == 88);
const _: () = assert!(size_of::<CounterKey>() == 16);
const _: () = assert!(size_of::<ClientKey>() == 32);
const _: () = assert!(size_of::<GrantKey>() == 24);
const _: () = assert!(size_of::<ExactKey>() == 24);
const _: () = assert!(size_of::<PrefixKey>() == 28);

#[cfg(test)]
mod tests;
