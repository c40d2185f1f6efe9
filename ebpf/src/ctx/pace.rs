//! The congestion control of a TCP socket: read, set, and what it was before.

use core::{mem::MaybeUninit, ptr};

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, bpf_sock_ops},
    helpers::generated::{
        bpf_getsockopt, bpf_setsockopt, bpf_sk_storage_delete, bpf_sk_storage_get,
        bpf_sock_ops_cb_flags_set,
    },
    programs::SockOpsContext,
};

use super::{Call, field, storage};
use crate::{maps, state::State};

/// `TCP_CA_NAME_MAX`
pub(crate) const NAME_BYTES: usize = 16;

/// Name of a congestion control, ended by zero bytes.
pub(crate) type Name = [u8; NAME_BYTES];

/// The same, as the helpers take it.
const LENGTH: i32 = 16;

const _: () = assert!(size_of::<Name>() == LENGTH as usize);

/// `IPPROTO_TCP`
const TCP: i32 = 6;
/// `TCP_CONGESTION`, linux/tcp.h
const CONGESTION: i32 = 13;

/// Reads and sets by the socket or the context that a program has.
#[inline(always)]
fn read(of: *mut core::ffi::c_void) -> Option<Name> {
    let mut name = MaybeUninit::<Name>::uninit();
    let room = name.as_mut_ptr();
    // SAFETY: the helper takes the contexts of both callers, and fills the room or clears it.
    let failed = unsafe { bpf_getsockopt(of, TCP, CONGESTION, room.cast(), LENGTH) };
    // SAFETY: as above.
    (failed == 0).then(|| unsafe { name.assume_init() })
}

#[inline(always)]
fn set(of: *mut core::ffi::c_void, name: &Name) -> bool {
    let name = ptr::from_ref(name).cast_mut().cast();
    // SAFETY: the helper takes the contexts of both callers, and reads the name.
    (unsafe { bpf_setsockopt(of, TCP, CONGESTION, name, LENGTH) }) == 0
}

/// The name that was kept for a socket.
#[inline(always)]
fn kept(sock: *mut bpf_sock, flags: u32) -> Option<*mut Name> {
    // SAFETY: the map is a socket storage, the socket is the context's and not null.
    let entry = unsafe {
        bpf_sk_storage_get(
            maps::paced(),
            sock.cast(),
            ptr::null_mut(),
            u64::from(flags),
        )
    };
    let entry = entry.cast::<Name>();
    (!entry.is_null()).then_some(entry)
}

impl Call {
    /// Its congestion control.
    #[inline(always)]
    pub(crate) fn congestion(&self) -> Option<Name> {
        read(self.0.cast())
    }

    /// Sets another, after that of now is kept. Nothing is changed where it can not be kept.
    #[inline(always)]
    pub(crate) fn swap_congestion(&self, now: &Name, then: &Name) {
        let sock = self.sock();
        if sock.is_null() {
            return;
        }
        if let Some(entry) = kept(sock, BPF_SK_STORAGE_GET_F_CREATE) {
            // SAFETY: the storage's own memory, which nobody else writes: a socket is connected by one
            // call at a time.
            unsafe { entry.write(*now) };
            // Where it fails the socket keeps what it has: a long hello may then be refused.
            let _kept_as_it_is = set(self.0.cast(), then);
        }
    }
}

/// The context of `sock_ops`: something happened to a TCP socket.
pub(crate) struct Moment(*mut bpf_sock_ops);

impl Moment {
    #[inline(always)]
    pub(crate) fn new(context: &SockOpsContext) -> Self {
        Self(context.ops)
    }

    /// What happened (`BPF_SOCK_OPS_*_CB`).
    #[inline(always)]
    pub(crate) fn what(&self) -> u32 {
        field!(self.op)
    }

    /// What the congestion control was before it was swapped, if it was.
    #[inline(always)]
    pub(crate) fn kept(&self) -> Option<Name> {
        let sock = self.sock();
        if sock.is_null() {
            return None;
        }
        // SAFETY: storage memory of a name, which lives until the program ends.
        kept(sock, 0).map(|entry| unsafe { entry.read() })
    }

    /// Its state.
    #[inline(always)]
    pub(crate) fn state(&self) -> Option<State> {
        let sock = self.sock();
        if sock.is_null() {
            return None;
        }
        storage(sock, 0)
    }

    /// Asks to be told of every round trip, or not any more.
    #[inline(always)]
    pub(crate) fn watch(&self, flags: i32) {
        // SAFETY: the helper takes this program's context; bits that it does not know it leaves out.
        let _unknown_bits = unsafe { bpf_sock_ops_cb_flags_set(self.0, flags) };
    }

    /// Its congestion control.
    #[inline(always)]
    pub(crate) fn congestion(&self) -> Option<Name> {
        read(self.0.cast())
    }

    /// Sets its congestion control.
    #[inline(always)]
    pub(crate) fn set_congestion(&self, name: &Name) {
        // A kernel that has it no more goes on with what is set.
        let _kept_as_it_is = set(self.0.cast(), name);
    }

    /// Forgets what was kept.
    #[inline(always)]
    pub(crate) fn forget(&self) {
        let sock = self.sock();
        if !sock.is_null() {
            // SAFETY: the map is a socket storage, the socket is the context's and not null.
            let _was_there = unsafe { bpf_sk_storage_delete(maps::paced(), sock.cast()) };
        }
    }

    #[inline(always)]
    fn sock(&self) -> *mut bpf_sock {
        field!(self.__bindgen_anon_2.sk)
    }
}
