//! The maps and what may be done with them. `agent::kernel::maps` opens them by the same names.
//!
//! Nothing here decides. No map is an LRU map: an entry that decides never goes of itself; a full
//! map means that a flow is refused.

mod clients;
mod doors;
mod names;

use core::{
    arch::asm,
    ptr::{self, NonNull},
};

use aya_ebpf::{
    bindings::{
        BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP,
        BPF_RB_NO_WAKEUP,
    },
    btf_maps::SkStorage,
    macros::{btf_map, map},
    maps::{Array, HashMap, LpmTrie, PerCpuArray, PerCpuHashMap, RingBuf, lpm_trie::Key},
};
use common::{
    event::{DestroyOrder, Event},
    flow::{Address, Flow},
    id::{Generation, PolicyId, RuleId, SessionId},
    layout::{
        CONFIGS, Config, CounterKey, ExactKey, GrantKey, Limits, LimitsKey, LiveKey, PolicyWord,
        PrefixData, SocketState, TALLIES, Tally, Usage, Worker,
    },
    limits::{
        COUNTERS_MAX, DESTROY_RING_BYTES, EVENT_PAUSE_MS, EVENT_RING_BUSY_BYTES, EVENT_RING_BYTES,
        GRANTS_MAX, GRANTS_PER_ADDRESS_MAX, LIVE_RULES_MAX, LOCAL_ADDRESSES_MAX, POLICIES_MAX,
        PREFIXES_MAX, RESOLVER_NAMESPACES_MAX, SESSIONS_MAX,
    },
    rule::{GrantSet, Match, RuleSet, TLS},
};

pub(crate) use self::{
    clients::{is_client, renew_client, write_client},
    doors::unix_door,
    names::Name,
};
use crate::{atomic::Counter, ctx};

/// Cgroup id to worker. Twice the sessions: a closing one keeps its entry.
#[map]
static WORKERS: HashMap<u64, Worker> = HashMap::with_max_entries(2 * SESSIONS_MAX, 0);
/// The word of each policy; the agent flips a generation by one store through a shared mapping.
#[map]
static POLICY_WORDS: Array<u64> = Array::with_max_entries(POLICIES_MAX, BPF_F_MMAPABLE);
/// Single addresses. Not preallocated: at full size that would pin 80 MB for everybody.
#[map]
static EXACT: HashMap<ExactKey, RuleSet> =
    HashMap::with_max_entries(PREFIXES_MAX, BPF_F_NO_PREALLOC);
/// Prefixes.
#[map]
static PREFIXES: LpmTrie<PrefixData, RuleSet> =
    LpmTrie::with_max_entries(PREFIXES_MAX, BPF_F_NO_PREALLOC);
/// Rules alive in a generation.
#[map]
static LIVE: HashMap<LiveKey, u32> = HashMap::with_max_entries(LIVE_RULES_MAX, BPF_F_NO_PREALLOC);
/// `[egress.limits]`, in both generations of a push.
#[map]
static LIMITS: HashMap<LimitsKey, Limits> = HashMap::with_max_entries(2 * POLICIES_MAX, 0);
/// Addresses that DNS returned to a session for a name of a rule. Elements are replaced, never
/// changed in place.
#[map]
static GRANTS: HashMap<GrantKey, GrantSet> =
    HashMap::with_max_entries(GRANTS_MAX, BPF_F_NO_PREALLOC);
/// Cookies of network namespaces, beside the agent's own, in which the resolver listens.
#[map]
static RESOLVERS: HashMap<u64, u32> = HashMap::with_max_entries(RESOLVER_NAMESPACES_MAX, 0);
/// What each session has used. Entry 0 counts the events of sockets without a session.
#[map]
static USAGE: HashMap<SessionId, Usage> = HashMap::with_max_entries(2 * SESSIONS_MAX, 0);
/// Addresses of the agent's network namespace.
#[map]
static LOCALS: HashMap<Address, u32> = HashMap::with_max_entries(LOCAL_ADDRESSES_MAX, 0);
/// [`Config`]
#[map]
static CONFIG: Array<u64> = Array::with_max_entries(CONFIGS, 0);
/// Decisions by policy, verdict, reason, protocol and hook.
#[map]
static COUNTERS: PerCpuHashMap<CounterKey, u64> = PerCpuHashMap::with_max_entries(COUNTERS_MAX, 0);
/// [`Tally`]
#[map]
static TALLY: PerCpuArray<u64> = PerCpuArray::with_max_entries(TALLIES, 0);
/// [`Event`]s.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_RING_BYTES, 0);
/// [`DestroyOrder`]s: a queue of their own, so that a flood of events can not displace them.
#[map]
static DESTROY: RingBuf = RingBuf::with_byte_size(DESTROY_RING_BYTES, 0);
/// When an event last woke the agent, by processor. Not pinned: the first event of new programs
/// wakes.
#[map]
static WOKEN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
/// State of each socket.
#[btf_map]
static SOCKETS: SkStorage<SocketState> = SkStorage::new();

