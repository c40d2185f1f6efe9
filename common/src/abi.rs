//! The version of everything that is pinned.
//!
//! The pin folder carries it (`/sys/fs/bpf/<instance>/v<ABI>`): programs and an agent of two
//! versions never meet on one map, because re-opening a pinned map checks neither type nor size.

/// Version of map layouts, event layouts and program semantics. Raise it with every change to
/// `layout`, `event` or `rule`.
pub const ABI_VERSION: u32 = 3;

/// Name of the folder under the instance's bpffs folder that holds this version's pins.
pub const PIN_FOLDER: &str = "v3";

const _: () = assert!(ABI_VERSION == 3, "PIN_FOLDER must name ABI_VERSION");
