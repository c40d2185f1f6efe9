//! The kernel object that `cargo xtask build` made, embedded.

/// The ELF object, aligned as its parser needs it.
pub(in crate::kernel) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(env!("STOCKADE_EBPF_OBJECT"));
