//! What a packet says of its sender, held against its socket: a datagram's source and number are what a
//! control message of `sendmsg` asks for, and no filter of system calls reads that.

use common::flow::Address;

use super::{Packet, field, network_words, packet::MAPPED};

impl Packet {
    /// Datagrams that the packet is cut into on its way: a single write may ask for many
    /// (`UDP_SEGMENT`), and its receiver gets each.
    #[inline(always)]
    pub(crate) fn datagrams(&self) -> u32 {
        field!(self.gso_segs).max(1)
    }

    /// Whether the packet's source is its socket's: the address that the socket has, or any where it
    /// has none. A port without an address is one that nobody else has on any.
    #[inline(always)]
    pub(crate) fn is_from_own(&self, source: &Address) -> bool {
        let sock = self.sock();
        if sock.is_null() {
            return false;
        }
        macro_rules! read {
            ($($field:tt)+) => {{
                // SAFETY: checked above; the socket outlives the program.
                let field = unsafe { &raw const (*sock).$($field)+ };
                // SAFETY: a field that programs may read, in its own width.
                unsafe { field.read_volatile() }
            }};
        }
        let [w0, w1, w2, w3] = network_words(*source);
        if w0 | w1 == 0 && w2 == MAPPED {
            let own = read!(src_ip4);
            return own == 0 || own == w3;
        }
        let (o0, o1) = (read!(src_ip6[0]), read!(src_ip6[1]));
        let (o2, o3) = (read!(src_ip6[2]), read!(src_ip6[3]));
        o0 | o1 | o2 | o3 == 0 || (o0 == w0 && o1 == w1 && o2 == w2 && o3 == w3)
    }
}
