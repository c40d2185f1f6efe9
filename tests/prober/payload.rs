//! Bytes to send: text, echo requests, whole IPv4 packets, routing headers and IP options.

use crate::address::{bytes4, bytes6};

/// An ICMP echo request (type 8, over IPv6 128). The kernel writes the identifier of a ping socket.
pub(crate) fn echo(kind: u8) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0, 0x12, 0x34, 0, 1];
    if kind == 8 {
        let sum = checksum(&bytes);
        if let Some(place) = bytes.get_mut(2..4) {
            place.copy_from_slice(&sum.to_be_bytes());
        }
    }
    bytes
}

/// An IPv4 packet that carries a UDP datagram of five bytes.
pub(crate) fn udp_packet(source: &str, destination: &str, port: u16) -> Result<Vec<u8>, String> {
    let datagram = [
        &40_000_u16.to_be_bytes()[..],
        &port.to_be_bytes(),
        &13_u16.to_be_bytes(),
        &[0, 0],
        b"probe",
    ]
    .concat();
    let total = u16::try_from(20 + datagram.len()).unwrap_or_default();
    let mut header = [
        &[0x45, 0][..],
        &total.to_be_bytes(),
        &[0, 1, 0x40, 0, 64, 17, 0, 0],
        &bytes4(source)?,
        &bytes4(destination)?,
    ]
    .concat();
    let sum = checksum(&header);
    if let Some(place) = header.get_mut(10..12) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    Ok([header, datagram].concat())
}

/// An IPv6 segment routing header (type 4) whose first stop is `waypoint` (RFC 8754). The kernel
/// writes the final destination into the first segment.
pub(crate) fn routing_header(waypoint: &str) -> Result<Vec<u8>, String> {
    Ok([&[0, 4, 4, 1, 1, 0, 0, 0][..], &[0; 16], &bytes6(waypoint)?].concat())
}

/// A routing header of type 2 (Mobile IPv6, RFC 6275) whose first stop is `waypoint`.
pub(crate) fn mobile_header(waypoint: &str) -> Result<Vec<u8>, String> {
    Ok([&[0, 2, 2, 1, 0, 0, 0, 0][..], &bytes6(waypoint)?].concat())
}

/// A loose source route (IPv4 option 131) by way of `waypoint`, padded.
pub(crate) fn loose_route(waypoint: &str) -> Result<Vec<u8>, String> {
    Ok([&[0x83, 7, 4][..], &bytes4(waypoint)?, &[0]].concat())
}

/// Bytes written as hexadecimal digits.
pub(crate) fn hex(text: &str) -> Result<Vec<u8>, String> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| {
            std::str::from_utf8(pair)
                .ok()
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or_else(|| format!("`{text}` is not hexadecimal"))
        })
        .collect()
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
            [high] => u32::from(*high) << 8,
            _ => 0,
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}