/// What the congestion control of a socket was, while another stands in for it. Not pinned: where it
/// is lost a connection goes on with the other.
#[btf_map]
static PACED: SkStorage<[u8; 16]> = SkStorage::new();

/// The map of congestion controls, for the raw helpers.
#[inline(always)]
pub(crate) fn paced() -> *mut core::ffi::c_void {
    ptr::from_ref(&PACED).cast_mut().cast()
}

/// The socket-storage map, for the raw helper: aya's accessors take a `SockAddrContext` only.
#[inline(always)]
pub(crate) fn sockets() -> *mut core::ffi::c_void {
    ptr::from_ref(&SOCKETS).cast_mut().cast()
}

/// The worker of a cgroup.
#[inline(always)]
pub(crate) fn worker(cgroup: u64) -> Option<&'static Worker> {
    // SAFETY: entries of a preallocated table may be reused while they are read, but a program
    // holds the RCU read lock, and a session's entry changes its flags only while its cgroup lives.
    unsafe { WORKERS.get(cgroup) }
}

/// The word of a policy, read once: a decision never sees two generations.
#[inline(always)]
pub(crate) fn word(policy: PolicyId) -> PolicyWord {
    match POLICY_WORDS.get_ptr(policy.0) {
        // SAFETY: the pointer is into the array's memory, which lives as long as the program;
        // volatile, because the agent stores to it at any time.
        Some(word) => PolicyWord(unsafe { word.read_volatile() }),
        None => PolicyWord(0),
    }
}

/// No rule. Functions that are not inlined return it in the place of an `Option`, whose absent content
/// is undefined: the verifier refuses to see that moved about.
pub(crate) const NOTHING: Match = Match {
    rule: RuleId(0),
    flags: 0,
};

/// What the longest prefix that covers the flow's address opens for its protocol and port, or
/// [`NOTHING`].
#[inline(never)]
pub(crate) fn find(policy: PolicyId, generation: Generation, flow: &Flow) -> Match {
    let exact = ExactKey {
        policy,
        generation,
        address: flow.address,
    };
    // SAFETY: elements of a table without preallocation are freed after an RCU grace period, and
    // the agent never changes one in place.
    let set = match unsafe { EXACT.get(exact) } {
        Some(set) => set,
        None => match PREFIXES.get(Key::new(
            PrefixData::SCOPE_BITS + 128,
            PrefixData::new(policy, generation, flow.address),
        )) {
            Some(set) => set,
            None => return NOTHING,
        },
    };
    match set.find(flow.protocol, flow.port) {
        Some(found) => found,
        None => NOTHING,
    }
}

/// Whether a rule is part of a generation. A function of its own, as [`count`] is: inlined, each call
/// takes room for a key, and a program has 512 bytes of stack.
#[inline(never)]
pub(crate) fn lives(policy: PolicyId, generation: Generation, rule: RuleId) -> bool {
    LIVE.get_ptr(LiveKey {
        policy,
        generation,
        rule,
    })
    .is_some()
}

/// What a grant of the session opens for the flow: one that has not ended, of a rule that is part of
/// the generation; or [`NOTHING`]. One that demands no name comes first.
///
/// The grants are compared without a branch, into a mask: with branches the verifier would follow
/// each way through eight of them. Only what the mask names is asked for its rule.
#[inline(never)]
pub(crate) fn granted(
    session: SessionId,
    policy: PolicyId,
    generation: Generation,
    flow: &Flow,
) -> Match {
    let now = ctx::now();
    let key = GrantKey {
        session,
        address: flow.address,
    };
    // SAFETY: elements of a table without preallocation are freed after an RCU grace period, and
    // the agent replaces them whole.
    let Some(set) = (unsafe { GRANTS.get(key) }) else {
        return NOTHING;
    };
    let mut open = 0_u32;
    let mut slot = 0;
    while slot < GRANTS_PER_ADDRESS_MAX {
        if let Some(grant) = set.grants.get(slot) {
            let range = &grant.range;
            let covers = u32::from(u16::from(range.protocol) == flow.protocol)
                & u32::from(range.low <= flow.port)
                & u32::from(flow.port <= range.high)
                & u32::from(grant.expires_ns > now);
            let named = usize::from(range.flags & TLS != 0);
            // The lower half of the mask demands no name.
            open |= covers << (slot + named * GRANTS_PER_ADDRESS_MAX);
        }
        slot = unknown(slot + 1);
    }
    let mut place = 0;
    while place < 2 * GRANTS_PER_ADDRESS_MAX {
        if open & (1 << place) != 0
            && let Some(grant) = set.grants.get(place % GRANTS_PER_ADDRESS_MAX)
            && lives(policy, generation, grant.range.rule)
        {
            return Match {
                rule: grant.range.rule,
                flags: grant.range.flags,
            };
        }
        place = unknown(place + 1);
    }
    NOTHING
}

