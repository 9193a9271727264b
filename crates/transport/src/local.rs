//! The machine that this process runs on, as a [`HostReach`].
//!
//! **Not for** understanding what is read: that is the `host` plugin's work.
//!
//! Invariants:
//! - only regular files are opened, by a descriptor that was checked first: no FIFO, device or link trick can block or trigger anything;
//! - every read is bounded in bytes and time; a read that hangs costs one of a few threads, never the caller;
//! - password hashes are taken out and private keys refused before bytes are hashed, recorded or returned.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{Clock, Digest};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::Semaphore;

use crate::call::{
    CallError, CallTag, CommandOutput, DirEntry, FileKind, FileStat, FileUsage, HostReach, Part, Reply, Socket,
};
use crate::record::{Asked, HostRecords, Recorder, entries_text, sockets_text, stat_text};

mod program;
pub(crate) mod redact;
pub(crate) mod sockets;

/// How long one file may take.
const FILE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long hashing one file may take.
const HASH_TIMEOUT: Duration = Duration::from_mins(5);
/// Blocking reads at one time; one that hangs keeps its place.
const THREADS: usize = 8;
/// Most entries of a directory.
const ENTRIES: usize = 200_000;
/// How much of a file is read at a time.
const PIECE: usize = 64 * 1_024;

/// This machine.
pub struct LocalHost {
    records: HostRecords,
    threads: Arc<Semaphore>,
}

/// The OpenSSH fingerprint (`SHA256:…`) of a public key in base64, if it is one.
pub fn ssh_key_fingerprint(blob: &str) -> Option<String> {
    let blob = decoded(blob).filter(|blob| blob.len() > 16)?;
    Some(format!("SHA256:{}", encoded(crypto::sha256(&blob).as_bytes())))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 (RFC 4648, section 4), padding optional.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut held) = (Vec::new(), 0u32, 0u32);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = u32::try_from(BASE64.iter().position(|letter| *letter == byte)?).ok()?;
        bits = (bits << 6 | digit) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(out)
}

/// Base64 without padding.
fn encoded(bytes: &[u8]) -> String {
    let mut out = String::new();
    for piece in bytes.chunks(3) {
        let bits = piece.iter().chain([0, 0].iter()).take(3).fold(0usize, |bits, byte| bits << 8 | usize::from(*byte));
        for place in (0..4).rev().take(piece.len() + 1) {
            out.push(char::from(BASE64.get(bits >> (place * 6) & 63).copied().unwrap_or(b'A')));
        }
    }
    out
}

fn failure(path: &str, errno: Errno) -> CallError {
    let path = words(path);
    match errno {
        Errno::NOENT | Errno::NOTDIR => CallError::NotFound(path),
        Errno::ACCESS | Errno::PERM => CallError::Denied(path),
        Errno::LOOP => CallError::Malformed(format!("{path}: too many links")),
        other => CallError::Unreachable(format!("{path}: {other}")),
    }
}

fn io_failure(path: &str, error: &std::io::Error) -> CallError {
    Errno::from_io_error(error)
        .map_or_else(|| CallError::Unreachable(words(&format!("{path}: {error}"))), |errno| failure(path, errno))
}

/// At most 500 characters, none of them a control character.
pub(crate) fn words(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

/// A plain reply.
pub(crate) fn reply(body: Bytes) -> Reply {
    Reply { status: 200, headers: BTreeMap::new(), digest: crypto::sha256(&body), body }
}

fn kind(file_type: FileType) -> FileKind {
    match file_type {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Dir,
        FileType::Symlink => FileKind::Link,
        _ => FileKind::Other,
    }
}

/// Opens a regular file: first only its name, then, once it is known to be one, the very same file through the descriptor.
fn open(path: &str) -> Result<(File, String), CallError> {
    let fail = |errno| failure(path, errno);
    let name: OwnedFd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let stat = rustix::fs::fstat(&name).map_err(fail)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(CallError::Malformed(format!("{}: not a regular file", words(path))));
    }
    let through = format!("/proc/self/fd/{}", name.as_raw_fd());
    let real =
        std::fs::read_link(&through).map_or_else(|_| path.to_owned(), |real| real.to_string_lossy().into_owned());
    let file =
        rustix::fs::open(&through, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
            .map_err(fail)?;
    Ok((File::from(file), real))
}

fn read_whole(path: &str, max: usize) -> Result<Bytes, CallError> {
    let (file, real) = open(path)?;
    let mut body = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut body).map_err(|error| io_failure(path, &error))?;
    if body.len() > max {
        return Err(CallError::TooLarge { max });
    }
    redact::file(&real, body).map(Bytes::from)
}

