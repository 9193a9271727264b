//! Key providers: what keeps the installation's master key.
//!
//! `native` is a secret reference or a file, and the key is read from there. With `vault` (transit) and `awskms` the key lies wrapped in the
//! data directory; it is unwrapped at the start by a key that never leaves the other system.

use std::sync::Arc;

use crypto::aead::AeadKey;
use domain::{Rng, Secret};
use serde::{Deserialize, Serialize};

use crate::error::{Result, SecretError};
use crate::stores::Stores;
use crate::{aws, vault};

/// `[keys]` of the configuration.
#[derive(Deserialize, Default, Clone, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// `native`, `vault` or `awskms`; default `native`.
    pub provider: Option<String>,
    /// `native`: a reference to the master key.
    pub master: Option<String>,
    /// `vault`, `awskms`: the declared store whose address and login are used.
    pub store: Option<String>,
    /// `vault`: the transit key's name; `awskms`: the key's id, alias or ARN.
    pub key: Option<String>,
}

impl std::fmt::Debug for ProviderSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not `master`: somebody may have written the key itself.
        f.debug_struct("ProviderSettings")
            .field("provider", &self.provider)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// A system that wraps and unwraps.
#[derive(Clone)]
pub struct KeyProvider {
    kind: &'static str,
    store: String,
    key: String,
    wrapper: Wrapper,
}

#[derive(Clone)]
enum Wrapper {
    Vault(Arc<vault::Vault>),
    Aws(Arc<aws::Aws>),
}

impl std::fmt::Debug for KeyProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyProvider").field("kind", &self.kind).field("key", &self.key).finish_non_exhaustive()
    }
}

/// A wrapped master key, as the data directory keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrappedKey {
    /// `vault` or `awskms`.
    pub provider: String,
    /// The wrapping key.
    pub key: String,
    /// Bound in: random, so that no other wrapped key can stand in for this one.
    pub context: String,
    /// What the provider made.
    pub ciphertext: String,
}

/// The master key in these bytes: 64 hex digits or 32 raw bytes that are neither all alike nor count up, as keys in examples do.
pub fn master_key(bytes: &[u8]) -> Option<AeadKey> {
    let hex = || std::str::from_utf8(bytes).ok()?.trim().parse::<domain::Digest>().ok().map(|digest| digest.0);
    let key = hex().or_else(|| <[u8; 32]>::try_from(bytes).ok())?;
    let steps = key.iter().zip(key.iter().skip(1)).map(|(one, next)| next.wrapping_sub(*one));
    let steps: std::collections::BTreeSet<u8> = steps.collect();
    (steps.len() > 1).then(|| AeadKey::from_bytes(key))
}

impl KeyProvider {
    /// The provider of a configuration; none for `native`.
    pub fn of(settings: &ProviderSettings, stores: &Stores) -> Result<Option<Self>> {
        let kind = settings.provider.as_deref().unwrap_or("native");
        let no = |problem: &str| SecretError::new("keys", problem);
        if kind == "native" {
            return if settings.store.is_some() || settings.key.is_some() {
                Err(no("`keys.store` and `keys.key` go with the providers `vault` and `awskms`"))
            } else {
                Ok(None)
            };
        }
        if settings.master.is_some() {
            return Err(no("`keys.master` goes with the provider `native`: the others make the master key themselves"));
        }
        let key = settings
            .key
            .clone()
            .filter(|key| !key.is_empty())
            .ok_or_else(|| no("`keys.key` is missing: name the wrapping key"))?;
        let store = settings.store.clone().unwrap_or_else(|| kind.to_owned());
        let (kind, wrapper) = match kind {
            "vault" => ("vault", Wrapper::Vault(stores.vault(&store)?)),
            "awskms" => ("awskms", Wrapper::Aws(stores.aws(&store)?)),
            _ => return Err(no("`keys.provider` is `native`, `vault` or `awskms`")),
        };
        if kind == "vault"
            && !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        {
            return Err(no("`keys.key` is the name of a transit key, without a path"));
        }
        Ok(Some(Self { kind, store, key, wrapper }))
    }

    /// Wraps a master key, and unwraps it again before anything is sealed with it.
    pub async fn wrap(&self, master: &AeadKey, rng: &dyn Rng) -> Result<WrappedKey> {
        let context = format!("cairn master key {}", crypto::token::random_token(rng, 22));
        let plain = Secret::new(master.expose().as_slice());
        let ciphertext = match &self.wrapper {
            Wrapper::Vault(vault) => vault.encrypt(&self.key, &context, &plain).await?,
            Wrapper::Aws(aws) => aws.encrypt(&self.key, &context, &plain).await?,
        };
        let ciphertext = String::from_utf8(ciphertext)
            .map_err(|_| SecretError::new(&self.store, "answered with a ciphertext that is no text"))?;
        let wrapped = WrappedKey { provider: self.kind.to_owned(), key: self.key.clone(), context, ciphertext };
        if self.unwrap(&wrapped).await?.expose() != master.expose() {
            return Err(SecretError::new(&self.store, "unwraps another key than it wrapped"));
        }
        Ok(wrapped)
    }

    /// Unwraps a master key.
    pub async fn unwrap(&self, wrapped: &WrappedKey) -> Result<AeadKey> {
        if wrapped.provider != self.kind || wrapped.key != self.key {
            return Err(SecretError::new(
                &self.store,
                format!(
                    "the master key was wrapped by `{}` with `{}`, but `[keys]` names `{}` and `{}`: rotate the master key before you change the provider",
                    wrapped.provider, wrapped.key, self.kind, self.key
                ),
            ));
        }
        let plain = match &self.wrapper {
            Wrapper::Vault(vault) => vault.decrypt(&self.key, &wrapped.context, wrapped.ciphertext.as_bytes()).await?,
            Wrapper::Aws(aws) => aws.decrypt(&self.key, &wrapped.context, wrapped.ciphertext.as_bytes()).await?,
        };
        master_key(plain.expose())
            .ok_or_else(|| SecretError::new(&self.store, "unwraps to something that is no master key"))
    }
}
