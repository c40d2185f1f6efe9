//! The program of a session: found in the built root, checked against its pin through the very
//! descriptor that is executed.

use std::{
    ffi::{CString, OsStr, OsString},
    fs::File,
    os::unix::{ffi::OsStringExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    error::{At, Step, StepError},
    interpreter::{script_line, split_line},
    pins::{Checked, Pins},
    sum::Identity,
};

/// Files that are told of, and bytes of their paths: more are looked at anew each time.
const SEEN_MAX: usize = 32;
const SEEN_BYTES_MAX: usize = 4_096;
/// Mode bits of which a program has one at least.
const EXECUTABLE: u32 = 0o111;

/// What is executed.
#[derive(Debug)]
pub struct Program {
    /// The file: the program or, for a script, its interpreter.
    pub file: File,
    /// The arguments, from the program's own name on.
    pub arguments: Vec<CString>,
    /// By what it can be told that a later look would find the same; none where it can not.
    pub found: Option<Found>,
}

/// What led to a program.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Found {
    /// Arguments before those of the command: the interpreter of a script, and its own.
    pub before: Vec<OsString>,
    /// Every path that was followed, and the file to which it led: as long as each leads to the same one,
    /// unchanged, the same program is found and the same pins hold.
    pub seen: Vec<(PathBuf, Identity)>,
}

impl Pins {
    /// Opens the program of a command in the root of this process.
    pub fn open(&mut self, command: &[OsString]) -> Result<Program, StepError> {
        let mut checked = self.check()?;
        let Some((name, rest)) = command.split_first() else {
            return Err(StepError::new(Step::Program, "command: empty"));
        };
        let path = Path::new(name);
        if !path.is_absolute() {
            return Err(StepError::new(
                Step::Program,
                format!("program `{}`: the path is not absolute", path.display()),
            ));
        }
        let mut before = Vec::new();
        let mut file = take_or_open(&mut checked, path)?;
        let mut arguments = vec![c_string(name)?];
        if let Some(line) = script_line(&file).at(Step::Program, path.display().to_string())? {
            let (interpreter, argument) = split_line(&line);
            let interpreter = Path::new(interpreter);
            file = take_or_open(&mut checked, interpreter).map_err(|error| StepError {
                detail: format!("script `{}`: {}", path.display(), error.detail),
                ..error
            })?;
            let nested = script_line(&file).at(Step::Program, interpreter.display().to_string())?;
            if nested.is_some() {
                return Err(StepError::new(
                    Step::Program,
                    format!(
                        "script `{}`: its interpreter `{}` is a script itself",
                        path.display(),
                        interpreter.display()
                    ),
                ));
            }
            let mut with = vec![c_string(interpreter.as_os_str())?];
            with.extend(argument.map(c_string).transpose()?);
            before.push(interpreter.as_os_str().to_owned());
            before.extend(argument.map(OsStr::to_owned));
            with.append(&mut arguments);
            arguments = with;
        }
        for argument in rest {
            arguments.push(c_string(argument)?);
        }
        Ok(Program {
            file,
            arguments,
            found: checked.found(before),
        })
    }
}

impl Checked {
    /// A folder takes more than a look, and a file that was changed just now may be changed again
    /// without looking otherwise.
    fn found(self, before: Vec<OsString>) -> Option<Found> {
        let Self { seen, folders, .. } = self;
        let bytes: usize = seen.iter().map(|(path, _)| path.as_os_str().len()).sum();
        let short = seen.len() <= SEEN_MAX && bytes <= SEEN_BYTES_MAX;
        let settled = seen.iter().all(|(_, identity)| identity.is_settled());
        (settled && !folders && short).then_some(Found { before, seen })
    }
}

/// A pinned file's own descriptor, or a new one of an unpinned file.
fn take_or_open(checked: &mut Checked, path: &Path) -> Result<File, StepError> {
    let opened = File::open(path).map_err(|error| StepError {
        step: Step::Program,
        detail: format!(
            "program `{}`: not in the worker's root\n\
             hint: add it or its folder to `filesystem.execute`",
            path.display()
        ),
        errno: error.raw_os_error().unwrap_or_default(),
    })?;
    let metadata = opened
        .metadata()
        .at(Step::Program, path.display().to_string())?;
    if !metadata.is_file() {
        return Err(StepError::new(
            Step::Program,
            format!("program `{}`: not a regular file", path.display()),
        ));
    }
    // A script is not executed itself, so that the kernel would not look at its mode.
    if metadata.mode() & EXECUTABLE == 0 {
        return Err(StepError {
            step: Step::Program,
            detail: format!(
                "program `{}`: can not be executed\nhint: `chmod a+x` if it is a program",
                path.display()
            ),
            errno: libc::EACCES,
        });
    }
    // Compared by identity: the command may spell the pinned path through a link.
    let identity = Identity::of(&opened).at(Step::Program, path.display().to_string())?;
    checked.seen.push((path.to_owned(), identity));
    Ok(checked.take(&identity).unwrap_or(opened))
}

fn c_string(string: &OsStr) -> Result<CString, StepError> {
    CString::new(string.to_owned().into_vec()).map_err(|_nul| {
        StepError::new(
            Step::Program,
            format!("argument `{}`: contains a NUL byte", string.display()),
        )
    })
}
