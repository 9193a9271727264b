//! The words of Cairn: ids, names, values, limits, errors, and the two things that pure code may not
//! take from the air (time and randomness), as traits.
//!
//! **Not for** anything that does I/O, hashes, parses a wire format or knows about SQL.
//!
//! Invariants:
//! - a value of a type of this crate is valid: parsing is the only way in;
//! - nothing here reads a clock, a random source, an environment variable or a file.
#![warn(missing_docs)]

mod act_as;
mod condition;
mod destination;
mod digest;
mod error;
mod fleet;
mod grant;
mod host_port;
mod id;
mod limit;
mod name;
mod network;
mod node_id;
mod observation;
pub mod recording;
mod secret;
mod sign_in;
mod ssh_terms;
mod state;
mod time;
mod validation;

pub use act_as::{ACT_AS_MAX, ActAs, ActName, Lent};
pub use condition::{Condition, States, Version};
pub use destination::{DestinationKind, DestinationRole};
pub use digest::Digest;
pub use error::{Error, Result};
pub use fleet::{FleetId, FleetKind, Labels};
pub use grant::{Grant, Hours, Subject, Target};
pub use host_port::HostPort;
pub use id::{
    AccessRequestId, AccessReviewId, AgentId, ApiKeyId, ArtifactId, AuditId, BackupId, ChallengeId, CollectionId,
    ControlResultId, CredentialId, DestinationId, DestinationTokenId, DeviceLoginId, EnrollmentTokenId, EvidenceId,
    FactorId, FindingId, FleetCredentialId, GrantId, GroupId, GroupRoleId, IdParseError, InvitationId, JobId,
    JobLineId, ProviderId, RecordingId, RelayId, RequestId, Rng, ScheduleId, SessionId, SignInId, SshCertificateId,
    SshHostKeyId, SshSessionId, TaskId, TenantId, UserId, ValidationId,
};
pub use limit::Limits;
pub use name::{DisplayName, Email, Slug};
pub use network::Network;
pub use node_id::{EdgeType, NodeId, NodeType};
pub use observation::{Coverage, EdgeObservation, NodeObservation, Page, Properties, ScopeId, SourceId, Tags};
pub use recording::RecordingMode;
pub use secret::Secret;
pub use sign_in::{AuthMethod, FactorKind};
pub use ssh_terms::{NETWORKS_MAX, SshExtension, SshTerms};
pub use state::{CheckOutcome, FindingStatus, JobStatus, LineLevel, Severity, TaskStatus, ValidationStatus};
pub use time::{Clock, Timestamp, TimestampParseError};
pub use validation::{Check, one_line};
