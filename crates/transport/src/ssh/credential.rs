//! What signs in: a password, or a key with or without a certificate.

use std::sync::Arc;

use domain::{Secret, Timestamp};
use russh::keys::{Certificate, PrivateKey, decode_secret_key};
use serde::Deserialize;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::CallError;

/// A stored SSH credential. Has no `Debug`.
pub struct SshCredentials {
    /// Whom it signs in.
    pub(super) user: String,
    pub(super) proof: Proof,
}

/// What proves it.
pub(super) enum Proof {
    Password(Secret),
    Key(Box<Key>),
}

/// A private key, decrypted when it is used first: that costs as much as the guessing of its passphrase is meant to.
pub(super) struct Key {
    text: Secret,
    passphrase: Option<Secret>,
    pub(super) certificate: Option<Certificate>,
    decrypted: OnceCell<Arc<PrivateKey>>,
}

/// The stored form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    username: String,
    password: Option<Zeroizing<String>>,
    private_key: Option<Zeroizing<String>>,
    passphrase: Option<Zeroizing<String>>,
    certificate: Option<String>,
}

fn wrong(what: impl Into<String>) -> CallError {
    CallError::Credential(what.into())
}

fn secret(text: &Zeroizing<String>) -> Secret {
    Secret::new(text.as_bytes())
}

impl SshCredentials {
    /// Reads the JSON object of a credential of type `ssh-password`, `ssh-key` or `ssh-cert`. Errors name the field and never quote a value.
    pub fn from_secret_json(kind: &str, json: &Secret) -> Result<Self, CallError> {
        let stored: Stored = serde_json::from_slice(json.expose()).map_err(|error| {
            // serde's words about a wrong type quote the value: say only where.
            wrong(format!(
                "the stored JSON needs the text `username` and what its type asks for: wrong at line {} column {}",
                error.line(),
                error.column()
            ))
        })?;
        let user = stored.username;
        if !(1..=256).contains(&user.len()) || user.chars().any(char::is_control) {
            return Err(wrong("`username` is 1 to 256 characters"));
        }
        let proof = match (kind, stored.password, stored.private_key) {
            ("ssh-password", Some(password), None) if !password.is_empty() => Proof::Password(secret(&password)),
            ("ssh-password", ..) => return Err(wrong("`ssh-password` needs a `password`, and no key")),
            (_, None, Some(text)) => {
                let certificate = match (kind, stored.certificate) {
                    ("ssh-cert", Some(text)) => Some(Certificate::from_openssh(text.trim()).map_err(|_| {
                        wrong("`certificate` is no OpenSSH certificate (`…-cert-v01@openssh.com AAAA…`)")
                    })?),
                    ("ssh-cert", None) => return Err(wrong("`ssh-cert` needs a `certificate`")),
                    (_, None) => None,
                    (_, Some(_)) => return Err(wrong("a `certificate` belongs to a credential of type `ssh-cert`")),
                };
                let passphrase = stored.passphrase.filter(|text| !text.is_empty());
                Proof::Key(Box::new(Key {
                    text: secret(&text),
                    passphrase: passphrase.as_ref().map(secret),
                    certificate,
                    decrypted: OnceCell::new(),
                }))
            }
            _ => return Err(wrong(format!("`{kind}` needs a `private_key`, and no password"))),
        };
        Ok(Self { user, proof })
    }
}

impl Key {
    /// The key, and whether its certificate is one for users that is good now.
    pub(super) async fn ready(&self, now: Timestamp) -> Result<Arc<PrivateKey>, CallError> {
        let key = self.decrypted.get_or_try_init(|| self.decrypt()).await?;
        if let Some(certificate) = &self.certificate {
            if certificate.public_key() != key.public_key().key_data() {
                return Err(wrong("`certificate` is of another key than `private_key`"));
            }
            if !certificate.cert_type().is_user() {
                return Err(wrong("`certificate` is one of a host: use one of a user"));
            }
            let now = u64::try_from(now.as_millis() / 1_000).unwrap_or_default();
            if now >= certificate.valid_before() {
                return Err(wrong("`certificate` has ended: add the credential again with a new one"));
            }
            if now < certificate.valid_after() {
                return Err(wrong("`certificate` is not valid yet: is the clock right?"));
            }
        }
        Ok(Arc::clone(key))
    }

    async fn decrypt(&self) -> Result<Arc<PrivateKey>, CallError> {
        let text = Zeroizing::new(String::from_utf8_lossy(self.text.expose()).into_owned());
        let passphrase =
            self.passphrase.as_ref().map(|text| Zeroizing::new(String::from_utf8_lossy(text.expose()).into_owned()));
        let encrypted = passphrase.is_some();
        let work = move || decode_secret_key(&text, passphrase.as_ref().map(|text| text.as_str()));
        let decoded = tokio::task::spawn_blocking(work).await.map_err(|_| CallError::Cancelled)?;
        let key = decoded.map_err(|error| match error {
            russh::keys::Error::KeyIsEncrypted => wrong("`private_key` is encrypted: give its `passphrase`"),
            _ if encrypted => {
                wrong("`private_key` cannot be read: is it an OpenSSH or PKCS #8 key, and the `passphrase` right?")
            }
            _ => wrong("`private_key` cannot be read: it is an OpenSSH or PKCS #8 key of Ed25519 or ECDSA"),
        })?;
        // An encrypted key that was given no passphrase must not pass for a broken signature later.
        if key.is_encrypted() {
            return Err(wrong("`private_key` is encrypted: give its `passphrase`"));
        }
        if key.algorithm().is_rsa() {
            return Err(wrong(
                "`private_key` is an RSA key, which is not used: make one of Ed25519 (`ssh-keygen -t ed25519`)",
            ));
        }
        Ok(Arc::new(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_credentials_are_read_strictly_and_never_quoted() {
        let read = |kind: &str, json: &str| SshCredentials::from_secret_json(kind, &Secret::new(json)).err();
        assert!(read("ssh-password", r#"{"username":"root","password":"hunter2"}"#).is_none());
        assert!(read("ssh-key", r#"{"username":"root","private_key":"hunter2"}"#).is_none(), "read when it is used");
        for (kind, json, part) in [
            ("ssh-password", r#"{"username":"root"}"#, "needs a `password`"),
            ("ssh-password", r#"{"username":"root","password":""}"#, "needs a `password`"),
            ("ssh-password", r#"{"username":"","password":"hunter2"}"#, "`username`"),
            ("ssh-password", r#"{"username":"root","password":"hunter2","private_key":"hunter2"}"#, "no key"),
            ("ssh-key", r#"{"username":"root","password":"hunter2"}"#, "needs a `private_key`"),
            ("ssh-key", r#"{"username":"root","private_key":"k","certificate":"hunter2"}"#, "belongs to"),
            ("ssh-cert", r#"{"username":"root","private_key":"k"}"#, "needs a `certificate`"),
            ("ssh-cert", r#"{"username":"root","private_key":"k","certificate":"hunter2"}"#, "no OpenSSH certificate"),
            ("ssh-key", r#"{"username":"root","private_key":["hunter2"]}"#, "wrong at line"),
            ("ssh-key", r#"{"username":"root","hunter2":"hunter2"}"#, "wrong at line"),
        ] {
            let error = read(kind, json).unwrap().to_string();
            assert!(error.contains(part) && !error.contains("hunter2"), "{json}: {error}");
        }
    }
}
