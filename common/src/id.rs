//! Names of things that cross the kernel boundary, as numbers that can not be mixed up.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $raw:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        #[repr(transparent)]
        pub struct $name(pub $raw);

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id!(
    /// One run of a worker. Never zero, never reused within an instance's life.
    SessionId, u64
);
id!(
    /// The slot of a policy in the kernel's policy table. Never zero.
    PolicyId, u32
);
id!(
    /// How often a policy's rules were replaced. Zero means that the policy is not in force.
    Generation, u32
);
id!(
    /// The first eight bytes, little endian, of the SHA-256 of a rule's canonical text. Equal rules
    /// have equal ids in every generation. Zero means "no rule".
    RuleId, u64
);
id!(
    /// Inode number of a cgroup v2 folder, as `bpf_skb_ancestor_cgroup_id` reports it.
    CgroupId, u64
);
