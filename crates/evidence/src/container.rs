//! The ZIP around a bundle: which entries it lists, and whether a byte of it was changed.
//!
//! The listing is read here, before `zip` sees the archive, because a library that keeps entries by name cannot tell of two with one name,
//! and because limits must hold before memory is spent. The archive's comment is a SHA-256 of all bytes before it, so that also a
//! changed time stamp or padding bit shows; against intent it proves nothing, the signatures do that.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crypto::Sha256;

use crate::bundle::BundleError;

/// What refusals name when no single file is to blame.
pub(crate) const CONTAINER: &str = "the ZIP container";
/// Most entries.
pub(crate) const ENTRIES_MAX: u64 = 200_000;
/// Largest central directory, in bytes: room for [`ENTRIES_MAX`] entries with the longest names of the layout.
const DIRECTORY_BYTES_MAX: u64 = ENTRIES_MAX * 256;

const COMMENT_PREFIX: &str = "cairn-bundle/v1 sha256:";
const COMMENT_BYTES: usize = COMMENT_PREFIX.len() + 64;
const END_BYTES: usize = 22;

/// An entry as the central directory lists it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) compressed: u64,
    pub(crate) size: u64,
    /// POSIX mode with type bits; 0 where the writer gave none.
    pub(crate) mode: u32,
    /// Ids of the extra fields.
    pub(crate) extras: Vec<u16>,
}

fn refuse(problem: impl Into<String>) -> BundleError {
    BundleError::refused(CONTAINER, problem)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|raw| u16::from_le_bytes(*raw))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|raw| u32::from_le_bytes(*raw))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|raw| u64::from_le_bytes(*raw))
}

