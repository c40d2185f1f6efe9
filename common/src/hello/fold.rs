//! The bytes of a name in lower case, and whether they are those of a name.

/// What [`FOLDED`] says of a byte that no name has, and of a dot.
const BAD: u16 = 0x100;
const DOT: u16 = 0x200;

/// Each byte in lower case, with what is to be said of it.
static FOLDED: [u16; 256] = folded();

/// Folds a name into its key, from its last byte to its first, by table and bits alone: the verifier
/// would follow both ways of each branch, for every byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fold {
    /// Not 0 once the bytes were none of a name.
    bad: u16,
    /// The entry of the last byte; a dot's before there was one.
    last: u16,
}

impl Fold {
    /// Before the last byte of a name.
    pub const BEGIN: Self = Self { bad: 0, last: DOT };

    /// Takes a byte; returns it in lower case.
    #[inline(always)]
    pub fn byte(&mut self, byte: u8) -> u8 {
        let entry = FOLDED.get(usize::from(byte)).copied().unwrap_or(BAD);
        // No label is empty, nor is there a dot at an end (RFC 6066, 3).
        self.bad |= (entry & BAD) | (entry & self.last & DOT);
        self.last = entry;
        let [byte, _] = entry.to_le_bytes();
        byte
    }

    /// Whether the bytes were a name, after its first byte.
    #[inline(always)]
    #[must_use]
    pub const fn is_name(&self) -> bool {
        self.bad | (self.last & DOT) == 0
    }
}

const fn folded() -> [u16; 256] {
    let mut table = [0; 256];
    let mut left: &mut [u16] = &mut table;
    let mut byte = 0_u8;
    while let Some((entry, rest)) = left.split_first_mut() {
        let says = match byte {
            b'.' => DOT,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => 0,
            _ => BAD,
        };
        *entry = u16::from_le_bytes([byte.to_ascii_lowercase(), 0]) | says;
        left = rest;
        byte = byte.wrapping_add(1);
    }
    table
}
