//! The three contexts that hooks get, with the fields and helpers that each may use.
//!
//! The kernel rewrites every access to a context, so fields are read one by one, in the width that
//! it expects; a reference to a whole context is never made.
#![expect(
    clippy::cast_possible_truncation,
    reason = "the kernel widens the fields of a context to 32 bits; their values fit"
)]
#![expect(
    clippy::unused_self,
    reason = "a helper that is allowed in some hooks only is a method of their context"
)]

mod direct;
mod hello;
mod pace;
mod packet;
mod peer;
mod sender;
mod share;
mod unix;

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, bpf_sock_addr},
    helpers::generated::{
        bpf_get_current_ancestor_cgroup_id, bpf_get_current_pid_tgid, bpf_get_netns_cookie,
        bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_set_retval, bpf_sk_storage_get,
    },
    programs::{SockAddrContext, SockContext},
};
use common::{
    flow::Address,
    layout::{SocketState, Worker},
    limits::ANCESTORS_MAX,
};

pub(crate) use self::{
    hello::{Payload, Segment, copy},
    pace::{Moment, Name as CongestionName},
    packet::{Header, Packet},
    peer::{Direction, Peer},
    unix::UnixCall,
};
use crate::{maps, state::State};

/// Address family of a hook's variant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

macro_rules! field {
    ($self:ident . $($path:tt).+) => {{
        // SAFETY: the context outlives the program.
        let field = unsafe { &raw const (*$self.0).$($path).+ };
        // SAFETY: a field of the context, in its own width; volatile, so that the compiler does
        // not join it with its neighbours.
        unsafe { field.read_volatile() }
    }};
}

macro_rules! set_field {
    ($self:ident . $field:ident = $value:expr) => {{
        // SAFETY: the context outlives the program.
        let field = unsafe { &raw mut (*$self.0).$field };
        // SAFETY: a field that programs of this kind may write, in its own width.
        unsafe { field.write_volatile($value) };
    }};
}

use field;

/// Nanoseconds since boot.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Sets the error number that the system call returns. Not for packets.
#[inline(always)]
pub(crate) fn set_errno(errno: i32) {
    // SAFETY: allowed in sock_create, connect, sendmsg and bind, the only callers.
    let _always_zero = unsafe { bpf_set_retval(-errno) };
}

/// Thread group of the task. Not for packets.
#[inline(always)]
fn thread_group() -> u32 {
    // SAFETY: the helper takes nothing.
    let both = unsafe { bpf_get_current_pid_tgid() };
    (both >> 32) as u32
}

/// The context of `sock_create`.
pub(crate) struct Creation(*mut bpf_sock);

impl Creation {
    #[inline(always)]
    pub(crate) fn new(context: &SockContext) -> Self {
        Self(context.sock)
    }

    #[inline(always)]
    pub(crate) fn family(&self) -> u16 {
        field!(self.family) as u16
    }

    #[inline(always)]
    pub(crate) fn socket_type(&self) -> u8 {
        field!(self.type_) as u8
    }

    #[inline(always)]
    pub(crate) fn protocol(&self) -> u16 {
        field!(self.protocol) as u16
    }

    #[inline(always)]
    pub(crate) fn pid(&self) -> u32 {
        thread_group()
    }

    #[inline(always)]
    pub(crate) fn cookie(&self) -> u64 {
        // SAFETY: the helper takes this program's context.
        unsafe { bpf_get_socket_cookie(self.0.cast()) }
    }

    #[inline(always)]
    pub(crate) fn netns(&self) -> u64 {
        // SAFETY: the helper takes this program's context.
        unsafe { bpf_get_netns_cookie(self.0.cast()) }
    }

    /// The task's cgroup at a level below the root, or 0.
    #[inline(always)]
    pub(crate) fn ancestor(&self, level: i32) -> u64 {
        // SAFETY: the helper takes any level.
        unsafe { bpf_get_current_ancestor_cgroup_id(level) }
    }

    /// Makes the socket's state, zeroed; `None` where no memory is left.
    #[inline(always)]
    pub(crate) fn make_state(&self) -> Option<State> {
        storage(self.0, u64::from(BPF_SK_STORAGE_GET_F_CREATE))
    }
}

/// The context of the hooks on a call that gives or takes an address: `connect`, `sendmsg`, `bind`,
/// `recvmsg`, `getpeername`.
pub(crate) struct Call(*mut bpf_sock_addr, Family);

impl Call {
    #[inline(always)]
    pub(crate) fn new(context: &SockAddrContext, family: Family) -> Self {
        Self(context.sock_addr, family)
    }

    /// The socket's own family.
    #[inline(always)]
    pub(crate) fn family(&self) -> u16 {
        field!(self.family) as u16
    }

    #[inline(always)]
    pub(crate) fn protocol(&self) -> u16 {
        field!(self.protocol) as u16
    }

    /// The address that was given, canonical.
    #[inline(always)]
    pub(crate) fn address(&self) -> Address {
        if self.1 == Family::V4 {
            return Address::from_v4(field!(self.user_ip4).to_ne_bytes());
        }
        // SAFETY: the context outlives the program.
        let words = unsafe { &raw const (*self.0).user_ip6 };
        address6([0, 1, 2, 3].map(|word| {
            // SAFETY: one of the four words of the field.
            let word = unsafe { words.cast::<u32>().add(word) };
            // SAFETY: read in its own width.
            unsafe { word.read_volatile() }
        }))
    }

