//! What a push makes of the files that are in force: each pushed policy takes the place of the one of
//! its tool, under the name that the folder has for it, together with its lock. Pure; whether the
//! outcome compiles is asked afterwards.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{
    bundle::{Bundle, BundleError, is_policy},
    store::Sources,
};

/// Why files can not be put together.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MergeError {
    /// Nothing was pushed.
    #[error("push: no policy file\nhint: name `*.toml` files")]
    Nothing,
    /// Two pushed files are of one tool.
    #[error("push: `{first}` and `{second}` are both of the tool `{tool}`\nhint: push one of them")]
    Twice {
        /// The tool.
        tool: String,
        /// One file.
        first: String,
        /// The other.
        second: String,
    },
    /// The name belongs to another tool.
    #[error(
        "push: `{name}` is the file of the tool `{tool}` in the policy folder\nhint: give the pushed file another name"
    )]
    Taken {
        /// The file's name.
        name: String,
        /// Whose it is.
        tool: String,
    },
    /// A pushed schema would change a tool that is not pushed.
    #[error(
        "push: `{name}` is not what `{other}` of the policy folder has under that name\nhint: push both tools, or give the schema another name"
    )]
    Shared {
        /// The schema's name.
        name: String,
        /// The policy file that has it too.
        other: String,
    },
    /// No policy names the tool.
    #[error("tool `{0}`: no policy names it\nhint: `stockade status` lists the tools")]
    NoTool(String),
    /// A name that no file of a set has.
    #[error(transparent)]
    Name(#[from] BundleError),
}

#[derive(Deserialize)]
struct Named {
    tool: String,
}

/// The files in force with the pushed ones in their places, and the names under which those lie.
/// `by_tool`: the file of each tool in force.
pub fn push(
    base: &Bundle,
    by_tool: &BTreeMap<String, String>,
    pushed: &Bundle,
) -> Result<(Bundle, BTreeSet<String>), MergeError> {
    let mut merged = base.clone();
    let mut placed: BTreeMap<String, (String, String)> = BTreeMap::new();
    for name in pushed.policies() {
        // One that can not be read keeps its name, and the compiler says what is wrong with it.
        let tool = pushed.get(name).and_then(tool_of);
        let known = tool.as_ref().and_then(|tool| by_tool.get(tool));
        let place = known.map_or(name, String::as_str).to_owned();
        let owner = by_tool.iter().find(|(_, file)| **file == place);
        if let Some((owner, _)) = owner.filter(|(owner, _)| tool.as_ref() != Some(owner)) {
            return Err(MergeError::Taken {
                name: place,
                tool: owner.clone(),
            });
        }
        let tool = tool.unwrap_or_default();
        if let Some((_, first)) = placed.get(&place) {
            return Err(MergeError::Twice {
                tool,
                first: first.clone(),
                second: name.to_owned(),
            });
        }
        merged.remove(&lock_of(&place));
        if let Some(bytes) = pushed.get(&lock_of(name)) {
            merged.insert(&lock_of(&place), bytes.to_vec())?;
        }
        merged.insert(&place, pushed.get(name).unwrap_or_default().to_vec())?;
        placed.insert(place, (tool, name.to_owned()));
    }
    if placed.is_empty() {
        return Err(MergeError::Nothing);
    }
    for (name, bytes) in pushed.iter().filter(|(name, _)| !is_top(name)) {
        merged.insert(name, bytes.to_vec())?;
    }
    Ok((merged, placed.into_keys().collect()))
}

/// Refuses a push whose schemas change tools that it does not bring.
pub fn unshared(
    base: &Bundle,
    merged: &Sources,
    placed: &BTreeSet<String>,
) -> Result<(), MergeError> {
    let others = merged
        .needs
        .iter()
        .filter(|(file, _)| !placed.contains(*file));
    for (other, needs) in others {
        let changed = needs.iter().find(|name| {
            base.get(name)
                .is_some_and(|old| merged.files.get(name) != Some(old))
        });
        if let Some(name) = changed {
            return Err(MergeError::Shared {
                name: name.clone(),
                other: other.clone(),
            });
        }
    }
    Ok(())
}

/// The files in force without some tools.
pub fn remove(
    base: &Bundle,
    by_tool: &BTreeMap<String, String>,
    tools: &[String],
) -> Result<Bundle, MergeError> {
    let mut merged = base.clone();
    for tool in tools {
        let file = by_tool
            .get(tool)
            .ok_or_else(|| MergeError::NoTool(tool.clone()))?;
        merged.remove(file);
        merged.remove(&lock_of(file));
    }
    Ok(merged)
}

/// `web.lock.toml` of `web.toml`
fn lock_of(policy: &str) -> String {
    let stem = policy.strip_suffix(".toml").unwrap_or(policy);
    format!("{stem}.lock.toml")
}

/// Policies and locks, which were placed already.
fn is_top(name: &str) -> bool {
    is_policy(name) || (!name.contains('/') && name.ends_with(".lock.toml"))
}

