//! The stores that the configuration declares, and what a reference to one of them means.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use domain::{Clock, Secret};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Result, SecretError};
use crate::{aws, kubernetes, local, vault};

/// A store as the configuration declares it: `[[secrets]]`.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// What references call it; default: its kind.
    pub name: Option<String>,
    /// `plaintext`, `env`, `file`, `kubernetes`, `vault`, `awssecretsmanager` or `awsssm`.
    pub kind: String,
    /// What the kind needs; `config` is another name for it.
    #[serde(default, alias = "config")]
    #[schema(value_type = Object)]
    pub settings: Map<String, Value>,
}

impl std::fmt::Debug for Declaration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the settings: a token may stand in them.
        f.debug_struct("Declaration").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// An environment: a variable's value, where it is set.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What stores need of the process.
#[derive(Clone)]
pub struct Surroundings {
    /// The environment.
    pub environment: Environment,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// A place to read secrets from.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    async fn read(&self, id: &str) -> Result<Secret>;

    /// Keeps a session alive that would otherwise end; when to ask again, in milliseconds.
    async fn keep(&self) -> Result<Option<i64>> {
        Ok(None)
    }
}

/// Kinds that stand for themselves: they need no declaration, and the settings of the others may refer to them.
const BASE: [&str; 3] = ["plaintext", "env", "file"];
const KINDS: [&str; 7] = ["plaintext", "env", "file", "kubernetes", "vault", "awssecretsmanager", "awsssm"];
/// Names that would make a URL a reference.
const SCHEMES: [&str; 7] = ["http", "https", "postgres", "postgresql", "sqlite", "ldap", "ldaps"];

/// The declared stores.
pub struct Stores {
    stores: BTreeMap<String, Declared>,
}

#[derive(Clone)]
enum Declared {
    Plain(Arc<dyn Store>),
    Vault(Arc<vault::Vault>),
    Aws(Arc<aws::Aws>, Arc<dyn Store>),
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.stores.keys()).finish()
    }
}

/// Reads a store's settings. serde's words about a wrong type quote the value, so only those about names are passed on.
pub(crate) fn settings<T: DeserializeOwned>(store: &str, settings: Map<String, Value>) -> Result<T> {
    serde_json::from_value(Value::Object(settings)).map_err(|error| {
        let text = error.to_string();
        let of_names =
            ["unknown field", "missing field", "duplicate field"].iter().any(|start| text.starts_with(start));
        let shown = if of_names { text } else { "a value has another type than it needs".to_owned() };
        SecretError::new(store, format!("its settings are not valid: {shown}"))
    })
}

impl Stores {
    /// The stores of a configuration. Nothing is read or called yet.
    pub fn declare(declarations: Vec<Declaration>, around: &Surroundings) -> Result<Self> {
        let mut stores = BTreeMap::new();
        for kind in BASE {
            stores.insert(kind.to_owned(), local::store(kind, kind, Map::new(), around).map(Declared::Plain)?);
        }
        if (around.environment)("KUBERNETES_SERVICE_HOST").is_some() {
            let store = kubernetes::Kubernetes::new("kubernetes", Map::new(), around)?;
            stores.insert("kubernetes".to_owned(), Declared::Plain(Arc::new(store)));
        }
        // Base kinds first, so that the others' own credentials may use them in whatever order they are written.
        let (base, others): (Vec<_>, Vec<_>) =
            declarations.into_iter().partition(|declared| BASE.contains(&declared.kind.as_str()));
        let mut named = std::collections::BTreeSet::new();
        for Declaration { name, kind, settings } in base.into_iter().chain(others) {
            let name = name.unwrap_or_else(|| kind.clone());
            check_name(&name, &kind)?;
            if !named.insert(name.clone()) {
                return Err(SecretError::new(&name, "is declared twice: give one of them another `name`"));
            }
            let store = match kind.as_str() {
                "kubernetes" => Declared::Plain(Arc::new(kubernetes::Kubernetes::new(&name, settings, around)?)),
                "vault" => {
                    let base = Self { stores: stores.clone() };
                    Declared::Vault(Arc::new(vault::Vault::new(&name, settings, base, around)?))
                }
                "awssecretsmanager" | "awsssm" => {
                    let base = Self { stores: stores.clone() };
                    let client = Arc::new(aws::Aws::new(&name, settings, base, around)?);
                    let store = aws::store(&kind, Arc::clone(&client));
                    Declared::Aws(client, store)
                }
                _ => local::store(&name, &kind, settings, around).map(Declared::Plain)?,
            };
            stores.insert(name, store);
        }
        Ok(Self { stores })
    }

