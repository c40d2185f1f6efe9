//! A connection over a local socket, as its two ends.
//!
//! The runtime's own stream asks the kernel to be told of room as well, and so is woken each time that the
//! other side has read something: a switch between threads that serves nobody. Here only who found no
//! room asks for it.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd};

use super::readiness::watch;

/// What the other side says.
#[derive(Debug)]
pub struct Reader(AsyncFd<Arc<UnixStream>>);

/// What it is told.
#[derive(Debug)]
pub struct Writer {
    stream: Arc<UnixStream>,
    /// The same connection, watched for room: since it had none for the first time.
    room: Option<AsyncFd<OwnedFd>>,
}

/// Takes a connection, which must not block. Wants a runtime; fails where that can not watch it.
pub fn ends(stream: UnixStream) -> io::Result<(Reader, Writer)> {
    let stream = Arc::new(stream);
    let reader = watch(Arc::clone(&stream), Interest::READABLE)?;
    let writer = Writer { stream, room: None };
    Ok((Reader(reader), writer))
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            let room = into.initialize_unfilled();
            let wanted = room.len();
            match ready.get_inner().as_ref().read(room) {
                Ok(bytes) => {
                    // Less than was wanted is all that there was: another event comes with the rest.
                    if 0 < bytes && bytes < wanted {
                        ready.clear_ready();
                    }
                    into.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut room = match &self.room {
                Some(room) => Some(ready!(room.poll_write_ready(context))?),
                None => None,
            };
            match self.stream.as_ref().write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if let Some(room) = &mut room {
                        room.clear_ready();
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                written => return Poll::Ready(written),
            }
            // A descriptor of its own: the kernel watches each for one thing.
            let own = OwnedFd::from(self.stream.try_clone()?);
            self.room = Some(watch(own, Interest::WRITABLE)?);
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(Shutdown::Write))
    }
}

impl Drop for Writer {
    /// Who still reads learns that nothing more comes, also where the other end is kept.
    fn drop(&mut self) {
        // Refused where it has hung up.
        drop(self.stream.shutdown(Shutdown::Write));
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, time::Duration};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::timeout,
    };

    use super::*;

    /// More than a socket holds.
    const MUCH: usize = 1 << 20;

    fn pair() -> (Reader, Writer, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("it is set");
        let (reader, writer) = ends(ours).expect("it is watched");
        (reader, writer, theirs)
    }

    #[tokio::test]
    async fn what_comes_in_pieces_comes_whole() {
        let (mut reader, _writer, mut theirs) = pair();
        let sent = std::thread::spawn(move || {
            for piece in 0..100_u8 {
                theirs.write_all(&[piece; 700]).expect("it is read");
                if piece % 10 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let mut all = Vec::new();
        let read = timeout(Duration::from_secs(10), reader.read_to_end(&mut all)).await;
        read.expect("it ends").expect("no error");
        sent.join().expect("it was sent");
        let expected: Vec<u8> = (0..100_u8).flat_map(|piece| [piece; 700]).collect();
        assert!(all == expected, "{} bytes", all.len());
    }

    #[tokio::test]
    async fn what_comes_with_the_end_is_read_before_it() {
        let (mut reader, _writer, mut theirs) = pair();
        theirs.write_all(b"last words").expect("it is taken");
        drop(theirs);
        let mut bytes = [0; 64];
        let read = reader.read(&mut bytes).await.expect("no error");
        assert_eq!(bytes.get(..read), Some(&b"last words"[..]));
        let end = timeout(Duration::from_secs(10), reader.read(&mut bytes)).await;
        assert_eq!(end.expect("it is told").expect("no error"), 0);
    }

    #[tokio::test]
    async fn who_reads_slowly_gets_all_of_it() {
        let (_reader, mut writer, mut theirs) = pair();
        let read = std::thread::spawn(move || {
            let (mut all, mut piece) = (Vec::new(), [0; 10_000]);
            loop {
                match theirs.read(&mut piece).expect("no error") {
                    0 => return all,
                    bytes => all.extend_from_slice(piece.get(..bytes).expect("as read")),
                }
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        let much: Vec<u8> = (0..=250).cycle().take(MUCH).collect();
        let written = timeout(Duration::from_secs(30), writer.write_all(&much)).await;
        written.expect("it ends").expect("no error");
        assert!(writer.room.is_some(), "there was always room");
        drop(writer);
        assert!(read.join().expect("it was read") == much);
    }

    #[tokio::test]
    async fn who_reads_nothing_is_waited_for() {
        let (_reader, mut writer, _theirs) = pair();
        let much = vec![0; MUCH];
        let written = timeout(Duration::from_millis(50), writer.write_all(&much)).await;
        assert!(written.is_err(), "{written:?}");
    }

    #[tokio::test]
    async fn who_hung_up_is_an_error() {
        let (_reader, mut writer, theirs) = pair();
        drop(theirs);
        let error = writer.write(b"anybody").await.expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}
