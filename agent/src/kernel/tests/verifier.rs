//! What the verifier goes through to accept each program. It refuses at a million instructions, other
//! kernels count more than this one, and what it counts is paid at every start.

use std::fmt::Write as _;

use common::decide::Mode;

use super::{
    lab::{Fence, Lab},
    policies::{NO_LIMITS, policy},
};

/// Verified instructions at most, by program: about twice what Linux 6.18 counts, somewhat more than
/// 6.1, which counts twice as many of some, and a few thousand where both count next to nothing.
const VERIFIED_MAX: &[(&str, u32)] = &[
    ("egress", 150_000),
    ("ingress", 47_000),
    ("sock_create", 5_000),
    ("bind4", 7_000),
    ("bind6", 7_000),
    ("connect4", 70_000),
    ("connect6", 70_000),
    ("sendmsg4", 70_000),
    ("sendmsg6", 70_000),
    ("recvmsg4", 2_000),
    ("recvmsg6", 2_000),
    ("getpeername4", 2_000),
    ("getpeername6", 2_000),
    ("pace", 2_000),
    ("connect_unix", 20_000),
    ("sendmsg_unix", 20_000),
];

#[test]
fn the_verifier_goes_through_no_more_than_it_may() {
    let _lab = Lab::new();
    let fence = Fence::new(&policy(Mode::Enforce, NO_LIMITS, &[]));
    let mut table = format!("{:<13}{:>9}{:>9}\n", "program", "verified", "at most");
    let mut complaints = Vec::new();
    for (name, info) in fence.kernel.programs().unwrap() {
        let bound = VERIFIED_MAX.iter().find(|(program, _)| *program == name);
        let most = bound.map_or(0, |(_, most)| *most);
        writeln!(table, "{name:<13}{:>9}{most:>9}", info.verified).unwrap();
        if info.verified == 0 || info.verified > most {
            complaints.push(name);
        }
    }
    println!("{table}");
    assert!(complaints.is_empty(), "{complaints:?} of\n{table}");
}
