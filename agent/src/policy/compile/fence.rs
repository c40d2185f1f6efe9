//! `[syscalls]` and `[limits]`: what a worker may ask of the kernel, and how much of it.

use std::time::Duration;

use super::{
    super::{
        compiled::{Limits, Profile, Syscalls},
        error::Code,
        profile::{self, NameError},
        quantity,
        raw::{Field, List, Located, RawLimits, RawProfile, RawSyscalls},
    },
    Context, or,
};

/// Names of one list of system calls.
const SYSCALLS_MAX: usize = 512;
impl Context<'_> {
    pub(super) fn syscalls(&mut self, raw: Option<RawSyscalls>) -> Syscalls {
        let (profile, allow, deny) = match raw {
            Some(RawSyscalls {
                profile,
                allow,
                deny,
            }) => (profile, allow, deny),
            None => (Field::Absent, Field::Absent, Field::Absent),
        };
        let allow = self.names("allow", allow, profile::allowable);
        let deny = self.names("deny", deny, profile::known);
        for name in &deny {
            if allow.iter().any(|other| other.value == name.value) {
                let message = format!("`{}` is allowed and denied", name.value);
                let hint = "drop it from one of the two lists";
                self.findings
                    .hinted(Code::Conflict, name.span, message, hint);
            }
        }
        Syscalls {
            profile: match or(profile, RawProfile::Default) {
                RawProfile::Default => Profile::Default,
                RawProfile::Interpreter => Profile::Interpreter,
                RawProfile::Strict => Profile::Strict,
            },
            allow: ordered(allow),
            deny: ordered(deny),
        }
    }

    fn names(
        &mut self,
        key: &str,
        field: Field<List<String>>,
        judge: impl Fn(&str) -> Result<(), NameError>,
    ) -> List<String> {
        let raw = or(field, Vec::new());
        if let Some(name) = raw.get(SYSCALLS_MAX) {
            let message = format!("`{key}` has more than {SYSCALLS_MAX} names");
            self.findings.add(Code::OutOfBounds, name.span, message);
        }
        for name in &raw {
            if let Err(error) = judge(&name.value) {
                self.findings
                    .hinted(Code::BadValue, name.span, error.to_string(), error.hint());
            }
        }
        raw
    }

    pub(super) fn limits(&mut self, raw: Option<RawLimits>) -> Limits {
        let RawLimits {
            memory,
            processes,
            cpus,
            open_files,
            cpu_time,
            output,
        } = raw.unwrap_or_default();
        let (memory_bounds, memory_default) =
            (quantity::MEMORY_BYTES, quantity::MEMORY_BYTES_DEFAULT);
        let processes_default = quantity::PROCESSES_DEFAULT.into();
        let files_default = quantity::OPEN_FILES_DEFAULT.into();
        let output_default = quantity::OUTPUT_BYTES_DEFAULT;
        Limits {
            memory: self.size("memory", memory, memory_bounds, memory_default),
            processes: narrow(self.count(
                "processes",
                processes,
                quantity::PROCESSES,
                processes_default,
            )),
            cpus_milli: self.cpus(cpus),
            open_files: narrow(self.count(
                "open_files",
                open_files,
                quantity::OPEN_FILES,
                files_default,
            )),
            cpu_time: self.timeout("cpu_time", cpu_time, Duration::MAX),
            output: self.size("output", output, quantity::OUTPUT_BYTES, output_default),
        }
    }

    fn cpus(&mut self, field: Field<f64>) -> u32 {
        let Some(Located { value, span }) = field.given() else {
            return quantity::CPUS_MILLI_DEFAULT;
        };
        let milli = (value * 1_000.0).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range is checked in the condition; NaN is in no range"
        )]
        let milli = (1.0..=1e9).contains(&milli).then_some(milli as u64);
        let text = |milli: u64| format!("{}.{:03}", milli / 1_000, milli % 1_000);
        let default = quantity::CPUS_MILLI_DEFAULT.into();
        narrow(self.within("cpus", milli, span, quantity::CPUS_MILLI, text, default))
    }
}

/// The numbers that come here were held to bounds below 2³².
pub(super) fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

pub(super) fn ordered<T: Ord>(list: List<T>) -> Vec<T> {
    let mut values: Vec<T> = list.into_iter().map(|located| located.value).collect();
    values.sort();
    values.dedup();
    values
}
