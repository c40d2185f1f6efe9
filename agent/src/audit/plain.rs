//! A file of a version that had no chain: it is put aside, and the new chain begins with its hash.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use aws_lc_rs::digest::{Context, SHA256};

use super::{
    chain::{Hash, Link, NOTHING},
    checkpoint::Checkpoint,
    error::Error,
    journal::RECORD_BYTES_MAX,
    place::Place,
    recover::{Recovered, fresh, open_active},
};

/// An older file without a chain, put aside: the new one begins with its hash.
pub(super) struct Plain {
    /// Its name now.
    pub(super) name: String,
    /// Its size.
    pub(super) bytes: u64,
    /// Its hash.
    pub(super) sha256: Hash,
}

/// Puts a file without a chain aside.
pub(super) fn adopt(place: &Place, active: &Path, first: u64) -> Result<Recovered, Error> {
    let aside = place.closed(first);
    fs::rename(active, &aside).map_err(|source| Error::Write {
        path: active.to_owned(),
        source,
    })?;
    take_over(place, &aside, None)
}

/// Begins a chain after a file that has none.
pub(super) fn take_over(
    place: &Place,
    aside: &Path,
    checkpoint: Option<Checkpoint>,
) -> Result<Recovered, Error> {
    if let Some(Checkpoint { sequence, .. }) = checkpoint {
        let path = place.active();
        return Err(Error::Cut { path, sequence });
    }
    let read = |source| Error::Read {
        path: aside.to_owned(),
        source,
    };
    let last = last_number(aside).map_err(read)?;
    let sequence = last.ok_or_else(|| Error::Damaged(aside.to_owned()))?;
    let (bytes, sha256) = sum(aside).map_err(read)?;
    let name = aside.file_name().unwrap_or_default();
    let mut recovered = fresh(open_active(&place.active())?);
    recovered.start.head.sequence = sequence;
    recovered.start.first = recovered.start.head.next();
    recovered.plain = Some(Plain {
        name: name.to_string_lossy().into_owned(),
        bytes,
        sha256,
    });
    Ok(recovered)
}

/// Size and hash of a file.
pub(super) fn sum(path: &Path) -> io::Result<(u64, Hash)> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut context = Context::new(&SHA256);
    let mut chunk = vec![0; 1 << 16];
    let mut bytes = 0_u64;
    loop {
        let count = reader.read(&mut chunk)?;
        let Some(read) = chunk.get(..count).filter(|read| !read.is_empty()) else {
            break;
        };
        context.update(read);
        bytes = bytes.saturating_add(count as u64);
    }
    let mut sha256 = NOTHING;
    sha256.copy_from_slice(context.finish().as_ref());
    Ok((bytes, sha256))
}

/// Number of the last record of a file without a chain.
pub(super) fn last_number(path: &Path) -> io::Result<Option<u64>> {
    // Room for a whole record before one that was cut.
    let wanted = 2 * RECORD_BYTES_MAX as u64;
    let mut file = File::open(path)?;
    let size = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(size.saturating_sub(wanted)))?;
    let mut tail = Vec::new();
    file.take(wanted).read_to_end(&mut tail)?;
    let last = tail
        .rsplit(|byte| *byte == b'\n')
        .find_map(|line| Link::read(line).map(|link| link.sequence));
    Ok(last)
}
