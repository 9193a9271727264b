//! What a plugin may ask of the outside world.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{CredentialId, Digest, ScopeId};

use crate::scan::ScanReach;

/// Why a call brought nothing. Messages hold the target's words, cut to 500 characters and free of control characters, and never a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The target refused this caller (`AccessDenied`, `EACCES`, 401, 403).
    #[error("denied: {0}")]
    Denied(String),
    /// The target does not have it (`ENOENT`, 404, `NoSuch…`).
    #[error("not there: {0}")]
    NotFound(String),
    /// The target still asked us to slow down after the last retry.
    #[error("throttled: {0}")]
    Throttled(String),
    /// No complete answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The answer is larger than the limit.
    #[error("the reply is larger than {max} bytes")]
    TooLarge {
        /// The limit, in bytes.
        max: usize,
    },
    /// More objects than the limit.
    #[error("more than {max} objects")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// All targets together have reached a limit of this process.
    #[error("{0}")]
    Limit(String),
    /// The answer is not what its protocol says.
    #[error("malformed reply: {0}")]
    Malformed(String),
    /// No connection.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The credential cannot be used: missing, expired, wrong kind, or refused by the target's sign-in.
    #[error("credential: {0}")]
    Credential(String),
    /// The target answered with another error.
    #[error("{code} (HTTP {status}): {message}")]
    Api {
        /// HTTP status.
        status: u16,
        /// The target's code, e.g. `InvalidParameterValue`.
        code: String,
        /// The target's words.
        message: String,
    },
    /// The job was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// What a call is for, kept in its record.
#[derive(Debug, Clone)]
pub struct CallTag {
    /// The scope that the reply belongs to.
    pub scope: ScopeId,
    /// The resource that the call asks about, where it asks about one (a bucket's name, say); evidence about another resource leaves it out.
    pub about: Option<String>,
    /// Whether evidence needs the reply's bytes, not only their hash.
    pub keep: bool,
}

/// A target's answer: bounded, hashed, recorded.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status; 200 for files and commands.
    pub status: u16,
    /// Header names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The raw bytes.
    pub body: Bytes,
    /// SHA-256 of `body`.
    pub digest: Digest,
}

/// Which part of a file is of interest.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// What the file begins with; there is nothing of interest in others.
    pub begins: &'a [u8],
    /// What the part begins with, at a multiple of [`Part::ALIGNED`] bytes.
    pub marker: &'a [u8],
    /// Its length at most, in bytes.
    pub length: usize,
}

impl Part<'_> {
    /// Where parts begin, in bytes. Markers are no longer than this.
    pub const ALIGNED: usize = 16;

    /// The part; none where there is none.
    pub fn of<'b>(&self, file: &'b [u8]) -> Option<&'b [u8]> {
        if !file.starts_with(self.begins) {
            return None;
        }
        let at = file.chunks(Self::ALIGNED).position(|piece| piece.starts_with(self.marker))? * Self::ALIGNED;
        file.get(at..file.len().min(at + self.length))
    }
}

/// One AWS API call, not yet signed.
#[derive(Debug, Clone)]
pub struct AwsCall {
    /// Signing name and endpoint prefix, e.g. `ec2`, `monitoring`.
    pub service: String,
    /// Host prefix where it differs from `service` (`api.ecr`, say).
    pub endpoint_prefix: Option<String>,
    /// Region to sign for and to call.
    pub region: String,
    /// Whether the service has one endpoint for the partition (iam, route53, cloudfront, organizations, …).
    pub global_endpoint: bool,
    /// The operation's name, for records, rate limits and errors.
    pub operation: String,
    /// `GET`, `POST`, …
    pub method: String,
    /// Absolute path, percent-encoded.
    pub path: String,
    /// Query parameters, not encoded.
    pub query: Vec<(String, String)>,
    /// Headers other than host, date and authorization.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Signed calls to AWS with the credential of this task.
#[async_trait]
pub trait AwsReach: Send + Sync {
    /// Signs, sends, retries with jitter, bounds, hashes and records one call. A reply with an error status comes back as a [`CallError`]
    /// (with the service's code and message), except that `Reply::status` below 300 is success.
    async fn call(&self, call: AwsCall, tag: &CallTag) -> Result<Reply, CallError>;
}

/// One HTTPS call, without what proves who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCall {
    /// Scheme, host and port, e.g. `https://status.example.com`.
    pub origin: String,
    /// `GET`, `HEAD`, `POST`.
    pub method: String,
    /// Absolute path, percent-encoded, without dot segments.
    pub path: String,
    /// Query parameters, not encoded.
    pub query: Vec<(String, String)>,
    /// Headers other than those that the client sets.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether to prove with the task's credential who asks.
    pub authenticated: bool,
}

/// HTTPS calls, with the credential of this task or without.
#[async_trait]
pub trait HttpReach: Send + Sync {
    /// Sends, retries what changes nothing, bounds, hashes and records one call. Whatever the status, the reply comes back; redirects are not
    /// followed.
    async fn call(&self, call: HttpCall, tag: &CallTag) -> Result<Reply, CallError>;
}

/// What a directory entry or file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// Anything else.
    Other,
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name, lossy UTF-8.
    pub name: String,
    /// What it is, not following links.
    pub kind: FileKind,
}

