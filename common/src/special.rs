//! Addresses that no allow-list reaches: the IANA special-purpose registries of both families
//! (entries whose *Globally Reachable* is not True), multicast, broadcast and cloud metadata.
//!
//! They are code, not map content: they can not be empty, stale or full.
//! Sources: IANA "IPv4 Special-Purpose Address Registry" and "IPv6 Special-Purpose Address
//! Registry" (RFC 6890, RFC 8190), RFC 5771, RFC 4291, RFC 6052, RFC 3056, RFC 4380.

use crate::{flow::Address, verdict::Reason};

/// What kind of special address it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Special {
    /// A public address.
    No,
    /// This host, whatever its addresses: loopback and the unspecified address (the kernel sends a
    /// connect to it to loopback).
    Local,
    /// Special-purpose, multicast, broadcast or metadata.
    Private,
}

/// One entry of a registry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// The first address, canonical.
    pub network: Address,
    /// Leading bits of the canonical form that count, 0 to 128.
    pub length: u8,
    /// What it is for.
    pub name: &'static str,
}

macro_rules! ranges4 {
    ($matches:ident, $table:ident: $(($a:literal, $b:literal, $c:literal, $d:literal; $length:literal, $name:literal))*) => {
        const $table: &[Range] = &[$(Range {
            network: Address::from_v4([$a, $b, $c, $d]),
            length: 96 + $length,
            name: $name,
        },)*];

        #[inline(always)]
        const fn $matches(v4: u32) -> bool {
            let v4 = v4 as u64;
            let mut outside = 1;
            $(outside &= is_set((v4 ^ u32::from_be_bytes([$a, $b, $c, $d]) as u64) >> (32 - $length));)*
            outside == 0
        }
    };
}

macro_rules! ranges6 {
    ($matches:ident, $table:ident: $(($high:literal, $low:literal, $length:literal, $name:literal))*) => {
        const $table: &[Range] = &[$(Range {
            network: address6($high, $low),
            length: $length,
            name: $name,
        },)*];

        #[inline(always)]
        const fn $matches(high: u64, low: u64) -> bool {
            let mut outside = 1;
            $(outside &= is_set(beyond6($high, $low, $length, high, low));)*
            outside == 0
        }
    };
}

const fn address6(high: u64, low: u64) -> Address {
    Address(((high as u128) << 64 | low as u128).to_be_bytes())
}

/// Zero where the address is in the block.
#[inline(always)]
const fn beyond6(net_high: u64, net_low: u64, length: u32, high: u64, low: u64) -> u64 {
    if length <= 64 {
        (high ^ net_high) >> (64 - length)
    } else {
        (high ^ net_high) | (low ^ net_low) >> (128 - length)
    }
}

/// 1 for every number but 0, without a branch: the verifier follows each branch both ways, and some
/// forty of them in a row are more than it has patience for. The detour through the black box is
/// what keeps the compiler from putting the branch back.
#[inline(always)]
const fn is_set(number: u64) -> u64 {
    let number = if cfg!(target_arch = "bpf") {
        core::hint::black_box(number)
    } else {
        number
    };
    (number | number.wrapping_neg()) >> 63
}

ranges4! { private4, PRIVATE_4:
    (0, 0, 0, 0; 8, "this network (RFC 791)")
    (10, 0, 0, 0; 8, "private use (RFC 1918)")
    (100, 64, 0, 0; 10, "shared address space (RFC 6598)")
    (127, 0, 0, 0; 8, "loopback (RFC 1122)")
    (168, 63, 129, 16; 32, "cloud metadata (Azure)")
    (169, 254, 0, 0; 16, "link local, cloud metadata (RFC 3927)")
    (172, 16, 0, 0; 12, "private use (RFC 1918)")
    (192, 0, 0, 0; 24, "IETF protocol assignments (RFC 6890)")
    (192, 0, 2, 0; 24, "documentation (RFC 5737)")
    (192, 88, 99, 0; 24, "6to4 relay anycast, deprecated (RFC 7526)")
    (192, 168, 0, 0; 16, "private use (RFC 1918)")
    (198, 18, 0, 0; 15, "benchmarking (RFC 2544)")
    (198, 51, 100, 0; 24, "documentation (RFC 5737)")
    (203, 0, 113, 0; 24, "documentation (RFC 5737)")
    (224, 0, 0, 0; 4, "multicast (RFC 5771)")
    (240, 0, 0, 0; 4, "reserved and broadcast (RFC 1112, RFC 919)")
}

// Entries inside a refused block whose Globally Reachable is True.
ranges4! { reachable4, REACHABLE_4:
    (192, 0, 0, 9; 32, "port control protocol anycast (RFC 7723)")
    (192, 0, 0, 10; 32, "TURN anycast (RFC 8155)")
}