    /// The secret that a configuration value means: the referred one, or the value itself.
    pub async fn resolve(&self, value: &str) -> Result<Secret> {
        let Some((name, id)) = value.split_once(':') else { return Ok(Secret::new(value)) };
        let store: Arc<dyn Store> = match self.stores.get(name) {
            Some(Declared::Plain(store) | Declared::Aws(_, store)) => Arc::clone(store),
            Some(Declared::Vault(vault)) => Arc::clone(vault) as Arc<dyn Store>,
            None if KINDS.contains(&name) => {
                return Err(SecretError::new(
                    name,
                    "is not declared: add a `[[secrets]]` section for it, or write `plaintext:` before a value that only looks like a reference",
                ));
            }
            None => return Ok(Secret::new(value)),
        };
        if id.is_empty() {
            return Err(SecretError::new(name, format!("nothing stands after `{name}:`: name the secret")));
        }
        let secret = store.read(id).await?;
        if secret.expose().is_empty() {
            return Err(SecretError::new(name, "the secret is empty: set it, or refer to another one"));
        }
        Ok(secret)
    }

    /// The same as text.
    pub async fn resolve_text(&self, value: &str) -> Result<Secret> {
        let secret = self.resolve(value).await?;
        if secret.expose_str().is_none() {
            let name = value.split_once(':').map_or("plaintext", |(name, _)| name);
            return Err(SecretError::new(name, "the secret is not UTF-8 text, which this value needs"));
        }
        Ok(secret)
    }

    pub(crate) fn vault(&self, name: &str) -> Result<Arc<vault::Vault>> {
        match self.stores.get(name) {
            Some(Declared::Vault(vault)) => Ok(Arc::clone(vault)),
            _ => Err(SecretError::new(name, "is no declared store of kind `vault`: `keys.store` names one")),
        }
    }

    pub(crate) fn aws(&self, name: &str) -> Result<Arc<aws::Aws>> {
        match self.stores.get(name) {
            Some(Declared::Aws(aws, _)) => Ok(Arc::clone(aws)),
            _ => Err(SecretError::new(
                name,
                "is no declared store of kind `awssecretsmanager` or `awsssm`: `keys.store` names one",
            )),
        }
    }

    /// Keeps sessions with the stores alive; how long to wait before the next time, in milliseconds.
    pub async fn keep(&self) -> i64 {
        let mut next = 60_000;
        for (name, store) in &self.stores {
            let Declared::Vault(vault) = store else { continue };
            match vault.keep().await {
                Ok(Some(wait)) => next = next.min(wait.max(1_000)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(store = name.as_str(), %error, "a session with a secret store cannot be kept alive");
                }
            }
        }
        next
    }
}

fn check_name(name: &str, kind: &str) -> Result<()> {
    let letters = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !(1..=63).contains(&name.len()) || !letters {
        return Err(SecretError::new(
            &name.escape_debug().to_string(),
            "a store's name is 1 to 63 of a-z, 0-9 and `-`",
        ));
    }
    if SCHEMES.contains(&name) {
        return Err(SecretError::new(name, "is how URLs begin: give the store another `name`"));
    }
    if KINDS.contains(&name) && name != kind {
        return Err(SecretError::new(
            name,
            format!("is the name of a kind, but this store is of kind `{kind}`: give it another `name`"),
        ));
    }
    if !KINDS.contains(&kind) {
        return Err(SecretError::new(name, format!("has no known kind: use one of {}", KINDS.join(", "))));
    }
    Ok(())
}
