//! The record: what must be written before anything runs.

/// Proof that an intent was written to the journal. Only the journal makes one; `launch` demands it.
#[must_use]
#[derive(Debug)]
pub struct Receipt {
    pub(in crate::audit) sequence: u64,
}

impl Receipt {
    /// Number of the journal record.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}
