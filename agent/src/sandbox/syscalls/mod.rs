//! Which system calls a worker may make: data tables, one line a call, with its reason.
//!
//! A profile is a union of groups. `[syscalls] allow` adds calls that some table knows, unless one
//! of them would open the fence; `deny` takes away.

mod arguments;
mod groups;
mod refused;

use std::collections::BTreeMap;

use crate::{
    policy::compiled::{Profile, Syscalls},
    sandbox::error::PlanError,
};

pub use refused::{ABSENT, NUMBERS_KNOWN};

/// A call, and why it stands in its table.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// Its number on this architecture.
    pub number: i64,
    /// Why it is listed.
    pub why: &'static str,
}

/// A test of one argument's lower 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Test {
    /// Equals.
    Is(u32),
    /// Equals the second after masking with the first.
    Masked(u32, u32),
}

/// Tests by argument number, all of which must hold.
pub type Check = Vec<(u8, Test)>;

/// Distance up to which a misspelt name is recognised.
const SUGGESTION_DISTANCE_MAX: usize = 3;

/// Lines of a table: `SYS_name: "why"`, with the number from libc, or `SYS_name = number: "why"` for
/// calls that libc does not know yet.
macro_rules! calls {
    (@number $name:ident) => { libc::$name };
    (@number $name:ident $number:literal) => { $number };
    ($($name:ident $(= $number:literal)?: $why:literal,)*) => {
        &[$(crate::sandbox::syscalls::Call {
            name: crate::sandbox::syscalls::strip(stringify!($name)),
            number: crate::sandbox::syscalls::calls!(@number $name $($number)?),
            why: $why,
        },)*]
    };
}
use calls;

/// `SYS_read` → `read`.
const fn strip(name: &str) -> &str {
    let (_, rest) = name.split_at(4);
    rest
}

/// The calls that a policy allows; each passes when one of its checks holds, or when it has none.
pub fn resolve(policy: &Syscalls) -> Result<BTreeMap<i64, Vec<Check>>, PlanError> {
    let mut calls: BTreeMap<i64, Vec<Check>> = BTreeMap::new();
    for table in groups::of(policy.profile) {
        for call in *table {
            calls.insert(call.number, arguments::checks(call.number, policy.profile));
        }
    }
    for name in &policy.allow {
        let mut shut = [refused::FENCE, refused::FENCE_HERE, ABSENT]
            .into_iter()
            .flatten();
        if let Some(call) = shut.find(|call| call.name == name) {
            return Err(PlanError::CallOpensFence {
                name: name.clone(),
                why: call.why,
            });
        }
        let call = find(name).ok_or_else(|| unknown("allow", name))?;
        // A call with checks keeps them: they are part of the fence.
        calls
            .entry(call.number)
            .or_insert_with(|| arguments::checks(call.number, policy.profile));
    }
    for name in &policy.deny {
        let call = find(name).ok_or_else(|| unknown("deny", name))?;
        calls.remove(&call.number);
    }
    Ok(calls)
}

/// Every name that `[syscalls]` may use.
pub fn names() -> impl Iterator<Item = &'static str> {
    all().map(|call| call.name)
}

/// The number of a call that some table knows.
pub fn number(name: &str) -> Option<i64> {
    find(name).map(|call| call.number)
}

fn find(name: &str) -> Option<&'static Call> {
    all().find(|call| call.name == name)
}

fn all() -> impl Iterator<Item = &'static Call> {
    groups::of(Profile::Interpreter)
        .iter()
        .copied()
        .chain([
            refused::OPTIONAL,
            refused::OPTIONAL_HERE,
            refused::FENCE,
            refused::FENCE_HERE,
            ABSENT,
        ])
        .flatten()
}

fn unknown(list: &'static str, name: &str) -> PlanError {
    let nearest = names()
        .map(|known| (strsim::levenshtein(known, name), known))
        .min()
        .filter(|(distance, _)| *distance <= SUGGESTION_DISTANCE_MAX);
    PlanError::UnknownCall {
        list,
        name: name.to_owned(),
        hint: nearest.map_or_else(String::new, |(_, known)| {
            format!("\nhint: did you mean `{known}`?")
        }),
    }
}
