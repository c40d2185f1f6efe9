//! Every rule with something good and something bad.

use super::{
    Finding, absences, attributes, header, imports, members, names,
    size::{self, Exceptions},
    source::Source,
    unsafe_places, words,
};

fn texts(findings: Vec<Finding>) -> Vec<String> {
    findings
        .into_iter()
        .map(|finding| format!("{}: {}", finding.line, finding.text))
        .collect()
}

fn good(rule: fn(&Source) -> Vec<Finding>, path: &str, text: &str) {
    assert_eq!(
        texts(rule(&Source::new(path, text))),
        Vec::<String>::new(),
        "{text}"
    );
}

fn bad(rule: fn(&Source) -> Vec<Finding>, path: &str, text: &str, lines: &[usize]) {
    let findings = rule(&Source::new(path, text));
    let found: Vec<_> = findings.iter().map(|finding| finding.line).collect();
    assert_eq!(found, lines, "{text}\n{:?}", texts(findings));
}

#[test]
fn comments_and_literals_are_blank() {
    let text = "let a = \"x // y\"; // unsafe\nlet b = r#\"unsafe \"quoted\"\"#; /* a /* b */ c */ d('\"', '\\'', 'a)";
    let source = Source::new("a.rs", text);
    assert_eq!(source.code.len(), text.len());
    assert_eq!(source.uncommented.len(), text.len());
    let words: Vec<_> = source.words().map(|(_, word)| word).collect();
    assert_eq!(words, ["let", "a", "let", "b", "d", "a"]);
    assert!(source.uncommented.contains("x // y"));
    assert!(!source.uncommented.contains("c */"));
}

#[test]
fn words_keep_their_offsets() {
    let text = "ä→b c";
    for (at, word) in super::source::words(text) {
        assert!(text[at..].starts_with(word), "{at} {word}");
    }
}

#[test]
fn downward_imports_pass() {
    let path = "agent/src/sandbox/plan.rs";
    good(
        imports::check,
        path,
        "use crate::policy::{compiled::Rule, raw};",
    );
    good(
        imports::check,
        path,
        "use crate::{kernel::{Attached, cgroup::Parent}, sys::landlock as ll};",
    );
    good(
        imports::check,
        path,
        "use crate::launcher::protocol; fn f() { crate::clock::now::<u8>() }",
    );
    good(
        imports::check,
        path,
        "use super::enforced::Enforced; // crate::cli::main",
    );
    good(
        imports::check,
        path,
        "#[cfg(test)]\nmod tests { use crate::daemon::Engine; }",
    );
    good(
        imports::check,
        "agent/src/kernel/tests.rs",
        "use crate::policy::raw::RawPolicy;",
    );
    good(
        imports::check,
        "agent/src/cli/run.rs",
        "use crate::{audit, kernel, daemon::Engine};",
    );
    good(
        imports::check,
        "agent/src/kernel/maps.rs",
        "use crate::policy::compiled::CompiledPolicy;",
    );
    good(
        imports::check,
        "agent/src/lib.rs",
        "pub mod cli; pub mod nonsense;",
    );
}

#[test]
fn upward_and_sideway_imports_are_found() {
    bad(
        imports::check,
        "agent/src/policy/store.rs",
        "use crate::kernel::Attached;",
        &[1],
    );
    bad(
        imports::check,
        "agent/src/audit/mod.rs",
        "use std::fs;\nuse crate::observe::log;",
        &[2],
    );
    bad(
        imports::check,
        "agent/src/config.rs",
        "fn f() { crate::policy::raw::parse() }",
        &[1],
    );
    bad(
        imports::check,
        "agent/src/sandbox/mod.rs",
        "use crate::{dns, policy, daemon};",
        &[1, 1],
    );
    bad(
        imports::check,
        "agent/src/sandbox/mod.rs",
        "use super::cli::main;",
        &[1],
    );
    bad(
        imports::check,
        "agent/src/clock.rs",
        "mod a { use super::super::policy::raw; }",
        &[1],
    );
    bad(imports::check, "agent/src/odds.rs", "", &[0]);
}

#[test]
fn a_part_is_not_the_whole() {
    bad(
        imports::check,
        "agent/src/sandbox/mod.rs",
        "use crate::kernel::{Attached, maps};",
        &[1],
    );
    bad(
        imports::check,
        "agent/src/sandbox/mod.rs",
        "use crate::kernel::{self};",
        &[1],
    );
    bad(
        imports::check,
        "agent/src/sandbox/mod.rs",
        "use crate::kernel::*;",
        &[1],
    );
    bad(
        imports::check,
        "agent/src/sandbox/mod.rs",
        "use crate::kernel;",
        &[1],
    );
    bad(
        imports::check,
        "agent/src/kernel/mod.rs",
        "use crate::policy::raw;",
        &[1],
    );
    bad(
        imports::check,
        "agent/src/kernel/mod.rs",
        "use crate::audit::Receipt;",
        &[1],
    );
}

#[test]
fn unsafe_has_its_places() {
    good(
        unsafe_places::check,
        "agent/src/sys/bpf.rs",
        "unsafe { call() }",
    );
    good(
        unsafe_places::check,
        "ebpf/src/main.rs",
        "#[unsafe(no_mangle)]\nstatic A: u8 = 0;",
    );
    good(
        unsafe_places::check,
        "agent/src/kernel/maps.rs",
        "// unsafe\nlet a = \"unsafe\";",
    );
    bad(
        unsafe_places::check,
        "agent/src/kernel/maps.rs",
        "\nunsafe { call() }",
        &[2],
    );
    bad(
        unsafe_places::check,
        "common/src/podium.rs",
        "unsafe impl Pod for A {}",
        &[1],
    );
}

