//! A socket's state in socket storage: whose it is, and which destination was verified.
//!
//! Hooks run at once on two processors, so a writer takes the entry by making its sequence odd, and
//! a reader that meets an odd or a changed sequence takes nothing from it: its packet is decided
//! anew, which is always right and only slower.
#![expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "one pointer; every method is inlined, so nothing is passed"
)]

use core::{mem::offset_of, ptr::NonNull};

use common::{
    flow::Address,
    id::{Generation, PolicyId, RuleId, SessionId},
    layout::{STATE_ORDERED, STATE_SYN_SEEN, SocketState},
};

use crate::atomic::Counter;

/// A verified destination; none where the generation is 0.
#[derive(Clone, Copy)]
pub(crate) struct Verified {
    pub(crate) address: Address,
    pub(crate) port: u16,
    pub(crate) protocol: u16,
    pub(crate) generation: Generation,
    pub(crate) rule: RuleId,
    pub(crate) flags: u32,
}

/// The sequence at which something was read.
#[derive(Clone, Copy)]
pub(crate) struct Seen(u64);

/// An address in two words. Field by field a socket's entry is read and written volatile, and so an
/// address would be byte by byte.
type Words = [u64; 2];

const _: () = assert!(size_of::<Words>() == size_of::<Address>());
const _: () = assert!(offset_of!(SocketState, address) % align_of::<Words>() == 0);
const _: () = assert!(offset_of!(SocketState, original) % align_of::<Words>() == 0);

/// One socket's entry.
#[derive(Clone, Copy)]
pub(crate) struct State(NonNull<SocketState>);

macro_rules! read {
    ($self:ident . $field:ident) => {{
        // SAFETY: socket storage gave the entry, and it lives until the program ends.
        let field = unsafe { &raw const (*$self.0.as_ptr()).$field };
        // SAFETY: as above; volatile, because other processors write.
        unsafe { field.read_volatile() }
    }};
}

macro_rules! write {
    ($self:ident . $field:ident = $value:expr) => {{
        // SAFETY: socket storage gave the entry, and it lives until the program ends.
        let field = unsafe { &raw mut (*$self.0.as_ptr()).$field };
        // SAFETY: as above; readers check the sequence.
        unsafe { field.write_volatile($value) };
    }};
}

macro_rules! read_address {
    ($self:ident . $field:ident) => {{
        // SAFETY: socket storage gave the entry, and it lives until the program ends.
        #[expect(clippy::cast_ptr_alignment, reason = "asserted above")]
        let field = unsafe { &raw const (*$self.0.as_ptr()).$field }.cast::<Words>();
        // SAFETY: as above, and aligned, as asserted above; volatile, because other processors write.
        address(unsafe { field.read_volatile() })
    }};
}

macro_rules! write_address {
    ($self:ident . $field:ident = $value:expr) => {{
        // SAFETY: socket storage gave the entry, and it lives until the program ends.
        #[expect(clippy::cast_ptr_alignment, reason = "asserted above")]
        let field = unsafe { &raw mut (*$self.0.as_ptr()).$field }.cast::<Words>();
        // SAFETY: as above, and aligned, as asserted above; readers check the sequence.
        unsafe { field.write_volatile(words($value)) };
    }};
}

#[inline(always)]
fn address(words: Words) -> Address {
    // SAFETY: sixteen bytes either way, and any are an address.
    unsafe { core::mem::transmute(words) }
}

#[inline(always)]
fn words(address: Address) -> Words {
    // SAFETY: as above.
    unsafe { core::mem::transmute(address) }
}

impl State {
    /// The entry that the storage helper gave, or `None`.
    #[inline(always)]
    pub(crate) fn new(entry: *mut SocketState) -> Option<Self> {
        NonNull::new(entry).map(Self)
    }

    /// The entry, to be handed to a global function, which takes it by [`State::new`].
    #[inline(always)]
    pub(crate) fn entry(&self) -> *mut SocketState {
        self.0.as_ptr()
    }

    /// The session; written once, when the entry is made.
    #[inline(always)]
    pub(crate) fn session(&self) -> SessionId {
        read!(self.session)
    }

    /// The session's policy; written once, when the entry is made.
    #[inline(always)]
    pub(crate) fn policy(&self) -> PolicyId {
        read!(self.policy)
    }

    /// Cookie of the socket's network namespace; written once, when the entry is made.
    #[inline(always)]
    pub(crate) fn netns(&self) -> u64 {
        read!(self.netns)
    }

    /// Says whose the socket is. Called by the hook that made the entry, before anybody else can
    /// meet it.
    #[inline(always)]
    pub(crate) fn tag(&self, session: SessionId, policy: PolicyId, netns: u64) {
        write!(self.session = session);
        write!(self.policy = policy);
        write!(self.netns = netns);
    }

    /// The verified destination, if there is one and nobody is writing it. Not an `Option`: its
    /// absent content would be undefined, and the verifier refuses to see that moved about.
    #[inline(always)]
    pub(crate) fn verified(&self) -> (Seen, Verified) {
        let sequence = read!(self.sequence);
        self.order_reads();
        let mut verified = Verified {
            address: read_address!(self.address),
            port: read!(self.port),
            protocol: read!(self.protocol),
            generation: read!(self.generation),
            rule: read!(self.rule),
            flags: read!(self.flags),
        };
        self.order_reads();
        if read!(self.sequence) != sequence || sequence & 1 != 0 {
            verified.generation = Generation(0);
        }
        (Seen(sequence), verified)
    }

