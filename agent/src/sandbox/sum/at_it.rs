//! Word of a sum that takes long, to whoever waits for it.

use std::{
    fmt, io,
    time::{Duration, Instant},
};

/// No more often than this.
const EVERY: Duration = Duration::from_secs(1);

type Tell = Box<dyn FnMut(u64) -> io::Result<()>>;

/// Tells, once in a while, how many bytes have been summed since it began. By default nobody.
pub struct AtIt {
    bytes: u64,
    last: Instant,
    tell: Option<Tell>,
}

impl AtIt {
    /// Tells it so. Where that fails nobody wants the sum any more, and it is given up.
    #[must_use]
    pub fn telling(tell: impl FnMut(u64) -> io::Result<()> + 'static) -> Self {
        Self {
            tell: Some(Box::new(tell)),
            ..Self::default()
        }
    }

    /// Begins anew.
    pub(in crate::sandbox) fn begin(&mut self) {
        self.bytes = 0;
        self.last = Instant::now();
    }

    /// So many bytes more.
    pub(super) fn did(&mut self, bytes: usize) -> io::Result<()> {
        let Some(tell) = &mut self.tell else {
            return Ok(());
        };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.last.elapsed() < EVERY {
            return Ok(());
        }
        self.last = Instant::now();
        tell(self.bytes)
    }
}

impl Default for AtIt {
    fn default() -> Self {
        Self {
            bytes: 0,
            last: Instant::now(),
            tell: None,
        }
    }
}

impl fmt::Debug for AtIt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtIt")
            .field("bytes", &self.bytes)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        fs::{self, File},
        io,
        rc::Rc,
        time::Instant,
    };

    use super::super::{CHUNK_BYTES, file_of, folder_of};
    use super::{AtIt, EVERY};

    /// One that is to tell at the next opportunity.
    fn due(tell: impl FnMut(u64) -> io::Result<()> + 'static) -> AtIt {
        let last = Instant::now().checked_sub(2 * EVERY).unwrap();
        AtIt {
            last,
            ..AtIt::telling(tell)
        }
    }

    #[test]
    fn a_sum_that_takes_long_says_so_and_no_more_often_than_it_should() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![7; 3 * CHUNK_BYTES]).unwrap();
        let heard = Rc::new(RefCell::new(Vec::new()));
        let listener = Rc::clone(&heard);
        let mut at_it = due(move |bytes| {
            listener.borrow_mut().push(bytes);
            Ok(())
        });
        let quiet = file_of(&mut File::open(&path).unwrap(), &mut AtIt::default()).unwrap();
        let told = file_of(&mut File::open(&path).unwrap(), &mut at_it).unwrap();
        assert_eq!(told, quiet);
        assert_eq!(*heard.borrow(), [CHUNK_BYTES as u64]);
        at_it.begin();
        file_of(&mut File::open(&path).unwrap(), &mut at_it).unwrap();
        assert_eq!(heard.borrow().len(), 1, "said within a second");
    }

    #[test]
    fn a_sum_that_nobody_wants_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let mut at_it = due(|_| Err(io::ErrorKind::BrokenPipe.into()));
        let given_up = folder_of(&File::open(folder.path()).unwrap(), &mut at_it);
        let error = given_up.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