fn tool_of(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let Named { tool } = toml::from_str(text).ok()?;
    Some(tool)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        path::Path,
    };

    use super::{MergeError, push, remove, unshared};
    use crate::policy::{bundle::Bundle, store::compile_held};

    fn policy(tool: &str) -> String {
        format!("version = 1\ntool = \"{tool}\"\n")
    }

    fn with_schema(tool: &str) -> String {
        format!(
            "version = 1\ntool = \"{tool}\"\n[worker]\ncommand = [\"/usr/bin/true\"]\nprotocol = \"json\"\n\
             [filesystem]\nexecute = [\"/usr/bin\"]\n\
             [[verb]]\nname = \"go\"\nscope = \"{tool}:go\"\narguments = \"go.json\"\n"
        )
    }

    fn bundle(files: &[(&str, &str)]) -> Bundle {
        let mut bundle = Bundle::default();
        for (name, text) in files {
            bundle.insert(name, text.as_bytes().to_vec()).unwrap();
        }
        bundle
    }

    fn files(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(tool, file)| ((*tool).to_owned(), (*file).to_owned()))
            .collect()
    }

    #[test]
    fn a_pushed_policy_takes_the_place_of_its_tools() {
        let base = bundle(&[
            ("10-web.toml", &policy("web")),
            ("10-web.lock.toml", "old"),
            ("mail.toml", &policy("mail")),
        ]);
        let by_tool = files(&[("web", "10-web.toml"), ("mail", "mail.toml")]);
        let newer = format!("# newer\n{}", policy("web"));
        let (merged, placed) = push(&base, &by_tool, &bundle(&[("web.toml", &newer)])).unwrap();
        assert_eq!(merged.get("10-web.toml"), Some(newer.as_bytes()));
        assert_eq!(
            merged.get("10-web.lock.toml"),
            None,
            "the lock went with it"
        );
        assert_eq!(merged.get("web.toml"), None);
        assert!(merged.get("mail.toml").is_some());
        assert_eq!(placed, BTreeSet::from(["10-web.toml".to_owned()]));
        let locked = bundle(&[("web.toml", &newer), ("web.lock.toml", "new")]);
        let (merged, _) = push(&base, &by_tool, &locked).unwrap();
        assert_eq!(merged.get("10-web.lock.toml"), Some(&b"new"[..]));
        let (merged, _) = push(&base, &by_tool, &bundle(&[("x.toml", &policy("x"))])).unwrap();
        assert_eq!(merged.policies().count(), 3);
    }

    #[test]
    fn names_that_clash_are_refused() {
        let base = bundle(&[("web.toml", &policy("web"))]);
        let by_tool = files(&[("web", "web.toml")]);
        let refused = |pushed: &Bundle| push(&base, &by_tool, pushed).unwrap_err();
        let taken = refused(&bundle(&[("web.toml", &policy("other"))]));
        assert!(matches!(taken, MergeError::Taken { tool, .. } if tool == "web"));
        let twice = refused(&bundle(&[
            ("a.toml", &policy("web")),
            ("b.toml", &policy("web")),
        ]));
        assert!(matches!(twice, MergeError::Twice { .. }));
        assert_eq!(
            refused(&bundle(&[("a.lock.toml", "")])),
            MergeError::Nothing
        );
    }

    #[test]
    fn tools_are_removed_with_their_locks() {
        let base = bundle(&[
            ("web.toml", &policy("web")),
            ("web.lock.toml", ""),
            ("mail.toml", &policy("mail")),
        ]);
        let by_tool = files(&[("web", "web.toml"), ("mail", "mail.toml")]);
        let left = remove(&base, &by_tool, &["web".to_owned()]).unwrap();
        assert_eq!(left, bundle(&[("mail.toml", &policy("mail"))]));
        let unknown = remove(&base, &by_tool, &["wen".to_owned()]);
        assert_eq!(unknown, Err(MergeError::NoTool("wen".to_owned())));
    }

    #[test]
    fn a_schema_of_two_tools_changes_for_both_or_not() {
        const OPEN: &str = "{\"type\":\"object\",\"properties\":{},\"additionalProperties\":false}";
        let other = OPEN.replace("{}", "{\"a\":{\"type\":\"string\",\"maxLength\":9}}");
        let base = bundle(&[
            ("a.toml", &with_schema("a")),
            ("b.toml", &with_schema("b")),
            ("go.json", OPEN),
        ]);
        let by_tool = files(&[("a", "a.toml"), ("b", "b.toml")]);
        let check = |pushed: &Bundle| {
            let (merged, placed) = push(&base, &by_tool, pushed).unwrap();
            let sources = compile_held(Path::new("set"), &merged).unwrap();
            unshared(&base, &sources, &placed)
        };
        let one = bundle(&[("a.toml", &with_schema("a")), ("go.json", &other)]);
        assert_eq!(
            check(&one),
            Err(MergeError::Shared {
                name: "go.json".to_owned(),
                other: "b.toml".to_owned()
            })
        );
        let mut both = one.clone();
        both.insert("b.toml", with_schema("b").into_bytes())
            .unwrap();
        assert_eq!(check(&both), Ok(()));
        let same = bundle(&[("a.toml", &with_schema("a")), ("go.json", OPEN)]);
        assert_eq!(check(&same), Ok(()));
    }
}
