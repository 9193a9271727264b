//! Stored SNMP credentials: a community (v1, v2c), or a user with passwords (v3).

use std::fmt;

use crypto::usm::{Authentication, MasterKey, PASSWORD_BYTES_MIN, Privacy};
use domain::Secret;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::message::Version;
use crate::CallError;

/// Communities that devices come with or that everybody tries first.
const DEFAULT_COMMUNITIES: &[&str] = &[
    "public",
    "private",
    "community",
    "snmp",
    "snmpd",
    "cisco",
    "admin",
    "default",
    "manager",
    "monitor",
    "read",
    "write",
    "secret",
    "test",
];
/// Longest community, password and user name, in bytes (a user name of at most 32 is RFC 3414's).
const TEXT_BYTES_MAX: usize = 255;
const USER_BYTES_MAX: usize = 32;

/// A stored SNMP credential.
pub struct SnmpCredentials(pub(super) Kind);

pub(super) enum Kind {
    Community { version: Version, community: Secret },
    User(User),
}

/// A user of v3. Its keys are made from the passwords once; those are not kept.
pub(super) struct User {
    pub(super) name: String,
    pub(super) context: String,
    pub(super) authentication: Option<(Authentication, MasterKey)>,
    pub(super) privacy: Option<(Privacy, MasterKey)>,
}

/// What may be known of a credential: how well it protects, and nothing that helps to guess it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnmpSecurity {
    /// `v1`, `v2c`, `v3`.
    pub version: &'static str,
    /// `md5`, `sha1`, `sha224`, … with v3 and authentication.
    pub authentication: Option<&'static str>,
    /// `des`, `aes128`, … with v3 and privacy.
    pub privacy: Option<&'static str>,
    /// With v1 and v2c: whether the community is one that devices come with, such as `public`.
    pub default_community: Option<bool>,
}

/// The stored form of the type `snmp-community`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredCommunity {
    community: Zeroizing<String>,
    version: Option<String>,
}

/// The stored form of the type `snmp-v3`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredUser {
    username: String,
    auth_protocol: Option<String>,
    auth_password: Option<Zeroizing<String>>,
    privacy_protocol: Option<String>,
    privacy_password: Option<Zeroizing<String>>,
    context: Option<String>,
}

/// The JSON object; serde's words about a wrong type quote the value, so an error says only where.
fn stored<'a, T: Deserialize<'a>>(secret: &'a Secret, needs: &str) -> Result<T, CallError> {
    serde_json::from_slice(secret.expose()).map_err(|error| {
        wrong(format!("the stored JSON needs {needs}: wrong at line {} column {}", error.line(), error.column()))
    })
}

fn wrong(what: impl Into<String>) -> CallError {
    CallError::Credential(what.into())
}

