//! Reading a packet's head where it lies, without a helper call.

use core::ptr;

use common::flow::{TCP, UDP};

use super::{Packet, field, packet::MAPPED};
use crate::state::Verified;

/// Bytes of an IPv4 header without options and of the ports behind it (RFC 791, 3.1).
const HEAD_V4: usize = 24;
/// Bytes of an IPv6 header and of the ports behind it (RFC 8200, 3).
const HEAD_V6: usize = 44;
/// "More fragments" and the offset of an IPv4 header, in network order.
const FRAGMENT: u16 = 0x3fff_u16.to_be();

impl Packet {
    /// Whether the packet is plain and goes to this destination. `false` where its head is not in
    /// one piece: the full reading then tells.
    #[inline(always)]
    pub(crate) fn goes_to(&self, to: &Verified) -> bool {
        let start = field!(self.data) as usize;
        let end = field!(self.data_end) as usize;
        if start + HEAD_V4 > end {
            return false;
        }
        let [w0, w1, w2, w3] = super::network_words(to.address);
        let port = to.port.to_be();
        let mapped = w0 | w1 == 0 && w2 == MAPPED;
        let first = at::<u8>(start, 0);
        if first == 0x45 {
            return mapped
                && at::<u16>(start, 6) & FRAGMENT == 0
                && u16::from(at::<u8>(start, 9)) == to.protocol
                && at::<u32>(start, 16) == w3
                && at::<u16>(start, 22) == port;
        }
        if first >> 4 != 6 || start + HEAD_V6 > end {
            return false;
        }
        !mapped
            && (to.protocol == TCP || to.protocol == UDP)
            && u16::from(at::<u8>(start, 6)) == to.protocol
            && at::<u32>(start, 24) == w0
            && at::<u32>(start, 28) == w1
            && at::<u32>(start, 32) == w2
            && at::<u32>(start, 36) == w3
            && at::<u16>(start, 42) == port
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
