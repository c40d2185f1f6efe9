//! Extended attributes of an open file or folder.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd},
};

use super::process::done;

/// Longest value that is read.
const VALUE_BYTES_MAX: usize = 256;

/// Sets an attribute (`fsetxattr(2)`).
pub fn set_attribute(file: impl AsFd, name: &str, value: &[u8]) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: the name is a terminated string, pointer and length are those of one buffer, and both
    // outlive the call.
    let result = unsafe {
        libc::fsetxattr(
            file.as_fd().as_raw_fd(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    done(result.into())
}

/// An attribute's value (`fgetxattr(2)`); none where there is no such attribute.
pub fn attribute(file: impl AsFd, name: &str) -> io::Result<Option<Vec<u8>>> {
    let name = CString::new(name)?;
    let mut value = vec![0_u8; VALUE_BYTES_MAX];
    // SAFETY: the name is a terminated string, pointer and length are those of one buffer, and both
    // outlive the call.
    let result = unsafe {
        libc::fgetxattr(
            file.as_fd().as_raw_fd(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    match usize::try_from(result) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(_errno) => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENODATA) => Ok(None),
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::{attribute, set_attribute};

    #[test]
    fn what_was_set_is_there_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = File::open(folder.path()).expect("it opens");
        let name = "trusted.stockade.test";
        assert_eq!(attribute(&folder, name).expect("readable"), None);
        set_attribute(&folder, name, b"17").expect("a file system with attributes");
        let value = attribute(&folder, name).expect("readable");
        assert_eq!(value.as_deref(), Some(&b"17"[..]));
    }
}
