//! The table of names, and the memory in which a name becomes its key.
//!
//! The stack has no room for a name. A program that is in the middle of one may be interrupted by
//! another on the same processor, for another socket; so a place is taken before it is written, and
//! nobody decides by what somebody else wrote.
//!
//! [`read_hello`], [`fold_name`] and [`look_up`] are global functions: the verifier follows each of
//! them once, with arguments that it knows nothing about, and not once for each way that leads to them. What they
//! find out stands in the place.
#![expect(
    clippy::cast_possible_truncation,
    reason = "functions of their own take whole registers; ports and lengths of names fit"
)]

use core::{mem::offset_of, ptr::NonNull};

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_NO_PREALLOC, BPF_RB_FORCE_WAKEUP},
    helpers::generated::bpf_map_lookup_elem,
    macros::map,
    maps::{LpmTrie, PerCpuArray},
};
use common::{
    event::{Event, NamedEvent},
    hello::{Covers, Fold, Hello},
    id::{Generation, PolicyId, RuleId},
    layout::Tally,
    limits::NAMES_MAX,
    name::{NAME_KEY_BYTES, NameData, NameKey, TLS_NAME_BYTES_MAX},
    rule::RuleSet,
    verdict::Reason,
};

use super::{EVENTS, tally};
use crate::{
    atomic::Counter,
    ctx::{Payload, copy},
};

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
    /// Which place it is.
    slot: u32,
    /// 0, which the verifier does not know.
    zero: u32,
    /// What the hello is, as [`Hello`] says it.
    reason: u32,
    name_at: u32,
    name_length: u32,
    whole: u32,
    hidden: u32,
    /// The rules that open the port of the name.
    any: u64,
    ech: u64,
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
                name.clear(slot);
                return Some(name);
            }
            slot += 1;
        }
        None
    }

    /// Reads the first bytes of a stream.
    #[inline(always)]
    pub(crate) fn read(&self, payload: &Payload) -> Hello {
        let (packet, at, length) = payload.parts();
        read_hello(packet, self.0.as_ptr(), at, length);
        // SAFETY: the place is this program's own while it is taken.
        let place = unsafe { self.0.as_ref() };
        Hello {
            reason: reason(place.reason),
            whole: place.whole != 0,
            hidden: place.hidden != 0,
            name_at: place.name_at,
            name_length: place.name_length,
        }
    }

    /// What the longest name or wildcard that covers the name of a hello opens at a port; `None`
    /// where it is no name.
    #[inline(always)]
    pub(crate) fn covers(
        &self,
        payload: &Payload,
        hello: &Hello,
        scope: (PolicyId, Generation),
        port: u16,
    ) -> Option<Covers> {
        let (policy, generation) = scope;
        let key = self.key();
        // SAFETY: in the place.
        let data = unsafe { &raw mut (*key).data };
        // SAFETY: as above.
        let to = unsafe { &raw mut (*data).policy };
        // SAFETY: as above.
        unsafe { to.write(policy.0.to_be_bytes()) };
        // SAFETY: as above.
        let to = unsafe { &raw mut (*data).generation };
        // SAFETY: as above.
        unsafe { to.write(generation.0.to_be_bytes()) };
        let (packet, at, _) = payload.parts();
        let at = at + hello.name_at;
        // SAFETY: the place is this program's own while it is taken.
        let slot = unsafe { self.0.as_ref() }.slot;
        if look_up(packet, slot, at, hello.name_length, u32::from(port)) == 0 {
            return None;
        }
        // SAFETY: as above.
        let place = unsafe { self.0.as_ref() };
        Some(Covers {
            any: RuleId(place.any),
            ech: RuleId(place.ech),
        })
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
        let name = unsafe { &raw mut (*to).name }.cast::<u8>();
        // SAFETY: in the key.
        let from = unsafe { self.key().cast::<u8>().add(NAME_OFFSET) };
        let mut at = 0;
        while at < NAME_KEY_BYTES {
            // SAFETY: the key's array has this many bytes.
            let word = unsafe { from.add(at) }.cast::<[u8; 8]>();
            // SAFETY: as above.
            let word = unsafe { word.read() };
            // SAFETY: the record's array has as many.
            let to = unsafe { name.add(at) }.cast::<[u8; 8]>();
            // SAFETY: as above.
            unsafe { to.write(word) };
            at += size_of_val(&word);
        }
        // Records that came in silence may be unread: without force nobody would be woken.
        entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
    }

    /// Copies a name of 1 to [`TLS_NAME_BYTES_MAX`] bytes out of a packet and folds it; `false` where
    /// it is no name.
    #[inline(always)]
    fn fold(&self, packet: *mut __sk_buff, at: u32, length: u32) -> bool {
        if length as usize > TLS_NAME_BYTES_MAX || !copy(packet, at, length, self.sent()) {
            return false;
        }
        fold_name(self.0.as_ptr(), length) != 0
    }

    /// Folds the bytes that were sent.
    #[inline(always)]
    fn fold_sent(&self, length: u32) -> bool {
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

    /// The entry of the longest name or wildcard that covers the folded name.
    #[inline(always)]
    fn entry(&self) -> Option<NonNull<RuleSet>> {
        let key = self.key();
        // The name and the NUL behind it.
        let bits = NameKey::SCOPE_BITS + (self.length() + 1) * 8;
        // SAFETY: in the place.
        let length = unsafe { &raw mut (*key).length };
        // SAFETY: as above.
        unsafe { length.write(bits) };
        let names = core::ptr::from_ref(&NAMES).cast_mut().cast();
        // SAFETY: the map's own key, wholly initialised: the array's memory began as zeros.
        let set = unsafe { bpf_map_lookup_elem(names, key.cast()) };
        NonNull::new(set.cast::<RuleSet>())
    }

    /// 0, which the verifier does not know.
    #[inline(always)]
    fn zero(&self) -> u32 {
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
    fn clear(&self, number: u32) {
        // SAFETY: in the place.
        unsafe { self.length_field().write(0) };
        // SAFETY: the array's memory lives as long as the program.
        let slot = unsafe { &raw mut (*self.0.as_ptr()).slot };
        // SAFETY: in the place; its owner alone writes.
        unsafe { slot.write(number) };
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

/// Why a hello may not pass; [`Hello::read`] has no other reasons.
#[inline(always)]
fn reason(number: u32) -> Reason {
    if number == Reason::Rule as u32 {
        Reason::Rule
    } else if number == Reason::TlsNoName as u32 {
        Reason::TlsNoName
    } else {
        Reason::TlsMalformed
    }
}

/// Reads this much of a packet as the first bytes of a stream, into a place.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn read_hello(packet: *mut __sk_buff, place: *mut Place, at: u32, length: u32) -> u32 {
    let Some(mut place) = NonNull::new(place) else {
        return 0;
    };
    let zero = Name(place).zero();
    let hello = Hello::read(&Payload::new(packet, at, length, zero));
    // SAFETY: the place is this program's own while it is taken.
    let place = unsafe { place.as_mut() };
    place.reason = hello.reason as u32;
    place.whole = u32::from(hello.whole);
    place.hidden = u32::from(hello.hidden);
    place.name_at = hello.name_at;
    place.name_length = hello.name_length;
    1
}

/// Folds the bytes that were copied to a place. A function of its own, because the verifier follows
/// what comes after the loop once for each turn in which it may end.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fold_name(place: *mut Place, length: u32) -> u32 {
    let Some(place) = NonNull::new(place) else {
        return 0;
    };
    if length == 0 || length as usize > TLS_NAME_BYTES_MAX {
        return 0;
    }
    u32::from(Name(place).fold_sent(length))
}

/// Finds out what opens a port of the name that stands at an offset of the packet, in the scope that
/// the place's key names. 0 where it is no name. The place is told by its number: Linux 6.1 takes no
/// key of a map out of memory that was handed on.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_up(packet: *mut __sk_buff, slot: u32, at: u32, length: u32, port: u32) -> u32 {
    let Some(mut place) = PLACES.get_ptr_mut(slot).and_then(NonNull::new) else {
        return 0;
    };
    let name = Name(place);
    if !name.fold(packet, at, length) {
        return 0;
    }
    let covers = match name.entry() {
        // SAFETY: elements of a table without preallocation are freed after an RCU grace period,
        // and the agent never changes one in place.
        Some(set) => Covers::of(unsafe { set.as_ref() }, port as u16),
        None => Covers::default(),
    };
    // SAFETY: the place is this program's own while it is taken.
    let place = unsafe { place.as_mut() };
    place.any = covers.any.0;
    place.ech = covers.ech.0;
    1
}
