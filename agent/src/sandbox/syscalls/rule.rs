//! What is said of one call: a verdict, or a choice by the values of its arguments.

use seccompiler::SeccompAction;

/// The kernel's answer to a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// The call is made.
    Allow,
    /// `EPERM`: programs report it and go on.
    NotPermitted,
    /// `ENOSYS`: as if the kernel lacked the call; programs use an older one.
    NotHere,
    /// `EAFNOSUPPORT`: as if the kernel lacked the socket family.
    NoFamily,
    /// `EPROTONOSUPPORT`: as if the family lacked the type or the protocol.
    NoProtocol,
    /// Success, and nothing is done: programs ask for it as a matter of course and need it seldom.
    Ignored,
    /// The process ends: nothing legitimate makes such a call.
    Kill,
}

/// One call's meaning. Only the lower 32 bits of an argument are looked at, as by the kernel: every
/// argument named here is an `int`, or flags of which the kernel knows none above.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Rule {
    /// The same whatever the arguments.
    Always(Verdict),
    /// By an argument's value after masking. Each value stands at most once.
    By {
        /// Number of the argument, from 0.
        argument: u8,
        /// The bits that are looked at.
        mask: u32,
        /// What values lead to; each lies within the mask.
        cases: Vec<(u32, Rule)>,
        /// What all other values lead to.
        otherwise: Box<Rule>,
    },
}

impl Verdict {
    /// The filter's return value.
    pub fn action(self) -> SeccompAction {
        let errno = |code: i32| SeccompAction::Errno(code.unsigned_abs());
        match self {
            Self::Allow => SeccompAction::Allow,
            Self::NotPermitted => errno(libc::EPERM),
            Self::NotHere => errno(libc::ENOSYS),
            Self::NoFamily => errno(libc::EAFNOSUPPORT),
            Self::NoProtocol => errno(libc::EPROTONOSUPPORT),
            Self::Ignored => errno(0),
            Self::Kill => SeccompAction::KillProcess,
        }
    }
}

impl Rule {
    /// Allowed whatever the arguments.
    pub const ALLOW: Self = Self::Always(Verdict::Allow);
    /// Refused with `EPERM`.
    pub const REFUSE: Self = Self::Always(Verdict::NotPermitted);

    /// Allowed for these values of an argument.
    pub fn one_of(argument: u8, values: &[u32]) -> Self {
        Self::masked(argument, u32::MAX, values)
    }

    /// Allowed where an argument, masked, has one of these values.
    pub fn masked(argument: u8, mask: u32, values: &[u32]) -> Self {
        let cases = values.iter().map(|value| (*value, Self::ALLOW));
        Self::choice(argument, mask, cases, Self::REFUSE)
    }

    /// By an argument's masked value.
    pub fn choice(
        argument: u8,
        mask: u32,
        cases: impl IntoIterator<Item = (u32, Self)>,
        otherwise: Self,
    ) -> Self {
        Self::By {
            argument,
            mask,
            cases: cases.into_iter().collect(),
            otherwise: Box::new(otherwise),
        }
    }

    /// What is left to say where an argument has this value.
    pub fn at(&self, which: u8, value: u32) -> &Self {
        match self {
            Self::By {
                argument,
                mask,
                cases,
                otherwise,
            } if *argument == which => cases
                .iter()
                .find(|(case, _)| *case == value & mask)
                .map_or(&**otherwise, |(_, rule)| rule),
            Self::Always(_) | Self::By { .. } => self,
        }
    }

    /// The same, but allowed for these values of an argument.
    #[must_use]
    pub fn besides(&self, argument: u8, values: &[u32]) -> Self {
        let cases = values.iter().map(|value| (*value, Self::ALLOW));
        match self {
            Self::By {
                argument: own,
                mask: u32::MAX,
                cases: listed,
                otherwise,
            } if *own == argument => {
                let listed = listed.iter().filter(|(value, _)| !values.contains(value));
                Self::By {
                    argument,
                    mask: u32::MAX,
                    cases: listed.cloned().chain(cases).collect(),
                    otherwise: otherwise.clone(),
                }
            }
            Self::Always(_) | Self::By { .. } => {
                Self::choice(argument, u32::MAX, cases, self.clone())
            }
        }
    }

    /// Allowed but for these values of an argument, which are judged as here.
    #[must_use]
    pub fn only_at(&self, argument: u8, values: &[u32]) -> Self {
        let cases = values
            .iter()
            .map(|value| (*value, self.at(argument, *value).clone()));
        Self::choice(argument, u32::MAX, cases, Self::ALLOW)
    }

    /// Whether no argument can make it pass.
    pub fn always_refuses(&self) -> bool {
        match self {
            Self::Always(verdict) => *verdict != Verdict::Allow,
            Self::By {
                cases, otherwise, ..
            } => cases
                .iter()
                .map(|(_, rule)| rule)
                .chain([&**otherwise])
                .all(Self::always_refuses),
        }
    }

    /// The verdict on a call with these arguments.
    pub fn judge(&self, arguments: &[u64; 6]) -> Verdict {
        match self {
            Self::Always(verdict) => *verdict,
            Self::By {
                argument,
                mask,
                cases,
                otherwise,
            } => {
                let value = arguments.get(usize::from(*argument)).copied();
                let value = value.unwrap_or_default() & u64::from(*mask);
                cases
                    .iter()
                    .find(|(case, _)| u64::from(*case) == value)
                    .map_or(&**otherwise, |(_, rule)| rule)
                    .judge(arguments)
            }
        }
    }
}
