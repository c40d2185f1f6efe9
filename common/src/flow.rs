//! What a worker tried: to whom, by which protocol, by which way out.

use core::fmt;

/// IP protocol number of TCP (IANA protocol numbers).
pub const TCP: u16 = 6;
/// IP protocol number of UDP.
pub const UDP: u16 = 17;
/// Linux's socket protocol number of MPTCP (`IPPROTO_MPTCP`, beyond the eight bits of the wire).
pub const MPTCP: u16 = 262;
/// The port of DNS over UDP and TCP (RFC 1035, 4.2).
pub const DNS_PORT: u16 = 53;

/// An address in canonical form: 16 bytes, network order, IPv4 as `::ffff:a.b.c.d` (RFC 4291,
/// 2.5.5.2). A v4-mapped IPv6 address is IPv4 on the wire and therefore *is* that IPv4 address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
// Aligned, so that it is read and compared by words and not by bytes.
#[repr(C, align(4))]
pub struct Address(pub [u8; 16]);

impl Address {
    /// The canonical form of an IPv4 address in network order.
    #[inline(always)]
    #[must_use]
    pub const fn from_v4(v4: [u8; 4]) -> Self {
        let [a, b, c, d] = v4;
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// The IPv4 address in host order, if this is one.
    #[inline(always)]
    #[must_use]
    pub const fn v4(&self) -> Option<u32> {
        if self.high() == 0 && (self.low() >> 32) == 0xffff {
            #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are meant")]
            return Some(self.low() as u32);
        }
        None
    }

    /// The first eight bytes as a number in host order.
    #[inline(always)]
    #[must_use]
    pub const fn high(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The last eight bytes as a number in host order.
    #[inline(always)]
    #[must_use]
    pub const fn low(&self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl From<core::net::IpAddr> for Address {
    fn from(ip: core::net::IpAddr) -> Self {
        match ip {
            core::net::IpAddr::V4(v4) => Self::from_v4(v4.octets()),
            core::net::IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

impl From<Address> for core::net::IpAddr {
    fn from(address: Address) -> Self {
        core::net::Ipv6Addr::from(address.0).to_canonical()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&core::net::IpAddr::from(*self), f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a flow ends, as far as the hook knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Beyond this host, or not known yet.
    Remote,
    /// On this host: the packet leaves by the loopback device, or the address is on the host's list.
    Host,
}

/// What the packet looks like on the wire. Numbered: the kernel side reads a header into memory of
/// zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Shape {
    /// IPv4 without options, or IPv6 whose first next-header is the transport.
    Plain = 0,
    /// Anything else: options, routing and other extension headers, fragments made by hand.
    Odd = 1,
}

/// One attempt to talk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// IP protocol number, or Linux's socket protocol number where that is larger ([`MPTCP`]).
    pub protocol: u16,
    /// Destination in canonical form.
    pub address: Address,
    /// Destination port in host order.
    pub port: u16,
    /// Whether it ends on this host.
    pub place: Place,
    /// Whether the packet is plain.
    pub shape: Shape,
}

#[cfg(test)]
mod tests;
