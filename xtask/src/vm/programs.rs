//! Where cargo put the programs and test programs of the workspace.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde_json::Value;

use crate::{build, process};

/// What kind of program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    /// A program.
    Program,
    /// The tests inside a library.
    UnitTests,
    /// A file of integration tests.
    IntegrationTests,
}

/// The programs of the workspace, by kind and name.
pub(crate) struct Programs(BTreeMap<(Kind, String), PathBuf>);

impl Programs {
    /// Builds all that a machine can run, and finds it.
    pub(crate) fn build() -> anyhow::Result<Self> {
        build::kernel_object()?;
        let mut all = BTreeMap::new();
        // `cargo test` tells of no program that it does not need itself.
        for arguments in [["build"].as_slice(), &["test", "--no-run"]] {
            let mut command = process::cargo();
            command
                .args(arguments)
                .args(build::WORKSPACE)
                .arg("--message-format=json-render-diagnostics");
            eprintln!("+ cargo {}", arguments.join(" "));
            all.extend(process::output(&mut command)?.lines().filter_map(artifact));
        }
        Ok(Self(all))
    }

    /// One of them.
    pub(crate) fn get(&self, kind: Kind, name: &str) -> anyhow::Result<&Path> {
        self.0
            .get(&(kind, name.to_owned()))
            .map(PathBuf::as_path)
            .with_context(|| format!("cargo built nothing that is called `{name}` ({kind:?})"))
    }

    /// All programs but this one.
    pub(crate) fn programs(&self) -> impl Iterator<Item = &Path> {
        self.0
            .iter()
            .filter(|((kind, name), _)| *kind == Kind::Program && name != "xtask")
            .map(|(_, path)| path.as_path())
    }
}

/// The program that a message of cargo tells of.
fn artifact(message: &str) -> Option<((Kind, String), PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let path = message.get("executable")?.as_str()?;
    let target = message.get("target")?;
    let is_test = message.get("profile")?.get("test")?.as_bool()?;
    let kind = match target.get("kind")?.get(0)?.as_str()? {
        "bin" if !is_test => Kind::Program,
        "lib" if is_test => Kind::UnitTests,
        "test" if is_test => Kind::IntegrationTests,
        _ => return None,
    };
    Some((
        (kind, target.get("name")?.as_str()?.to_owned()),
        path.into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::{Kind, artifact};

    fn message(kind: &str, test: bool) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"],"name":"it"}},
                "profile":{{"test":{test}}},"executable":"/t/debug/it"}}"#
        )
        .replace('\n', " ")
    }

    #[test]
    fn kinds_are_told_apart() {
        let kind = |name, test| artifact(&message(name, test)).map(|((kind, _), _)| kind);
        assert_eq!(kind("test", true), Some(Kind::IntegrationTests));
        assert_eq!(kind("lib", true), Some(Kind::UnitTests));
        assert_eq!(kind("bin", false), Some(Kind::Program));
        assert_eq!(kind("bin", true), None);
    }

    #[test]
    fn a_library_is_no_program() {
        let message = message("lib", false).replace("\"/t/debug/it\"", "null");
        assert!(artifact(&message).is_none());
    }
}
