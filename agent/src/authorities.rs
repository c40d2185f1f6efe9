//! Which authorities may vouch for a server over TLS: those of one PEM file, and no other.

use std::{
    fs::File,
    io::{self, BufReader, Read as _},
    path::Path,
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem, pem::PemObject as _},
};

/// Bytes of a file of authorities that are read.
const BYTES_MAX: u64 = 16 << 20;

/// The file can not be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It can not be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// It is no PEM.
    #[error("{0}")]
    Pem(#[from] pem::Error),
    /// It names nobody.
    #[error("no certificate in it")]
    Empty,
}

/// Reads the authorities of a PEM file.
pub fn read(path: &Path) -> Result<RootCertStore, Unusable> {
    let mut store = RootCertStore::empty();
    let pem = BufReader::new(File::open(path)?.take(BYTES_MAX));
    for certificate in CertificateDer::pem_reader_iter(pem) {
        // One authority that this library can not read is no reason to trust none of the others.
        let (_added, _passed_over) = store.add_parsable_certificates([certificate?]);
    }
    if store.is_empty() {
        return Err(Unusable::Empty);
    }
    Ok(store)
}
