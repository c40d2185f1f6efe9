//! Directories, differences and digests.

use std::{fs, path::Path};

use crate::policy::{
    compile,
    compiled::CompiledPolicy,
    diff,
    store::{StoreError, read_directory, read_file},
};

const RULE: &str = "[[egress.allow]]\ncidr = \"185.199.108.0/22\"\nports = [443, 80]\n";

fn policy(text: &str) -> CompiledPolicy {
    compile("t.toml", &format!("version = 1\ntool = \"t\"\n{text}")).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

#[test]
fn a_directory_is_read_as_a_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.toml", "version = 1\ntool = \"a\"\n");
    write(folder.path(), "b.toml", "version = 1\ntool = \"b\"\n");
    write(folder.path(), "README.md", "not a policy");
    write(folder.path(), ".hidden.toml", "not a policy");
    let set = read_directory(folder.path()).unwrap();
    let names: Vec<&str> = set.iter().map(|policy| policy.tool.as_str()).collect();
    assert_eq!(names, ["a", "b"]);

    write(folder.path(), "c.toml", "version = 1\n");
    write(folder.path(), "d.toml", "version = 3\ntool = \"d\"\n");
    let error = read_directory(folder.path()).unwrap_err();
    assert_eq!(error.0.len(), 2, "each bad file is named: {error}");
}

#[test]
fn two_files_of_one_tool_are_refused_with_both_names() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.toml", "version = 1\ntool = \"same\"\n");
    write(folder.path(), "b.toml", "version = 1\ntool = \"same\"\n");
    let error = read_directory(folder.path()).unwrap_err().to_string();
    assert!(error.contains("b.toml:2:8: error[duplicate]"), "{error}");
    assert!(error.contains("a.toml` names it too"), "{error}");
}

#[test]
fn what_is_no_policy_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.toml");
    assert!(matches!(read_file(&path), Err(StoreError::Read { .. })));
    assert!(matches!(
        read_file(folder.path()),
        Err(StoreError::NotAFile { .. })
    ));
    fs::write(&path, b"version = 1\n\xff").unwrap();
    assert!(matches!(
        read_file(&path),
        Err(StoreError::NotText { at: 12, .. })
    ));
}

#[test]
fn spelling_does_not_change_the_digest_and_content_does() {
    let one = policy(&format!(
        "{RULE}[[egress.allow]]\ncidr = \"140.82.112.0/20\"\nports = [443]\n"
    ));
    let other = policy(
        "# the same in other words\n\
         egress.allow = [{ ports = [443], cidr = \"140.82.112.0/20\", protocol = \"tcp\" },\n\
         { ports = [\"80-80\", 443], cidr = \"185.199.108.0/22\" }]\nmode = \"enforce\"\n",
    );
    assert_eq!(one.digest, other.digest);
    let changed = policy(RULE);
    assert_ne!(one.digest, changed.digest);
    assert_ne!(
        policy("").digest,
        policy("[limits]\nprocesses = 65\n").digest
    );
}

#[test]
fn rule_ids_are_those_of_the_canonical_text() {
    let policy = policy(RULE);
    let rule = &policy.egress.rules[0];
    assert_eq!(rule.text, "cidr 185.199.108.0/22 tcp 80,443");
    assert_eq!(rule.line, 3);
    // printf %s 'cidr 185.199.108.0/22 tcp 80,443' | sha256sum
    assert_eq!(format!("{:016x}", rule.id.0.swap_bytes()), RULE_HASH);
}

const RULE_HASH: &str = "5a29ac0306f59876";

#[test]
fn a_difference_names_rules_and_settings() {
    let old = policy(RULE);
    let new = policy(
        "mode = \"observe\"\n[[egress.allow]]\ncidr = \"140.82.112.0/20\"\nports = [443]\n\
         [limits]\nmemory = \"1GiB\"\n",
    );
    let diff = diff::policies(&old, &new);
    assert_eq!(diff.added[0].text, "cidr 140.82.112.0/20 tcp 443");
    assert_eq!(diff.removed[0].text, "cidr 185.199.108.0/22 tcp 80,443");
    let changed: Vec<String> = diff
        .changed
        .iter()
        .map(|change| {
            format!(
                "{} {} {} {:?}",
                change.what, change.old, change.new, change.when
            )
        })
        .collect();
    assert_eq!(
        changed,
        [
            "mode enforce observe AtOnce",
            "limits.memory 512MiB 1GiB NewSessions"
        ]
    );
    assert!(diff::policies(&old, &old).is_empty());
}

