//! The bytes that cross the kernel boundary.

use super::*;
use crate::{event, limits, pod::Pod, rule};

#[test]
fn nothing_has_padding() {
    // Each size is the sum of the fields' sizes, so no byte is left that a copy would leak.
    assert_eq!(size_of::<Worker>(), 8 + 4 + 4);
    assert_eq!(size_of::<ExactKey>(), 4 + 4 + 16);
    assert_eq!(size_of::<PrefixData>(), 4 + 4 + 16);
    assert_eq!(size_of::<PrefixKey>(), 4 + 24);
    assert_eq!(size_of::<LiveKey>(), 4 + 4 + 8);
    assert_eq!(size_of::<LimitsKey>(), 4 + 4);
    assert_eq!(size_of::<Limits>(), 8 + 8);
    assert_eq!(size_of::<Usage>(), 9 * 8);
    assert_eq!(size_of::<CounterKey>(), 4 + 2 + 3 + 7);
    assert_eq!(
        size_of::<SocketState>(),
        8 + 8 + 8 + 16 + 8 + 4 + 4 + 2 + 2 + 4 + 16 + 2 + 2 + 4
    );
    assert_eq!(size_of::<rule::PortRange>(), 8 + 2 + 2 + 1 + 1 + 2);
    assert_eq!(
        size_of::<rule::RuleSet>(),
        4 + 4 + limits::PORT_RANGES_MAX * 16
    );
    assert_eq!(
        size_of::<event::Event>(),
        4 * 8 + 16 + 4 * 4 + 8 + 4 * 2 + 4 + 4
    );
    assert_eq!(size_of::<event::DestroyOrder>(), 3 * 8 + 2 * 16 + 4 * 2 + 8);
}

#[test]
fn a_word_says_what_was_put_in() {
    for generation in [1, 2, u32::MAX] {
        for mode in [Mode::Enforce, Mode::Observe] {
            for limited in [false, true] {
                let word = PolicyWord::new(Generation(generation), mode, limited);
                assert_eq!(word.generation(), Some(Generation(generation)));
                assert_eq!(word.mode(), mode);
                assert_eq!(word.limited(), limited);
                assert!(!word.left());
                let left = word.with_left();
                assert!(left.left());
                assert_eq!(left.generation(), word.generation());
                assert_eq!((left.mode(), left.limited()), (mode, limited));
            }
        }
    }
    assert_eq!(PolicyWord(0).generation(), None);
}

#[test]
fn a_prefix_is_big_endian() {
    let data = PrefixData::new(PolicyId(1), Generation(2), Address::from_v4([192, 0, 2, 7]));
    let key = PrefixKey {
        length: PrefixData::SCOPE_BITS + 128,
        data,
    };
    assert_eq!(
        key.bytes().get(4..),
        Some(
            [
                0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 7
            ]
            .as_slice()
        )
    );
}

#[test]
fn bytes_are_read_as_they_were_written() {
    let state = SocketState {
        sequence: 2,
        session: SessionId(3),
        rule: RuleId(4),
        address: Address([5; 16]),
        netns: 6,
        policy: PolicyId(7),
        generation: Generation(8),
        port: 9,
        protocol: 10,
        flags: STATE_DOOR,
        original: Address([11; 16]),
        original_port: 12,
        hello_pieces: 13,
        initial_sequence: 14,
    };
    assert_eq!(SocketState::read(state.bytes()), Some(state));
    assert_eq!(SocketState::read(&state.bytes()[1..]), None);
}
