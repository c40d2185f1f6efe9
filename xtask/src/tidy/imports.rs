//! Imports of the agent run downwards only, and some modules show their neighbours only a part.

use super::{Finding, source::Source};

/// The modules of the agent by layer; a module imports from lower layers, never from its own.
const LAYERS: &[(u8, &[&str])] = &[
    (7, &["main", "cli"]),
    (6, &["daemon"]),
    (5, &["broker", "mcp"]),
    (4, &["sandbox", "launcher", "dns"]),
    (3, &["kernel"]),
    (2, &["audit", "observe"]),
    (
        1,
        &[
            "policy",
            "config",
            "clock",
            "timestamp",
            "secret",
            "sys",
            "exit",
            "shutdown",
            "authorities",
        ],
    ),
    // What a policy's schemas are read with, and whether a file may be believed.
    (0, &["json", "ownership"]),
];

/// Two halves of one thing: the launcher is the process in which the sandbox is made.
const PAIR: [&str; 2] = ["sandbox", "launcher"];

/// What a layer sees of a lower module, where that is less than all of it.
const PARTS: &[(u8, &str, &[&str])] = &[
    (5, "sandbox", &["launch"]),
    (5, "launcher", &[]),
    (5, "dns", &[]),
    (5, "kernel", &["Attached"]),
    (4, "kernel", &["Attached", "Admitted", "cgroup", "grant"]),
    (3, "audit", &[]),
    (3, "observe", &["event"]),
    // `model`: a sweep judges sockets by the rules that the programs have.
    (3, "policy", &["compiled", "diff", "model"]),
];

/// Checks one file; tests may look at everything.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let Some(module) = module(&source.path) else {
        return Vec::new();
    };
    let Some(&from) = module.first() else {
        return Vec::new();
    };
    if source.is_tests() {
        return Vec::new();
    }
    if layer(from).is_none() {
        let text =
            format!("module `{from}` has no layer: give it one in xtask/src/tidy/imports.rs");
        return vec![Finding {
            path: source.path.clone(),
            line: 0,
            text,
        }];
    }
    let inline = source.inline_modules();
    paths(source, module.len())
        .into_iter()
        .filter(|(at, _)| {
            !inline
                .iter()
                .any(|module| module.only_tests && module.holds(*at))
        })
        .filter_map(|(at, path)| Some(source.finding(at, refusal(from, &path)?)))
        .collect()
}

/// The module path of a file of the agent; none for the crate's root, which only lists modules.
fn module(path: &str) -> Option<Vec<&str>> {
    let path = path.strip_prefix("agent/src/")?.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path);
    (!matches!(path, "lib" | "main")).then(|| path.split('/').collect())
}

fn layer(module: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(_, modules)| modules.contains(&module))
        .map(|(layer, _)| *layer)
}

/// Why `from` may not import this path, if it may not.
fn refusal(from: &str, path: &[String]) -> Option<String> {
    let to = path.first()?.as_str();
    if from == to || (PAIR.contains(&from) && PAIR.contains(&to)) {
        return None;
    }
    let (above, below) = (layer(from)?, layer(to)?);
    if below >= above {
        return Some(format!(
            "`{from}` (layer {above}) imports `{to}` (layer {below}): imports run downwards only"
        ));
    }
    let (_, _, parts) = PARTS
        .iter()
        .find(|(layer, name, _)| *layer == above && *name == to)?;
    let part = path.get(1).map_or("*", String::as_str);
    if parts.contains(&part) {
        return None;
    }
    Some(match parts {
        [] => format!("`{from}` knows nothing of `{to}`"),
        parts => format!(
            "`{from}` sees of `{to}` only {}; not `{part}`",
            parts.join(", ")
        ),
    })
}

/// Every path from the crate's root, with its offset. `depth` is the number of modules that the file
/// lies in: that many `super` lead to the root.
fn paths(source: &Source, depth: usize) -> Vec<(usize, Vec<String>)> {
    let inline = source.inline_modules();
    let mut found = Vec::new();
    for (at, word) in source.words() {
        let rest = source.after(at + word.len());
        let rest = match word {
            "crate" => rest,
            "super" if !source.before(at).ends_with("super::") => {
                let depth = depth + inline.iter().filter(|module| module.holds(at)).count();
                let (count, rest) = supers(rest);
                if count != depth {
                    continue;
                }
                rest
            }
            _ => continue,
        };
        if let Some(rest) = rest.strip_prefix("::") {
            let mut paths = Vec::new();
            branches(rest, &[], &mut paths);
            found.extend(paths.into_iter().map(|path| (at, path)));
        }
    }
    found
}

/// How many `super` stand in a row, and what follows them.
fn supers(mut rest: &str) -> (usize, &str) {
    let mut count = 1;
    while let Some(after) = rest.strip_prefix("::super") {
        count += 1;
        rest = after;
    }
    (count, rest)
}

/// Adds the paths that begin here, `{…}` unfolded, and returns what follows them.
fn branches<'a>(text: &'a str, stem: &[String], paths: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = branches(rest, stem, paths).trim_start();
            rest = match rest.strip_prefix(',') {
                Some(rest) if rest.trim_start().starts_with('}') => rest.trim_start(),
                Some(rest) => rest,
                None => return rest.strip_prefix('}').unwrap_or(rest),
            };
            if let Some(rest) = rest.strip_prefix('}') {
                return rest;
            }
        }
    }
    let length = text
        .find(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(length);
    let mut path = stem.to_vec();
    path.push(if name.is_empty() {
        "*".to_owned()
    } else {
        name.to_owned()
    });
    let rest = if name.is_empty() {
        rest.strip_prefix('*').unwrap_or(rest)
    } else {
        rest
    };
    if let Some(after) = rest.strip_prefix("::")
        && !after.starts_with('<')
    {
        return branches(after, &path, paths);
    }
    paths.push(path);
    // `name as other`
    match rest.trim_start().strip_prefix("as ") {
        Some(alias) => alias
            .trim_start()
            .trim_start_matches(|letter: char| letter.is_alphanumeric() || letter == '_'),
        None => rest,
    }
}
