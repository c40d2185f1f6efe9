//! The hooks: each builds a flow from its context, asks `decide`, and carries the verdict out.

pub(crate) mod bind;
pub(crate) mod client;
pub(crate) mod connect;
pub(crate) mod egress;
pub(crate) mod ingress;
pub(crate) mod original;
pub(crate) mod own;
pub(crate) mod pace;
pub(crate) mod sendmsg;
pub(crate) mod sock_create;
pub(crate) mod tls;
pub(crate) mod unix;

/// The system call or the packet goes on.
pub(crate) const PASS: i32 = 1;
/// It does not. A system call returns EPERM where the hook has set no other number.
pub(crate) const REFUSE: i32 = 0;