/// The same number, of which the compiler knows nothing: a loop over it is not unrolled, which would
/// put a key for each turn on the stack.
#[inline(always)]
fn unknown(number: usize) -> usize {
    let mut number = number;
    // SAFETY: no instruction.
    unsafe { asm!("/* {number} */", number = inout(reg) number, options(nomem, nostack)) };
    number
}

/// The limits of a generation.
#[inline(always)]
pub(crate) fn limits(policy: PolicyId, generation: Generation) -> Option<&'static Limits> {
    // SAFETY: written before the generation is in force, removed after a grace period.
    unsafe { LIMITS.get(LimitsKey { policy, generation }) }
}

/// Whether this is an address of the agent's network namespace.
#[inline(always)]
pub(crate) fn is_local(address: &Address) -> bool {
    LOCALS.get_ptr(address).is_some()
}

/// Whether the resolver listens in a network namespace that is not the agent's.
#[inline(always)]
pub(crate) fn has_resolver(netns: u64) -> bool {
    RESOLVERS.get_ptr(netns).is_some()
}

/// A configuration value; 0 while it is not set.
#[inline(always)]
pub(crate) fn config(slot: Config) -> u64 {
    CONFIG.get(slot as u32).copied().unwrap_or(0)
}

/// Counts a decision.
#[inline(never)]
pub(crate) fn count(key: &CounterKey) {
    if let Some(count) = COUNTERS.get_ptr_mut(key) {
        // SAFETY: this processor's slot of a preallocated entry; aligned, as all map values are.
        unsafe { Counter::new(count) }.fetch_add(1);
    } else if COUNTERS.insert(key, 1, u64::from(BPF_NOEXIST)).is_err() {
        // Another processor may have been quicker.
        if let Some(count) = COUNTERS.get_ptr_mut(key) {
            // SAFETY: as above.
            unsafe { Counter::new(count) }.fetch_add(1);
        } else {
            tally(Tally::CountersFull);
        }
    }
}

/// Counts a loss.
#[inline(always)]
pub(crate) fn tally(slot: Tally) {
    if let Some(count) = TALLY.get_ptr_mut(slot as u32) {
        // SAFETY: this processor's slot of an array that lives as long as the program.
        unsafe { Counter::new(count) }.fetch_add(1);
    }
}

/// Hands an event to the agent, or counts it as lost. Never waits. The event is made in the ring:
/// on the stack there is no room for it.
///
/// An urgent one wakes the agent at once. Others do so once in a while: a wake-up for each costs the
/// worker more than its whole decision, and the agent looks again by itself after each wake-up.
#[inline(always)]
pub(crate) fn send_event(time_ns: u64, urgent: bool, event: impl FnOnce() -> Event) {
    if let Some(mut entry) = EVENTS.reserve::<Event>(0) {
        entry.write(event());
        entry.submit(if wakes(time_ns, urgent) {
            u64::from(BPF_RB_FORCE_WAKEUP)
        } else {
            u64::from(BPF_RB_NO_WAKEUP)
        });
    } else {
        tally(Tally::EventsLost);
    }
}

#[inline(always)]
fn wakes(time_ns: u64, urgent: bool) -> bool {
    const PAUSE_NS: u64 = EVENT_PAUSE_MS as u64 * 1_000_000;
    let Some(woken) = WOKEN.get_ptr_mut(0) else {
        return true;
    };
    // SAFETY: this processor's slot of an array that lives as long as the program; aligned, as all
    // map values are.
    let woken = unsafe { Counter::new(woken) };
    // A program that interrupts this one between load and store wakes the agent once more.
    let wakes = urgent
        || time_ns.wrapping_sub(woken.load()) >= PAUSE_NS
        || EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= u64::from(EVENT_RING_BUSY_BYTES);
    if wakes {
        woken.store(time_ns);
    }
    wakes
}

/// Orders a socket's destruction; `false` when the ring is full.
#[inline(always)]
pub(crate) fn send_order(order: impl FnOnce() -> DestroyOrder) -> bool {
    if let Some(mut entry) = DESTROY.reserve::<DestroyOrder>(0) {
        entry.write(order());
        entry.submit(0);
        true
    } else {
        tally(Tally::DestroyLost);
        false
    }
}

/// The counters of one session.
#[derive(Clone, Copy)]
pub(crate) struct UsageEntry(NonNull<Usage>);

/// The usage entry of a session.
#[inline(always)]
pub(crate) fn usage(session: SessionId) -> Option<UsageEntry> {
    NonNull::new(USAGE.get_ptr_mut(session).unwrap_or(ptr::null_mut())).map(UsageEntry)
}

macro_rules! counters {
    ($($name:ident)*) => {
        $(
            #[inline(always)]
            pub(crate) fn $name(self) -> Counter {
                // SAFETY: the map gave the entry, and the program holds the RCU read lock.
                let field = unsafe { &raw mut (*self.0.as_ptr()).$name };
                // SAFETY: aligned by the layout; all sides use atomic operations.
                unsafe { Counter::new(field) }
            }
        )*
    };
}

impl UsageEntry {
    counters! { connections bytes_out event_second event_count suppressed client_second client_count asked_until_ns questions_dropped }
}
