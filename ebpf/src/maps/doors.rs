//! The unix sockets that rules name.

use aya_ebpf::{bindings::BPF_F_NO_PREALLOC, macros::map, maps::HashMap};
use common::{id::RuleId, limits::UNIX_DOORS_MAX, unix::UnixKey};

/// The rule of each path, by policy and generation.
#[map]
static UNIX_DOORS: HashMap<UnixKey, RuleId> =
    HashMap::with_max_entries(UNIX_DOORS_MAX, BPF_F_NO_PREALLOC);

/// The rule that names this path, or rule 0.
#[inline(always)]
pub(crate) fn unix_door(key: &UnixKey) -> RuleId {
    match UNIX_DOORS.get_ptr(key) {
        // SAFETY: elements of a table without preallocation are freed after an RCU grace period,
        // and the agent never changes one in place.
        Some(rule) => unsafe { *rule },
        None => RuleId(0),
    }
}
