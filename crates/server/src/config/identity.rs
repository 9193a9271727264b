//! `[identity]`: how identity providers are reached.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{As, Key};

/// `[identity]`.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct IdentitySection {
    /// PEM file of certificate authorities to trust for identity providers beside the public ones.
    #[schema(value_type = Option<String>)]
    pub(crate) ca_file: Option<PathBuf>,
    /// Let an identity provider be this machine, for trying one out; default false.
    pub(crate) loopback: bool,
}

/// What the environment may set of `[identity]`.
pub(super) const KEYS: &[Key] = &[("ca_file", As::Text), ("loopback", As::Bare)];
