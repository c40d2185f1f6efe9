//! Finds the policy that a command line means: a file, or a tool of the policy directory.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;

use crate::policy::{
    compiled::{CompiledPolicy, ToolName},
    store::{self, PolicySet, SetError},
};

/// Where the policies of the service are.
pub(super) const POLICIES: &str = "/etc/stockade/policies.d";

/// A policy on the command line.
#[derive(Args, Debug)]
pub(super) struct Source {
    /// A tool of the policy directory, or a policy file
    #[arg(value_name = "TOOL|FILE")]
    pub(super) source: String,
    /// The policy directory
    #[arg(long, value_name = "DIR", default_value = POLICIES)]
    pub(super) policies: PathBuf,
}

/// Why there is no policy to look at.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    /// It does not compile, or can not be read.
    #[error(transparent)]
    Refused(#[from] SetError),
    /// The name is neither a tool's nor a file's.
    #[error("{0}\nhint: a file is named with a `/` or a final `.toml`")]
    Name(#[from] crate::policy::compile::ToolNameError),
    /// No policy names the tool.
    #[error("no policy of `{}` names the tool `{tool}`\nhint: {hint}", folder.display())]
    NoTool {
        /// The tool.
        tool: String,
        /// The directory.
        folder: PathBuf,
        /// What to do.
        hint: String,
    },
}

impl Source {
    /// Whether a tool is named, not a file.
    pub(super) fn is_tool(&self) -> bool {
        let path = Path::new(&self.source);
        let is_file_name = path.extension().is_some_and(|ending| ending == "toml");
        !(is_file_name || self.source.contains('/') || path.is_file())
    }

    /// Reads it.
    pub(super) fn policy(&self) -> Result<Arc<CompiledPolicy>, LookError> {
        if !self.is_tool() {
            let path = Path::new(&self.source);
            let policy = store::read_file(path).map_err(|error| SetError(vec![error]))?;
            return Ok(Arc::new(policy));
        }
        let tool = ToolName::parse(&self.source)?;
        let set = store::read_directory(&self.policies)?;
        set.get(&tool).cloned().ok_or_else(|| LookError::NoTool {
            tool: self.source.clone(),
            folder: self.policies.clone(),
            hint: tools(&set),
        })
    }
}

fn tools(set: &PolicySet) -> String {
    let names: Vec<&str> = set.iter().map(|policy| policy.tool.as_str()).collect();
    if names.is_empty() {
        "the directory holds no policy; `--policies DIR` names another".to_owned()
    } else {
        format!("it has {}", names.join(", "))
    }
}

/// Reads a file or a directory as a set.
pub(super) fn set(path: &Path) -> Result<PolicySet, SetError> {
    if path.is_dir() {
        store::read_directory(path)
    } else {
        store::read_files(path, &[path.to_owned()])
    }
}
