//! Everything that crosses a process: the HTTP API's documents, for the server and for the command line, and the relay channel's frames and
//! documents ([`frame`], [`relay`]).
//!
//! **Not for** behaviour: `api` turns these into domain types, and what does not parse is answered with 400.
//!
//! Invariants:
//! - requests refuse unknown fields, so that a misspelt or an additional one is told and not ignored;
//! - nothing here can hold a secret on its way out, except the documents that show one once: [`session::SessionCreated`],
//!   [`session::SecondStepNeeded`], [`user::UserCreated`], [`api_key::ApiKeyCreated`], [`cli_session::CliSessionCreated`],
//!   [`cli_session::DeviceCodeCreated`], [`provider::ScimTokenCreated`], [`fleet::EnrollmentTokenCreated`], [`fleet::Enrolled`],
//!   [`fleet::Renewed`], [`destination::DestinationTokenCreated`], and those in [`factor`].
#![warn(missing_docs)]

pub mod access_file;
pub mod access_review;
pub mod api_key;
pub mod audit;
pub mod changes;
pub mod cli_session;
pub mod control;
pub mod coverage;
pub mod credential;
pub mod data_key;
pub mod destination;
pub mod destination_token;
pub mod evidence;
pub mod factor;
pub mod finding;
pub mod fleet;
pub mod forward;
pub mod frame;
pub mod grant;
pub mod graph;
pub mod job;
pub mod kubernetes;
pub mod log;
pub mod member;
pub mod node;
pub mod posture;
pub mod problem;
pub mod provider;
pub mod recording;
pub mod relay;
pub mod report;
pub mod role;
pub mod session;
pub mod siem;
pub mod ssh_access;
pub mod ssh_host_key;
pub mod tenant;
pub mod user;
pub mod validation;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// The items.
    pub items: Vec<T>,
    /// Send it as `page` to get the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page: Option<String>,
}