/// Metadata of a file (POSIX `lstat`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStat {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, `mode & 0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Last modification, seconds since 1970.
    pub mtime_s: i64,
}

/// Room on a file system (POSIX `statvfs`), in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileUsage {
    /// All of it.
    pub total: u64,
    /// What an unprivileged user may still use.
    pub available: u64,
}

/// A socket of the host (Linux `sock_diag(7)`, or `/proc/net` where that is not permitted).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// `tcp`, `udp`.
    pub protocol: &'static str,
    /// The local end.
    pub local: SocketAddr,
    /// The remote end; port 0 when there is none.
    pub remote: SocketAddr,
    /// `listen`, `established`, … in lower case; `unconnected` for an unconnected UDP socket.
    pub state: &'static str,
    /// Owner.
    pub uid: u32,
    /// Links it to a process by `/proc/PID/fd`.
    pub inode: u64,
}

/// What a command printed.
#[derive(Debug, Clone)]
pub struct CommandOutput {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its standard output, recorded like any reply.
    pub stdout: Reply,
    /// The first 4 KiB of its standard error.
    pub stderr: String,
}

/// Reading one host: this machine now, another one over SSH later; the plugin cannot tell.
#[async_trait]
pub trait HostReach: Send + Sync {
    /// Reads a whole file of at most `max` bytes, following links. Password hashes and the like come back redacted, and a private key is
    /// [`CallError::Denied`].
    async fn read(&self, path: &str, max: usize, tag: &CallTag) -> Result<Reply, CallError>;
    /// A part of a file of at most `max` bytes, read in pieces where that can be done: see [`Part`]. The reply's digest is the whole file's.
    async fn part(&self, path: &str, part: Part<'_>, max: usize, tag: &CallTag) -> Result<Reply, CallError> {
        let whole = self.read(path, max, tag).await?;
        let body = part.of(&whole.body).map_or_else(Bytes::new, |found| whole.body.slice_ref(found));
        Ok(Reply { body, ..whole })
    }
    /// Lists a directory, sorted by name; recorded when there is a tag.
    async fn list(&self, path: &str, tag: Option<&CallTag>) -> Result<Vec<DirEntry>, CallError>;
    /// `lstat`.
    async fn stat(&self, path: &str, tag: &CallTag) -> Result<FileStat, CallError>;
    /// Where a symbolic link points.
    async fn read_link(&self, path: &str) -> Result<String, CallError>;
    /// SHA-256 of a file of any size, read in pieces.
    async fn hash(&self, path: &str, tag: &CallTag) -> Result<Digest, CallError>;
    /// Room on the file system that holds `path`.
    async fn usage(&self, path: &str) -> Result<FileUsage, CallError>;
    /// Every TCP and UDP socket of both address families.
    async fn sockets(&self, tag: &CallTag) -> Result<Vec<Socket>, CallError>;
    /// Runs one program without a shell, with an empty environment but `PATH` and `LC_ALL=C`, no input, and at most `max` bytes of output.
    async fn command(
        &self,
        argv: &[&str],
        max: usize,
        timeout: Duration,
        tag: &CallTag,
    ) -> Result<CommandOutput, CallError>;
}

/// A host at the other end of a connection, where each question costs a round trip. What a collector will ask is found by letting it run
/// on what is known so far: what it misses is noted and then asked at once, until it misses nothing.
#[async_trait]
pub trait RemoteHost: HostReach {
    /// From now on what is not known is noted, and answered as if it were not there; nothing is recorded.
    fn guess(&self);
    /// How many questions are noted.
    fn noted(&self) -> usize;
    /// Asks everything that is noted. An error is the connection's; what the host refuses is an answer.
    async fn ask(&self) -> Result<(), CallError>;
    /// From now on what is not known is asked when it is wanted, and every answer is recorded.
    fn settle(&self);
    /// Ends the connection.
    async fn close(&self);
}

/// Hosts that the task's credential signs in to over SSH.
#[async_trait]
pub trait SshReach: Send + Sync {
    /// Connects to one, within the limits of the job's settings. [`CallError::Credential`] means that the credential is of no use anywhere.
    async fn connect(&self, host: &str, port: u16, tag: &CallTag) -> Result<Box<dyn RemoteHost>, CallError>;
}

/// Everything that one task may reach. What a task has no credential for is absent.
pub trait Reach: Send + Sync {
    /// AWS, with the task's credential.
    fn aws(&self) -> Option<&dyn AwsReach>;
    /// A host.
    fn host(&self) -> Option<&dyn HostReach>;
    /// Other hosts over SSH, with the task's credential.
    fn ssh(&self) -> Option<&dyn SshReach> {
        None
    }
    /// SNMP devices, with the task's credential.
    fn snmp(&self) -> Option<&dyn crate::snmp::SnmpReach> {
        None
    }
    /// HTTPS services.
    fn http(&self) -> Option<&dyn HttpReach> {
        None
    }
    /// Looking at networks from outside.
    fn scan(&self) -> Option<&dyn ScanReach> {
        None
    }
    /// The credential that is in use, for records; its value cannot be had.
    fn credential(&self) -> Option<CredentialId>;
    /// Whether the job was cancelled: stop soon.
    fn is_cancelled(&self) -> bool;
}
