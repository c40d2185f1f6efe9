//! Types whose bytes may be copied across the kernel boundary.

use crate::{event, flow, id, layout, name, rule, unix};

/// A type without padding, references or invalid bit patterns.
///
/// # Safety
/// Every byte of every value is initialised and every bit pattern is a value.
pub unsafe trait Pod: Copy + 'static {
    /// Reads a value from the front of `bytes`, or `None` when there are too few.
    #[must_use]
    fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < size_of::<Self>() {
            return None;
        }
        // SAFETY: enough bytes are there, `read_unaligned` asks for no alignment, and the trait's
        // contract makes any bytes a value.
        Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }

    /// The value's bytes.
    #[must_use]
    fn bytes(&self) -> &[u8] {
        let start = core::ptr::from_ref(self).cast::<u8>();
        // SAFETY: the trait's contract says that all bytes are initialised; the slice borrows self.
        unsafe { core::slice::from_raw_parts(start, size_of::<Self>()) }
    }
}

macro_rules! pod {
    ($($type:ty),* $(,)?) => {
        $(
            // SAFETY: `repr(C)` of integers and byte arrays; sizes asserted beside the types, so
            // there is no padding.
            unsafe impl Pod for $type {}
        )*
    };
}

pod!(
    u32,
    u64,
    flow::Address,
    id::SessionId,
    id::RuleId,
    event::Event,
    event::DestroyOrder,
    layout::Worker,
    layout::ExactKey,
    layout::PrefixData,
    layout::PrefixKey,
    layout::LiveKey,
    layout::LimitsKey,
    layout::Limits,
    layout::Usage,
    layout::CounterKey,
    layout::SocketState,
    layout::ClientKey,
    layout::Client,
    layout::GrantKey,
    name::NameData,
    name::NameKey,
    event::NamedEvent,
    rule::PortRange,
    rule::RuleSet,
    rule::Grant,
    rule::GrantSet,
    unix::UnixKey,
);
