//! Unix sockets by name: what a `connect` to one is judged by, and the judgement.
//!
//! The kernel's hook runs before the name is looked up: it has the text that the program gave, and
//! nothing else. So a door is its text, byte for byte. That is enough where the text can only mean
//! one inode: the worker's root and all folders on the way are read-only to it.

use crate::{
    id::{Generation, PolicyId, RuleId},
    verdict::{Reason, Verdict},
};

/// Bytes of `sun_path` (unix(7)). A name may fill it without a final NUL.
pub const SUN_PATH_BYTES: usize = 108;
/// Bytes of the longest path that a door may have: with a final NUL it fits everywhere.
pub const UNIX_PATH_BYTES_MAX: usize = SUN_PATH_BYTES - 1;
/// Bytes of a path in a key. More than a name may have, so that none is cut.
pub const UNIX_KEY_BYTES: usize = 112;

/// Stands in the object for the call of the kernel function [`CAST_NAME`]: what loads the hook puts
/// the function's number in this kernel in its place. No helper ever gets this number.
pub const CAST_PLACEHOLDER: usize = 0x7fff_0001;
/// The kernel function that turns a program's context into the kernel's own (Linux 6.2).
pub const CAST_NAME: &str = "bpf_cast_to_kern_ctx";

/// Key of the table of unix doors (hash, value: the door's [`RuleId`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct UnixKey {
    /// The policy.
    pub policy: PolicyId,
    /// The generation.
    pub generation: Generation,
    /// The path, then zeros.
    pub path: [u8; UNIX_KEY_BYTES],
}

const _: () = assert!(size_of::<UnixKey>() == 120);
const _: () = assert!(UNIX_KEY_BYTES > SUN_PATH_BYTES);

impl UnixKey {
    /// The key of a path, or `None` for one that no socket can have.
    #[must_use]
    pub fn new(policy: PolicyId, generation: Generation, path: &[u8]) -> Option<Self> {
        if path.is_empty() || path.len() > UNIX_PATH_BYTES_MAX || path.contains(&0) {
            return None;
        }
        let mut key = Self {
            policy,
            generation,
            path: [0; UNIX_KEY_BYTES],
        };
        key.path.get_mut(..path.len())?.copy_from_slice(path);
        Some(key)
    }
}

/// What a socket is told to connect to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnixName {
    /// A path that a rule names: the rule.
    Door(RuleId),
    /// Any other path.
    Path,
    /// An abstract name, which no mount namespace holds back, or none.
    Abstract,
}

/// Judges a connect of a stream socket. `own_names`: the profile has sockets by name within the
/// session, so paths are left to the worker's root.
#[inline(always)]
pub const fn judge(name: UnixName, own_names: bool) -> Verdict {
    match name {
        UnixName::Door(rule) => Verdict::Allow(rule),
        UnixName::Path if own_names => Verdict::Allow(RuleId(0)),
        UnixName::Path | UnixName::Abstract => Verdict::Deny(Reason::UnixSocket),
    }
}

#[cfg(test)]
mod tests {
    use super::{SUN_PATH_BYTES, UNIX_PATH_BYTES_MAX, UnixKey, UnixName, judge};
    use crate::{
        id::{Generation, PolicyId, RuleId},
        verdict::{Reason, Verdict},
    };

    #[test]
    fn a_key_holds_every_path_that_a_door_may_have_and_no_other() {
        let key = |path: &[u8]| UnixKey::new(PolicyId(1), Generation(2), path);
        let longest = [b'a'; UNIX_PATH_BYTES_MAX];
        assert!(key(&longest).is_some_and(|key| key.path[UNIX_PATH_BYTES_MAX] == 0));
        for bad in [&[b'a'; SUN_PATH_BYTES][..], b"", b"\0abstract", b"/a\0b"] {
            assert_eq!(key(bad), None);
        }
    }

    #[test]
    fn only_doors_open_and_abstract_names_never_do() {
        let refused = Verdict::Deny(Reason::UnixSocket);
        assert_eq!(
            judge(UnixName::Door(RuleId(7)), false),
            Verdict::Allow(RuleId(7))
        );
        assert_eq!(judge(UnixName::Path, false), refused);
        assert_eq!(judge(UnixName::Path, true), Verdict::Allow(RuleId(0)));
        assert_eq!(judge(UnixName::Abstract, true), refused);
    }
}
