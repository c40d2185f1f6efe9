//! The program of a session: found in the built root, checked against its pin through the very
//! descriptor that is executed.

use std::{
    collections::HashMap,
    ffi::{CString, OsStr, OsString},
    fs::File,
    io::{self, Read, Seek},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    error::{At, Step, StepError},
    plan::Pinned,
};
use crate::sys::process::Vectors;

/// The kernel reads this much of a script's first line.
const INTERPRETER_LINE_BYTES: u64 = 256;
/// Mode bits of which a program has one at least.
const EXECUTABLE: u32 = 0o111;
/// Bytes hashed at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// What is executed.
#[derive(Debug)]
pub struct Program {
    /// The file: the program or, for a script, its interpreter.
    pub file: File,
    /// The arguments, from the program's own name on.
    pub arguments: Vectors,
}

/// What identifies a file's content without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The pins of a policy, and what was hashed already.
#[derive(Debug, Default)]
pub struct Pins {
    expected: Vec<Pinned>,
    hashed: HashMap<Identity, [u8; 32]>,
}

impl Pins {
    /// Pins of a plan.
    #[must_use]
    pub fn new(expected: Vec<Pinned>) -> Self {
        Self {
            expected,
            hashed: HashMap::new(),
        }
    }

    /// Checks every pinned file, and gives those that were opened for it: what was checked is what
    /// is executed.
    fn check_all(&mut self) -> Result<Vec<(PathBuf, File)>, StepError> {
        let mut files = Vec::new();
        for pin in &self.expected {
            let on = || pin.path.display().to_string();
            let mut file = File::open(&pin.path).at(Step::Pin, on())?;
            let found = Self::hash(&mut self.hashed, &mut file).at(Step::Pin, on())?;
            if found != pin.sha256 {
                return Err(StepError::new(
                    Step::Pin,
                    format!(
                        "pinned file `{}`: its sha256 is {}, the policy says {}\n\
                         hint: if the change is wanted, put the new sum into `worker.pin`",
                        pin.path.display(),
                        crate::policy::compiled::Digest(found),
                        crate::policy::compiled::Digest(pin.sha256),
                    ),
                ));
            }
            files.push((pin.path.clone(), file));
        }
        Ok(files)
    }

    fn hash(hashed: &mut HashMap<Identity, [u8; 32]>, file: &mut File) -> io::Result<[u8; 32]> {
        let before = identity(file)?;
        if let Some(sum) = hashed.get(&before) {
            return Ok(*sum);
        }
        let mut sum = Sha256::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                length => sum.update(chunk.get(..length).unwrap_or_default()),
            }
        }
        file.rewind()?;
        let sum: [u8; 32] = sum.finalize().into();
        if identity(file)? != before {
            return Err(io::Error::other("changed while it was read"));
        }
        // One entry a pin: a replaced file's old sum goes.
        hashed.retain(|known, _| (known.device, known.inode) != (before.device, before.inode));
        hashed.insert(before, sum);
        Ok(sum)
    }

    /// Opens the program of a command in the root of this process.
    pub fn open(&mut self, command: &[OsString]) -> Result<Program, StepError> {
        let mut pinned = self.check_all()?;
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
        let mut file = take_or_open(&mut pinned, path)?;
        let mut arguments = vec![c_string(name)?];
        if let Some(line) =
            interpreter_line(&mut file).at(Step::Program, path.display().to_string())?
        {
            let (interpreter, argument) = split_line(&line);
            let interpreter = Path::new(interpreter);
            file = take_or_open(&mut pinned, interpreter).map_err(|error| StepError {
                detail: format!("script `{}`: {}", path.display(), error.detail),
                ..error
            })?;
            let nested =
                interpreter_line(&mut file).at(Step::Program, interpreter.display().to_string())?;
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
        Ok(Program {
            file,
            arguments: Vectors::new(arguments),
        })
    }
}

/// A pinned file's own descriptor, or a new one of an unpinned file.
fn take_or_open(pinned: &mut Vec<(PathBuf, File)>, path: &Path) -> Result<File, StepError> {
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
    // Compared by inode: the command may spell the pinned path through a link.
    let key = (metadata.dev(), metadata.ino());
    let position = pinned.iter().position(|(_, file)| {
        file.metadata()
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == key)
    });
    Ok(match position {
        Some(index) => pinned.swap_remove(index).1,
        None => opened,
    })
}

fn interpreter_line(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    file.by_ref()
        .take(INTERPRETER_LINE_BYTES)
        .read_to_end(&mut head)?;
    file.rewind()?;
    let Some(line) = head.strip_prefix(b"#!") else {
        return Ok(None);
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(Some(line.trim_ascii().to_vec()))
}

/// Interpreter and, as the kernel does it, all the rest as one argument.
fn split_line(line: &[u8]) -> (&OsStr, Option<&OsStr>) {
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let end = line.iter().position(blank).unwrap_or(line.len());
    let (interpreter, argument) = line.split_at(end);
    let argument = argument.trim_ascii();
    let argument = (!argument.is_empty()).then(|| OsStr::from_bytes(argument));
    (OsStr::from_bytes(interpreter), argument)
}

fn identity(file: &File) -> io::Result<Identity> {
    let metadata = file.metadata()?;
    Ok(Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

fn c_string(string: &OsStr) -> Result<CString, StepError> {
    CString::new(string.to_owned().into_vec()).map_err(|_nul| {
        StepError::new(
            Step::Program,
            format!("argument `{}`: contains a NUL byte", string.display()),
        )
    })
}
