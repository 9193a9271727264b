//! Sealed frames: what is written to them is cut into pieces, each sealed with AES-256-GCM and bound to its archive, its number and whether it
//! is the last.

use std::io::{self, Read, Write};
use std::sync::Arc;

use crypto::Sha256;
use crypto::aead::{self, AeadKey};
use domain::{Digest, Rng};

/// Bytes of plaintext in a frame.
const FRAME_BYTES: usize = 256 * 1_024;

/// Binds a frame to its archive and place.
fn place(header: &Digest, number: u64, last: bool) -> Vec<u8> {
    [b"cairn/backup/v1/frame".as_slice(), &header.0, &number.to_be_bytes(), &[u8::from(last)]].concat()
}

/// A length in four bytes, the highest first.
pub(super) fn length(bytes: usize) -> io::Result<[u8; 4]> {
    u32::try_from(bytes).map(u32::to_be_bytes).map_err(io::Error::other)
}

/// Seals what is written to it, frame by frame, and hashes what it writes.
pub(super) struct FrameWriter<W> {
    out: W,
    key: AeadKey,
    header: Digest,
    rng: Arc<dyn Rng>,
    number: u64,
    plain: Vec<u8>,
    written: u64,
    whole: Sha256,
}

impl<W: Write> FrameWriter<W> {
    /// Frames of the archive with this header, whose key is `key`.
    pub(super) fn new(out: W, key: AeadKey, header: Digest, rng: Arc<dyn Rng>) -> Self {
        let plain = Vec::with_capacity(FRAME_BYTES);
        Self { out, key, header, rng, number: 0, plain, written: 0, whole: Sha256::new() }
    }

    /// Writes the last frame; the output, how many bytes it got, and their SHA-256.
    pub(super) fn finish(mut self) -> io::Result<(W, u64, Digest)> {
        self.frame(true)?;
        self.out.flush()?;
        Ok((self.out, self.written, self.whole.finish()))
    }

    /// Writes in the clear, in front of the frames.
    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.whole.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn frame(&mut self, last: bool) -> io::Result<()> {
        let aad = place(&self.header, self.number, last);
        let sealed = aead::seal(&self.key, &aad, &self.plain, &*self.rng).map_err(io::Error::other)?;
        self.plain.clear();
        self.number += 1;
        self.put(&[u8::from(last)])?;
        self.put(&length(sealed.len())?)?;
        self.put(&sealed)
    }
}

impl<W: Write> Write for FrameWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = FRAME_BYTES - self.plain.len();
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.plain.extend_from_slice(taken);
        if self.plain.len() == FRAME_BYTES {
            self.frame(false)?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Opens sealed frames in order.
pub(super) struct FrameReader<R> {
    file: R,
    key: AeadKey,
    header: Digest,
    number: u64,
    plain: Vec<u8>,
    at: usize,
    last: bool,
}

/// What is not as it was written.
pub(super) fn damaged(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the backup is damaged: {what}"))
}

/// So many bytes, or an error that says that the backup ends too early.
pub(super) fn exactly<R: Read>(file: &mut R, bytes: usize) -> io::Result<Vec<u8>> {
    let mut out = vec![0u8; bytes];
    file.read_exact(&mut out).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            io::Error::new(io::ErrorKind::InvalidData, "the backup is incomplete: the file ends before the backup does")
        }
        _ => error,
    })?;
    Ok(out)
}

/// A number, the highest byte first.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The same as a length of at most `most`.
pub(super) fn size(bytes: &[u8], most: usize) -> io::Result<usize> {
    usize::try_from(number(bytes)).ok().filter(|size| *size <= most).ok_or_else(|| damaged("a length is out of bounds"))
}

impl<R: Read> FrameReader<R> {
    /// Frames of the archive with this header, whose key is `key`.
    pub(super) fn new(file: R, key: AeadKey, header: Digest) -> Self {
        Self { file, key, header, number: 0, plain: Vec::new(), at: 0, last: false }
    }

    fn next(&mut self) -> io::Result<()> {
        let head = exactly(&mut self.file, 5)?;
        let (flag, length) = head.split_first().ok_or_else(|| damaged("a frame has no head"))?;
        let last = match flag {
            0 => false,
            1 => true,
            _ => return Err(damaged(format!("frame {} is no frame", self.number))),
        };
        let sealed = exactly(&mut self.file, size(length, FRAME_BYTES + 1_024)?)?;
        let opened = aead::open(&self.key, &place(&self.header, self.number, last), &sealed)
            .map_err(|_| damaged(format!("frame {} was changed", self.number)))?;
        self.plain.clear();
        self.plain.extend_from_slice(opened.expose());
        (self.at, self.last) = (0, last);
        self.number += 1;
        if last && self.file.read(&mut [0u8])? != 0 {
            return Err(damaged("something follows its end"));
        }
        Ok(())
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.plain.len() {
            if self.last {
                return Ok(0);
            }
            self.next()?;
        }
        let rest = self.plain.get(self.at..).unwrap_or_default();
        let taken = rest.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..taken), rest.get(..taken)) {
            to.copy_from_slice(from);
        }
        self.at += taken;
        Ok(taken)
    }
}
