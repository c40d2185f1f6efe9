//! The table of names, and the memory in which a name becomes its key.
//!
//! The stack has no room for a name. A program that is in the middle of one may be interrupted by
//! another on the same processor, for another socket; so a place is taken before it is written, and
//! nobody decides by what somebody else wrote.

use core::{mem::offset_of, ptr::NonNull};

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_RB_FORCE_WAKEUP},
    helpers::generated::bpf_map_lookup_elem,
    macros::map,
    maps::{LpmTrie, PerCpuArray},
};
use common::{
    event::{Event, NamedEvent},
    hello::{Covers, Fold, Hello},
    id::{Generation, PolicyId},
    layout::Tally,
    limits::NAMES_MAX,
    name::{NAME_KEY_BYTES, NameData, NameKey, TLS_NAME_BYTES_MAX},
    rule::RuleSet,
    verdict::Reason,
};

use super::{EVENTS, tally};
use crate::{atomic::Counter, ctx::Payload};

/// Names and wildcards of domain rules.
#[map]
static NAMES: LpmTrie<NameData, RuleSet> = LpmTrie::with_max_entries(NAMES_MAX, BPF_F_NO_PREALLOC);
/// [`Place`]s.
#[map]
static PLACES: PerCpuArray<Place> = PerCpuArray::with_max_entries(PLACES_MAX, 0);

/// Programs that may be at a name on one processor: one in a system call, one in an interrupt, and
/// some that were preempted. One more holds its packet back.
const PLACES_MAX: u32 = 4;
/// Room for a name as it was sent: a power of two, beyond which no masked offset reaches.
const SENT_BYTES: usize = 256;

/// Where one program works.
#[repr(C)]
struct Place {
    /// 1 while somebody has it.
    taken: u64,
    sent: [u8; SENT_BYTES],
    key: NameKey,
    length: u32,
    /// 0, which the verifier does not know.
    zero: u32,
    name_at: u32,
    name_length: u32,
    whole: u32,
    hidden: u32,
}

const _: () = assert!(TLS_NAME_BYTES_MAX < SENT_BYTES);

/// A name on its way to its key. [`Name::release`] gives the place back.
pub(crate) struct Name(NonNull<Place>);

impl Name {
    /// Takes a free place of this processor; `None` where there is none.
    #[inline(always)]
    pub(crate) fn take() -> Option<Self> {
        let mut slot = 0;
        while slot < PLACES_MAX {
            let name = Self(NonNull::new(PLACES.get_ptr_mut(slot)?)?);
            if name.taken().exchange(0, 1) {
                name.clear();
                return Some(name);
            }
            slot += 1;
        }
        None
    }

    /// Copies a name of 1 to [`TLS_NAME_BYTES_MAX`] bytes out of a packet and folds it; `false` where
    /// it is no name.
    #[inline(always)]
    pub(crate) fn fold(&self, payload: &Payload, at: u32, length: u32) -> bool {
        if length as usize > TLS_NAME_BYTES_MAX || !payload.copy(at, length, self.sent()) {
            return false;
        }
        let sent = self.sent();
        let name = self.key().cast::<u8>();
        let mut fold = Fold::BEGIN;
        let mut done = 0;
        while done < TLS_NAME_BYTES_MAX as u32 {
            if done >= length {
                break;
            }
            let from = (length - 1 - done) as usize & (SENT_BYTES - 1);
            // SAFETY: masked to the array.
            let from = unsafe { sent.add(from) };
            // SAFETY: in the array, which `copy` has filled that far.
            let byte = unsafe { from.read_volatile() };
            // SAFETY: `done` is less than the array's length.
            let to = unsafe { name.add(NAME_OFFSET + done as usize) };
            // SAFETY: in the array.
            unsafe { to.write_volatile(fold.byte(byte)) };
            done += 1;
        }
        // SAFETY: `done` is at most `TLS_NAME_BYTES_MAX`, one less than the array's length.
        let end = unsafe { name.add(NAME_OFFSET + done as usize) };
        // SAFETY: in the array.
        unsafe { end.write_volatile(0) };
        // SAFETY: in the place.
        unsafe { self.length_field().write(length) };
        fold.is_name()
    }

    /// What the longest name or wildcard that covers this one opens at a port.
    #[inline(always)]
    pub(crate) fn covers(&self, policy: PolicyId, generation: Generation, port: u16) -> Covers {
        let key = self.key();
        // The name and the NUL behind it.
        let bits = NameKey::SCOPE_BITS + (self.length() + 1) * 8;
        // SAFETY: in the place.
        let length = unsafe { &raw mut (*key).length };
        // SAFETY: as above.
        unsafe { length.write(bits) };
        // SAFETY: as above.
        let scope = unsafe { &raw mut (*key).data.policy };
        // SAFETY: as above.
        unsafe { scope.write(policy.0.to_be_bytes()) };
        // SAFETY: as above.
        let scope = unsafe { &raw mut (*key).data.generation };
        // SAFETY: as above.
        unsafe { scope.write(generation.0.to_be_bytes()) };
        let names = core::ptr::from_ref(&NAMES).cast_mut().cast();
        // SAFETY: the map's own key, wholly initialised: the array's memory began as zeros.
        let set = unsafe { bpf_map_lookup_elem(names, key.cast()) };
        match NonNull::new(set.cast::<RuleSet>()) {
            // SAFETY: elements of a table without preallocation are freed after an RCU grace
            // period, and the agent never changes one in place.
            Some(set) => Covers::of(unsafe { set.as_ref() }, port),
            None => Covers::default(),
        }
    }

