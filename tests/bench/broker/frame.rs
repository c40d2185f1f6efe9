//! Where an answer ends: at the end of a line, or of an HTTP response with a length or in chunks.

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How answers are framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    /// One line each.
    Lines,
    /// HTTP/1.1 with status 200 or 202.
    Http,
}

/// Reads answers, one after the other.
pub(super) struct Reader {
    from: Box<dyn AsyncRead + Unpin + Send>,
    framing: Framing,
    held: Vec<u8>,
}

const READ_BYTES: usize = 16 * 1024;

impl Reader {
    pub(super) fn new(reader: Box<dyn AsyncRead + Unpin + Send>, framing: Framing) -> Self {
        Self {
            from: reader,
            framing,
            held: Vec::new(),
        }
    }

    /// The connection, between two answers.
    pub(super) fn into_inner(self) -> Box<dyn AsyncRead + Unpin + Send> {
        self.from
    }

    /// The next answer: a line, or the body of a response that succeeded.
    pub(super) async fn answer(&mut self) -> Result<String> {
        let (head, body) = self.whole().await?;
        ensure!(
            self.framing == Framing::Lines
                || head.starts_with("HTTP/1.1 200")
                || head.starts_with("HTTP/1.1 202"),
            "{head}\n{body}"
        );
        Ok(body)
    }

    /// The next answer, whatever it says: head (of HTTP) and body.
    pub(super) async fn whole(&mut self) -> Result<(String, String)> {
        if self.framing == Framing::Lines {
            let end = self.find(b"\n", 0).await?;
            return Ok((String::new(), self.take(end + 1)?));
        }
        let end = self.find(b"\r\n\r\n", 0).await? + 4;
        let head = self.take(end)?;
        let mut body = String::new();
        if let Some(length) = header(&head, "content-length") {
            let length = length.parse()?;
            while self.held.len() < length {
                self.read().await?;
            }
            body = self.take(length)?;
        } else if header(&head, "transfer-encoding").is_some() {
            loop {
                let end = self.find(b"\r\n", 0).await?;
                let line = self.take(end + 2)?;
                let length = usize::from_str_radix(line.trim(), 16).context("size of a chunk")?;
                while self.held.len() < length + 2 {
                    self.read().await?;
                }
                let chunk = self.take(length + 2)?;
                if length == 0 {
                    break;
                }
                body.push_str(chunk.trim_end_matches("\r\n"));
            }
        }
        Ok((head, body))
    }

    /// Where this is, from here on.
    async fn find(&mut self, wanted: &[u8], mut from: usize) -> Result<usize> {
        loop {
            let fresh = self.held.get(from..).unwrap_or_default();
            if let Some(at) = fresh.windows(wanted.len()).position(|part| part == wanted) {
                return Ok(from + at);
            }
            from = self.held.len().saturating_sub(wanted.len());
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<()> {
        self.held.reserve(READ_BYTES);
        if self.from.read_buf(&mut self.held).await? == 0 {
            bail!(
                "the connection ended after {:?}",
                String::from_utf8_lossy(&self.held)
            );
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<String> {
        let rest = self.held.split_off(length);
        Ok(String::from_utf8(std::mem::replace(&mut self.held, rest))?)
    }
}

/// The value of a header.
pub(super) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (own, value) = line.split_once(':')?;
        own.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}
