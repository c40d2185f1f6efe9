//! Each bad policy of `testdata/bad`, beside the exact text that its author gets to read.

use std::{fs, path::Path};

use expect_test::expect_file;

use crate::policy::{compile, error::Code};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/policy/testdata/bad")
}

#[test]
fn every_bad_policy_says_what_is_wrong_and_where() {
    let mut count = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "toml") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let error = compile(name, &text).unwrap_err();
        let plain = error.plain();
        assert!(
            !plain.contains('\u{1b}'),
            "{name}: an escape reached the output"
        );
        for finding in error.findings() {
            let unhinted = matches!(
                finding.code,
                Code::Syntax | Code::OutOfBounds | Code::BadPath | Code::Duplicate | Code::BadValue
            );
            assert!(
                finding.hint.is_some() || unhinted,
                "{name}: {}: no hint",
                finding.message
            );
        }
        assert_eq!(error.json().len(), error.findings().len());
        expect_file![path.with_extension("txt")].assert_eq(&plain);
        count += 1;
    }
    assert!(count >= 20, "the corpus is there: {count}");
}

#[test]
fn a_terminal_gets_a_picture() {
    let text = "version = 1\ntool = \"t\"\nmode = \"enforc\"\n";
    let error = compile("t.toml", text).unwrap_err();
    let picture = error.graphical(false, 80);
    expect_test::expect![[r#"
        unknown_value

          × `mode` can not be `enforc`
           ╭─[t.toml:3:8]
         2 │ tool = "t"
         3 │ mode = "enforc"
           ·        ────────
           ╰────
          help: did you mean "enforce"? known: enforce, observe

    "#]]
    .assert_eq(&picture);
    assert!(error.graphical(true, 80).contains('\u{1b}'));
}

#[test]
fn only_so_many_findings_are_kept() {
    let rules = "[[egress.allow]]\ncidr = \"x\"\nports = [0]\n".repeat(1_000);
    let text = format!("version = 1\ntool = \"t\"\n{rules}");
    let error = compile("t.toml", &text).unwrap_err();
    assert_eq!(error.findings().len(), 100);
    assert_eq!(error.omitted(), 1_900);
    assert!(error.plain().ends_with("t.toml: and 1900 more\n"));
}
