//! Addresses in canonical form.

use core::net::IpAddr;
use std::string::ToString;

use super::*;

#[test]
fn a_mapped_address_is_its_ipv4_address() {
    let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
    let plain: IpAddr = "192.0.2.7".parse().unwrap();
    assert_eq!(Address::from(mapped), Address::from(plain));
    assert_eq!(Address::from(mapped).to_string(), "192.0.2.7");
    assert_eq!(Address::from(plain).v4(), Some(0xc000_0207));
    assert_eq!(IpAddr::from(Address::from(mapped)), plain);
}

#[test]
fn only_the_mapped_form_is_ipv4() {
    for text in [
        "::",
        "::1",
        "::192.0.2.7",
        "64:ff9b::192.0.2.7",
        "1::ffff:192.0.2.7",
    ] {
        let ip: IpAddr = text.parse().unwrap();
        assert_eq!(Address::from(ip).v4(), None, "{text}");
    }
}

#[test]
fn halves_are_in_network_order() {
    let ip: IpAddr = "102:304:506:708:90a:b0c:d0e:f10".parse().unwrap();
    let address = Address::from(ip);
    assert_eq!(address.high(), 0x0102_0304_0506_0708);
    assert_eq!(address.low(), 0x090a_0b0c_0d0e_0f10);
}
