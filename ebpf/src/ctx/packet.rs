//! The context of the hooks that see packets: headers, and the socket behind.

use core::{mem::MaybeUninit, ptr::NonNull};

use aya_ebpf::{
    bindings::{__sk_buff, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::generated::{
        bpf_get_socket_cookie, bpf_sk_fullsock, bpf_skb_ancestor_cgroup_id, bpf_skb_load_bytes,
    },
    programs::SkBuffContext,
};
use common::flow::{Address, Place, Shape, TCP, UDP};

use super::{address6, field, storage};
use crate::state::State;

/// `ifindex` of the loopback device in every network namespace.
const LOOPBACK: u32 = 1;
/// `TCP_ESTABLISHED`: also the state of a connected UDP socket.
const ESTABLISHED: u32 = 1;
/// `TCP_SYN_SENT`
const SYN_SENT: u32 = 2;
/// `TCP_FIN_WAIT1`
const FIN_WAIT_1: u32 = 4;
/// `TCP_CLOSE_WAIT`
const CLOSE_WAIT: u32 = 8;
/// `TCP_LISTEN`
const LISTEN: u32 = 10;

/// The third word of an IPv4 address in canonical form, in network order.
pub(super) const MAPPED: u32 = 0xffff_u32.to_be();

/// What a packet's first bytes say. Addresses first, so that they are written by words.
#[repr(C, align(8))]
pub(crate) struct Header {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) protocol: u16,
    pub(crate) family: u16,
    /// Where the transport header begins.
    pub(super) transport: u32,
    /// Bytes of the packet as the header counts them, and those that it does not count.
    pub(super) length: u32,
    pub(super) uncounted: u32,
    pub(crate) shape: Shape,
}

// Zeros are a header: numbers, and the shape with that number.
const _: () = assert!(Shape::Plain as u8 == 0);

impl Header {
    /// Those that a global function was handed.
    #[inline(always)]
    pub(crate) fn handed<'a>(header: *const Self) -> Option<&'a Self> {
        // SAFETY: null, or what the verifier has found to be a whole header, of the caller.
        unsafe { header.as_ref() }
    }

    /// Zeros where one is to be read into. All of it is written, gaps too: Linux 6.1 hands on no memory
    /// that was never written. In place: a header that is handed over by value is copied, byte by byte.
    #[inline(always)]
    fn blank(room: &mut MaybeUninit<Self>) {
        let words = room.as_mut_ptr().cast::<u64>();
        let mut word = 0;
        while word < size_of::<Self>() / size_of::<u64>() {
            // SAFETY: in the header.
            let word_at = unsafe { words.add(word) };
            // SAFETY: as above, and aligned like it.
            unsafe { word_at.write_volatile(0) };
            word += 1;
        }
    }
}

/// The context of `egress` and `ingress`.
pub(crate) struct Packet(pub(super) *mut __sk_buff);

impl Packet {
    #[inline(always)]
    pub(crate) fn new(context: &SkBuffContext) -> Self {
        Self(context.skb.skb)
    }

    /// The packet of the context that a global function was handed.
    #[inline(always)]
    pub(crate) fn handed(context: *mut __sk_buff) -> Self {
        Self(context)
    }

    /// The context, to be handed to a global function.
    #[inline(always)]
    pub(crate) fn context(&self) -> *mut __sk_buff {
        self.0
    }

    /// Bytes from the IP header on, before segmentation.
    #[inline(always)]
    pub(crate) fn length(&self) -> u32 {
        field!(self.len)
    }

    #[inline(always)]
    pub(crate) fn place(&self) -> Place {
        if field!(self.ifindex) == LOOPBACK {
            Place::Host
        } else {
            Place::Remote
        }
    }

    #[inline(always)]
    pub(crate) fn cookie(&self) -> u64 {
        // SAFETY: the helper takes this program's context.
        unsafe { bpf_get_socket_cookie(self.0.cast()) }
    }

    /// The cgroup in which the socket was made, at a level below the root, or 0.
    #[inline(always)]
    pub(crate) fn ancestor(&self, level: i32) -> u64 {
        // SAFETY: the helper takes this program's context and any level.
        unsafe { bpf_skb_ancestor_cgroup_id(self.0, level) }
    }

