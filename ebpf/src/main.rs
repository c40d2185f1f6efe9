//! The kernel programs: the hook table, one line a hook.
//!
//! Sections and attach types are what `agent::kernel::attach` expects. What a hook does stands in
//! `hook/`; the order of a decision in `common::decide`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod atomic;
mod ctx;
mod diagnose;
mod emit;
mod hook;
mod maps;
mod rules;
mod state;

use aya_ebpf::{
    macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr, sock_ops},
    programs::{SkBuffContext, SockAddrContext, SockContext, SockOpsContext},
};

use crate::ctx::{Call, Creation, Family, Moment, Packet, UnixCall};

#[rustfmt::skip]
mod table {
    #![expect(
        clippy::needless_pass_by_value,
        reason = "the macros hand the context over by value"
    )]
    use super::{
        Call, Creation, Family, Moment, Packet, SkBuffContext, SockAddrContext, SockContext,
        SockOpsContext, UnixCall, cgroup_skb, cgroup_sock, cgroup_sock_addr, hook, sock_ops,
    };

    #[cgroup_sock(sock_create)] fn sock_create(c: SockContext) -> i32 { hook::sock_create::run(&Creation::new(&c)) }
    #[cgroup_sock_addr(connect4)] fn connect4(c: SockAddrContext) -> i32 { hook::connect::run(&Call::new(&c, Family::V4)) }
    #[cgroup_sock_addr(connect6)] fn connect6(c: SockAddrContext) -> i32 { hook::connect::run(&Call::new(&c, Family::V6)) }
    #[cgroup_sock_addr(sendmsg4)] fn sendmsg4(c: SockAddrContext) -> i32 { hook::sendmsg::run(&Call::new(&c, Family::V4)) }
    #[cgroup_sock_addr(sendmsg6)] fn sendmsg6(c: SockAddrContext) -> i32 { hook::sendmsg::run(&Call::new(&c, Family::V6)) }
    #[cgroup_sock_addr(bind4)] fn bind4(c: SockAddrContext) -> i32 { hook::bind::run(&Call::new(&c, Family::V4)) }
    #[cgroup_sock_addr(bind6)] fn bind6(c: SockAddrContext) -> i32 { hook::bind::run(&Call::new(&c, Family::V6)) }
    #[cgroup_sock_addr(recvmsg4)] fn recvmsg4(c: SockAddrContext) -> i32 { hook::original::run(&Call::new(&c, Family::V4)) }
    #[cgroup_sock_addr(recvmsg6)] fn recvmsg6(c: SockAddrContext) -> i32 { hook::original::run(&Call::new(&c, Family::V6)) }
    #[cgroup_sock_addr(getpeername4)] fn getpeername4(c: SockAddrContext) -> i32 { hook::original::run(&Call::new(&c, Family::V4)) }
    #[cgroup_sock_addr(getpeername6)] fn getpeername6(c: SockAddrContext) -> i32 { hook::original::run(&Call::new(&c, Family::V6)) }
    #[cgroup_skb(egress)] fn egress(c: SkBuffContext) -> i32 { hook::egress::run(&Packet::new(&c)) }
    #[cgroup_skb(ingress)] fn ingress(c: SkBuffContext) -> i32 { hook::ingress::run(&Packet::new(&c)) }

    #[sock_ops] fn pace(c: SockOpsContext) -> u32 { hook::pace::run(&Moment::new(&c)).cast_unsigned() }

    // aya knows no hooks of unix sockets: the section says what kind of program it is, and
    // `agent::kernel::unix` loads it for the hook of its name.
    #[cgroup_sock_addr(connect4)] fn connect_unix(c: SockAddrContext) -> i32 { hook::unix::connect(&UnixCall::new(&c)) }
    #[cgroup_sock_addr(sendmsg4)] fn sendmsg_unix(c: SockAddrContext) -> i32 { hook::unix::sendmsg(&UnixCall::new(&c)) }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// GPL-compatible, as the helpers demand.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
