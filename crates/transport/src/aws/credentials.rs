//! What signs a call, and temporary credentials from STS.

use std::sync::Arc;

use domain::{Secret, Timestamp};
use quick_xml::events::Event;
use serde::Deserialize;

use crate::CallError;

/// A stored AWS credential. `Debug` shows key ids and role names, never a secret.
#[derive(Debug)]
pub enum AwsCredentials {
    /// An access key, of a user or temporary.
    Keys {
        /// `AKIA…` or `ASIA…`.
        access_key_id: String,
        /// The secret half.
        secret_access_key: Secret,
        /// With temporary keys.
        session_token: Option<Secret>,
    },
    /// A role that `base` may assume (STS `AssumeRole`).
    AssumeRole {
        /// Who asks for the role.
        base: Box<AwsCredentials>,
        /// `arn:aws:iam::123456789012:role/name`.
        role_arn: String,
        /// Against the confused deputy: what the role's trust policy expects.
        external_id: Option<String>,
        /// How the calls appear in CloudTrail.
        session_name: String,
    },
}

/// The stored form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    role_arn: Option<String>,
    external_id: Option<String>,
    session_name: Option<String>,
}

/// How calls of assumed roles appear in CloudTrail unless the credential says otherwise.
const SESSION_NAME: &str = "cairn";

impl AwsCredentials {
    /// Reads `{"access_key_id", "secret_access_key", "session_token"?, "role_arn"?, "external_id"?, "session_name"?}`.
    /// Errors name the field and never quote a value.
    pub fn from_secret_json(secret: &Secret) -> Result<Self, CallError> {
        let wrong = |what: &str| CallError::Credential(what.to_owned());
        let stored: Stored = serde_json::from_slice(secret.expose()).map_err(|error| {
            // serde's words about a wrong type quote the value: say only where.
            wrong(&format!(
                "the stored JSON needs the texts `access_key_id` and `secret_access_key`, and may hold `session_token`, `role_arn`, \
                 `external_id` and `session_name`: wrong at line {} column {}",
                error.line(),
                error.column()
            ))
        })?;
        let id = &stored.access_key_id;
        if !(1..=128).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            return Err(wrong("`access_key_id` is 1 to 128 letters and digits"));
        }
        let printable = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if !printable(&stored.secret_access_key) {
            return Err(wrong("`secret_access_key` is empty or holds blanks: copy it again"));
        }
        if stored.session_token.as_deref().is_some_and(|token| !printable(token)) {
            return Err(wrong("`session_token` is empty or holds blanks: copy it again"));
        }
        let keys = Self::Keys {
            access_key_id: stored.access_key_id,
            secret_access_key: Secret::new(stored.secret_access_key),
            session_token: stored.session_token.map(Secret::new),
        };
        let Some(role_arn) = stored.role_arn else {
            return if stored.external_id.is_some() {
                Err(wrong("`external_id` needs a `role_arn`"))
            } else {
                Ok(keys)
            };
        };
        if !(role_arn.starts_with("arn:") && role_arn.contains(":role/") && printable(&role_arn)) {
            return Err(wrong("`role_arn` is `arn:aws:iam::<account>:role/<name>`"));
        }
        let session_name = stored.session_name.unwrap_or_else(|| SESSION_NAME.to_owned());
        Ok(Self::AssumeRole { base: Box::new(keys), role_arn, external_id: stored.external_id, session_name })
    }

    /// What rate limits are shared by: the same for every client of the same credential.
    pub(crate) fn account_key(&self) -> &str {
        match self {
            Self::Keys { access_key_id, .. } => access_key_id,
            Self::AssumeRole { role_arn, .. } => role_arn,
        }
    }

    /// Every secret text, so that it can be cut out of what a target says.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        match self {
            Self::Keys { secret_access_key, session_token, .. } => {
                [secret_access_key.expose_str(), session_token.as_ref().and_then(Secret::expose_str)]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            Self::AssumeRole { base, external_id, .. } => {
                base.secrets().into_iter().chain(external_id.as_deref()).collect()
            }
        }
    }
}

/// Keys that can sign now.
#[derive(Debug)]
pub struct SigningKeys {
    /// `AKIA…` or `ASIA…`.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: Secret,
    /// With temporary keys.
    pub session_token: Option<Secret>,
    /// When they end, if they do.
    pub expires: Option<Timestamp>,
}

impl SigningKeys {
    pub(crate) fn of_keys(access_key_id: &str, secret: &Secret, token: Option<&Secret>) -> Arc<Self> {
        Arc::new(Self {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: Secret::new(secret.expose()),
            session_token: token.map(|token| Secret::new(token.expose())),
            expires: None,
        })
    }