/// Reads at most `length` bytes from `at`.
fn read_at(reader: &mut (impl Read + Seek), at: u64, length: u64) -> io::Result<Vec<u8>> {
    reader.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    reader.by_ref().take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Lists the entries in the order of the central directory (APPNOTE 4.3.12 to 4.3.16).
pub(crate) fn list(reader: &mut (impl Read + Seek)) -> Result<Vec<Entry>, BundleError> {
    let length = reader.seek(SeekFrom::End(0))?;
    let tail_start = length.saturating_sub((END_BYTES + usize::from(u16::MAX)) as u64);
    let tail = read_at(reader, tail_start, length)?;
    let is_end = |at: &usize| {
        let comment = u16_at(&tail, at + END_BYTES - 2).map(usize::from);
        tail.get(*at..*at + 4) == Some(b"PK\x05\x06")
            && comment.is_some_and(|comment| at + END_BYTES + comment == tail.len())
    };
    let at = (0..tail.len()).rev().find(is_end).ok_or_else(|| refuse("is not a ZIP archive, or was cut short"))?;
    let (count, size, start) =
        end_record(reader, &tail, at, tail_start).ok_or_else(|| refuse("has a broken end record"))?;
    if count > ENTRIES_MAX || size > DIRECTORY_BYTES_MAX {
        return Err(refuse(format!(
            "lists {count} entries in {size} bytes; at most {ENTRIES_MAX} in {DIRECTORY_BYTES_MAX} are accepted"
        )));
    }
    let directory = read_at(reader, start, size)?;
    let mut rest = directory.as_slice();
    let mut entries = Vec::new();
    while let Some((entry, left)) = central_entry(rest) {
        entries.push(entry);
        rest = left;
    }
    if rest.is_empty() && entries.len() as u64 == count { Ok(entries) } else { Err(refuse("has a broken directory")) }
}

/// Entry count, size and start of the central directory.
fn end_record(reader: &mut (impl Read + Seek), tail: &[u8], at: usize, tail_start: u64) -> Option<(u64, u64, u64)> {
    let (count, size, start) = (u16_at(tail, at + 10)?, u32_at(tail, at + 12)?, u32_at(tail, at + 16)?);
    if count != u16::MAX && size != u32::MAX && start != u32::MAX {
        return Some((count.into(), size.into(), start.into()));
    }
    let locator = read_at(reader, (tail_start + at as u64).checked_sub(20)?, 20).ok()?;
    let record = read_at(reader, locator.strip_prefix(b"PK\x06\x07").and_then(|it| u64_at(it, 4))?, 56).ok()?;
    let record = record.strip_prefix(b"PK\x06\x06")?;
    Some((u64_at(record, 28)?, u64_at(record, 36)?, u64_at(record, 44)?))
}

/// The first entry of what is left of the directory, and what follows it.
fn central_entry(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let rest = bytes.strip_prefix(b"PK\x01\x02")?;
    let [name, extra, comment] = [u16_at(rest, 24)?, u16_at(rest, 26)?, u16_at(rest, 28)?].map(usize::from);
    let entry = Entry {
        flags: u16_at(rest, 4)?,
        method: u16_at(rest, 6)?,
        // All ones mean a ZIP64 size, which is over every limit here.
        compressed: u32_at(rest, 16)?.into(),
        size: u32_at(rest, 20)?.into(),
        mode: u32_at(rest, 34)? >> 16,
        name: rest.get(42..42 + name)?.to_vec(),
        extras: extra_ids(rest.get(42 + name..42 + name + extra)?)?,
    };
    Some((entry, rest.get(42 + name + extra + comment..)?))
}

/// The ids of extra fields; `None` where their lengths do not add up.
fn extra_ids(mut bytes: &[u8]) -> Option<Vec<u16>> {
    let mut ids = Vec::new();
    while !bytes.is_empty() {
        ids.push(u16_at(bytes, 0)?);
        bytes = bytes.get(4 + usize::from(u16_at(bytes, 2)?)..)?;
    }
    Some(ids)
}

/// The comment to write before the bytes are known; [`SealingWriter`] puts the digest in.
pub(crate) fn comment_placeholder() -> String {
    format!("{COMMENT_PREFIX}{}", "0".repeat(64))
}

/// Whether the comment is the SHA-256 of all bytes before it.
pub(crate) fn check_seal(reader: &mut (impl Read + Seek)) -> Result<(), BundleError> {
    let length = reader.seek(SeekFrom::End(0))?;
    reader.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    let body = length.saturating_sub(COMMENT_BYTES as u64);
    copy_hashed(&mut reader.by_ref().take(body), &mut hash, &mut io::sink())?;
    let mut comment = Vec::new();
    reader.by_ref().take(COMMENT_BYTES as u64).read_to_end(&mut comment)?;
    if comment == format!("{COMMENT_PREFIX}{}", hash.finish()).as_bytes() {
        return Ok(());
    }
    Err(refuse("was changed or packed again: the files in it are as they were signed, unpack it and use `verify.sh`"))
}

/// Copies all of `from`, hashing on the way; returns the number of bytes.
pub(crate) fn copy_hashed(from: &mut impl Read, hash: &mut Sha256, to: &mut impl Write) -> io::Result<u64> {
    let mut buffer = vec![0u8; 64 * 1_024];
    let mut total = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(read);
        to.write_all(read)?;
        total += read.len() as u64;
    }
}

/// Passes an archive on, holding back its last bytes, the comment, until the digest of all before them is known.
pub(crate) struct SealingWriter<W: Write> {
    inner: W,
    hash: Sha256,
    held: Vec<u8>,
}

impl<W: Write> SealingWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), held: Vec::new() }
    }

    pub(crate) fn finish(mut self) -> io::Result<W> {
        write!(self.inner, "{COMMENT_PREFIX}{}", self.hash.finish())?;
        self.inner.flush()?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for SealingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        let ready: Vec<u8> = self.held.drain(..self.held.len().saturating_sub(COMMENT_BYTES)).collect();
        self.hash.update(&ready);
        self.inner.write_all(&ready)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
