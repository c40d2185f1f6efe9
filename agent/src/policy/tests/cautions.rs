//! Settings that weaken a policy, or do nothing in it: what is said of them.

use expect_test::{Expect, expect};

use crate::policy::{caution::cautions, compile_with};

const HEAD: &str = "version = 1\ntool = \"t\"\n";
const ASKED: &str = "[worker]\ncommand = [\"/usr/bin/true\"]\nprotocol = \"json\"\n";
const USR: &str = "[filesystem]\nexecute = [\"/usr/bin\"]\n";

fn check(rest: &str, expected: &Expect) {
    let mut documents =
        |_: &str| Ok(br#"{"type": "object", "additionalProperties": false}"#.to_vec());
    let text = format!("{HEAD}{rest}");
    let policy = compile_with("t.toml", &text, &mut documents).unwrap_or_else(|e| panic!("{e}"));
    let said: Vec<String> = cautions(&policy)
        .into_iter()
        .map(|caution| format!("{}: {}\n", caution.about, caution.text))
        .collect();
    expected.assert_eq(&said.concat());
}

#[test]
fn observing_is_a_way_out_with_and_without_names() {
    let said = expect![[r#"
        mode = "observe": any name is answered and reported: DNS is a way out, and what no rule allows passes
    "#]];
    check("mode = \"observe\"\n", &said);
    let named = "mode = \"observe\"\n[[egress.allow]]\ndomain = \"a.example\"\nports = [443]\n";
    check(named, &said);
    check("", &expect![""]);
}

#[test]
fn an_idle_time_beyond_the_whole_time_never_counts() {
    let times = |idle: &str, wall: &str| {
        format!("{ASKED}idle_timeout = \"{idle}\"\nwall_timeout = \"{wall}\"\n{USR}")
    };
    let said = expect![[r"
        worker.idle_timeout: it never counts: `wall_timeout` is shorter
    "]];
    check(&times("2m", "90s"), &said);
    check(&times("90s", "2m"), &expect![""]);
    // The default, which a policy with a short life need not lower.
    check(
        &format!("{ASKED}wall_timeout = \"30s\"\n{USR}"),
        &expect![""],
    );
}

#[test]
fn folders_beyond_the_memory_are_never_full() {
    let sizes = |text: &str| format!("[limits]\nmemory = \"32MiB\"\n[filesystem]\n{text}\n");
    check(
        &sizes("workdir_size = \"1GiB\""),
        &expect![[r"
            filesystem.workdir_size: files in it count as memory: `limits.memory` (32MiB) ends the session before 1GiB are used
        "]],
    );
    check(
        &sizes("workdir_size = \"32MiB\"\ntmp_size = \"64MiB\""),
        &expect![[r"
            filesystem.tmp_size: files in it count as memory: `limits.memory` (32MiB) ends the session before 64MiB are used
        "]],
    );
    check(&sizes("workdir_size = \"32MiB\""), &expect![""]);
}

#[test]
fn a_verb_that_waits_for_an_approval_is_never_called() {
    let verb =
        "[[verb]]\nname = \"v\"\nscope = \"t:v\"\narguments = \"a.json\"\nresult = \"a.json\"\n";
    check(
        &format!("{ASKED}{USR}{verb}[verb.risk]\napprove_if = [\"arguments.amount > 1\"]\n"),
        &expect![[r"
            v: `approve_if` needs an approval that nobody can give in this version: every call of the verb is refused
        "]],
    );
    check(
        &format!("{ASKED}{USR}{verb}[verb.risk]\napprove_if = []\n"),
        &expect![""],
    );
}
