//! The program of a session: found in the built root, checked against its pin through the very
//! descriptor that is executed.

use std::{
    ffi::{CString, OsStr, OsString},
    fs::File,
    os::unix::{ffi::OsStringExt, fs::MetadataExt},
    path::Path,
};

use super::{
    error::{At, Step, StepError},
    interpreter::{script_line, split_line},
    pins::{Checked, Pins},
    sum::Identity,
};

/// Mode bits of which a program has one at least.
const EXECUTABLE: u32 = 0o111;

/// What is executed.
#[derive(Debug)]
pub struct Program {
    /// The file: the program or, for a script, its interpreter.
    pub file: File,
    /// The arguments, from the program's own name on.
    pub arguments: Vec<CString>,
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
            with.append(&mut arguments);
            arguments = with;
        }
        for argument in rest {
            arguments.push(c_string(argument)?);
        }
        Ok(Program { file, arguments })
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
