//! `[[local.allow]]`: what a policy opens on this host, and that nothing comes along.

mod own;
mod unix;