    /// Hands an event with the name to the agent, or counts it as lost.
    #[inline(always)]
    pub(crate) fn send_event(&self, event: impl FnOnce() -> Event) {
        let Some(mut entry) = EVENTS.reserve::<NamedEvent>(0) else {
            tally(Tally::EventsLost);
            return;
        };
        let to = entry.as_mut_ptr();
        // SAFETY: in the record that was reserved.
        let head = unsafe { &raw mut (*to).event };
        // SAFETY: as above.
        unsafe { head.write(event()) };
        // SAFETY: as above.
        let length = unsafe { &raw mut (*to).length };
        // SAFETY: as above.
        unsafe { length.write(self.length()) };
        // SAFETY: as above.
        let pad = unsafe { &raw mut (*to).pad };
        // SAFETY: as above.
        unsafe { pad.write(0) };
        // SAFETY: as above.
        let name = unsafe { &raw mut (*to).name }.cast::<u64>();
        // SAFETY: in the key, whose data begins at a multiple of four.
        let from = unsafe { self.key().cast::<u8>().add(NAME_OFFSET) }.cast::<u64>();
        let mut word = 0;
        while word < NAME_KEY_BYTES / 8 {
            // SAFETY: both arrays have this many bytes.
            let (from, to) = unsafe { (from.add(word), name.add(word)) };
            // SAFETY: as above.
            let bytes = unsafe { from.read_unaligned() };
            // SAFETY: as above.
            unsafe { to.write_unaligned(bytes) };
            word += 1;
        }
        // Records that came in silence may be unread: without force nobody would be woken.
        entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
    }

    /// The same hello with a name, out of memory: the verifier forgets by which way it came, and
    /// follows what comes next once.
    #[inline(always)]
    pub(crate) fn hello(&self, hello: Hello) -> Hello {
        Hello {
            reason: Reason::Rule,
            whole: self.through(offset_of!(Place, whole), u32::from(hello.whole)) != 0,
            hidden: self.through(offset_of!(Place, hidden), u32::from(hello.hidden)) != 0,
            name_at: self.through(offset_of!(Place, name_at), hello.name_at),
            name_length: self.through(offset_of!(Place, name_length), hello.name_length),
        }
    }

    #[inline(always)]
    fn through(&self, offset: usize, value: u32) -> u32 {
        // SAFETY: the offset of a field of the place.
        let field = unsafe { self.0.as_ptr().byte_add(offset) }.cast::<u32>();
        // SAFETY: in the place.
        unsafe { field.write_volatile(value) };
        // SAFETY: as above; nobody else writes while it is taken.
        unsafe { field.read_volatile() }
    }

    /// 0, which the verifier does not know.
    #[inline(always)]
    pub(crate) fn zero(&self) -> u32 {
        // SAFETY: the array's memory lives as long as the program.
        let zero = unsafe { &raw const (*self.0.as_ptr()).zero };
        // SAFETY: in the place; never written.
        unsafe { zero.read_volatile() }
    }

    /// Gives the place back.
    #[inline(always)]
    pub(crate) fn release(self) {
        let _taken = self.taken().swap(0);
    }

    #[inline(always)]
    fn clear(&self) {
        // SAFETY: in the place.
        unsafe { self.length_field().write(0) };
    }

    /// Bytes of the name that was folded; 0 where none was.
    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: in the place; nobody else writes while it is taken.
        unsafe { self.length_field().read() }
    }

    #[inline(always)]
    fn taken(&self) -> Counter {
        // SAFETY: the array's memory lives as long as the program.
        let taken = unsafe { &raw mut (*self.0.as_ptr()).taken };
        // SAFETY: aligned by the layout, and living as above.
        unsafe { Counter::new(taken) }
    }

    #[inline(always)]
    fn sent(&self) -> *mut u8 {
        // SAFETY: the array's memory lives as long as the program.
        unsafe { &raw mut (*self.0.as_ptr()).sent }.cast()
    }

    #[inline(always)]
    fn key(&self) -> *mut NameKey {
        // SAFETY: the array's memory lives as long as the program.
        unsafe { &raw mut (*self.0.as_ptr()).key }
    }

    #[inline(always)]
    fn length_field(&self) -> *mut u32 {
        // SAFETY: the array's memory lives as long as the program.
        unsafe { &raw mut (*self.0.as_ptr()).length }
    }
}

/// Where the name stands in its key.
const NAME_OFFSET: usize = offset_of!(NameKey, data) + offset_of!(NameData, name);