    /// Reads the headers; `None` for what is neither IPv4 nor IPv6 or too short to be either.
    #[inline(always)]
    pub(crate) fn read<'a>(&self, room: &'a mut MaybeUninit<Header>) -> Option<&'a Header> {
        Header::blank(room);
        if read_header(self.0, room.as_mut_ptr()) == 0 {
            return None;
        }
        // SAFETY: written above, wholly; zeros are a header too, as asserted above.
        Some(unsafe { room.assume_init_ref() })
    }

    /// Whether a TCP packet would open a connection to this socket: whatever comes to a listener (an
    /// acknowledgement can open one, by a SYN cookie), and an opening of both sides at once.
    #[inline(always)]
    pub(crate) fn is_unwelcome(&self, header: &Header) -> bool {
        match self.sock_state() {
            LISTEN => true,
            SYN_SENT => self.opens(header),
            _ => false,
        }
    }

    /// Whether the socket listens for connections.
    #[inline(always)]
    pub(crate) fn is_listener(&self) -> bool {
        self.sock_state() == LISTEN
    }

    /// Whether the socket has been connected: by the packet that ends the handshake at the latest.
    #[inline(always)]
    pub(crate) fn has_met(&self) -> bool {
        matches!(self.sock_state(), ESTABLISHED | FIN_WAIT_1 | CLOSE_WAIT)
    }

    /// Whether the packet asks for a connection: SYN without ACK (RFC 9293, 3.1).
    #[inline(always)]
    fn opens(&self, header: &Header) -> bool {
        const SYN: u8 = 0x02;
        const ACK: u8 = 0x10;
        match self.load::<[u8; 2]>(header.transport + 12) {
            Some([_, flags]) => flags & (SYN | ACK) == SYN,
            None => true,
        }
    }

    /// The socket's state.
    #[inline(always)]
    pub(crate) fn state(&self) -> Option<State> {
        self.storage(0)
    }

    /// Makes the socket's state, zeroed; `None` where no memory is left.
    #[inline(always)]
    pub(crate) fn make_state(&self) -> Option<State> {
        self.storage(u64::from(BPF_SK_STORAGE_GET_F_CREATE))
    }

    /// Whether the socket is connected to this port: destroying it hurts no other peer.
    #[inline(always)]
    pub(crate) fn is_connected_to(&self, port: u16) -> bool {
        if self.sock_state() != ESTABLISHED {
            return false;
        }
        let sock = self.sock();
        if sock.is_null() {
            return false;
        }
        // SAFETY: checked above; the socket outlives the program.
        let remote = unsafe { &raw const (*sock).dst_port };
        // SAFETY: a field that programs may read.
        u16::from_be(unsafe { remote.read_volatile() }) == port
    }

    /// The socket's own family and protocol.
    #[inline(always)]
    pub(crate) fn socket_kind(&self) -> Option<(u16, u16)> {
        let sock = self.sock();
        if sock.is_null() {
            return None;
        }
        // SAFETY: checked above.
        let full = unsafe { bpf_sk_fullsock(sock) };
        if full.is_null() {
            return None;
        }
        // SAFETY: checked above; the socket outlives the program.
        let family = unsafe { &raw const (*full).family };
        // SAFETY: as above.
        let protocol = unsafe { &raw const (*full).protocol };
        // SAFETY: a field that programs may read.
        let family = unsafe { family.read_volatile() };
        // SAFETY: a field that programs may read.
        let protocol = unsafe { protocol.read_volatile() };
        Some((family as u16, protocol as u16))
    }

    #[inline(always)]
    fn sock_state(&self) -> u32 {
        let sock = self.sock();
        if sock.is_null() {
            return 0;
        }
        // SAFETY: checked above; the socket outlives the program.
        let state = unsafe { &raw const (*sock).state };
        // SAFETY: a field that programs may read.
        unsafe { state.read_volatile() }
    }

    #[inline(always)]
    fn storage(&self, flags: u64) -> Option<State> {
        let sock = self.sock();
        if sock.is_null() {
            return None;
        }
        storage(sock, flags)
    }

    #[inline(always)]
    pub(super) fn sock(&self) -> *mut bpf_sock {
        field!(self.__bindgen_anon_2.sk)
    }

    #[inline(always)]
    pub(super) fn load<T: Copy>(&self, offset: u32) -> Option<T> {
        let mut bytes = MaybeUninit::<T>::uninit();
        // SAFETY: the buffer has the size that is given.
        let failed = unsafe {
            bpf_skb_load_bytes(
                self.0.cast(),
                offset,
                bytes.as_mut_ptr().cast(),
                size_of::<T>() as u32,
            )
        };
        if failed != 0 {
            return None;
        }
        // SAFETY: the helper has written every byte; `T` is an array of integers.
        Some(unsafe { bytes.assume_init() })
    }
}

