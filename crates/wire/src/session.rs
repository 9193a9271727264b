//! Signing in, in one step or two, and one's sessions.

use domain::{SessionId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Signs in.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionCreate {
    /// The login name.
    #[schema(example = "admin@localhost")]
    pub email: String,
    /// The password.
    pub password: String,
    /// Whether the token goes into a cookie of this browser instead of into the answer.
    #[serde(default)]
    pub cookie: bool,
}

/// A session that has just begun. The token is shown this once.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct SessionCreated {
    /// Send it as `Authorization: Bearer …`. Absent where it went into a cookie.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// When it ends (RFC 3339).
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
    /// Who signed in.
    pub me: Me,
}

/// The first step is done, and the user has a second factor to show. The token is good for nothing else, and shown this once.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct SecondStepNeeded {
    /// Send it with the second step. Absent where it went into a cookie.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// Until when (RFC 3339).
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
    /// What the second step can be: `totp`, `passkey`, `recovery-code`.
    pub methods: Vec<String>,
}

/// The second step of a sign-in: the token of the first, and one of the others.
#[derive(Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecondStep {
    /// The token of the first step; absent with `cookie`.
    #[serde(default)]
    pub token: String,
    /// Whether the first step left its token in a cookie of this browser, where the session's token then goes too.
    #[serde(default)]
    pub cookie: bool,
    /// The six digits of an authenticator app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// A recovery code, which is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_code: Option<String>,
    /// A passkey's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passkey: Option<PasskeyAnswer>,
}

/// A fresh proof of who one is: one of these. The password is taken from users who have no second factor.
#[derive(Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StepUp {
    /// The password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The six digits of an authenticator app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// A recovery code, which is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_code: Option<String>,
    /// A passkey's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passkey: Option<PasskeyAnswer>,
}

/// The proof counts until then.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct SteppedUp {
    /// Until when what needs a fresh proof goes on (RFC 3339).
    #[schema(value_type = String)]
    pub fresh_until: Timestamp,
}

/// Asks for a challenge to a passkey.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasskeyAsk {
    /// The token of the first step; without it the passkey is the only step, and has to verify its user.
    #[serde(default)]
    pub token: Option<String>,
    /// Whether the first step left its token in a cookie of this browser.
    #[serde(default)]
    pub cookie: bool,
}

/// A challenge to an authenticator.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct PasskeyChallenge {
    /// Send it back with the answer.
    pub state: String,
    /// Until when (RFC 3339).
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
    /// For `PublicKeyCredential.parseCreationOptionsFromJSON` or `parseRequestOptionsFromJSON`.
    #[schema(value_type = Object)]
    pub options: serde_json::Value,
}

/// A passkey's answer to a challenge.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasskeyAnswer {
    /// The challenge's `state`.
    pub state: String,
    /// What `navigator.credentials.get` returned, by its `toJSON()`.
    pub credential: AssertedCredential,
}

/// Signs in with a passkey alone: its answer to a challenge.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasskeySignIn {
    /// The challenge's `state`.
    pub state: String,
    /// What `navigator.credentials.get` returned, by its `toJSON()`.
    pub credential: AssertedCredential,
    /// Whether the session's token goes into a cookie of this browser instead of into the answer.
    #[serde(default)]
    pub cookie: bool,
}

/// What a browser returns for a passkey that it has (`AuthenticationResponseJSON`). Other members may be there: browsers add some.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct AssertedCredential {
    /// The credential's id in base64url.
    pub id: String,
    /// What was signed, by what.
    pub response: AssertionResponse,
}

/// `AuthenticatorAssertionResponseJSON`.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct AssertionResponse {
    /// In base64url.
    #[serde(rename = "clientDataJSON")]
    pub client_data_json: String,
    /// In base64url.
    #[serde(rename = "authenticatorData")]
    pub authenticator_data: String,
    /// In base64url.
    pub signature: String,
}

/// One of one's own sessions.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Session {
    /// Its id.
    #[schema(value_type = String)]
    pub id: SessionId,
    /// Whether it is the one that asks.
    pub current: bool,
    /// When it began.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    #[schema(value_type = String)]
    pub last_used_at: Timestamp,
    /// When it ends at the latest.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
    /// Where it was begun.
    pub ip: Option<String>,
    /// What the client called itself.
    pub agent: Option<String>,
    /// How it was begun: `password`, `passkey`, `oidc`, `device`.
    pub method: String,
    /// Whether a second factor was shown.
    pub second_factor: bool,
}

/// Ends one's sessions.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionsEnd {
    /// Whether the one that asks ends too.
    #[serde(default)]
    pub including_current: bool,
}

/// How many sessions were ended.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct SessionsEnded {
    /// How many.
    pub ended: u64,
}

/// Who asks and what they may do.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Me {
    /// `user`, or `api-key`: then there is no login name and no session, and the role is the key's.
    pub kind: String,
    /// The user's or the key's.
    pub id: String,
    /// The login name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The name.
    pub name: String,
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub session: Option<SessionId>,
    /// When the session or the key ends; without it when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Timestamp>,
    /// When the session ends if it is not used until then: to the minute, and never later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub idle_ends_at: Option<Timestamp>,
    /// How long the session lives without being used, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<i64>,
    /// Whether nothing but changing the password is possible.
    pub must_change_password: bool,
    /// Whether they manage the platform.
    pub platform_admin: bool,
    /// Whether they have a second factor, which is then what a fresh proof takes.
    #[serde(default)]
    pub has_second_factor: bool,
    /// Whether they have a password here. Who comes by an identity provider only has none to change, and proves who they are by a second factor
    /// or by signing in again.
    #[serde(default)]
    pub has_password: bool,
    /// Whether nothing but adding a second factor is possible.
    #[serde(default)]
    pub must_add_second_factor: bool,
    /// Their tenants.
    pub tenants: Vec<MyTenant>,
}

/// A tenant that the signed-in user is a member of.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct MyTenant {
    /// The tenant.
    #[schema(value_type = String)]
    pub id: TenantId,
    /// Its name in URLs.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// The role there.
    pub role: String,
    /// What that role may do there, by permission.
    pub can: Vec<String>,
    /// Whether the tenant is closed to this session until a second factor is shown in it.
    #[serde(default)]
    pub needs_second_factor: bool,
}

/// Changes the signed-in user's password.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The password so far.
    pub old: String,
    /// The new one: 12 characters or more.
    pub new: String,
}