ranges6! { private6, PRIVATE_6:
    (0x0000_0000_0000_0000, 0x0000_0000_0000_0000, 128, "unspecified (RFC 4291)")
    (0x0000_0000_0000_0000, 0x0000_0000_0000_0001, 128, "loopback (RFC 4291)")
    (0x0064_ff9b_0001_0000, 0x0000_0000_0000_0000, 48, "local-use IPv4/IPv6 translation (RFC 8215)")
    (0x0100_0000_0000_0000, 0x0000_0000_0000_0000, 64, "discard only (RFC 6666)")
    (0x0100_0000_0000_0001, 0x0000_0000_0000_0000, 64, "dummy prefix (RFC 9780)")
    (0x2001_0000_0000_0000, 0x0000_0000_0000_0000, 23, "IETF protocol assignments, Teredo, benchmarking (RFC 2928)")
    (0x2001_0db8_0000_0000, 0x0000_0000_0000_0000, 32, "documentation (RFC 3849)")
    (0x2002_0000_0000_0000, 0x0000_0000_0000_0000, 16, "6to4 (RFC 3056)")
    (0x3fff_0000_0000_0000, 0x0000_0000_0000_0000, 20, "documentation (RFC 9637)")
    (0x5f00_0000_0000_0000, 0x0000_0000_0000_0000, 16, "segment routing SIDs (RFC 9602)")
    (0xfc00_0000_0000_0000, 0x0000_0000_0000_0000, 7, "unique local, cloud metadata (RFC 4193)")
    (0xfe80_0000_0000_0000, 0x0000_0000_0000_0000, 10, "link local (RFC 4291)")
    (0xfec0_0000_0000_0000, 0x0000_0000_0000_0000, 10, "site local, deprecated (RFC 3879)")
    (0xff00_0000_0000_0000, 0x0000_0000_0000_0000, 8, "multicast (RFC 4291)")
}

ranges6! { reachable6, REACHABLE_6:
    (0x2001_0001_0000_0000, 0x0000_0000_0000_0001, 128, "port control protocol anycast (RFC 7723)")
    (0x2001_0001_0000_0000, 0x0000_0000_0000_0002, 128, "TURN anycast (RFC 8155)")
    (0x2001_0001_0000_0000, 0x0000_0000_0000_0003, 128, "DNS-SD SRP anycast (RFC 9665)")
    (0x2001_0003_0000_0000, 0x0000_0000_0000_0000, 32, "AMT (RFC 7450)")
    (0x2001_0004_0112_0000, 0x0000_0000_0000_0000, 48, "AS112-v6 (RFC 7535)")
    (0x2001_0020_0000_0000, 0x0000_0000_0000_0000, 28, "ORCHIDv2 (RFC 7343)")
    (0x2001_0030_0000_0000, 0x0000_0000_0000_0000, 28, "drone remote ID (RFC 9374)")
}

/// Addresses that serve a cloud's instance metadata. `allow_private` opens them one by one only.
pub const METADATA: &[Address] = &[
    Address::from_v4([169, 254, 169, 254]),
    Address::from_v4([169, 254, 170, 2]),
    Address::from_v4([169, 254, 170, 23]),
    Address::from_v4([100, 100, 100, 200]),
    Address::from_v4([168, 63, 129, 16]),
    Address::from_v4([192, 0, 0, 192]),
    address6(0xfd00_0ec2_0000_0000, 0x0000_0000_0000_0254),
    address6(0xfd00_0ec2_0000_0000, 0x0000_0000_0000_0023),
    address6(0xfd20_00ce_0000_0000, 0x0000_0000_0000_0254),
];

/// Every refused block, for messages and overlap checks.
pub fn refused_ranges() -> impl Iterator<Item = &'static Range> {
    PRIVATE_4.iter().chain(PRIVATE_6)
}

/// Blocks inside a refused block that are public all the same.
pub fn reachable_ranges() -> impl Iterator<Item = &'static Range> {
    REACHABLE_4.iter().chain(REACHABLE_6)
}

/// What kind of address this is, by its outer form.
#[inline(always)]
#[must_use]
pub const fn classify(address: &Address) -> Special {
    if let Some(v4) = address.v4() {
        return classify4(v4);
    }
    let (high, low) = (address.high(), address.low());
    if high == 0 && low <= 1 {
        Special::Local
    } else if private6(high, low) && !reachable6(high, low) {
        Special::Private
    } else {
        Special::No
    }
}

#[inline(always)]
const fn classify4(v4: u32) -> Special {
    if v4 >> 24 == 127 || v4 == 0 {
        Special::Local
    } else if private4(v4) && !reachable4(v4) {
        Special::Private
    } else {
        Special::No
    }
}

/// Why an IPv6 address that carries an IPv4 address is refused for the sake of that IPv4 address:
/// NAT64 (RFC 6052), 6to4 (RFC 3056), Teredo (RFC 4380, server and obscured client) and
/// v4-compatible (RFC 4291).
#[inline(always)]
#[must_use]
pub const fn refusal_of_embedded(address: &Address) -> Option<Reason> {
    let (high, low) = (address.high(), address.low());
    #[expect(
        clippy::cast_possible_truncation,
        reason = "32 bits of each half are meant"
    )]
    let (low32, high_tail) = (low as u32, (high >> 16) as u32);
    if high == 0x0064_ff9b_0000_0000 && low >> 32 == 0 {
        return refusal4(low32);
    }
    if high >> 48 == 0x2002 {
        return refusal4(high_tail);
    }
    if high >> 32 == 0x2001_0000 {
        return refusal4(!low32);
    }
    if high == 0 && low >> 32 == 0 && low > 1 {
        return refusal4(low32);
    }
    None
}

#[inline(always)]
const fn refusal4(v4: u32) -> Option<Reason> {
    match classify4(v4) {
        Special::No => None,
        Special::Local => Some(Reason::LocalAddress),
        Special::Private => Some(Reason::PrivateAddress),
    }
}

#[cfg(test)]
mod tests;