    /// The port that was given, host order.
    #[inline(always)]
    pub(crate) fn port(&self) -> u16 {
        u16::from_be(field!(self.user_port) as u16)
    }

    /// Puts 127.0.0.1 or `::1` and a port in the place of the address that was given. An IPv6 socket
    /// that speaks IPv4 gets the mapped form.
    #[inline(always)]
    pub(crate) fn send_to_loopback(&self, is_v4: bool, port: u16) {
        let address = if is_v4 {
            Address::from_v4([127, 0, 0, 1])
        } else {
            let mut bytes = [0; 16];
            bytes[15] = 1;
            Address(bytes)
        };
        self.set(address, port);
    }

    /// Whether this variant has room for the address. An IPv4 address fits both, mapped in IPv6.
    #[inline(always)]
    pub(crate) fn takes(&self, address: &Address) -> bool {
        self.1 == Family::V6 || address.v4().is_some()
    }

    /// Puts another address and port in the place of those that are there. An IPv4 variant takes
    /// IPv4 addresses only.
    #[inline(always)]
    pub(crate) fn set(&self, address: Address, port: u16) {
        let [a, b, c, d] = words(address);
        if self.1 == Family::V4 {
            set_field!(self.user_ip4 = d);
        } else {
            // SAFETY: the context outlives the program.
            let fields = unsafe { &raw mut (*self.0).user_ip6 }.cast::<u32>();
            for (word, value) in [a, b, c, d].into_iter().enumerate() {
                // SAFETY: one of the four words of the field.
                let field = unsafe { fields.add(word) };
                // SAFETY: written in its own width.
                unsafe { field.write_volatile(value) };
            }
        }
        set_field!(self.user_port = u32::from(port.to_be()));
    }

    /// The socket's own port, host order.
    #[inline(always)]
    pub(crate) fn local_port(&self) -> u16 {
        let sock = self.sock();
        if sock.is_null() {
            return 0;
        }
        // SAFETY: checked above; the socket outlives the program.
        let port = unsafe { &raw const (*sock).src_port };
        // SAFETY: a field that programs may read.
        (unsafe { port.read_volatile() }) as u16
    }

    /// Whether the socket is connected.
    #[inline(always)]
    pub(crate) fn is_connected(&self) -> bool {
        /// `TCP_ESTABLISHED`: also the state of a connected UDP socket.
        const ESTABLISHED: u32 = 1;
        let sock = self.sock();
        if sock.is_null() {
            return false;
        }
        // SAFETY: checked above; the socket outlives the program.
        let state = unsafe { &raw const (*sock).state };
        // SAFETY: a field that programs may read.
        (unsafe { state.read_volatile() }) == ESTABLISHED
    }

    #[inline(always)]
    pub(crate) fn pid(&self) -> u32 {
        thread_group()
    }

    #[inline(always)]
    pub(crate) fn cookie(&self) -> u64 {
        // SAFETY: the helper takes this program's context.
        unsafe { bpf_get_socket_cookie(self.0.cast()) }
    }

    #[inline(always)]
    pub(crate) fn state(&self) -> Option<State> {
        let sock = self.sock();
        if sock.is_null() {
            return None;
        }
        storage(sock, 0)
    }

    #[inline(always)]
    fn sock(&self) -> *mut bpf_sock {
        field!(self.__bindgen_anon_1.sk)
    }
}

/// The nearest known worker among the ancestors at the levels that are asked, deepest first, and
/// its cgroup. Where none is known: session 0, and the deepest cgroup that there is.
#[inline(always)]
pub(crate) fn nearest_worker(ancestor: impl Fn(i32) -> u64) -> (u64, Worker) {
    let mut deepest = 0;
    let mut level = ANCESTORS_MAX;
    while level > 0 {
        level -= 1;
        let cgroup = ancestor(level);
        if cgroup != 0 {
            if let Some(worker) = maps::worker(cgroup) {
                return (cgroup, *worker);
            }
            if deepest == 0 {
                deepest = cgroup;
            }
        }
    }
    (deepest, Worker::default())
}

#[inline(always)]
fn storage(sock: *mut bpf_sock, flags: u64) -> Option<State> {
    // SAFETY: the map is a socket storage, the socket is the context's and not null.
    let entry = unsafe { bpf_sk_storage_get(maps::sockets(), sock.cast(), ptr::null_mut(), flags) };
    State::new(entry.cast::<SocketState>())
}

/// The address in four words, each in network order.
#[inline(always)]
fn words(address: Address) -> [u32; 4] {
    let word = |at: u64| (at as u32).to_be();
    [
        word(address.high() >> 32),
        word(address.high()),
        word(address.low() >> 32),
        word(address.low()),
    ]
}

/// Put together by eight bytes, as it is compared: a processor that loads eight bytes which were stored
/// four by four waits for both stores.
#[inline(always)]
fn address6(words: [u32; 4]) -> Address {
    let [a, b, c, d] = words;
    let halves = [half([a, b]), half([c, d])];
    // SAFETY: sixteen bytes either way, and any are an address.
    unsafe { core::mem::transmute(halves) }
}

#[inline(always)]
fn half(words: [u32; 2]) -> u64 {
    // SAFETY: eight bytes either way, and any are a number.
    unsafe { core::mem::transmute(words) }
}

/// The address in four words as they lie in a packet.
#[inline(always)]
fn network_words(address: Address) -> [u32; 4] {
    // SAFETY: sixteen bytes either way, and any are words.
    unsafe { core::mem::transmute(address) }
}
