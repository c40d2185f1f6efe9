//! The socket at the other end of a flow on this host, and whose it is.
//!
//! The kernel is asked for the socket that it would itself hand the packet to. Nothing is remembered
//! here: whoever closes a port and whoever takes it next is seen as it is now.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock, bpf_sock_tuple},
    helpers::generated::{
        bpf_sk_ancestor_cgroup_id, bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release,
    },
};
use common::{
    flow::{Address, TCP},
    id::SessionId,
};

use super::{Call, Header, Packet, nearest_worker, network_words, storage};

/// `BPF_F_CURRENT_NETNS`: that of the socket or of the device.
const THIS_NETNS: u64 = u64::MAX;
/// Bytes of the two forms of `struct bpf_sock_tuple`.
const TUPLE_V4: u32 = 12;
const TUPLE_V6: u32 = 36;

/// Whose socket is at the other end.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Peer {
    /// There is none.
    Nobody = 0,
    /// The same session's.
    Own = 1,
    /// Somebody else's: the host's, or another session's.
    Foreign = 2,
}

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Direction {
    Out = 0,
    In = 1,
}

/// A flow as the other end sees it, in network order: source and destination address, then both
/// ports; the form for IPv4 is shorter.
#[repr(C, align(8))]
struct Tuple([u32; 9]);

/// The far end of a flow, and the near one; its port is 0 where it is not known yet.
struct Ends {
    near: Address,
    near_port: u16,
    far: Address,
    far_port: u16,
}

impl Ends {
    /// Fills the tuple; its length.
    #[inline(always)]
    fn fill(&self, tuple: &mut Tuple) -> u32 {
        let near = network_words(self.near);
        let far = network_words(self.far);
        let [p0, p1] = self.near_port.to_be_bytes();
        let [p2, p3] = self.far_port.to_be_bytes();
        let ports = u32::from_ne_bytes([p0, p1, p2, p3]);
        let [n0, n1, n2, n3] = near;
        let [f0, f1, f2, f3] = far;
        if self.far.v4().is_some() {
            tuple.0 = [n3, f3, ports, 0, 0, 0, 0, 0, 0];
            TUPLE_V4
        } else {
            tuple.0 = [n0, n1, n2, n3, f0, f1, f2, f3, ports];
            TUPLE_V6
        }
    }
}

/// Looks up who gets what this context's socket sends.
macro_rules! look_up {
    ($context:expr, $ends:expr, $protocol:expr) => {{
        let mut tuple = Tuple([0; 9]);
        let length = $ends.fill(&mut tuple);
        let tuple = (&raw mut tuple).cast::<bpf_sock_tuple>();
        let context = $context.cast();
        if $protocol == TCP {
            if length == TUPLE_V4 {
                // SAFETY: the context is this program's, and the tuple has this form's length.
                unsafe { bpf_sk_lookup_tcp(context, tuple, TUPLE_V4, THIS_NETNS, 0) }
            } else {
                // SAFETY: as above.
                unsafe { bpf_sk_lookup_tcp(context, tuple, TUPLE_V6, THIS_NETNS, 0) }
            }
        } else if length == TUPLE_V4 {
            // SAFETY: as above.
            unsafe { bpf_sk_lookup_udp(context, tuple, TUPLE_V4, THIS_NETNS, 0) }
        } else {
            // SAFETY: as above.
            unsafe { bpf_sk_lookup_udp(context, tuple, TUPLE_V6, THIS_NETNS, 0) }
        }
    }};
}

impl Packet {
    /// Who sent a packet that comes in, or gets one that goes out. The state of a listener's new
    /// connection is not made before it sends: its cgroup then says whose it is.
    #[inline(always)]
    pub(crate) fn peer(&self, header: &Header, session: SessionId, way: Direction) -> Peer {
        match peer_of_packet(self.context(), header, session.0, way as u32) {
            1 => Peer::Own,
            2 => Peer::Foreign,
            _ => Peer::Nobody,
        }
    }
}

/// A global function: the verifier follows it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn peer_of_packet(
    context: *mut __sk_buff,
    header: *const Header,
    session: u64,
    way: u32,
) -> u32 {
    let Some(header) = Header::handed(header) else {
        return Peer::Nobody as u32;
    };
    let ends = if way == Direction::Out as u32 {
        Ends {
            near: header.source,
            near_port: header.source_port,
            far: header.destination,
            far_port: header.destination_port,
        }
    } else {
        Ends {
            near: header.destination,
            near_port: header.destination_port,
            far: header.source,
            far_port: header.source_port,
        }
    };
    let mut sock = look_up!(context, ends, header.protocol);
    if sock.is_null() && header.protocol == TCP && way == Direction::Out as u32 {
        // What is left of an old connection between the same two ports is no socket any more, and
        // hands a new one on to the listener.
        let listening = Ends {
            near: Address([0; 16]),
            near_port: 0,
            ..ends
        };
        sock = look_up!(context, listening, TCP);
    }
    if sock.is_null() {
        return Peer::Nobody as u32;
    }
    let owner = match storage(sock, 0) {
        Some(state) => state.session(),
        None => owner_by_cgroup(sock),
    };
    release(sock);
    of(owner, SessionId(session)) as u32
}

#[inline(always)]
fn owner_by_cgroup(sock: *mut bpf_sock) -> SessionId {
    let (_, worker) = nearest_worker(|level| {
        // SAFETY: the socket is held, and the helper takes any level.
        unsafe { bpf_sk_ancestor_cgroup_id(sock.cast(), level) }
    });
    worker.session
}

impl Call {
    /// Who would get what is sent to this address and port from a source that is not known yet. Of a
    /// socket's own connection there is no answer here: only the packet has both ends.
    #[inline(always)]
    pub(crate) fn holder(&self, address: Address, port: u16, session: SessionId) -> Peer {
        let ends = Ends {
            near: Address([0; 16]),
            near_port: 0,
            far: address,
            far_port: port,
        };
        let sock = look_up!(self.0, ends, self.protocol());
        if sock.is_null() {
            return Peer::Nobody;
        }
        let owner = storage(sock, 0).map_or(SessionId(0), |state| state.session());
        release(sock);
        of(owner, session)
    }
}

#[inline(always)]
fn release(sock: *mut bpf_sock) {
    // SAFETY: the look-up gave it, and it is let go of once.
    let _always_zero = unsafe { bpf_sk_release(sock.cast()) };
}

#[inline(always)]
fn of(owner: SessionId, session: SessionId) -> Peer {
    if owner == session && owner != SessionId(0) {
        Peer::Own
    } else {
        Peer::Foreign
    }
}