    /// Reads the reply of `AssumeRole` and `AssumeRoleWithWebIdentity`; errors say what is missing, never what is there.
    pub fn of_assume_role(body: &[u8]) -> Result<Self, CallError> {
        let wrong = |what: &str| CallError::Malformed(format!("AssumeRole answered {what}"));
        let text = std::str::from_utf8(body).map_err(|_| wrong("no UTF-8"))?;
        let mut reader = quick_xml::Reader::from_str(text);
        let (mut name, mut id, mut secret, mut token, mut expires) = (String::new(), None, None, None, None);
        loop {
            match reader.read_event().map_err(|_| wrong("no XML"))? {
                Event::Start(start) => start.local_name().as_ref().clone_into(&mut name),
                Event::End(_) => name.clear(),
                Event::Text(value) => {
                    let value = value.xml10_content().trim().to_owned();
                    match name.as_str() {
                        "AccessKeyId" => id = Some(value),
                        "SecretAccessKey" => secret = Some(Secret::new(value)),
                        "SessionToken" => token = Some(Secret::new(value)),
                        "Expiration" => expires = value.parse::<Timestamp>().ok(),
                        _ => {}
                    }
                }
                Event::DocType(_) => return Err(wrong("a document type, which is refused")),
                Event::Eof => break,
                _ => {}
            }
        }
        Ok(Self {
            access_key_id: id.ok_or_else(|| wrong("no AccessKeyId"))?,
            secret_access_key: secret.ok_or_else(|| wrong("no SecretAccessKey"))?,
            session_token: Some(token.ok_or_else(|| wrong("no SessionToken"))?),
            expires: Some(expires.ok_or_else(|| wrong("no Expiration"))?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<AwsCredentials, CallError> {
        AwsCredentials::from_secret_json(&Secret::new(json))
    }

    #[test]
    fn stored_credentials_are_read_strictly_and_shown_never() {
        let keys = parse(r#"{"access_key_id":"AKIDEXAMPLE0000000","secret_access_key":"hunter2secret"}"#).unwrap();
        assert!(matches!(keys, AwsCredentials::Keys { session_token: None, .. }));
        let role = parse(
            r#"{"access_key_id":"AKIDEXAMPLE0000000","secret_access_key":"hunter2secret",
                "role_arn":"arn:aws:iam::123456789012:role/x","external_id":"e-1"}"#,
        )
        .unwrap();
        assert!(matches!(&role, AwsCredentials::AssumeRole { session_name, .. } if session_name == "cairn"));
        assert!(!format!("{role:?}{keys:?}").contains("hunter2"));
        for bad in [
            "",
            "[]",
            r#"{"access_key_id":"AKIDEXAMPLE0000000"}"#,
            r#"{"access_key_id":"AKIDEXAMPLE0000000","secret_access_key":"hunter2 secret"}"#,
            r#"{"access_key_id":"hunter2/secret\n","secret_access_key":"x"}"#,
            r#"{"access_key_id":"AKIDEXAMPLE0000000","secret_access_key":"hunter2secret","secret":"hunter2"}"#,
            r#"{"access_key_id":"AKIDEXAMPLE0000000","secret_access_key":"hunter2secret","external_id":"e"}"#,
            r#"{"access_key_id":"AKIDEXAMPLE0000000","secret_access_key":"hunter2secret","role_arn":"hunter2"}"#,
            r#"{"access_key_id":"AKIDEXAMPLE0000000","secret_access_key":["hunter2secret"]}"#,
        ] {
            let error = parse(bad).unwrap_err();
            assert!(matches!(error, CallError::Credential(_)));
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn temporary_keys_are_read_from_sts() {
        let xml = "<AssumeRoleResponse xmlns=\"x\"><AssumeRoleResult><Credentials><AccessKeyId>ASIA1</AccessKeyId>\
            <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2026-11-22T03:00:00Z</Expiration>\
            </Credentials></AssumeRoleResult></AssumeRoleResponse>";
        let keys = SigningKeys::of_assume_role(xml.as_bytes()).unwrap();
        assert_eq!(keys.access_key_id, "ASIA1");
        assert_eq!(keys.expires.unwrap().to_string(), "2026-11-22T03:00:00.000Z");
        for bad in ["", "<a/>", "<!DOCTYPE a><a/>", &xml.replace("Expiration", "X"), &xml.replace("SessionToken", "X")]
        {
            assert!(SigningKeys::of_assume_role(bad.as_bytes()).is_err());
        }
    }
}