#[test]
fn what_one_tool_hands_out_no_other_touches() {
    let folder = tempfile::tempdir().unwrap();
    let tool = |name: &str, tables: &str| {
        let text = format!("version = 1\ntool = \"{name}\"\n[filesystem]\n{tables}");
        write(folder.path(), &format!("{name}.toml"), &text);
    };
    tool("a", "[filesystem.output]\npath = \"/srv/out/a\"\n");
    tool(
        "b",
        "write = [\"/srv/exchange\"]\n[filesystem.output]\npath = \"/srv/out/b\"\n",
    );
    tool("c", "write = [\"/srv/exchange\"]\n");
    assert_eq!(read_directory(folder.path()).unwrap().len(), 3);

    tool("c", "write = [\"/srv/out/a/inner\"]\n");
    tool("d", "[filesystem.output]\npath = \"/srv/out/b\"\n");
    tool("e", "write = [\"/srv/outer\"]\n");
    tool("f", "[filesystem.output]\npath = \"/srv/outer/f\"\n");
    let error = read_directory(folder.path()).unwrap_err().to_string();
    let error = error.replace(&folder.path().display().to_string(), "@");
    expect_test::expect![[r#"
        @/b.toml:6:8: error[conflict]: `/srv/out/b`: `/srv/out/b` is handed out for the tool `d`
             6 | path = "/srv/out/b"
               |        ^^^^^^^^^^^^
               hint: what a tool hands out is its own: name another folder
        @/c.toml:4:10: error[conflict]: `/srv/out/a/inner`: `/srv/out/a` is handed out for the tool `a`
             4 | write = ["/srv/out/a/inner"]
               |          ^^^^^^^^^^^^^^^^^^
               hint: what a tool hands out is its own: name another folder
        @/d.toml:5:8: error[conflict]: `/srv/out/b`: `/srv/out/b` is handed out for the tool `b`
             5 | path = "/srv/out/b"
               |        ^^^^^^^^^^^^
               hint: what a tool hands out is its own: name another folder
        @/f.toml:5:8: error[conflict]: `/srv/outer/f`: `/srv/outer` is written by the tool `e`
             5 | path = "/srv/outer/f"
               |        ^^^^^^^^^^^^^^
               hint: what a tool hands out is its own: name another folder"#]].assert_eq(&error);
}

#[test]
fn a_lock_file_is_no_policy_and_counts_with_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let sum = "ab".repeat(32);
    let lock = format!(
        "version = 1\ntool = \"a\"\n[[pin]]\npath = \"/opt/a\"\nkind = \"file\"\n\
         role = \"program\"\nsha256 = \"{sum}\"\n"
    );
    write(folder.path(), "a.toml", "version = 1\ntool = \"a\"\n");
    let loose = read_file(&folder.path().join("a.toml")).unwrap();
    write(folder.path(), "a.lock.toml", &lock);
    let set = read_directory(folder.path()).unwrap();
    let pinned = set.iter().next().unwrap();
    assert_eq!((set.len(), pinned.worker.pins.len()), (1, 1));
    assert_ne!(
        pinned.digest, loose.digest,
        "new sessions, not the warm ones"
    );
    write(
        folder.path(),
        "a.lock.toml",
        &lock.replace("tool = \"a\"", "tool = \"b\""),
    );
    let error = read_directory(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("it is for the tool `b`, not for `a`"),
        "{error}"
    );
    fs::remove_file(folder.path().join("a.lock.toml")).unwrap();
    let text = "version = 1\ntool = \"a\"\n[worker]\nlock = \"required\"\n";
    write(folder.path(), "a.toml", text);
    let error = read_directory(folder.path()).unwrap_err();
    assert!(matches!(error.0.as_slice(), [StoreError::Unlocked { .. }]));
}

#[test]
fn a_unit_is_named_by_one_policy() {
    let matching = |tool: &str, unit: &str| {
        format!("version = 1\ntool = \"{tool}\"\n[match]\nunits = [\"{unit}\"]\n")
    };
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.toml", &matching("a", "weather-*.service"));
    write(folder.path(), "b.toml", &matching("b", "weather-1.service"));
    let error = read_directory(folder.path()).unwrap_err().to_string();
    for file in ["a.toml:4:10", "b.toml:4:10"] {
        assert!(error.contains(file), "{error}");
    }
    assert!(error.contains("a unit has one policy"), "{error}");
    write(folder.path(), "b.toml", &matching("b", "rain-1.service"));
    let set = read_directory(folder.path()).unwrap();
    let named: Vec<_> = set
        .iter()
        .filter(|policy| policy.matches("weather-7.service"))
        .map(|policy| policy.tool.to_string())
        .collect();
    assert_eq!(named, ["a"]);
    // What names no units keeps the digest that it always had; what names others is another policy.
    let without = policy(RULE).digest;
    assert_ne!(
        policy(&format!("{RULE}[match]\nunits = [\"a.service\"]\n")).digest,
        without
    );
}
