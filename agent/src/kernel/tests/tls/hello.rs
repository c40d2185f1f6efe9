//! Client hellos: made by hand, with whatever is wrong in them, and by rustls.

use std::sync::Arc;

use rustls::{
    ClientConfig, ClientConnection, NamedGroup, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    version::{TLS12, TLS13},
};

/// Bytes of the key share of X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem, 4.1): an encapsulation key of
/// ML-KEM-768 (FIPS 203, table 3), then a public key of X25519.
const SHARE: usize = 1_184 + 32;

/// A hello for a name, with a key share of this size and this other extension.
pub(in crate::kernel::tests) fn hello(name: &[u8], share: usize, other: Option<u16>) -> Vec<u8> {
    let two = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
    let mut block = Vec::new();
    let mut extension = |kind: u16, body: &[u8]| {
        block.extend(kind.to_be_bytes());
        block.extend(two(body.len()));
        block.extend(body);
    };
    let mut names = Vec::new();
    names.extend(two(name.len() + 3));
    names.push(0);
    names.extend(two(name.len()));
    names.extend(name);
    if !name.is_empty() {
        extension(0, &names);
    }
    extension(43, &[2, 3, 4]);
    extension(51, &vec![0x5a; share]);
    if let Some(kind) = other {
        extension(kind, &[0; 4]);
    }
    let mut message = vec![3, 3];
    message.extend([0xab; 32]);
    message.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    message.extend(two(block.len()));
    message.extend(block);
    let mut bytes = vec![22, 3, 1];
    bytes.extend(two(message.len() + 4));
    bytes.extend([1, 0]);
    bytes.extend(two(message.len()));
    bytes.extend(message);
    bytes
}

pub(in crate::kernel::tests) fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        text.extend(
            [byte >> 4, byte & 0xf].map(|half| char::from(b"0123456789abcdef"[usize::from(half)])),
        );
        text
    })
}

/// What rustls sends first in TLS 1.3 with X25519MLKEM768 before X25519, a key share of each.
pub(super) fn post_quantum(name: &str) -> Vec<u8> {
    let bytes = of_rustls(name, &TLS13);
    let [high, low] = u16::try_from(SHARE).unwrap().to_be_bytes();
    let head = [0x11, 0xec, high, low];
    assert!(bytes.windows(4).any(|four| four == head), "no such share");
    bytes
}

/// What rustls sends first where it speaks TLS 1.2 only (RFC 5246, 7.4.1.2).
pub(super) fn twelve(name: &str) -> Vec<u8> {
    of_rustls(name, &TLS12)
}

fn of_rustls(name: &str, version: &'static SupportedProtocolVersion) -> Vec<u8> {
    let mut provider = aws_lc_rs::default_provider();
    provider
        .kx_groups
        .retain(|group| group.name() != NamedGroup::X25519MLKEM768);
    provider
        .kx_groups
        .insert(0, aws_lc_rs::kx_group::X25519MLKEM768);
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = name.to_owned().try_into().unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}