/// The protocol's name without what people write it with: `SHA-256`, `sha_256` and `SHA256` are one.
fn folded(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn authentication(name: &str) -> Result<Authentication, CallError> {
    let found = match folded(name).as_str() {
        "md5" => Authentication::Md5,
        "sha" | "sha1" => Authentication::Sha1,
        "sha224" => Authentication::Sha224,
        "sha256" => Authentication::Sha256,
        "sha384" => Authentication::Sha384,
        "sha512" => Authentication::Sha512,
        _ => return Err(wrong("`auth_protocol` is one of MD5, SHA-1, SHA-224, SHA-256, SHA-384, SHA-512")),
    };
    if found.is_available() { Ok(found) } else { Err(unavailable("auth_protocol", "SHA-1 or better")) }
}

fn privacy(name: &str) -> Result<Privacy, CallError> {
    let found = match folded(name).as_str() {
        "des" => Privacy::Des,
        "aes" | "aes128" => Privacy::Aes128,
        "aes192" => Privacy::Aes192,
        "aes256" => Privacy::Aes256,
        "aes192c" => Privacy::Aes192Cisco,
        "aes256c" => Privacy::Aes256Cisco,
        _ => {
            return Err(wrong(
                "`privacy_protocol` is one of DES, AES-128, AES-192, AES-256, and AES-192-C or AES-256-C for Cisco",
            ));
        }
    };
    if found.is_available() { Ok(found) } else { Err(unavailable("privacy_protocol", "AES")) }
}

fn unavailable(field: &str, instead: &str) -> CallError {
    wrong(format!("`{field}`: a FIPS build does not have that algorithm: have the device use {instead}"))
}

/// The master key of a password, which costs the hashing of a megabyte.
fn key(
    field: &str,
    authentication: Authentication,
    password: Option<&Zeroizing<String>>,
) -> Result<MasterKey, CallError> {
    let password = password.ok_or_else(|| wrong(format!("`{field}` is missing")))?;
    if !(PASSWORD_BYTES_MIN..=TEXT_BYTES_MAX).contains(&password.len()) {
        return Err(wrong(format!("`{field}` is 8 to 255 bytes, as SNMPv3 requires")));
    }
    MasterKey::derive(authentication, password.as_bytes()).map_err(|error| wrong(error.to_string()))
}

impl SnmpCredentials {
    /// Reads the JSON object of a credential of type `snmp-community` or `snmp-v3`. Takes a few milliseconds with passwords. Errors name the
    /// field and never quote a value.
    pub fn from_secret_json(kind: &str, secret: &Secret) -> Result<Self, CallError> {
        match kind {
            "snmp-community" => Self::community(stored(secret, "the text `community` and may hold `version`")?),
            _ => Self::user(stored(
                secret,
                "the text `username` and may hold `auth_protocol`, `auth_password`, `privacy_protocol`, `privacy_password` and `context`",
            )?),
        }
    }

    fn community(stored: StoredCommunity) -> Result<Self, CallError> {
        if !(1..=TEXT_BYTES_MAX).contains(&stored.community.len()) {
            return Err(wrong("`community` is 1 to 255 bytes"));
        }
        let version = match stored.version.as_deref().map(folded).as_deref() {
            None | Some("v2c" | "2c" | "2") => Version::V2c,
            Some("v1" | "1") => Version::V1,
            Some(_) => return Err(wrong("`version` is v2c or v1; a user of v3 has the type snmp-v3")),
        };
        Ok(Self(Kind::Community { version, community: Secret::new(stored.community.as_bytes()) }))
    }

    fn user(stored: StoredUser) -> Result<Self, CallError> {
        let (name, context) = (stored.username, stored.context.unwrap_or_default());
        if !(1..=USER_BYTES_MAX).contains(&name.len()) || name.chars().any(char::is_control) {
            return Err(wrong("`username` is 1 to 32 bytes without control characters"));
        }
        if context.len() > USER_BYTES_MAX {
            return Err(wrong("`context` is at most 32 bytes"));
        }
        let kind = match stored.auth_protocol.as_deref() {
            None if stored.privacy_protocol.is_some() => {
                return Err(wrong("`privacy_protocol` needs an `auth_protocol`"));
            }
            None if stored.auth_password.is_some() || stored.privacy_password.is_some() => {
                return Err(wrong("a password needs its protocol: `auth_protocol`, `privacy_protocol`"));
            }
            None => return Ok(Self(Kind::User(User { name, context, authentication: None, privacy: None }))),
            Some(kind) => authentication(kind)?,
        };
        let privacy = match stored.privacy_protocol.as_deref() {
            None if stored.privacy_password.is_some() => {
                return Err(wrong("`privacy_password` needs a `privacy_protocol`"));
            }
            None => None,
            Some(cipher) => {
                let cipher = privacy(cipher)?;
                Some((cipher, key("privacy_password", kind, stored.privacy_password.as_ref())?))
            }
        };
        let authentication = Some((kind, key("auth_password", kind, stored.auth_password.as_ref())?));
        Ok(Self(Kind::User(User { name, context, authentication, privacy })))
    }

    /// How well it protects.
    pub fn security(&self) -> SnmpSecurity {
        match &self.0 {
            Kind::Community { version, community } => SnmpSecurity {
                version: if *version == Version::V1 { "v1" } else { "v2c" },
                authentication: None,
                privacy: None,
                default_community: Some(
                    community
                        .expose_str()
                        .is_some_and(|text| DEFAULT_COMMUNITIES.iter().any(|known| known.eq_ignore_ascii_case(text))),
                ),
            },
            Kind::User(user) => SnmpSecurity {
                version: "v3",
                authentication: user.authentication.as_ref().map(|(kind, _)| match kind {
                    Authentication::Md5 => "md5",
                    Authentication::Sha1 => "sha1",
                    Authentication::Sha224 => "sha224",
                    Authentication::Sha256 => "sha256",
                    Authentication::Sha384 => "sha384",
                    Authentication::Sha512 => "sha512",
                }),
                privacy: user.privacy.as_ref().map(|(kind, _)| match kind {
                    Privacy::Des => "des",
                    Privacy::Aes128 => "aes128",
                    Privacy::Aes192 | Privacy::Aes192Cisco => "aes192",
                    Privacy::Aes256 | Privacy::Aes256Cisco => "aes256",
                }),
                default_community: None,
            },
        }
    }
}

/// Shows how well it protects, and nothing secret.
impl fmt::Debug for SnmpCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SnmpCredentials").field(&self.security()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, json: &str) -> Result<SnmpSecurity, String> {
        let read = SnmpCredentials::from_secret_json(kind, &Secret::new(json));
        read.map(|credentials| {
            assert!(!format!("{credentials:?}").contains("hunter2"));
            credentials.security()
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn stored_credentials_are_read_strictly_and_shown_never() {
        let community = read("snmp-community", r#"{"community":"hunter2"}"#).unwrap();
        assert_eq!((community.version, community.default_community), ("v2c", Some(false)));
        let community = read("snmp-community", r#"{"community":"Public","version":"1"}"#).unwrap();
        assert_eq!((community.version, community.default_community), ("v1", Some(true)));
        let user = r#"{"username":"reader","auth_protocol":"sha-256","auth_password":"hunter2hunter2",
                "privacy_protocol":"AES-256-C","privacy_password":"hunter2hunter2"}"#;
        let user = read("snmp-v3", user).unwrap();
        assert_eq!((user.authentication, user.privacy), (Some("sha256"), Some("aes256")));
        let (community, v3) = ("snmp-community", "snmp-v3");
        let both = r#"{"username":"u","auth_protocol":"SHA","auth_password":"hunter2hunter2","privacy_password":"hunter2hunter2"}"#;
        for (kind, bad, part) in [
            (community, "", "needs the text `community`"),
            (community, "{}", "needs the text `community`"),
            (community, r#"{"community":"hunter2","username":"hunter2"}"#, "wrong at line 1"),
            (community, r#"{"community":""}"#, "1 to 255 bytes"),
            (community, r#"{"community":["hunter2"]}"#, "wrong at line 1"),
            (community, r#"{"community":"hunter2","version":"v3"}"#, "v2c or v1"),
            (v3, r#"{"community":"hunter2"}"#, "needs the text `username`"),
            (v3, r#"{"username":""}"#, "1 to 32 bytes"),
            (v3, r#"{"username":"u","auth_protocol":"hunter2","auth_password":"hunter2hunter2"}"#, "is one of MD5"),
            (v3, r#"{"username":"u","auth_protocol":"SHA","auth_password":"hunter2"}"#, "8 to 255 bytes"),
            (v3, r#"{"username":"u","auth_protocol":"SHA"}"#, "`auth_password` is missing"),
            (
                v3,
                r#"{"username":"u","privacy_protocol":"AES","privacy_password":"hunter2hunter2"}"#,
                "needs an `auth_protocol`",
            ),
            (v3, r#"{"username":"u","auth_password":"hunter2hunter2"}"#, "a password needs its protocol"),
            (v3, both, "needs a `privacy_protocol`"),
        ] {
            let error = read(kind, bad).unwrap_err();
            assert!(error.contains(part) && !error.contains("hunter2"), "{bad}: {error}");
        }
    }

    #[test]
    fn what_a_build_does_not_have_is_refused_when_the_credential_is_read() {
        let secret = |auth: &str, privacy: &str| {
            format!(
                r#"{{"username":"u","auth_protocol":"{auth}","auth_password":"hunter2hunter2",
                    "privacy_protocol":"{privacy}","privacy_password":"hunter2hunter2"}}"#
            )
        };
        for (auth, privacy, legacy) in [("MD5", "AES", true), ("SHA", "DES", true), ("SHA", "AES", false)] {
            let expect = !legacy || Authentication::Md5.is_available();
            assert_eq!(read("snmp-v3", &secret(auth, privacy)).is_ok(), expect, "{auth} {privacy}");
        }
    }
}
