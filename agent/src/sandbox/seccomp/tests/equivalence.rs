//! The compiled parts mean, together, what the tables say: number by number, whatever the arguments.

use std::collections::BTreeMap;

use proptest::{prelude::*, sample::select};

use super::{
    super::{
        Filter, Filters, compile_for, program,
        tree::{Field, Tree},
    },
    HOST, NATIVE, PROFILES, X86_64,
    machine::{ARM, Call, I386, judge, run, verdict},
    policy,
};
use crate::{
    policy::{
        compiled::{Profile, Syscalls},
        profile::never,
        syscall_names::{Architecture, names},
    },
    sandbox::syscalls::{self, Host, Meaning, NUMBERS_KNOWN, Rule, Verdict},
};

const AARCH64: u32 = 0xc000_00b7;
const X32: u32 = 0x4000_0000;
const NUMBERS: u32 = 600;
/// Sets of arguments tried beside those that a rule names.
const RANDOM_SETS: usize = 2;

const HOSTS: [Host; 3] = [
    HOST,
    Host {
        abstract_sockets_scoped: false,
        memfd_noexec: false,
        named_unix_streams: false,
        keeps_files: false,
    },
    Host {
        abstract_sockets_scoped: false,
        memfd_noexec: true,
        named_unix_streams: true,
        keeps_files: true,
    },
];

/// Numbers that look arbitrary and are the same in every run (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn audit(architecture: Architecture) -> u32 {
    match architecture {
        Architecture::X86_64 => X86_64,
        Architecture::Aarch64 => AARCH64,
    }
}

/// What the tables say, read without the compiler.
fn meant(meaning: &Meaning, architecture: u32, number: u32, arguments: &[u64; 6]) -> Verdict {
    let native = meaning.architecture();
    if architecture != audit(native) || (native == Architecture::X86_64 && number >= X32) {
        Verdict::Kill
    } else if number >= NUMBERS_KNOWN {
        Verdict::NotHere
    } else {
        meaning.rule(number).judge(arguments)
    }
}

/// The values that a rule names, and their neighbours, argument by argument.
fn named(rule: &Rule, values: &mut [Vec<u32>; 6]) {
    if let Rule::By {
        argument,
        mask,
        cases,
        otherwise,
    } = rule
    {
        let own = &mut values[usize::from(*argument)];
        for (value, _) in cases {
            own.extend([
                *value,
                value.wrapping_sub(1),
                value.wrapping_add(1),
                *value | !mask,
                value ^ (mask & mask.wrapping_neg()),
            ]);
        }
        own.extend([*mask, !mask]);
        for rule in cases.iter().map(|(_, rule)| rule).chain([&**otherwise]) {
            named(rule, values);
        }
    }
}

/// Argument sets for a rule: combinations of what it names, with and without upper halves.
fn sets(rule: &Rule, numbers: &mut Numbers) -> Vec<[u64; 6]> {
    let mut values: [Vec<u32>; 6] = Default::default();
    named(rule, &mut values);
    let tries = values.iter().map(Vec::len).sum::<usize>() + RANDOM_SETS;
    let mut sets = vec![[0; 6], [u64::MAX; 6], [u64::from(u32::MAX) << 32; 6]];
    for _ in 0..tries {
        let mut set = [0; 6];
        for (argument, own) in set.iter_mut().zip(&values) {
            let pick = usize::try_from(numbers.next() >> 33).expect("an index");
            let lower = if own.is_empty() || pick.is_multiple_of(7) {
                numbers.next() & u64::from(u32::MAX)
            } else {
                own[pick % own.len()].into()
            };
            let upper = if pick.is_multiple_of(2) {
                0
            } else {
                numbers.next() << 32
            };
            *argument = upper | lower;
        }
        sets.push(set);
    }
    sets
}

fn compare(policy: &Syscalls, host: Host, architecture: Architecture, numbers: &mut Numbers) {
    let meaning = syscalls::meaning(policy, host, architecture).expect("the tables");
    let filters = compile_for(policy, host, architecture).expect("the tables compile");
    let native = audit(architecture);
    let beyond = [
        1023,
        X32 - 1,
        X32,
        X32 + 1,
        X32 + 520,
        X32 | 0x27,
        u32::MAX - 1,
        u32::MAX,
    ];
    for number in (0..NUMBERS).chain(beyond) {
        for arguments in sets(meaning.rule(number), numbers) {
            let got = judge(&filters, &Call::new(native, number, &arguments));
            let wanted = meant(&meaning, native, number, &arguments);
            assert_eq!(
                got, wanted,
                "{policy:?} {architecture:?}: {number} {arguments:x?}"
            );
        }
        for other in [
            I386,
            ARM,
            AARCH64,
            X86_64,
            0,
            native & 0x7fff_ffff,
            u32::MAX,
        ] {
            let got = judge(&filters, &Call::new(other, number, &[0; 6]));
            assert_eq!(
                got,
                meant(&meaning, other, number, &[0; 6]),
                "{other:x} {number}"
            );
        }
    }
}

