//! What is written to a file: lines, the first of which goes on from another file.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
};

use super::{
    chain::Head,
    checkpoint,
    draft::Draft,
    error::Error,
    key::Key,
    place::{FILE_MODE, Place},
    record::Plain,
};

/// Makes the file of the next segment under its passing name, with its first line, which it returns.
pub(super) fn begin_segment(
    place: &Place,
    key: &Key,
    head: Head,
    open: &BTreeSet<u64>,
) -> Result<(File, Vec<u8>), Error> {
    let open: Vec<u64> = open.iter().copied().collect();
    let entry = Plain::Segment {
        checkpoint: &checkpoint::sign(key, head),
        open: &open,
    };
    let line = Draft::new(&entry)?.line(head);
    let path = place.coming();
    let make = || {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(FILE_MODE);
        let file = options.open(&path)?;
        // An earlier attempt may have left a part.
        file.set_len(0)?;
        write_all(&file, &line).1.map(|()| file)
    };
    let file = make().map_err(|source| Error::Write {
        path: path.clone(),
        source,
    })?;
    Ok((file, line))
}

/// Writes; how many bytes are in the file, and whether that is all.
pub(super) fn write_all(mut file: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written = written.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}
