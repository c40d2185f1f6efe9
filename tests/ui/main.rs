//! Programs that must not compile: a value that proves a passed check can be made only by the check.
//!
//! A line of `forged/*.rs` that ends in `//~ E0451` is where the compiler must report that error (the
//! message where it has no code); it must report no other. `control.rs` uses the same items rightly and must compile, so a forgery does
//! not fail for a name that has gone. The compiler is called with the libraries that cargo has built
//! for the tests: building all dependencies again, in a project of their own, takes minutes.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Line, and code or message.
type Complaints = BTreeSet<(u64, String)>;

#[test]
fn proofs_can_not_be_forged() {
    let compiler = Compiler::find();
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir("ui/forged").expect("the programs are there") {
        let path = entry.expect("a readable folder").path();
        let expected = marks(&fs::read_to_string(&path).expect("a program"));
        assert!(
            !expected.is_empty(),
            "{}: no line is marked `//~`",
            path.display()
        );
        let reported = compiler.complaints(&path);
        if reported != expected {
            wrong.push(format!(
                "{}: {reported:?}, not {expected:?}",
                path.display()
            ));
        }
        count += 1;
    }
    assert!(count > 0, "no program tries to forge anything");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_control_compiles() {
    assert_eq!(
        Compiler::find().complaints(Path::new("ui/control.rs")),
        Complaints::new()
    );
}

fn marks(program: &str) -> Complaints {
    (1..)
        .zip(program.lines())
        .filter_map(|(line, text)| Some((line, text.split_once("//~ ")?.1.trim().to_owned())))
        .collect()
}

/// The compiler, and the libraries that it links.
struct Compiler {
    libraries: Vec<(&'static str, PathBuf)>,
}

impl Compiler {
    /// Asks cargo, which has just built them, where the libraries lie.
    fn find() -> Self {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .current_dir("..")
            .args(["build", "--locked", "--workspace", "--exclude", "ebpf"]);
        let output = cargo
            .args(["--message-format", "json"])
            .output()
            .expect("cargo runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let messages: Vec<Value> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let library = |name| {
            let file = messages
                .iter()
                .filter(|message| text(message, "/reason") == "compiler-artifact")
                .filter(|message| text(message, "/target/name") == name)
                .find(|message| text(message, "/target/kind/0") == "lib")
                .map(|message| PathBuf::from(text(message, "/filenames/0")));
            (
                name,
                file.unwrap_or_else(|| panic!("cargo names no library `{name}`")),
            )
        };
        Self {
            libraries: ["agent", "common"].map(library).into(),
        }
    }

    /// The errors of a program.
    fn complaints(&self, program: &Path) -> Complaints {
        let target = tempfile::tempdir().expect("a temporary folder");
        let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args([
            "--edition",
            "2024",
            "--crate-type",
            "bin",
            "--emit",
            "metadata",
        ]);
        rustc
            .args(["--error-format", "json", "--out-dir"])
            .arg(target.path());
        for (name, file) in &self.libraries {
            let folder = file.parent().expect("a file lies in a folder");
            rustc
                .arg("--extern")
                .arg(format!("{name}={}", file.display()));
            rustc
                .arg("-L")
                .arg(format!("dependency={}", folder.display()));
            rustc
                .arg("-L")
                .arg(format!("dependency={}", folder.join("deps").display()));
        }
        let output = rustc.arg(program).output().expect("rustc runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let complaints: Complaints = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|message| complaint(&message))
            .collect();
        assert_eq!(complaints.is_empty(), output.status.success(), "{text}");
        complaints
    }
}

fn complaint(message: &Value) -> Option<(u64, String)> {
    if text(message, "/level") != "error" {
        return None;
    }
    let spans = message.get("spans")?.as_array()?;
    let primary = |span: &&Value| span.get("is_primary").and_then(Value::as_bool) == Some(true);
    let line = spans.iter().find(primary)?.get("line_start")?.as_u64()?;
    let code = text(message, "/code/code");
    let code = if code.is_empty() {
        text(message, "/message")
    } else {
        code
    };
    Some((line, code.to_owned()))
}

/// The text at a JSON pointer; empty where there is none.
fn text<'a>(message: &'a Value, pointer: &str) -> &'a str {
    message
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