    /// Writes a destination from zero, but for what the socket asked the resolver. Skipped while
    /// another hook writes.
    #[inline(always)]
    pub(crate) fn verify(&self, verified: &Verified) {
        let sequence = read!(self.sequence);
        self.write_from(sequence, verified);
    }

    /// Carries what was read over into another generation, unless it was changed meanwhile.
    #[inline(always)]
    pub(crate) fn renew(&self, seen: Seen, generation: Generation) {
        self.change(seen.0, || write!(self.generation = generation));
    }

    /// Notes whom the socket wanted to ask when it was sent to the resolver; port 0 is nobody. It
    /// outlives other destinations of an unconnected socket, whose answers may still come. Skipped
    /// while another hook writes.
    #[inline(always)]
    pub(crate) fn set_original(&self, address: Address, port: u16) {
        let sequence = read!(self.sequence);
        self.change(sequence, || {
            write_address!(self.original = address);
            write!(self.original_port = port);
        });
    }

    /// Whether the socket was sent to the resolver since it was connected last.
    #[inline(always)]
    pub(crate) fn has_asked(&self) -> bool {
        read!(self.original_port) != 0
    }

    /// Whom the socket wanted to ask; port 0 is nobody, or somebody is writing it.
    #[inline(always)]
    pub(crate) fn original(&self) -> (Address, u16) {
        let sequence = read!(self.sequence);
        self.order_reads();
        let address = read_address!(self.original);
        let mut port = read!(self.original_port);
        self.order_reads();
        if read!(self.sequence) != sequence || sequence & 1 != 0 {
            port = 0;
        }
        (address, port)
    }

    /// Notes with which number the stream begins. Says whether it did, and the sequence from then on.
    #[inline(always)]
    pub(crate) fn begin(&self, seen: Seen, verified: &Verified, initial: u32) -> (bool, Seen) {
        let flags = verified.flags | STATE_SYN_SEEN;
        let noted = self.change(seen.0, || {
            write!(self.initial_sequence = initial);
            write!(self.flags = flags);
        });
        (noted, Seen(seen.0 + 2))
    }

    /// The number with which the stream begins, where `STATE_SYN_SEEN` is set.
    #[inline(always)]
    pub(crate) fn initial_sequence(&self) -> u32 {
        read!(self.initial_sequence)
    }

    /// Pieces of the stream's beginning that were held back.
    #[inline(always)]
    pub(crate) fn hello_pieces(&self) -> u16 {
        read!(self.hello_pieces)
    }

    /// Notes how many pieces were held back.
    #[inline(always)]
    pub(crate) fn hold(&self, seen: Seen, pieces: u16) {
        self.change(seen.0, || write!(self.hello_pieces = pieces));
    }

    /// Notes that a flow owes its name no more, by which rule, and how. Says whether it did: not
    /// where another hook wrote meanwhile.
    #[inline(always)]
    pub(crate) fn settle(&self, seen: Seen, rule: RuleId, flags: u32) -> bool {
        self.change(seen.0, || {
            write!(self.rule = rule);
            write!(self.flags = flags);
        })
    }

    /// Whether the order to destroy this socket was given.
    #[inline(always)]
    pub(crate) fn is_ordered(&self) -> bool {
        read!(self.flags) & STATE_ORDERED != 0
    }

    /// Forgets the destination and notes that the order to destroy was given.
    #[inline(always)]
    pub(crate) fn mark_ordered(&self) {
        let sequence = read!(self.sequence);
        let nothing = Verified {
            address: Address([0; 16]),
            port: 0,
            protocol: 0,
            generation: Generation(0),
            rule: RuleId(0),
            flags: STATE_ORDERED,
        };
        self.write_from(sequence, &nothing);
    }

    #[inline(always)]
    fn write_from(&self, sequence: u64, verified: &Verified) {
        self.change(sequence, || {
            write_address!(self.address = verified.address);
            write!(self.port = verified.port);
            write!(self.protocol = verified.protocol);
            write!(self.generation = verified.generation);
            write!(self.rule = verified.rule);
            write!(self.flags = verified.flags);
            write!(self.hello_pieces = 0);
        });
    }

    /// Writes, if nobody else writes and the sequence is what it was; says whether it did.
    #[inline(always)]
    fn change(&self, sequence: u64, write: impl FnOnce()) -> bool {
        if sequence & 1 != 0 {
            return false;
        }
        let lock = self.sequence();
        if !lock.exchange(sequence, sequence + 1) {
            return false;
        }
        write();
        // A swap and not a store: an atomic operation that returns a value is a full barrier in
        // the kernel's memory model, on every processor.
        let _odd = lock.swap(sequence + 2);
        true
    }

    #[inline(always)]
    fn sequence(&self) -> Counter {
        // SAFETY: socket storage gave the entry, and it lives until the program ends.
        let sequence = unsafe { &raw mut (*self.0.as_ptr()).sequence };
        // SAFETY: aligned by the layout; writers use atomic operations.
        unsafe { Counter::new(sequence) }
    }

    /// x86 does not reorder loads; elsewhere an atomic operation is the barrier that programs have. One
    /// that always writes: a compare-and-swap that fails orders nothing (`Documentation/atomic_t.txt`).
    #[inline(always)]
    #[cfg_attr(
        bpf_target_arch = "x86_64",
        expect(clippy::unused_self, reason = "the barrier of others needs the entry")
    )]
    fn order_reads(&self) {
        #[cfg(not(bpf_target_arch = "x86_64"))]
        let _same = self.sequence().fetch_add(0);
    }
}
