//! The bytes that a packet brings to a TCP stream, for `common::hello`.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};
use common::hello::Bytes;

use super::packet::{Header, Packet};

/// Bytes of a TCP header without options.
const TCP_HEADER: u32 = 20;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// What a TCP header says (RFC 9293, 3.1).
pub(crate) struct Segment {
    sequence: u32,
    flags: u8,
    /// Where the payload begins.
    payload: u32,
    /// Bytes of it.
    length: u32,
}

impl Segment {
    /// Whether it opens the stream.
    #[inline(always)]
    pub(crate) fn opens(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }

    /// Whether it speaks of urgent data, which a receiver may take out of the stream.
    #[inline(always)]
    pub(crate) fn is_urgent(&self) -> bool {
        self.flags & URG != 0
    }

    /// Its sequence number.
    #[inline(always)]
    pub(crate) fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Bytes of the stream in it.
    #[inline(always)]
    pub(crate) fn length(&self) -> u32 {
        self.length
    }

    /// Whether its bytes are the first of a stream that was opened with this number. A SYN, which may
    /// bring bytes itself (RFC 7413), has a number of its own.
    #[inline(always)]
    pub(crate) fn begins(&self, initial: u32) -> bool {
        let syn = u32::from(self.flags & SYN != 0);
        self.sequence.wrapping_add(syn) == initial.wrapping_add(1)
    }
}

impl Packet {
    /// The TCP header; `None` where its lengths lie. What the IP header does not count as the
    /// packet's is no payload.
    #[inline(always)]
    pub(crate) fn segment(&self, header: &Header) -> Option<Segment> {
        let end = self.declared_length(header)?;
        let [_, sequence, _, fourth, _]: [u32; 5] = self.load(header.transport)?;
        let [offset, flags, ..] = fourth.to_ne_bytes();
        let words = u32::from(offset >> 4);
        let payload = header.transport + words * 4;
        if words * 4 < TCP_HEADER || payload > end {
            return None;
        }
        Some(Segment {
            sequence: u32::from_be(sequence),
            flags,
            payload,
            length: end - payload,
        })
    }

    /// Bytes of the packet by its IP header. 0 there means more than its 16 bits hold: the packet is
    /// cut up later, and all of it counts.
    #[inline(always)]
    fn declared_length(&self, header: &Header) -> Option<u32> {
        let all = self.length();
        let declared = if header.length == 0 {
            all
        } else {
            header.length + header.uncounted
        };
        (declared <= all).then_some(declared)
    }

    /// The payload of a segment.
    #[inline(always)]
    pub(crate) fn payload(&self, segment: &Segment) -> Payload {
        Payload::new(self.0, segment.payload, segment.length, 0)
    }
}

/// The payload of a packet.
pub(crate) struct Payload {
    packet: Packet,
    at: u32,
    length: u32,
    zero: u32,
}

impl Payload {
    /// Some bytes of a packet. `zero` is 0; whoever reads them as a hello takes it out of memory that
    /// the verifier knows nothing about.
    #[inline(always)]
    pub(crate) fn new(packet: *mut __sk_buff, at: u32, length: u32, zero: u32) -> Self {
        Self {
            packet: Packet(packet),
            at,
            length,
            zero,
        }
    }

    /// The packet, where the payload begins, and its length.
    #[inline(always)]
    pub(crate) fn parts(&self) -> (*mut __sk_buff, u32, u32) {
        (self.packet.0, self.at, self.length)
    }
}

impl Bytes for Payload {
    #[inline(always)]
    fn length(&self) -> u32 {
        self.length
    }

    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        if at + N as u32 > self.length {
            return None;
        }
        self.packet.load(self.at + at)
    }

    #[inline(always)]
    fn zero(&self) -> u32 {
        self.zero
    }
}

/// Copies 1 to 256 bytes of a packet to where 256 have room.
#[inline(always)]
pub(crate) fn copy(packet: *mut __sk_buff, at: u32, length: u32, to: *mut u8) -> bool {
    if length == 0 || length > 256 {
        return false;
    }
    // Linux 6.1 forgets the bounds of a number that it moved to the stack and back, and refuses a
    // length that may be 0: they are given to it again right before the call.
    // SAFETY: a local value.
    let length = unsafe { (&raw const length).read_volatile() };
    let length = (length.wrapping_sub(1) & 0xff) + 1;
    // SAFETY: the caller has room for 256 bytes.
    let failed = unsafe { bpf_skb_load_bytes(packet.cast(), at, to.cast(), length) };
    failed == 0
}
