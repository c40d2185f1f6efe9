//! Bytes of any length handed to another process as a descriptor: a memory file that nobody can change
//! any more (`memfd_create(2)`, file sealing in `fcntl(2)`).

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    os::fd::OwnedFd,
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};

/// `MFD_NOEXEC_SEAL` (Linux 6.3): where the host demands it, a file without it is refused.
const NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(0x8);
const SEALS: SealFlag = SealFlag::F_SEAL_WRITE
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW);

/// A file with these bytes, sealed.
pub fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let made = memfd_create(c"stockade", flags | NOEXEC_SEAL);
    let made = match made {
        // An older kernel does not know the flag.
        Err(nix::Error::EINVAL) => memfd_create(c"stockade", flags),
        other => other,
    };
    let mut file = File::from(made?);
    file.write_all(bytes)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS | SealFlag::F_SEAL_SEAL))?;
    Ok(file.into())
}

/// The bytes of a sealed file. One that its sender could still change or cut is refused: reading it
/// would give something else than was looked at, or end the reader.
pub fn read_sealed(fd: OwnedFd, bytes_max: usize) -> io::Result<Vec<u8>> {
    let odd = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    // Descriptors that are no memory file have no seals to ask for.
    let seals = fcntl(&fd, FcntlArg::F_GET_SEALS).map_err(|_none| odd("not a memory file"))?;
    if !SealFlag::from_bits_retain(seals).contains(SEALS) {
        return Err(odd("a memory file that can still change"));
    }
    let mut file = File::from(fd);
    let length = file.metadata()?.len();
    if usize::try_from(length).map_or(true, |length| length > bytes_max) {
        return Err(odd("more bytes than are taken"));
    }
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _, os::fd::OwnedFd};

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::{read_sealed, sealed};

    #[test]
    fn bytes_come_through_and_can_not_be_changed() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let fd = sealed(&bytes).unwrap();
        let mut writer = File::from(fd.try_clone().unwrap());
        assert!(writer.write_all(b"x").is_err());
        assert!(writer.set_len(1).is_err());
        assert_eq!(read_sealed(fd, bytes.len()).unwrap(), bytes);
    }

    #[test]
    fn what_is_open_to_change_or_too_long_or_something_else_is_refused() {
        let open = memfd_create(c"t", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        assert!(read_sealed(open, 10).is_err());
        assert!(read_sealed(sealed(b"12345678901").unwrap(), 10).is_err());
        let null = OwnedFd::from(File::open("/dev/zero").unwrap());
        assert!(read_sealed(null, 10).is_err());
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        assert!(read_sealed(file, 10).is_err());
    }
}
