//! What a name becomes, and which rules open its port.

use super::*;

#[test]
fn a_folded_name_is_its_key() {
    for name in [
        "api.example",
        "a-b.c_d.example",
        "192.0.2.1",
        "xn--bcher-kva.example",
    ] {
        let mixed: String = name
            .chars()
            .enumerate()
            .map(|(n, c)| {
                if n % 2 == 0 {
                    c.to_ascii_uppercase()
                } else {
                    c
                }
            })
            .collect();
        let key = NameKey::exact(PolicyId(1), Generation(1), name).expect("a place");
        let folded = fold(mixed.as_bytes()).expect("a name");
        assert_eq!(folded, key.data.name[..name.len()]);
        assert_eq!(
            key.length,
            NameKey::SCOPE_BITS + 8 * (u32::try_from(name.len()).expect("fits") + 1)
        );
    }
}

#[test]
fn bytes_of_names_and_no_others() {
    for byte in 0..=u8::MAX {
        let allowed = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let folded = fold(&[b'a', byte, b'b']);
        assert_eq!(folded.is_some(), allowed || byte == b'.', "{byte}");
        if let Some(folded) = folded {
            assert_eq!(folded, [b'b', byte.to_ascii_lowercase(), b'a']);
        }
        assert_eq!(fold(&[byte, b'b']).is_some(), allowed, "{byte} first");
        assert_eq!(fold(&[b'a', byte]).is_some(), allowed, "{byte} last");
    }
    assert_eq!(fold(b"a..b"), None);
    assert_eq!(fold(b"."), None);
    assert_eq!(fold(b"api.example\0"), None);
    assert_eq!(fold(b"api.example\0.evil.example"), None);
}

#[test]
fn the_rules_of_a_port() {
    let range = |rule, low, high, protocol, flags| PortRange {
        rule: RuleId(rule),
        low,
        high,
        protocol: u8::try_from(protocol).expect("fits"),
        flags,
        pad: 0,
    };
    let mut set = RuleSet::EMPTY;
    set.ranges[0] = range(1, 443, 443, UDP, 0);
    set.ranges[1] = range(2, 443, 444, TCP, TLS);
    set.ranges[2] = range(3, 444, 444, TCP, 0);
    set.ranges[3] = range(4, 444, 445, TCP, TLS | ECH);
    set.ranges[4] = range(5, 1, 65_535, TCP, ECH);
    set.count = 4;
    let covers = |any, ech| Covers {
        any: RuleId(any),
        ech: RuleId(ech),
    };
    assert_eq!(Covers::of(&set, 443), covers(2, 0));
    assert_eq!(Covers::of(&set, 444), covers(2, 4));
    assert_eq!(Covers::of(&set, 445), covers(4, 4));
    assert_eq!(Covers::of(&set, 442), covers(0, 0), "beyond the count");
}