/// Finds a part while a file goes by in pieces.
struct Finder<'a> {
    part: Part<'a>,
    found: Option<Vec<u8>>,
    /// Nothing of interest is in this file.
    none: bool,
}

impl<'a> Finder<'a> {
    fn new(part: Part<'a>) -> Self {
        Self { part, found: None, none: false }
    }

    /// Takes the next piece; all but the last are whole multiples of [`Part::ALIGNED`].
    fn take(&mut self, piece: &[u8], is_first: bool) {
        self.none |= is_first && !piece.starts_with(self.part.begins);
        if self.none {
            return;
        }
        let begins = Part { begins: b"", ..self.part };
        match &mut self.found {
            None => self.found = begins.of(piece).map(<[u8]>::to_vec),
            Some(found) => {
                let room = self.part.length.saturating_sub(found.len()).min(piece.len());
                found.extend_from_slice(piece.get(..room).unwrap_or_default());
            }
        }
    }
}

/// A part of a file, and the size and digest of all of it.
fn read_part(path: &str, part: Part<'_>, max: usize) -> Result<(Bytes, u64, Digest), CallError> {
    let (mut file, real) = open(path)?;
    if redact::is_secret(&real) {
        return Err(CallError::Denied(format!("{}: a file of secrets is not searched", words(path))));
    }
    let (mut state, mut piece, mut size) = (crypto::Sha256::new(), vec![0; PIECE], 0);
    let mut finder = Finder::new(part);
    loop {
        let mut filled = 0;
        while filled < PIECE {
            match file.read(piece.get_mut(filled..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io_failure(path, &error)),
            }
        }
        let read = piece.get(..filled).unwrap_or_default();
        state.update(read);
        finder.take(read, size == 0);
        size += filled;
        if size > max {
            return Err(CallError::TooLarge { max });
        }
        if filled < PIECE {
            break;
        }
    }
    let body = redact::file(&real, finder.found.unwrap_or_default())?;
    Ok((body.into(), u64::try_from(size).unwrap_or(u64::MAX), state.finish()))
}

fn hash_whole(path: &str) -> Result<Digest, CallError> {
    let (mut file, real) = open(path)?;
    if redact::is_secret(&real) {
        return Err(CallError::Denied(format!("{}: the hash of a file of secrets is not taken", words(path))));
    }
    let (mut state, mut piece) = (crypto::Sha256::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(state.finish()),
            Ok(length) => state.update(piece.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io_failure(path, &error)),
        }
    }
}

fn list_sorted(path: &str) -> Result<Vec<DirEntry>, CallError> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|error| io_failure(path, &error))? {
        let entry = entry.map_err(|error| io_failure(path, &error))?;
        if out.len() == ENTRIES {
            return Err(CallError::TooLarge { max: ENTRIES });
        }
        let kind = entry.file_type().map_or(FileKind::Other, |kind| match () {
            () if kind.is_file() => FileKind::File,
            () if kind.is_dir() => FileKind::Dir,
            () if kind.is_symlink() => FileKind::Link,
            () => FileKind::Other,
        });
        out.push(DirEntry { name: entry.file_name().to_string_lossy().into_owned(), kind });
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}

fn stat_path(path: &str) -> Result<FileStat, CallError> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| failure(path, errno))?;
    Ok(FileStat {
        kind: kind(FileType::from_raw_mode(stat.st_mode)),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        mtime_s: stat.st_mtime,
    })
}

impl LocalHost {
    /// This machine. `host_id` names it in records; it is never the raw machine id.
    pub fn new(clock: Arc<dyn Clock>, recorder: Arc<Recorder>, host_id: String) -> Self {
        let records = HostRecords { clock, recorder, endpoint: host_id };
        Self { records, threads: Arc::new(Semaphore::new(THREADS)) }
    }

    fn asked<'a>(&self, system: &'static str, operation: impl Into<String>, tag: &'a CallTag) -> Asked<'a> {
        self.records.asked(system, operation, tag)
    }

    fn record(&self, asked: Asked<'_>, outcome: Result<(&Bytes, Digest), &CallError>) {
        self.records.push(asked, self.records.clock.now(), outcome);
    }

    /// Runs blocking work on another thread, for so long at most. Work that hangs keeps its thread's place until it ends.
    async fn blocking<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> Result<T, CallError> + Send + 'static,
    ) -> Result<T, CallError> {
        let threads = Arc::clone(&self.threads);
        let run = async {
            let place = threads.acquire_owned().await.map_err(|_| CallError::Cancelled)?;
            let work = move || {
                let result = work();
                drop(place);
                result
            };
            tokio::task::spawn_blocking(work)
                .await
                .map_err(|error| CallError::Unreachable(words(&error.to_string())))?
        };
        tokio::time::timeout(limit, run).await.unwrap_or(Err(CallError::Timeout(limit)))
    }

    fn fact<T>(
        &self,
        asked: Asked<'_>,
        result: Result<T, CallError>,
        text: impl FnOnce(&T) -> String,
    ) -> Result<T, CallError> {
        self.records.fact(asked, self.records.clock.now(), result, text)
    }
}