#[test]
fn absences_hold() {
    good(
        absences::check,
        "agent/src/cli/run.rs",
        "use anyhow::Context;",
    );
    good(
        absences::check,
        "agent/src/policy/store.rs",
        "use std::fs; fn f() { fs::read(p) }",
    );
    good(
        absences::check,
        "agent/src/policy/raw.rs",
        "struct Raw { fs: u8 } // fs::read, LruHashMap",
    );
    bad(
        absences::check,
        "agent/src/kernel/pin.rs",
        "use anyhow::Context;",
        &[1],
    );
    bad(
        absences::check,
        "agent/src/policy/raw.rs",
        "fn f() {\n    std::fs::read(p) }",
        &[2],
    );
    bad(
        absences::check,
        "ebpf/src/maps.rs",
        "static A: LruHashMap<u8, u8> = x();",
        &[1],
    );
    bad(
        absences::check,
        "agent/src/sandbox/landlock.rs",
        "CompatLevel::BestEffort",
        &[1],
    );
}

#[test]
fn attributes_have_reasons() {
    let path = "agent/src/a.rs";
    good(
        attributes::check,
        path,
        "#[expect(clippy::too_many_lines, reason = \"a table\")]\nfn f() {}",
    );
    good(
        attributes::check,
        path,
        "fn f() { a.expect(\"there\"); rule.allow(x); ignore(y) }",
    );
    good(
        attributes::check,
        path,
        "#[derive(Debug)]\nstruct Allow; fn allow(x: u8) {}",
    );
    bad(
        attributes::check,
        path,
        "\n#[allow(dead_code)]\nfn f() {}",
        &[2],
    );
    bad(attributes::check, path, "#![allow(dead_code)]", &[1]);
    bad(
        attributes::check,
        path,
        "#[cfg_attr(test, allow(dead_code))]",
        &[1],
    );
    bad(
        attributes::check,
        path,
        "#[expect(dead_code)]\nfn f() {}",
        &[1],
    );
    bad(
        attributes::check,
        path,
        "#[test]\n#[ignore]\nfn f() {}",
        &[2],
    );
    bad(
        attributes::check,
        path,
        "#[ignore = \"slow\"]\nfn f() {}",
        &[1],
    );
}

#[test]
fn a_file_has_a_purpose() {
    good(header::check, "a.rs", "//! Decides.\n");
    bad(header::check, "a.rs", "use std::fs;\n", &[1]);
    bad(header::check, "a.rs", "//!\n", &[1]);
}

#[test]
fn drawers_are_found() {
    assert!(names::check("common/src/lib.rs").is_empty());
    assert!(names::check("agent/src/policy/type_name.rs").is_empty());
    assert_eq!(names::check("agent/src/utils/mod.rs").len(), 1);
    assert_eq!(names::check("common/src/types.rs").len(), 1);
    assert_eq!(names::check("tests/it/common.rs").len(), 1);
}

#[test]
fn members_inherit_lints() {
    let check = |text| members::check("a/Cargo.toml", text).expect("valid").len();
    assert_eq!(
        check("[package]\nname = \"a\"\n[lints]\nworkspace = true\n"),
        0
    );
    assert_eq!(check("[workspace]\nmembers = []\n"), 0);
    assert_eq!(check("[package]\nname = \"a\"\n"), 1);
    assert_eq!(
        check("[package]\nname = \"a\"\n[lints]\nworkspace = false\n"),
        1
    );
}

#[test]
fn unfinished_work_is_found() {
    assert!(words::check("a.md", "mkstemp(\"aXXXXXX\"), a method").is_empty());
    assert_eq!(
        words::check("a.md", concat!("fine\n// TO", "DO: later")).len(),
        1
    );
    assert_eq!(words::check("a.md", concat!("see /wo", "rk/main")).len(), 1);
}

#[test]
fn long_files_and_functions_are_found() {
    let none = || Exceptions::parse("").expect("valid");
    let body = "    call();\n".repeat(71);
    let long = format!("//! A.\nfn long() {{\n{body}}}\n");
    let found = size::check(&Source::new("a.rs", &long), &mut none());
    assert_eq!(texts(found), ["2: `long` has 71 lines, more than 70"]);
    let commented = format!("fn f() {{\n{}}}\n", "    // Prose.\n\n".repeat(71));
    assert!(size::check(&Source::new("a.rs", &commented), &mut none()).is_empty());
    let file = "//! A.\n".repeat(401);
    let found = size::check(&Source::new("a.rs", &file), &mut none());
    assert_eq!(texts(found), ["1: the file has 401 lines, more than 400"]);
    good_signatures(&mut none());
}

fn good_signatures(exceptions: &mut Exceptions) {
    let text = "trait A { fn f(&self) -> [u8; 4]; }\nfn g(f: fn(u8)) {}\n";
    assert!(size::check(&Source::new("a.rs", text), exceptions).is_empty());
}

#[test]
fn the_list_of_exceptions_may_only_shrink() {
    let list = |lines: usize| {
        let text = format!("[[file]]\npath = \"a.rs\"\nlines = {lines}\nreason = \"a table\"\n");
        Exceptions::parse(&text).expect("valid")
    };
    let check = |lines, listed| {
        let mut list = list(listed);
        let found = size::check(&Source::new("a.rs", &"\n".repeat(lines)), &mut list);
        found.len() + list.unused().len()
    };
    assert_eq!(check(410, 410), 0);
    assert_eq!(check(411, 410), 1);
    assert_eq!(check(409, 410), 1);
    assert_eq!(check(400, 410), 1);
    assert!(Exceptions::parse("[[file]]\npath = \"a.rs\"\nlines = 410\n").is_err());
    assert!(Exceptions::parse("[[file]]\npath = \"a.rs\"\nlines = 4\nreason = \" \"\n").is_err());
}
