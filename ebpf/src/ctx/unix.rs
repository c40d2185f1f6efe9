//! The context of the hooks on unix sockets, which shows no address: the kernel's own has it.

use core::{arch::asm, mem};

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::generated::{
        bpf_get_current_ancestor_cgroup_id, bpf_get_socket_cookie, bpf_probe_read_kernel_str,
    },
    programs::SockAddrContext,
};
use common::unix::{CAST_PLACEHOLDER, SUN_PATH_BYTES, UNIX_KEY_BYTES};

use super::{field, thread_group};

/// Bytes of `sun_family`, before the path.
const FAMILY_BYTES: u64 = 2;

/// `struct bpf_sock_addr_kern` (linux/filter.h). Where a kernel has it otherwise, the verifier refuses
/// the program: it checks every read against the kernel's own types.
#[repr(C)]
struct KernelCall {
    sock: u64,
    address: u64,
    scratch: u64,
    context: u64,
    address_bytes: u32,
}

/// The context of `connect_unix` and `sendmsg_unix`.
pub(crate) struct UnixCall(*mut bpf_sock_addr);

impl UnixCall {
    #[inline(always)]
    pub(crate) fn new(context: &SockAddrContext) -> Self {
        Self(context.sock_addr)
    }

    #[inline(always)]
    pub(crate) fn socket_type(&self) -> u8 {
        field!(self.type_) as u8
    }

    #[inline(always)]
    pub(crate) fn pid(&self) -> u32 {
        thread_group()
    }

    #[inline(always)]
    pub(crate) fn cookie(&self) -> u64 {
        // SAFETY: the helper takes this program's context.
        unsafe { bpf_get_socket_cookie(self.0.cast()) }
    }

    /// The task's cgroup at a level below the root, or 0. The task's and not the socket's: unix
    /// sockets are made without a hook and carry no tag.
    #[inline(always)]
    pub(crate) fn ancestor(&self, level: i32) -> u64 {
        // SAFETY: the helper takes any level.
        unsafe { bpf_get_current_ancestor_cgroup_id(level) }
    }

    /// Reads the name up to its end or its first NUL, as the kernel does when it looks the name up;
    /// `path` is zeroed. `false` where it is no path: an abstract name, or none.
    #[inline(always)]
    pub(crate) fn read_path(&self, path: &mut [u8; UNIX_KEY_BYTES]) -> bool {
        type Cast = unsafe extern "C" fn(*mut bpf_sock_addr) -> *const KernelCall;
        // SAFETY: a number that the loader replaces by the kernel function's; a program in which it
        // still stands is refused by the verifier.
        let cast: Cast = unsafe { mem::transmute(CAST_PLACEHOLDER) };
        // SAFETY: the function takes this program's context.
        let kernel = unsafe { cast(self.0) };
        // SAFETY: as the kernel function gives it, which the verifier checks.
        let bytes = unsafe { &raw const (*kernel).address_bytes };
        // SAFETY: as above.
        let bytes = unsafe { bytes.read_volatile() };
        // SAFETY: as above.
        let address = unsafe { &raw const (*kernel).address };
        // SAFETY: as above.
        let address = unsafe { address.read_volatile() };
        let length = bounded(u64::from(bytes).wrapping_sub(FAMILY_BYTES));
        if length == 0 {
            return false;
        }
        let source = address.wrapping_add(FAMILY_BYTES);
        // SAFETY: with the NUL that the helper adds at most one byte more than a name has, for which
        // the key has room; the helper checks what it reads.
        let copied = unsafe {
            bpf_probe_read_kernel_str(
                path.as_mut_ptr().cast(),
                length as u32 + 1,
                source as *const _,
            )
        };
        // The NUL counts.
        copied > 1
    }
}

/// The number, or 0 where a name is not that long. The compiler must know nothing of it before the
/// bound: it would compare a copy, and the verifier would not see the number bounded.
#[inline(always)]
fn bounded(number: u64) -> u64 {
    let mut number = number;
    // SAFETY: no instruction.
    unsafe { asm!("/* {number} */", number = inout(reg) number, options(nomem, nostack)) };
    if number > SUN_PATH_BYTES as u64 {
        return 0;
    }
    // SAFETY: no instruction.
    unsafe { asm!("/* {number} */", number = inout(reg) number, options(nomem, nostack)) };
    number
}
