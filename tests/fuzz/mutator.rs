//! Makes bad input out of good, and tells which input it was when something breaks. Knows no parser.

#![expect(
    clippy::indexing_slicing,
    reason = "every index is drawn below the length; a panic here fails the test, as it should"
)]

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::time::{ClockId, clock_gettime};

/// Inputs of a run.
const SMOKE: u32 = 20_000;
/// Inputs of a long run.
const LONG: u32 = 1_000_000;
/// Longest time of this thread for one input, in an unoptimised build: what takes longer grows faster
/// than the input. Not by the clock on the wall: the machine may be busy with other things.
const ONE_INPUT: Duration = Duration::from_secs(2);
/// Longest input, bytes.
const LENGTH_MAX: usize = 64 * 1024;
/// Most mutations of one input.
const MUTATIONS_MAX: usize = 8;

/// Bytes and pieces that parsers have fallen over.
const PIECES: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\"",
    b"'",
    b"\"\"\"",
    b"\\",
    b"\n",
    b"\r",
    b"\t",
    b"=",
    b"[",
    b"]",
    b"[[",
    b"]]",
    b"{",
    b"}",
    b",",
    b".",
    b":",
    b"/",
    b"-",
    b"#",
    b"*",
    b"0",
    b"-1",
    b"1e309",
    b"nan",
    b"65535",
    b"65536",
    b"4294967295",
    b"4294967296",
    b"9223372036854775807",
    b"18446744073709551616",
    b"0x",
    b"::",
    b"::ffff:1.2.3.4",
    b"0.0.0.0/0",
    b"/33",
    b"%eth0",
    b"true",
    b"null",
    b"\\u0000",
    b"\\ud800",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    "\u{202e}".as_bytes(),
    "\u{1f512}".as_bytes(),
    "\u{e9}".as_bytes(),
    b"../",
    b"\x1b[2J",
];

/// A small generator (xorshift64*): the same seed gives the same run everywhere.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`; 0 where that is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0) % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// Feeds mutations of the corpus to the target, and the corpus itself first.
pub(crate) fn fuzz(name: &str, corpus: &[&[u8]], target: impl Fn(&[u8])) {
    assert!(!corpus.is_empty(), "{name}: no good input to start from");
    let seed = seed();
    let count = if env::var_os("STOCKADE_LONG").is_some() {
        LONG
    } else {
        SMOKE
    };
    println!("{name}: {count} inputs, STOCKADE_FUZZ_SEED={seed}");
    for good in corpus {
        feed(name, seed, good, &target);
    }
    let mut chance = Chance(seed | 1);
    for _ in 0..count {
        let mut input = chance.pick(corpus).to_vec();
        for _ in 0..=chance.below(MUTATIONS_MAX) {
            mutate(&mut input, corpus, &mut chance);
        }
        input.truncate(LENGTH_MAX);
        feed(name, seed, &input, &target);
    }
}

fn feed(name: &str, seed: u64, input: &[u8], target: &impl Fn(&[u8])) {
    let start = spent();
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    let took = spent().saturating_sub(start);
    assert!(
        outcome.is_ok() && took < ONE_INPUT,
        "{name}: {} after {took:?}, STOCKADE_FUZZ_SEED={seed}, input:\n{}",
        if outcome.is_ok() { "too slow" } else { "panic" },
        input.escape_ascii()
    );
}

/// Time that this thread has computed.
fn spent() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("every kernel has this clock")
        .into()
}

fn seed() -> u64 {
    let given = env::var("STOCKADE_FUZZ_SEED").ok();
    if let Some(seed) = given {
        return seed.parse().expect("STOCKADE_FUZZ_SEED is a number");
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    u64::from(now.subsec_nanos()) ^ now.as_secs().rotate_left(32)
}

fn mutate(input: &mut Vec<u8>, corpus: &[&[u8]], chance: &mut Chance) {
    let at = chance.below(input.len() + 1);
    let end = (at + 1 + chance.below(16)).min(input.len());
    match chance.below(9) {
        0 if at < input.len() => input[at] ^= 1 << chance.below(8),
        1 if at < input.len() => input[at] = chance.byte(),
        2 if at < end => drop(input.drain(at..end)),
        3 => input.truncate(at),
        4 if at < end => {
            let piece = input[at..end].to_vec();
            let to = chance.below(input.len() + 1);
            input.splice(to..to, piece);
        }
        5 => {
            let other = chance.pick(corpus);
            let from = chance.below(other.len() + 1);
            let length = chance.below(other.len() - from + 1);
            input.splice(at..at, other[from..from + length].iter().copied());
        }
        6 => number(input, at, chance),
        7 => {
            // Depth and length: the same piece again and again.
            let piece = chance.pick(PIECES).repeat(1 + chance.below(300));
            input.splice(at..at, piece);
        }
        _ => {
            let piece = chance.pick(PIECES);
            input.splice(at..at, piece.iter().copied());
        }
    }
}

/// Replaces the number at or after a place by one that does not fit.
fn number(input: &mut Vec<u8>, at: usize, chance: &mut Chance) {
    let Some(start) = input[at..].iter().position(u8::is_ascii_digit) else {
        return;
    };
    let start = at + start;
    let length = input[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let other = match chance.below(4) {
        0 => chance.next().to_string(),
        1 => (chance.next() % 70_000).to_string(),
        2 => "9".repeat(1 + chance.below(40)),
        _ => "0".to_owned(),
    };
    input.splice(start..start + length, other.into_bytes());
}
