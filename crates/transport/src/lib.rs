//! Authenticated calls to targets: the only place where a credential is plaintext outside the vault.
//!
//! A plugin names a credential by **id** and asks for a call; `transport` signs it, sends it within limits (rate, size, time,
//! retries), hashes the reply and records what was asked and answered, so that evidence can say how each fact was collected.
//!
//! **Not for** deciding what to ask (`plugins`), storing what came back (`store`) or judging it (`compliance`).
//!
//! Invariants:
//! - no secret leaves this crate: not in a reply, an error, a record or a log line;
//! - every reply is bounded in bytes and time before it is read;
//! - every call, also a failed one, leaves a [`CallRecord`].

pub mod aws;
mod budget;
pub mod call;
pub mod guard;
pub mod host_keys;
pub mod https;
pub mod local;
pub mod open;
pub mod record;
pub mod scan;
pub mod snmp;
#[cfg(feature = "ssh")]
pub mod ssh;
pub mod syslog;
#[doc(hidden)]
pub mod untrusted;
pub mod web;

pub use aws::{AwsClient, AwsConfig, AwsCredentials, Pacer};
pub use budget::Budget;
pub use call::{
    AwsCall, AwsReach, CallError, CallTag, CommandOutput, DirEntry, FileKind, FileStat, FileUsage, HostReach, HttpCall,
    HttpReach, Part, Reach, RemoteHost, Reply, Socket, SshReach,
};
pub use guard::Guard;
pub use host_keys::{HostKeys, NoHostKeys};
pub use https::{HttpClient, HttpConfig, HttpCredential};
pub use local::LocalHost;
pub use open::{CREDENTIAL_TYPES, OpenCredential, Opening, SEVERAL_LINES, TaskReach, open};
pub use record::{CallRecord, Recorder, RequestRecord, ResponseRecord};
pub use scan::{ScanReach, Scanner};
pub use snmp::{Oid, SnmpClient, SnmpConfig, SnmpCredentials, SnmpReach, SnmpSecurity, SnmpValue, VarBind, Walked};
pub use web::{WebClient, WebConfig, WebError, WebReply, WebRequest};
