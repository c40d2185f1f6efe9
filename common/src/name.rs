//! Names of TLS servers as the kernel looks them up: reversed, lower-case, in a longest-prefix trie.
//!
//! `api.example` is the key `elpmaxe.ipa` and a NUL, so that it covers itself alone; `*.cdn.example`
//! is `elpmaxe.ndc.`, which covers whatever begins so: any depth, not the apex.

use crate::id::{Generation, PolicyId};

/// Bytes of a key after policy and generation. The kernel's tries take 256 bytes
/// (`LPM_DATA_SIZE_MAX`).
pub const NAME_KEY_BYTES: usize = 248;
/// Bytes of a name that has a place in the trie: a NUL follows.
pub const TLS_NAME_BYTES_MAX: usize = NAME_KEY_BYTES - 1;

/// Data of a key of the table of names, after the four bytes of length. Big-endian, because the trie
/// compares from the first bit. Value: [`crate::rule::RuleSet`], TCP ranges only, with the rules of
/// all wildcards that cover the name united, so that the longest match answers for all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct NameData {
    /// The policy, big-endian.
    pub policy: [u8; 4],
    /// The generation, big-endian.
    pub generation: [u8; 4],
    /// The name, reversed, then zeros.
    pub name: [u8; NAME_KEY_BYTES],
}

/// A whole key of the table of names (`struct bpf_lpm_trie_key`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct NameKey {
    /// Bits that count, of scope and name together.
    pub length: u32,
    /// The bits.
    pub data: NameData,
}

impl NameKey {
    /// Bits before the name.
    pub const SCOPE_BITS: u32 = 64;

    /// The key of one name, or `None` where it has no place.
    #[must_use]
    pub fn exact(policy: PolicyId, generation: Generation, name: &str) -> Option<Self> {
        // The array is zero beyond the name, and one of its zeros counts.
        Self::new(policy, generation, name.bytes().rev(), name.len(), 1)
    }

    /// The key of everything below `base` (`cdn.example` of `*.cdn.example`), or `None` where it has
    /// no place.
    #[must_use]
    pub fn below(policy: PolicyId, generation: Generation, base: &str) -> Option<Self> {
        let name = base.bytes().rev().chain([b'.']);
        Self::new(policy, generation, name, base.len() + 1, 0)
    }

    fn new(
        policy: PolicyId,
        generation: Generation,
        name: impl Iterator<Item = u8>,
        bytes: usize,
        zeros: usize,
    ) -> Option<Self> {
        if bytes > TLS_NAME_BYTES_MAX {
            return None;
        }
        let mut data = NameData {
            policy: policy.0.to_be_bytes(),
            generation: generation.0.to_be_bytes(),
            name: [0; NAME_KEY_BYTES],
        };
        for (slot, byte) in data.name.iter_mut().zip(name) {
            *slot = byte;
        }
        let bits = u32::try_from((bytes + zeros) * 8).ok()?;
        Some(Self {
            length: Self::SCOPE_BITS + bits,
            data,
        })
    }
}

const _: () = assert!(size_of::<NameKey>() == 260);

#[cfg(test)]
mod tests;
