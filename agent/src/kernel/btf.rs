//! Reads the kernel's description of its own types (BTF) for the two facts that a program needs which
//! calls a function of the kernel: its number, and where a field lies. A scan, because the kernel's
//! description is megabytes and nothing else of it is of use.
//!
//! Format: the kernel's Documentation/bpf/btf.rst, section 2.

use std::{fs, io, path::Path};

/// Where the kernel shows it.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
/// Bytes of a header up to the strings' length.
const HEADER_BYTES: usize = 24;
/// Bytes of a type without what follows it by kind.
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;
const KIND_STRUCT: u32 = 4;
const KIND_FUNCTION: u32 = 12;
/// Bit of `info` that says that members carry bit field sizes beside their offsets.
const KIND_FLAG: u32 = 1 << 31;

/// The kernel's types.
#[derive(Debug)]
pub(in crate::kernel) struct Btf(Vec<u8>);

/// One type: its number, its name, what kind it is, and what follows it.
struct Type<'a> {
    number: u32,
    name: &'a [u8],
    info: u32,
    extra: &'a [u8],
}

impl Btf {
    /// Those of the running kernel.
    pub(in crate::kernel) fn of_kernel() -> io::Result<Self> {
        fs::read(Path::new(VMLINUX)).map(Self)
    }

    /// Number of a function.
    pub(in crate::kernel) fn function(&self, name: &str) -> Option<u32> {
        let found = self
            .types()?
            .find(|found| kind(found.info) == KIND_FUNCTION && found.name == name.as_bytes())?;
        Some(found.number)
    }

    /// Offset in bytes of a member of a struct.
    pub(in crate::kernel) fn offset(&self, structure: &str, member: &str) -> Option<u32> {
        let found = self
            .types()?
            .find(|found| kind(found.info) == KIND_STRUCT && found.name == structure.as_bytes())?;
        let strings = self.strings()?;
        let place = found.extra.chunks_exact(MEMBER_BYTES).find_map(|entry| {
            let name = text(strings, word(entry, 0)?)?;
            (name == member.as_bytes()).then(|| word(entry, 8))?
        })?;
        let bits = if found.info & KIND_FLAG == 0 {
            place
        } else {
            place & 0x00ff_ffff
        };
        Some(bits / 8)
    }

    fn types(&self) -> Option<impl Iterator<Item = Type<'_>>> {
        let (mut rest, strings) = (self.section(8)?, self.strings()?);
        // Type 0 is `void` and stands nowhere.
        let mut number = 0;
        Some(std::iter::from_fn(move || {
            let (name, info) = (text(strings, word(rest, 0)?)?, word(rest, 4)?);
            let (extra, after) = rest
                .get(TYPE_BYTES..)?
                .split_at_checked(extra_bytes(info)?)?;
            rest = after;
            number += 1;
            Some(Type {
                number,
                name,
                info,
                extra,
            })
        }))
    }

    fn strings(&self) -> Option<&[u8]> {
        self.section(16)
    }

    /// The section whose offset and length stand at this place of the header.
    fn section(&self, place: usize) -> Option<&[u8]> {
        let head = self.0.get(..HEADER_BYTES)?;
        if head.get(..2)? != MAGIC.to_ne_bytes() {
            return None;
        }
        let header = usize::try_from(word(head, 4)?).ok()?;
        let begin = usize::try_from(word(head, place)?).ok()?;
        let length = usize::try_from(word(head, place + 4)?).ok()?;
        self.0.get(header..)?.get(begin..)?.get(..length)
    }
}

const fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// Bytes that follow a type of this kind; `None` for a kind that is not known, after which nothing
/// can be found.
fn extra_bytes(info: u32) -> Option<usize> {
    let count = usize::try_from(info & 0xffff).ok()?;
    Some(match kind(info) {
        // Pointers, forward declarations, names, qualifiers, functions, floats, type tags.
        2 | 7..=12 | 16 | 18 => 0,
        // Integers, variables, declaration tags.
        1 | 14 | 17 => 4,
        // Arrays.
        3 => 12,
        // Structs, unions, sections of data, wide enumerations.
        4 | 5 | 15 | 19 => count.checked_mul(12)?,
        // Enumerations, prototypes.
        6 | 13 => count.checked_mul(8)?,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*word))
}

fn text(strings: &[u8], at: u32) -> Option<&[u8]> {
    let rest = strings.get(usize::try_from(at).ok()?..)?;
    rest.split(|byte| *byte == 0).next()
}

#[cfg(test)]
mod tests {
    use super::{Btf, MAGIC};

    /// `struct pair { int a; int b; }` and a function, after an integer and a prototype.
    fn small() -> Btf {
        let strings = b"\0int\0pair\0a\0b\0call\0";
        let mut types: Vec<u32> = Vec::new();
        types.extend([1, 1 << 24, 4, 32]);
        types.extend([5, 4 << 24 | 2, 8, 10, 1, 0, 12, 1, 32]);
        types.extend([0, 13 << 24, 1]);
        types.extend([14, 12 << 24, 3]);
        let types: Vec<u8> = types.into_iter().flat_map(u32::to_ne_bytes).collect();
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        let [length, strings_length] =
            [types.len(), strings.len()].map(|bytes| u32::try_from(bytes).expect("few"));
        for word in [24, 0, length, length, strings_length] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        Btf(bytes)
    }

    #[test]
    fn functions_and_members_are_found_and_nothing_else() {
        let btf = small();
        assert_eq!(btf.function("call"), Some(4));
        assert_eq!(btf.function("pair"), None);
        assert_eq!(btf.offset("pair", "b"), Some(4));
        assert_eq!(btf.offset("pair", "c"), None);
        assert_eq!(btf.offset("call", "b"), None);
    }

    #[test]
    fn a_cut_description_finds_nothing_and_breaks_nothing() {
        let whole = small().0;
        for length in 0..whole.len() {
            let cut = Btf(whole.get(..length).expect("a part").to_vec());
            assert_eq!(cut.function("call"), None);
        }
    }
}