#[test]
fn both_parts_together_mean_what_the_tables_say() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for architecture in [Architecture::X86_64, Architecture::Aarch64] {
        for profile in PROFILES {
            for host in HOSTS {
                compare(&policy(profile), host, architecture, &mut numbers);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn so_they_do_for_every_policy(
        profile in select(&PROFILES[..]),
        allow in prop::collection::vec(select(names().filter(|name| never(name).is_none()).collect::<Vec<_>>()), 0..12),
        deny in prop::collection::vec(select(names().collect::<Vec<_>>()), 0..30),
        seed in 1_u64..,
    ) {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let policy = Syscalls { profile, allow: list(&allow), deny: list(&deny) };
        compare(&policy, HOST, Architecture::X86_64, &mut Numbers(seed));
    }
}

/// The session's part adds nothing that the template's part would have to give back.
#[test]
fn neither_part_alone_refuses_what_the_profile_allows() {
    for profile in PROFILES {
        let policy = policy(profile);
        let meaning = syscalls::meaning(&policy, HOST, Architecture::NATIVE).expect("the tables");
        let Filters { template, session } =
            compile_for(&policy, HOST, Architecture::NATIVE).expect("the tables compile");
        for number in 0..NUMBERS_KNOWN {
            let rule = meaning.rule(number);
            for arguments in sets(rule, &mut Numbers(7)) {
                if rule.judge(&arguments) == Verdict::Allow {
                    let call = Call::new(NATIVE, number, &arguments);
                    for filter in template.iter().chain(&session) {
                        assert_eq!(verdict(run(filter, &call).0), Verdict::Allow, "{number}");
                    }
                }
            }
        }
    }
}

/// Trees far longer than a condition can jump.
#[test]
fn long_trees_keep_their_meaning() {
    let verdicts = [
        Verdict::Allow,
        Verdict::NotPermitted,
        Verdict::NotHere,
        Verdict::NoFamily,
        Verdict::NoProtocol,
        Verdict::Ignored,
        Verdict::Kill,
    ];
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    for width in [2, 3, 5, 20, 60, 150] {
        let mut starts = BTreeMap::new();
        let mut rules = BTreeMap::new();
        for number in 0..width {
            let mut pick = |bound: u64| numbers.next() % bound;
            let mut verdict = || verdicts[usize::try_from(pick(7)).expect("an index")];
            let otherwise = Rule::Always(verdict());
            let inner = Rule::choice(
                1,
                0xff,
                [(number % 200, Rule::Always(verdict()))],
                otherwise,
            );
            let otherwise = Rule::Always(verdict());
            let cases = [(number, inner), (number + 7, Rule::Always(verdict()))];
            let rule = Rule::choice(0, u32::MAX, cases, otherwise);
            starts.insert(number * 3, Tree::from(&rule));
            rules.insert(number * 3, rule);
        }
        let filter = Filter(program::assemble(&Tree::by(
            Field::Number,
            u32::MAX,
            starts,
        )));
        for number in (0..width * 3).chain([u32::MAX]) {
            let (_, rule) = rules.range(..=number).next_back().expect("a rule");
            for arguments in sets(rule, &mut numbers) {
                let got = run(&filter, &Call::new(NATIVE, number, &arguments)).0;
                let wanted = rule.judge(&arguments);
                assert_eq!(verdict(got), wanted, "{width} {number} {arguments:x?}");
            }
        }
        println!("{width} rules: {} instructions", filter.instructions());
    }
}

/// What is paid: instructions to install at each launch, and steps of a call.
#[test]
fn the_filters_are_short() {
    const SESSION_MAX: usize = 90;
    const STEPS_MAX: usize = 40;
    let calls: [(&str, u32, [u64; 6]); 9] = [
        ("read", 0, [0; 6]),
        ("openat", 257, [0; 6]),
        ("futex", 202, [0; 6]),
        ("mmap", 9, [0, 4096, 3, 0x22, 0, 0]),
        ("clone", 56, [0x003d_0f00, 0, 0, 0, 0, 0]),
        ("socket", 41, [2, 1, 6, 0, 0, 0]),
        ("setsockopt", 54, [3, 6, 1, 0, 0, 0]),
        ("ioctl", 16, [1, 0x5401, 0, 0, 0, 0]),
        ("prctl", 157, [15, 0, 0, 0, 0, 0]),
    ];
    for profile in [Profile::Strict, Profile::Default, Profile::Interpreter] {
        let filters = compile_for(&policy(profile), HOST, Architecture::X86_64).expect("filters");
        let length = |part: &[Filter]| part.iter().map(Filter::instructions).sum::<usize>();
        let (template, session) = (length(&filters.template), length(&filters.session));
        println!("{profile:?}: template {template} instructions, session {session}");
        for (name, number, arguments) in calls {
            let call = Call::new(X86_64, number, &arguments);
            assert_eq!(judge(&filters, &call), Verdict::Allow, "{profile:?} {name}");
            let steps: Vec<_> = filters.all().map(|filter| run(filter, &call).1).collect();
            println!("  {name}: {steps:?} steps");
            assert!(
                steps.iter().sum::<usize>() <= STEPS_MAX,
                "{profile:?} {name}: {steps:?}"
            );
        }
        assert!(session <= SESSION_MAX, "{profile:?}: {session}");
    }
}
