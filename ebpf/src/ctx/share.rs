//! A port is one socket's: the options by which several may have one are taken back.

use aya_ebpf::{
    bindings::bpf_sock_addr, helpers::generated::bpf_setsockopt, programs::SockAddrContext,
};
use common::flow::UDP;

use super::{Call, Family};

/// `SOL_SOCKET`
const SOCKET: i32 = 1;
/// `SO_REUSEADDR`
const REUSE_ADDRESS: i32 = 2;
/// `SO_REUSEPORT`
const REUSE_PORT: i32 = 15;

impl Call {
    /// For a socket of UDP without a port, which the kernel is about to choose: it may fall on one that
    /// somebody shares. This one shares none, neither now nor with who comes later.
    #[inline(always)]
    pub(crate) fn share_no_port(&self) {
        let _number = take_back_sharing(self.0);
    }
}

/// A global function: the verifier follows it once, and what comes after it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn take_back_sharing(context: *mut bpf_sock_addr) -> u32 {
    let call = Call::new(&SockAddrContext::new(context), Family::V4);
    if call.protocol() != UDP || call.local_port() != 0 {
        return 0;
    }
    let mut no = 0_i32;
    for option in [REUSE_ADDRESS, REUSE_PORT] {
        let value = (&raw mut no).cast();
        // Where it fails the packets are still judged one by one.
        // SAFETY: the helper takes this program's context, and reads four bytes.
        let _shared = unsafe { bpf_setsockopt(context.cast(), SOCKET, option, value, 4) };
    }
    1
}
