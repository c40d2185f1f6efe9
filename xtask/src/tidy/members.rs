//! Each member inherits the workspace's lints: a table that nobody inherits checks nothing.

use anyhow::Context as _;
use toml_edit::DocumentMut;

use super::Finding;

pub(crate) fn check(path: &str, text: &str) -> anyhow::Result<Vec<Finding>> {
    let manifest: DocumentMut = text.parse().with_context(|| path.to_owned())?;
    // One with a workspace of its own is no member of ours: its lints are beside the point, as are its
    // versions.
    if !manifest.contains_key("package") || manifest.contains_key("workspace") {
        return Ok(Vec::new());
    }
    let lints = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"));
    if lints.and_then(toml_edit::Item::as_bool) == Some(true) {
        return Ok(Vec::new());
    }
    let text = "a member inherits the lints: `[lints]` with `workspace = true`".to_owned();
    Ok(vec![Finding {
        path: path.to_owned(),
        line: 0,
        text,
    }])
}
