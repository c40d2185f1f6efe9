//! Reading a packet's head where it lies, without a helper call.

use core::ptr;

use common::{
    flow::{TCP, UDP},
    layout::ClientKey,
};

use super::{Packet, field, packet::MAPPED};
use crate::state::Verified;

/// Bytes of an IPv4 header without options and of the ports behind it (RFC 791, 3.1).
const HEAD_V4: usize = 24;
/// Bytes of an IPv6 header and of the ports behind it (RFC 8200, 3).
const HEAD_V6: usize = 44;
/// "More fragments" and the offset of an IPv4 header, in network order.
const FRAGMENT: u16 = 0x3fff_u16.to_be();

/// Where one end of a flow stands in a packet's head: its address in IPv4 and in IPv6, and its port.
struct End {
    address4: usize,
    port4: usize,
    address6: usize,
    port6: usize,
}

const SOURCE: End = End {
    address4: 12,
    port4: 20,
    address6: 8,
    port6: 40,
};
const DESTINATION: End = End {
    address4: 16,
    port4: 22,
    address6: 24,
    port6: 42,
};

impl Packet {
    /// Whether the packet is plain and goes to this destination. `false` where its head is not in
    /// one piece: the full reading then tells.
    #[inline(always)]
    pub(crate) fn goes_to(&self, to: &Verified) -> bool {
        self.is_plain_at(&DESTINATION, to)
    }

    /// The same for one that comes from there.
    #[inline(always)]
    pub(crate) fn comes_from(&self, from: &Verified) -> bool {
        self.is_plain_at(&SOURCE, from)
    }

    /// Writes the source of a plain packet into the key; `false` where its head is not in one piece.
    #[inline(always)]
    pub(crate) fn read_source(&self, key: &mut ClientKey) -> bool {
        self.read_end(&SOURCE, key)
    }

    /// The same for its destination.
    #[inline(always)]
    pub(crate) fn read_destination(&self, key: &mut ClientKey) -> bool {
        self.read_end(&DESTINATION, key)
    }

    #[inline(always)]
    fn read_end(&self, place: &End, key: &mut ClientKey) -> bool {
        let start = field!(self.data) as usize;
        let end = field!(self.data_end) as usize;
        if start + HEAD_V4 > end {
            return false;
        }
        if at::<u8>(start, 0) == 0x45 {
            key.address = super::address6([0, 0, MAPPED, at(start, place.address4)]);
            key.port = u16::from_be(at(start, place.port4));
            return true;
        }
        if start + HEAD_V6 > end {
            return false;
        }
        let words = [0, 4, 8, 12].map(|word| at(start, place.address6 + word));
        key.address = super::address6(words);
        key.port = u16::from_be(at(start, place.port6));
        true
    }

    #[inline(always)]
    fn is_plain_at(&self, place: &End, there: &Verified) -> bool {
        let start = field!(self.data) as usize;
        let end = field!(self.data_end) as usize;
        if start + HEAD_V4 > end {
            return false;
        }
        let [w0, w1, w2, w3] = super::network_words(there.address);
        let port = there.port.to_be();
        let mapped = w0 | w1 == 0 && w2 == MAPPED;
        let first = at::<u8>(start, 0);
        if first == 0x45 {
            return mapped
                && at::<u16>(start, 6) & FRAGMENT == 0
                && u16::from(at::<u8>(start, 9)) == there.protocol
                && at::<u32>(start, place.address4) == w3
                && at::<u16>(start, place.port4) == port;
        }
        if first >> 4 != 6 || start + HEAD_V6 > end {
            return false;
        }
        !mapped
            && (there.protocol == TCP || there.protocol == UDP)
            && u16::from(at::<u8>(start, 6)) == there.protocol
            && at::<u32>(start, place.address6) == w0
            && at::<u32>(start, place.address6 + 4) == w1
            && at::<u32>(start, place.address6 + 8) == w2
            && at::<u32>(start, place.address6 + 12) == w3
            && at::<u16>(start, place.port6) == port
    }
}

/// A field of the packet. The verifier knows that it lies before the end.
#[inline(always)]
fn at<T: Copy>(start: usize, offset: usize) -> T {
    let field = ptr::with_exposed_provenance::<T>(start + offset);
    // SAFETY: the caller has compared the packet's end; any bytes are an integer, and the machine
    // reads unaligned ones (an IP header begins at a multiple of four or two).
    unsafe { field.read_volatile() }
}
