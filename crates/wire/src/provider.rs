//! Identity providers, and which roles their groups give.

use domain::{GroupRoleId, ProviderId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Makes an identity provider.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderCreate {
    /// Its name in URLs: 1 to 63 of a-z, 0-9 and -.
    #[schema(example = "okta")]
    pub name: String,
    /// Its name on the button; without it, the name.
    #[serde(default)]
    pub title: Option<String>,
    /// Its issuer, exactly as its tokens spell it. It cannot be changed later: identities belong to it.
    #[schema(example = "https://example.okta.com")]
    pub issuer: String,
    /// Who this installation is there.
    pub client_id: String,
    /// What proves it there. Goes in and never comes out.
    pub client_secret: String,
    /// What is asked for, separated by spaces; default `openid email profile offline_access`.
    #[serde(default)]
    pub scopes: Option<String>,
    /// The claim that lists a user's groups; default `groups`, empty for none.
    #[serde(default)]
    pub groups_claim: Option<String>,
    /// Domains at which the provider is taken at its word for addresses of which it does not say whether they are verified, separated by spaces;
    /// default none. Name only those whose addresses nobody can give themselves there.
    #[serde(default)]
    pub email_domains: Option<String>,
}

/// Changes an identity provider.
#[derive(Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderUpdate {
    /// Its name on the button.
    #[serde(default)]
    pub title: Option<String>,
    /// Who this installation is there.
    #[serde(default)]
    pub client_id: Option<String>,
    /// What proves it there.
    #[serde(default)]
    pub client_secret: Option<String>,
    /// What is asked for, separated by spaces.
    #[serde(default)]
    pub scopes: Option<String>,
    /// The claim that lists a user's groups; empty for none.
    #[serde(default)]
    pub groups_claim: Option<String>,
    /// Domains at which it is trusted for addresses, separated by spaces; empty for none.
    #[serde(default)]
    pub email_domains: Option<String>,
}

/// An identity provider, without its secrets.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Provider {
    /// Its id.
    #[schema(value_type = String)]
    pub id: ProviderId,
    /// Its name in URLs.
    pub name: String,
    /// Its name on the button.
    pub title: String,
    /// Its issuer.
    pub issuer: String,
    /// Who this installation is there.
    pub client_id: String,
    /// What is asked for.
    pub scopes: String,
    /// The claim that lists a user's groups.
    pub groups_claim: String,
    /// Domains at which its addresses count as verified where it does not say whether they are, separated by spaces.
    pub email_domains: String,
    /// What has to be registered there as redirect URI.
    pub redirect_uri: String,
    /// Whether it may provision by SCIM.
    pub scim: bool,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

/// A token for provisioning, shown this once.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct ScimTokenCreated {
    /// Send it as `Authorization: Bearer …`.
    pub token: String,
    /// The base URL of SCIM.
    pub url: String,
}

/// A provider as the sign-in page shows it.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct LoginProvider {
    /// Its name in URLs: the sign-in begins at `/api/v1/login/NAME`.
    pub name: String,
    /// Its name on the button.
    pub title: String,
}

/// Lets a provider's group give a role in the tenant.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupRolePut {
    /// The provider's name.
    pub provider: String,
    /// The group, exactly as the provider spells it.
    pub group: String,
    /// The role; none that holds more than one's own.
    pub role: String,
}

/// A role that a provider's group gives in the tenant.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct GroupRole {
    /// Its id.
    #[schema(value_type = String)]
    pub id: GroupRoleId,
    /// The provider's name.
    pub provider: String,
    /// The group.
    pub group: String,
    /// The role.
    pub role: String,
    /// Since when.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}