#[async_trait]
impl HostReach for LocalHost {
    async fn read(&self, path: &str, max: usize, tag: &CallTag) -> Result<Reply, CallError> {
        let asked = self.asked("file", path, tag);
        let owned = path.to_owned();
        let result = self.blocking(FILE_TIMEOUT, move || read_whole(&owned, max)).await.map(reply);
        self.record(asked, result.as_ref().map(|reply| (&reply.body, reply.digest)));
        result
    }

    async fn part(&self, path: &str, part: Part<'_>, max: usize, tag: &CallTag) -> Result<Reply, CallError> {
        let asked = self.asked("file", path, tag);
        let (owned, begins, marker) = (path.to_owned(), part.begins.to_vec(), part.marker.to_vec());
        let work = move || read_part(&owned, Part { begins: &begins, marker: &marker, length: part.length }, max);
        let result = self.blocking(FILE_TIMEOUT, work).await;
        let outcome = result.as_ref().map(|(_, size, digest)| (*size, *digest));
        self.records.push_sized(asked, self.records.clock.now(), outcome, None);
        result.map(|(body, _, digest)| Reply { status: 200, headers: BTreeMap::new(), digest, body })
    }

    async fn list(&self, path: &str, tag: Option<&CallTag>) -> Result<Vec<DirEntry>, CallError> {
        let owned = path.to_owned();
        let asked = tag.map(|tag| self.asked("file", format!("list {path}"), tag));
        let result = self.blocking(FILE_TIMEOUT, move || list_sorted(&owned)).await;
        let Some(asked) = asked else { return result };
        self.fact(asked, result, |entries| entries_text(entries))
    }

    async fn stat(&self, path: &str, tag: &CallTag) -> Result<FileStat, CallError> {
        let asked = self.asked("file", format!("lstat {path}"), tag);
        let owned = path.to_owned();
        let result = self.blocking(FILE_TIMEOUT, move || stat_path(&owned)).await;
        self.fact(asked, result, stat_text)
    }

    async fn read_link(&self, path: &str) -> Result<String, CallError> {
        let owned = path.to_owned();
        let work = move || {
            let target = std::fs::read_link(&owned).map_err(|error| match error.kind() {
                std::io::ErrorKind::InvalidInput => CallError::Malformed(format!("{}: not a link", words(&owned))),
                _ => io_failure(&owned, &error),
            })?;
            Ok(target.to_string_lossy().into_owned())
        };
        self.blocking(FILE_TIMEOUT, work).await
    }

    async fn hash(&self, path: &str, tag: &CallTag) -> Result<Digest, CallError> {
        let asked = self.asked("file", format!("sha256 {path}"), tag);
        let owned = path.to_owned();
        let result = self.blocking(HASH_TIMEOUT, move || hash_whole(&owned)).await;
        self.fact(asked, result, |digest| format!("{digest}\n"))
    }

    async fn usage(&self, path: &str) -> Result<FileUsage, CallError> {
        let owned = path.to_owned();
        let work = move || {
            let stat = rustix::fs::statvfs(Path::new(&owned)).map_err(|errno| failure(&owned, errno))?;
            Ok(FileUsage {
                total: stat.f_blocks.saturating_mul(stat.f_frsize),
                available: stat.f_bavail.saturating_mul(stat.f_frsize),
            })
        };
        self.blocking(FILE_TIMEOUT, work).await
    }

    async fn sockets(&self, tag: &CallTag) -> Result<Vec<Socket>, CallError> {
        let asked = self.asked("netlink", "sock_diag tcp,udp inet,inet6", tag);
        let result = self.blocking(FILE_TIMEOUT, sockets::all).await;
        self.fact(asked, result, |sockets| sockets_text(sockets))
    }

    async fn command(
        &self,
        argv: &[&str],
        max: usize,
        timeout: Duration,
        tag: &CallTag,
    ) -> Result<CommandOutput, CallError> {
        let asked = self.asked("command", argv.join(" "), tag);
        let result = program::run(argv, max, timeout).await.map(|ran| CommandOutput {
            code: ran.code,
            stdout: reply(ran.stdout),
            stderr: ran.stderr,
        });
        self.record(asked, result.as_ref().map(|output| (&output.stdout.body, output.stdout.digest)));
        result
    }
}

#[cfg(test)]
mod tests;
