//! Second factors.

use domain::{FactorId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A second factor.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Factor {
    /// Its id.
    #[schema(value_type = String)]
    pub id: FactorId,
    /// `totp` (an authenticator app) or `passkey`.
    pub kind: String,
    /// What its user calls it.
    pub name: String,
    /// When it was begun.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// Since when it counts.
    #[schema(value_type = Option<String>)]
    pub confirmed_at: Option<Timestamp>,
    /// When it was last used.
    #[schema(value_type = Option<String>)]
    pub last_used_at: Option<Timestamp>,
}

/// One's second factors.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Factors {
    /// The factors.
    pub items: Vec<Factor>,
    /// How many recovery codes are left.
    pub recovery_codes_left: i64,
}

/// Begins to enrol an authenticator app.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TotpCreate {
    /// What to call it.
    pub name: String,
}

/// An authenticator app that has to be confirmed by a code. The secret is shown this once.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct TotpCreated {
    /// Its id.
    #[schema(value_type = String)]
    pub id: FactorId,
    /// The secret in base 32, to be typed into the app.
    pub secret: String,
    /// The same with its parameters, to be shown as a QR code.
    pub otpauth_uri: String,
}

/// Confirms an authenticator app.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TotpConfirm {
    /// The six digits that it shows.
    pub code: String,
}

/// Recovery codes, each good for one sign-in. They are shown this once.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct RecoveryCodes {
    /// The codes; none where the user has some already.
    pub recovery_codes: Vec<String>,
}

/// A passkey that was made.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasskeyCreate {
    /// What to call it.
    pub name: String,
    /// The challenge's `state`.
    pub state: String,
    /// What `navigator.credentials.create` returned, by its `toJSON()`.
    pub credential: CreatedCredential,
}

/// What a browser returns for a new passkey (`RegistrationResponseJSON`). Other members may be there: browsers add some.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct CreatedCredential {
    /// The credential's id in base64url.
    pub id: String,
    /// What was made.
    pub response: AttestationResponse,
}

/// `AuthenticatorAttestationResponseJSON`.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct AttestationResponse {
    /// In base64url.
    #[serde(rename = "clientDataJSON")]
    pub client_data_json: String,
    /// In base64url.
    #[serde(rename = "attestationObject")]
    pub attestation_object: String,
}

/// A passkey that counts now, and recovery codes where it is the first factor. The codes are shown this once.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct PasskeyCreated {
    /// The passkey.
    pub factor: Factor,
    /// The codes; none where the user has some already.
    pub recovery_codes: Vec<String>,
}

/// What a tenant asks of the sessions in which its members come.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignInPolicy {
    /// Whether it is closed to sessions without a second factor.
    pub second_factor_required: bool,
}
