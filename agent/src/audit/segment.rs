//! What is written to a file: a record as a line, and the first line of a file that goes on from
//! another.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
};

use serde::Serialize;

use super::{
    chain::{Head, hex},
    checkpoint,
    error::Error,
    key::Key,
    place::{FILE_MODE, Place},
    record::{Entry, Plain, Record},
};
use crate::{json::canonical, timestamp::Timestamp};

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
    let line = line(head, &entry)?;
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

/// The line of a record that follows `head`, with its end.
pub(super) fn line<E: Serialize>(head: Head, entry: &Entry<'_, E>) -> Result<Vec<u8>, Error> {
    let record = Record {
        sequence: head.next(),
        previous: &hex(&head.hash),
        time: Timestamp::now(),
        entry,
    };
    let mut line = Vec::with_capacity(512);
    canonical::write(&record, &mut line).map_err(Error::Encode)?;
    line.push(b'\n');
    Ok(line)
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
