//! `[session]`: how long sessions live, and what a sign-in asks for.

use anyhow::bail;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{As, Key};

/// `[session]`.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SessionSection {
    /// How long a session lives, in minutes; default 480 (8 h), at most 1,440.
    pub(crate) lifetime_min: u32,
    /// How long a session lives without being used, in minutes; default 60, at least 5.
    pub(crate) idle_min: u32,
    /// How long a password or a second factor counts as a fresh proof, in minutes; default 15, at most 60.
    pub(crate) step_up_min: u32,
    /// Whether everybody needs a second factor: `optional` or `required`; default `optional`.
    pub(crate) second_factor: String,
    /// The console's address as a browser shows it, e.g. `https://cairn.example.org`: what passkeys are for; default none, which turns them off.
    pub(crate) passkey_origin: String,
    /// bcrypt's cost; default 12, from 10 to 14.
    pub(crate) bcrypt_cost: u32,
    /// How passwords are stored: `bcrypt`, or `pbkdf2`, which is what a FIPS build verifies; default `bcrypt` (in a FIPS build `pbkdf2` in any case).
    /// With `pbkdf2`, a password that is stored otherwise is stored anew at its next use.
    pub(crate) password_hash: String,
}

impl Default for SessionSection {
    fn default() -> Self {
        Self {
            lifetime_min: 480,
            idle_min: 60,
            step_up_min: 15,
            second_factor: "optional".to_owned(),
            passkey_origin: String::new(),
            bcrypt_cost: 12,
            password_hash: "bcrypt".to_owned(),
        }
    }
}

/// What the environment may set of `[session]`.
pub(super) const KEYS: &[Key] = &[
    ("lifetime_min", As::Bare),
    ("idle_min", As::Bare),
    ("step_up_min", As::Bare),
    ("second_factor", As::Text),
    ("passkey_origin", As::Text),
    ("bcrypt_cost", As::Bare),
    ("password_hash", As::Bare),
];

impl SessionSection {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if !(10..=14).contains(&self.bcrypt_cost) {
            bail!("session.bcrypt_cost is {}: use 10 to 14", self.bcrypt_cost);
        }
        if !["bcrypt", "pbkdf2"].contains(&self.password_hash.as_str()) {
            bail!("session.password_hash is `{}`: use bcrypt or pbkdf2", self.password_hash.escape_debug());
        }
        if !(1..=1_440).contains(&self.lifetime_min) {
            bail!("session.lifetime_min is {}: use 1 to 1,440 minutes", self.lifetime_min);
        }
        if !(5..=1_440).contains(&self.idle_min) {
            bail!("session.idle_min is {}: use 5 to 1,440 minutes", self.idle_min);
        }
        if !(1..=60).contains(&self.step_up_min) {
            bail!("session.step_up_min is {}: use 1 to 60 minutes", self.step_up_min);
        }
        if !["optional", "required"].contains(&self.second_factor.as_str()) {
            bail!("session.second_factor is `{}`: use optional or required", self.second_factor.escape_debug());
        }
        let origin = &self.passkey_origin;
        if !origin.is_empty() && webauthn::RelyingParty::of_origin(origin).is_none() {
            bail!(
                "session.passkey_origin is `{}`: use `https://` and a domain in lower case, with the port where it is not 443, and nothing behind it",
                origin.escape_debug()
            );
        }
        Ok(())
    }
}
