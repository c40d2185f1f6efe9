//! First bytes of a connection, as a worker sends them: the kernel reads them with the same code.

use common::{
    hello::{Answer, Bytes, Covers, Hello},
    id::RuleId,
};

use crate::mutator::fuzz;

struct Slice<'a>(&'a [u8]);

impl Bytes for Slice<'_> {
    fn length(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let at = usize::try_from(at).ok()?;
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn zero(&self) -> u32 {
        0
    }
}

/// TLS 1.3 for `api.example`, with two other extensions.
const GOOD: &[u8] = b"\x16\x03\x01\x00\x4b\x01\x00\x00\x47\x03\x03\
    ABCDEFGHIJKLMNOPQRSTUVWXYZ012345\x00\x00\x02\x13\x01\x01\x00\x00\x1c\
    \x00\x00\x00\x10\x00\x0e\x00\x00\x0bapi.example\
    \x00\x17\x00\x00\x00\x2b\x00\x00";

#[test]
fn a_hello_that_passes_shows_a_name_within_it() {
    let covers = Covers {
        any: RuleId(1),
        ech: RuleId(0),
    };
    let good = Hello::read(&Slice(GOOD));
    assert_eq!(good.answer(covers), Answer::Pass(RuleId(1)));
    fuzz("hello", &[GOOD], |bytes| {
        let hello = Hello::read(&Slice(bytes));
        if let Answer::Pass(_) = hello.answer(covers) {
            let begin = usize::try_from(hello.name_at).expect("fits");
            let length = usize::try_from(hello.name_length).expect("fits");
            assert!(
                bytes
                    .get(begin..begin + length)
                    .is_some_and(|name| !name.is_empty())
            );
            assert!(hello.whole && !hello.hidden);
            // Without its last byte it is never more than a beginning.
            let record = 5 + usize::from(bytes[3]) * 256 + usize::from(bytes[4]);
            let shorter = Hello::read(&Slice(&bytes[..record - 1]));
            assert_eq!(shorter.answer(covers), Answer::Hold);
        }
    });
}
