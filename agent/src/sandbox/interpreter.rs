//! What runs a file: a script's first line, an ELF file's loader.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::FileExt,
    },
    path::PathBuf,
};

/// The kernel reads this much of a script's first line.
const LINE_BYTES: usize = 256;
/// Longest path of a loader, with its final zero byte (Linux's `PATH_MAX`).
const LOADER_BYTES_MAX: u64 = 4_096;
/// Program headers that are looked at.
const HEADERS_MAX: u16 = 256;
/// Of the ELF specification: the magic, 64 bits, `PT_INTERP`.
const MAGIC: &[u8] = b"\x7fELF";
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const INTERP: u32 = 3;
/// Bytes of the file's header and of a program header, 64 bits.
const FILE_HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;

/// A script's first line without `#!`, if the file is one.
pub(super) fn script_line(file: &File) -> io::Result<Option<Vec<u8>>> {
    // One call for most files, and the file's position stays: launches come here.
    let mut head = [0; LINE_BYTES];
    let mut length = 0;
    while let Some(rest) = head.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, length as u64)? {
            0 => break,
            read => length = length.saturating_add(read),
        }
    }
    let head = head.get(..length).unwrap_or_default();
    let Some(line) = head.strip_prefix(b"#!") else {
        return Ok(None);
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(Some(line.trim_ascii().to_vec()))
}

/// Interpreter and, as the kernel does it, all the rest as one argument.
pub(super) fn split_line(line: &[u8]) -> (&OsStr, Option<&OsStr>) {
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let end = line.iter().position(blank).unwrap_or(line.len());
    let (interpreter, argument) = line.split_at(end);
    let argument = argument.trim_ascii();
    let argument = (!argument.is_empty()).then(|| OsStr::from_bytes(argument));
    (OsStr::from_bytes(interpreter), argument)
}

/// What the kernel loads to run this file: the interpreter of a script's first line, the loader that
/// a 64-bit ELF file names. None where there is none, or where it is neither.
pub fn of(file: &File) -> io::Result<Option<PathBuf>> {
    if let Some(line) = script_line(file)? {
        return Ok(Some(PathBuf::from(split_line(&line).0)));
    }
    loader(file)
}

fn loader(file: &File) -> io::Result<Option<PathBuf>> {
    let mut header = [0; FILE_HEADER_BYTES];
    match file.read_exact_at(&mut header, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let [m0, m1, m2, m3, class, order, ..] = header;
    if [m0, m1, m2, m3] != *MAGIC || class != CLASS_64 || order != LITTLE_ENDIAN {
        return Ok(None);
    }
    let begin = number(&header, 32, 8);
    let (size, count) = (number(&header, 54, 2), number(&header, 56, 2));
    for index in 0..count.min(HEADERS_MAX.into()) {
        let mut entry = [0; PROGRAM_HEADER_BYTES];
        let at = begin.saturating_add(index.saturating_mul(size));
        file.read_exact_at(&mut entry, at)?;
        if number(&entry, 0, 4) != u64::from(INTERP) {
            continue;
        }
        let (offset, length) = (number(&entry, 8, 8), number(&entry, 32, 8));
        if length == 0 || length > LOADER_BYTES_MAX {
            return Err(io::Error::other("its ELF interpreter has no readable name"));
        }
        let mut name = vec![0; usize::try_from(length).unwrap_or_default()];
        file.read_exact_at(&mut name, offset)?;
        name.truncate(
            name.iter()
                .position(|byte| *byte == 0)
                .unwrap_or(name.len()),
        );
        return Ok(Some(PathBuf::from(OsString::from_vec(name))));
    }
    Ok(None)
}

/// A little-endian number of up to 8 bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let bytes = bytes.get(at..at.saturating_add(length)).unwrap_or_default();
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, path::Path};

    use super::of;

    #[test]
    fn programs_and_scripts_name_what_runs_them() {
        let own = File::open("/proc/self/exe").unwrap();
        let loader = of(&own).unwrap().unwrap();
        assert!(loader.is_absolute(), "{}", loader.display());
        assert!(loader.exists(), "{}", loader.display());
        let script = |text: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text).unwrap();
            std::io::Seek::rewind(&mut file).unwrap();
            of(&file).unwrap()
        };
        let shell = script(b"#! /bin/sh -e\necho\n");
        assert_eq!(shell.as_deref(), Some(Path::new("/bin/sh")));
        assert_eq!(script(b"text"), None);
        assert_eq!(script(b""), None);
    }

    #[test]
    fn a_broken_header_is_no_loader() {
        let loader = |content: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(content).unwrap();
            std::io::Seek::rewind(&mut file).unwrap();
            of(&file)
        };
        let mut header = [0_u8; 64];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[32] = 64;
        header[54] = 56;
        header[56] = 1;
        assert!(loader(&header).is_err());
        let mut entry = [0_u8; 56];
        assert_eq!(loader(&[&header[..], &entry].concat()).unwrap(), None);
        entry[0] = 3;
        entry[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(loader(&[&header[..], &entry].concat()).is_err());
    }
}