/// Reads the headers of a packet; 0 where it has none.
///
/// A global function: the verifier follows it once and knows nothing of what it writes, so that all
/// that comes after is not followed once for each kind of header.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_header(packet: *mut __sk_buff, header: *mut Header) -> u32 {
    let packet = Packet(packet);
    let Some(header) = NonNull::new(header) else {
        return 0;
    };
    let Some(head) = packet.load::<[u32; 6]>(0) else {
        return 0;
    };
    let [first, _, _, ..] = head;
    let read = match first.to_ne_bytes()[0] >> 4 {
        4 => header4(head),
        6 => {
            let Some(rest) = packet.load(24) else {
                return 0;
            };
            if is_jumbo(head, rest) {
                let Some([length, ports]) = packet.load::<[u32; 2]>(44) else {
                    return 0;
                };
                header_jumbo(head, rest, u32::from_be(length), ports)
            } else {
                header6(head, rest)
            }
        }
        _ => return 0,
    };
    // SAFETY: the caller's memory.
    unsafe { header.write(read) };
    1
}

/// RFC 791, 3.1
#[inline(always)]
fn header4(head: [u32; 6]) -> Header {
    const NO_OPTIONS: u8 = 0x45;
    const FRAGMENT: u16 = 0x3fff;
    let [first, fragment, third, source, destination, ports] = head;
    let [version_length, _, l1, l0] = first.to_ne_bytes();
    let [_, _, flags, offset] = fragment.to_ne_bytes();
    let [_, protocol, ..] = third.to_ne_bytes();
    let plain = version_length == NO_OPTIONS && u16::from_be_bytes([flags, offset]) & FRAGMENT == 0;
    let (source_port, destination_port) = split_ports(ports);
    Header {
        family: 2,
        protocol: u16::from(protocol),
        shape: if plain { Shape::Plain } else { Shape::Odd },
        source: address6([0, 0, MAPPED, source]),
        source_port,
        destination: address6([0, 0, MAPPED, destination]),
        destination_port,
        transport: u32::from(version_length & 0x0f) * 4,
        length: u32::from(u16::from_be_bytes([l1, l0])),
        uncounted: 0,
    }
}

/// RFC 8200, 3
#[inline(always)]
fn header6(head: [u32; 6], rest: [u32; 5]) -> Header {
    let [_, lengths, s0, s1, s2, s3] = head;
    let [d0, d1, d2, d3, ports] = rest;
    let [l1, l0, next, _] = lengths.to_ne_bytes();
    let protocol = u16::from(next);
    let (source_port, destination_port) = split_ports(ports);
    // A mapped address is IPv4 in canonical form, but never IPv6 on a wire (RFC 4291, 2.5.5.2).
    let plain = (protocol == TCP || protocol == UDP) && (d0 | d1 != 0 || d2 != MAPPED);
    Header {
        family: 10,
        protocol,
        shape: if plain { Shape::Plain } else { Shape::Odd },
        source: address6([s0, s1, s2, s3]),
        source_port,
        destination: address6([d0, d1, d2, d3]),
        destination_port,
        transport: 40,
        length: u32::from(u16::from_be_bytes([l1, l0])),
        uncounted: 40,
    }
}

/// Whether the packet has the one extension header that the kernel itself puts before TCP: a jumbo
/// payload (RFC 2675, 2), for what is longer than a plain header can tell and is cut up later. Nothing
/// but its length is in it. Over loopback that is any longer write.
#[inline(always)]
fn is_jumbo(head: [u32; 6], rest: [u32; 5]) -> bool {
    const HOP_BY_HOP: u8 = 0;
    let [_, lengths, ..] = head;
    let [.., extension] = rest;
    let [l1, l0, next, _] = lengths.to_ne_bytes();
    l1 | l0 == 0 && next == HOP_BY_HOP && extension.to_ne_bytes() == [TCP as u8, 0, 0xc2, 4]
}

#[inline(always)]
fn header_jumbo(head: [u32; 6], rest: [u32; 5], length: u32, ports: u32) -> Header {
    let [first, lengths, s0, s1, s2, s3] = head;
    let [a, b, _, hops] = lengths.to_ne_bytes();
    let plain = u32::from_ne_bytes([a, b, TCP as u8, hops]);
    let [d0, d1, d2, d3, _] = rest;
    Header {
        transport: 48,
        length,
        ..header6([first, plain, s0, s1, s2, s3], [d0, d1, d2, d3, ports])
    }
}

#[inline(always)]
fn split_ports(ports: u32) -> (u16, u16) {
    let [a, b, c, d] = ports.to_ne_bytes();
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}
