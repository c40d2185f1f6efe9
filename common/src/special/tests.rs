//! The registries once more, as text, read naively, against the constants in code.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{format, string::String, vec::Vec};

use super::*;

/// IANA IPv4 Special-Purpose Address Registry, all entries; multicast, and Azure's metadata address
/// beside them. `true` is *Globally Reachable*.
const REGISTRY_4: &[(&str, bool)] = &[
    ("0.0.0.0/8", false),
    ("0.0.0.0/32", false),
    ("10.0.0.0/8", false),
    ("100.64.0.0/10", false),
    ("127.0.0.0/8", false),
    ("168.63.129.16/32", false),
    ("169.254.0.0/16", false),
    ("172.16.0.0/12", false),
    ("192.0.0.0/24", false),
    ("192.0.0.0/29", false),
    ("192.0.0.8/32", false),
    ("192.0.0.9/32", true),
    ("192.0.0.10/32", true),
    ("192.0.0.170/32", false),
    ("192.0.0.171/32", false),
    ("192.0.2.0/24", false),
    ("192.31.196.0/24", true),
    ("192.52.193.0/24", true),
    ("192.88.99.0/24", false),
    ("192.168.0.0/16", false),
    ("192.175.48.0/24", true),
    ("198.18.0.0/15", false),
    ("198.51.100.0/24", false),
    ("203.0.113.0/24", false),
    ("224.0.0.0/4", false),
    ("240.0.0.0/4", false),
    ("255.255.255.255/32", false),
];

/// IANA IPv6 Special-Purpose Address Registry, all entries but the mapped form, which is IPv4;
/// site-local and multicast beside them.
const REGISTRY_6: &[(&str, bool)] = &[
    ("::/128", false),
    ("::1/128", false),
    ("64:ff9b::/96", true),
    ("64:ff9b:1::/48", false),
    ("100::/64", false),
    ("100:0:0:1::/64", false),
    ("2001::/23", false),
    ("2001::/32", false),
    ("2001:1::1/128", true),
    ("2001:1::2/128", true),
    ("2001:1::3/128", true),
    ("2001:2::/48", false),
    ("2001:3::/32", true),
    ("2001:4:112::/48", true),
    ("2001:10::/28", false),
    ("2001:20::/28", true),
    ("2001:30::/28", true),
    ("2001:db8::/32", false),
    ("2002::/16", false),
    ("2620:4f:8000::/48", true),
    ("3fff::/20", false),
    ("5f00::/16", false),
    ("fc00::/7", false),
    ("fe80::/10", false),
    ("fec0::/10", false),
    ("ff00::/8", false),
];

struct Block {
    first: u128,
    last: u128,
    length: u32,
    reachable: bool,
}

fn number(ip: IpAddr) -> u128 {
    u128::from_be_bytes(Address::from(ip).0)
}

fn address(number: u128) -> Address {
    Address(number.to_be_bytes())
}

fn registry() -> Vec<Block> {
    let entries = REGISTRY_4.iter().chain(REGISTRY_6);
    let block = |(text, reachable): &(&str, bool)| {
        let (ip, length) = text.split_once('/').unwrap();
        let ip: IpAddr = ip.parse().unwrap();
        let length: u32 = length.parse().unwrap();
        let length = if ip.is_ipv4() { 96 + length } else { length };
        let first = number(ip);
        let host = u128::MAX.checked_shr(length).unwrap_or(0);
        assert_eq!(first & host, 0, "{text}");
        Block {
            first,
            last: first | host,
            length,
            reachable: *reachable,
        }
    };
    entries.map(block).collect()
}

/// The longest entry that covers an address decides.
fn naive(registry: &[Block], address: u128) -> Special {
    let loopback = number(Ipv4Addr::new(127, 0, 0, 0).into())
        ..=number(Ipv4Addr::new(127, 255, 255, 255).into());
    let unspecified = number(Ipv4Addr::UNSPECIFIED.into());
    if address <= 1 || address == unspecified || loopback.contains(&address) {
        return Special::Local;
    }
    let covering = registry
        .iter()
        .filter(|block| (block.first..=block.last).contains(&address));
    match covering.max_by_key(|block| block.length) {
        Some(block) if !block.reachable => Special::Private,
        _ => Special::No,
    }
}

#[test]
fn every_entry_at_its_borders() {
    let registry = registry();
    for block in &registry {
        let candidates = [
            block.first.wrapping_sub(1),
            block.first,
            block.first + (block.last - block.first) / 2,
            block.last,
            block.last.wrapping_add(1),
        ];
        for candidate in candidates {
            let address = address(candidate);
            assert_eq!(classify(&address), naive(&registry, candidate), "{address}");
        }
    }
}

#[test]
fn a_million_addresses() {
    let registry = registry();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..1_000_000_usize {
        let (high, low) = (u128::from(random()), u128::from(random()));
        let candidate = match round % 4 {
            // Any IPv4 address, any IPv6 address.
            0 => 0xffff_0000_0000 | (low & 0xffff_ffff),
            1 => high << 64 | low,
            // One that shares its beginning with an entry.
            _ => {
                let block = &registry[round % registry.len()];
                let tail = u128::MAX
                    .checked_shr(block.length.saturating_sub(2))
                    .unwrap_or(0);
                block.first ^ ((high << 64 | low) & tail)
            }
        };
        let address = address(candidate);
        assert_eq!(classify(&address), naive(&registry, candidate), "{address}");
    }
}

#[test]
fn the_lists_are_what_is_matched() {
    for range in refused_ranges() {
        assert_ne!(classify(&range.network), Special::No, "{}", range.name);
    }
    for range in reachable_ranges() {
        assert_eq!(classify(&range.network), Special::No, "{}", range.name);
    }
    for address in METADATA {
        assert_eq!(classify(address), Special::Private, "{address}");
    }
}

/// The forms in which an IPv6 address carries this IPv4 address.
fn carriers(v4: Ipv4Addr) -> [(String, Ipv6Addr); 4] {
    let [a, b, c, d] = v4.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    [
        (
            format!("nat64 {v4}"),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        ),
        (
            format!("6to4 {v4}"),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        ),
        (
            format!("teredo {v4}"),
            Ipv6Addr::new(0x2001, 0, 0x4136, 0xe378, 0, 0, !high, !low),
        ),
        (
            format!("compatible {v4}"),
            Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        ),
    ]
}

#[test]
fn embedded_addresses_are_judged() {
    let cases = [
        ("8.8.8.8", None),
        ("192.0.0.9", None),
        ("192.31.196.1", None),
        ("10.0.0.1", Some(Reason::PrivateAddress)),
        ("169.254.169.254", Some(Reason::PrivateAddress)),
        ("168.63.129.16", Some(Reason::PrivateAddress)),
        ("255.255.255.255", Some(Reason::PrivateAddress)),
        ("127.0.0.1", Some(Reason::LocalAddress)),
        ("127.255.255.255", Some(Reason::LocalAddress)),
    ];
    for (v4, expected) in cases {
        for (name, carrier) in carriers(v4.parse().unwrap()) {
            let address = Address::from(IpAddr::V6(carrier));
            assert_eq!(refusal_of_embedded(&address), expected, "{name}");
        }
        let mapped: Ipv4Addr = v4.parse().unwrap();
        let mapped = Address(mapped.to_ipv6_mapped().octets());
        assert_eq!(
            refusal_of_embedded(&mapped),
            None,
            "a mapped address is IPv4"
        );
    }
    let plain: Ipv6Addr = "2606:2800::a00:1".parse().unwrap();
    assert_eq!(refusal_of_embedded(&Address(plain.octets())), None);
}
