//! What the kernel programs report: one record per decision worth telling, in the event ring, and
//! one order per socket to destroy, in a ring of its own.

use crate::{
    flow::Address,
    id::{Generation, PolicyId, RuleId, SessionId},
    name::{NAME_KEY_BYTES, TLS_NAME_BYTES_MAX},
};

/// The hook that decided.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Hook {
    /// `cgroup/sock_create`
    SockCreate = 1,
    /// `cgroup/connect4` and `connect6`
    Connect = 2,
    /// `cgroup/sendmsg4` and `sendmsg6`
    Sendmsg = 3,
    /// `cgroup/bind4` and `bind6`
    Bind = 4,
    /// `cgroup_skb/egress`
    Egress = 5,
    /// `cgroup_skb/ingress`
    Ingress = 6,
    /// The agent's resolver.
    Resolver = 7,
    /// `cgroup/connect_unix` and `sendmsg_unix`
    Unix = 8,
}

impl Hook {
    /// The hook with this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::SockCreate),
            2 => Some(Self::Connect),
            3 => Some(Self::Sendmsg),
            4 => Some(Self::Bind),
            5 => Some(Self::Egress),
            6 => Some(Self::Ingress),
            7 => Some(Self::Resolver),
            8 => Some(Self::Unix),
            _ => None,
        }
    }

    /// Log field and metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::SockCreate => "sock_create",
            Self::Connect => "connect",
            Self::Sendmsg => "sendmsg",
            Self::Bind => "bind",
            Self::Egress => "egress",
            Self::Ingress => "ingress",
            Self::Resolver => "resolver",
            Self::Unix => "unix",
        }
    }
}

/// One decision. 88 bytes, no padding.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds of `CLOCK_BOOTTIME` (`bpf_ktime_get_boot_ns`).
    pub time_ns: u64,
    /// The session, or 0 where none is known.
    pub session: SessionId,
    /// The rule that allowed, or 0.
    pub rule: RuleId,
    /// Socket cookie, or 0.
    pub cookie: u64,
    /// The destination; the source for ingress.
    pub address: Address,
    /// The policy, or 0.
    pub policy: PolicyId,
    /// The generation that decided, or 0.
    pub generation: Generation,
    /// Thread group of the task, or 0 in `cgroup_skb` hooks (softirq).
    pub pid: u32,
    /// Repeats of this event that the per-session rate limit suppressed before it.
    pub suppressed: u32,
    /// Cgroup of the socket or task where no session is known, else 0.
    pub cgroup: u64,
    /// Protocol number (262 is MPTCP).
    pub protocol: u16,
    /// Destination port; the source's for ingress. Host order.
    pub port: u16,
    /// The worker's own port where known. Host order.
    pub local_port: u16,
    /// Address family (`AF_UNIX` 1, `AF_INET` 2, `AF_INET6` 10).
    pub family: u16,
    /// [`crate::verdict::Outcome`]
    pub outcome: u8,
    /// [`crate::verdict::Reason`]
    pub reason: u8,
    /// [`Hook`]
    pub hook: u8,
    /// Socket type where the hook is `sock_create` (`SOCK_STREAM` 1 …), else 0.
    pub socket_type: u8,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<Event>() == 88);

/// A refused TLS handshake and the name in it: an [`Event`] with an annex, told from one by its
/// length in the ring.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NamedEvent {
    /// The decision.
    pub event: Event,
    /// Bytes of the name, at most [`TLS_NAME_BYTES_MAX`].
    pub length: u32,
    /// Zero.
    pub pad: u32,
    /// The name **reversed**, lower-case, as it was sent: hostile bytes.
    pub name: [u8; NAME_KEY_BYTES],
}

const _: () = assert!(size_of::<NamedEvent>() == 344);
const _: () = assert!(TLS_NAME_BYTES_MAX < NAME_KEY_BYTES);

/// Order to destroy a socket. 72 bytes, no padding.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct DestroyOrder {
    /// Socket cookie.
    pub cookie: u64,
    /// Cookie of the socket's network namespace.
    pub netns: u64,
    /// The session.
    pub session: SessionId,
    /// The worker's end.
    pub local: Address,
    /// The other end.
    pub remote: Address,
    /// The worker's port, host order.
    pub local_port: u16,
    /// The other end's port, host order.
    pub remote_port: u16,
    /// TCP or UDP.
    pub protocol: u16,
    /// `AF_INET` or `AF_INET6`, the socket's own family (an IPv6 socket may talk to IPv4).
    pub family: u16,
    /// Zero.
    pub pad: u64,
}

const _: () = assert!(size_of::<DestroyOrder>() == 72);
