//! `[database]`, and what any secret value of the configuration refers to.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use domain::{Clock, Secret};
use secrets::Stores;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{As, Environment, Key, process_environment};

/// `[database]`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DatabaseSection {
    /// `postgres://user:password@host/database`; default: SQLite in the data directory.
    pub(crate) url: Option<String>,
    /// PostgreSQL: the password of `url`, mostly a secret reference.
    pub(crate) password: Option<String>,
    /// PostgreSQL: the role that owns the tables. Without it `url` is that role, and connections become `cairn_app`.
    pub(crate) owner_url: Option<String>,
    /// The master key's file: 32 bytes as 64 hex digits, mode 0600; default `master.key` in the data directory, made on first start.
    #[schema(value_type = Option<String>)]
    pub(crate) master_key_file: Option<PathBuf>,
}

/// What the environment may set of `[database]`.
pub(super) const KEYS: &[Key] =
    &[("url", As::Text), ("password", As::Text), ("owner_url", As::Text), ("master_key_file", As::Text)];

/// What the stores of secrets need of the process.
pub(crate) fn surroundings(clock: &Arc<dyn Clock>) -> secrets::Surroundings {
    secrets::Surroundings { environment: Arc::new(process_environment), clock: Arc::clone(clock) }
}

/// The secret of sessions from `JWT_SECRET`, where it is set: itself, or what it refers to.
pub(crate) async fn jwt_secret(environment: Environment<'_>, stores: &Stores) -> anyhow::Result<Option<Secret>> {
    let Some(value) = environment("JWT_SECRET") else { return Ok(None) };
    let secret = stores.resolve(&value).await.context("JWT_SECRET")?;
    if secret.expose().len() < 32 {
        bail!("JWT_SECRET is shorter than 32 bytes: use `openssl rand -base64 48`, or unset it to have one made")
    }
    Ok(Some(secret))
}

impl DatabaseSection {
    /// Puts what its references mean in their place.
    pub(crate) async fn resolve(&mut self, stores: &Stores) -> anyhow::Result<()> {
        let (url, owner_url) = (self.resolved_url(stores).await?, self.resolved_owner_url(stores).await?);
        (self.url, self.owner_url, self.password) = (url, owner_url, None);
        Ok(())
    }

    /// `url` with its references resolved and its password in it; none for SQLite in the data directory.
    async fn resolved_url(&self, stores: &Stores) -> anyhow::Result<Option<String>> {
        let Some(url) = &self.url else {
            anyhow::ensure!(self.password.is_none(), "database.password needs a database.url");
            return Ok(None);
        };
        let url = text(stores, url, "database.url").await?;
        let Some(password) = &self.password else { return Ok(Some(url)) };
        let password = text(stores, password, "database.password").await?;
        let with = || {
            let (scheme, rest) = url.split_once("://")?;
            let (user, rest) = rest.split_once('@')?;
            (!user.contains(':'))
                .then(|| format!("{scheme}://{user}:{}@{rest}", transport::aws::sigv4::encode(&password, b"")))
        };
        match with() {
            Some(url) => Ok(Some(url)),
            None => bail!("database.password needs a database.url of the form `postgres://user@host/database`"),
        }
    }

    /// `owner_url` with its reference resolved.
    async fn resolved_owner_url(&self, stores: &Stores) -> anyhow::Result<Option<String>> {
        match &self.owner_url {
            Some(url) => text(stores, url, "database.owner_url").await.map(Some),
            None => Ok(None),
        }
    }
}

async fn text(stores: &Stores, value: &str, key: &str) -> anyhow::Result<String> {
    let secret = stores.resolve_text(value).await.with_context(|| key.to_owned())?;
    Ok(secret.expose_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn stores(declarations: &str) -> Stores {
        let file: Config = toml::from_str(declarations).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(testkit::TestClock::default());
        let environment =
            |name: &str| (name == "CAIRN_TEST").then(|| "a secret of thirty-two bytes, or more".to_owned());
        Stores::declare(file.secrets, &secrets::Surroundings { environment: Arc::new(environment), clock }).unwrap()
    }

    #[tokio::test]
    async fn any_secret_value_may_be_a_reference() {
        let dir = tempfile::tempdir().unwrap();
        crate::datadir::write_private(&dir.path().join("password"), b"p@ss:word\n").unwrap();
        let stores =
            stores(&format!("[[secrets]]\nname = \"local\"\nkind = \"file\"\nsettings.path = {:?}\n", dir.path()));
        let jwt = jwt_secret(&|_| Some("env:CAIRN_TEST".to_owned()), &stores).await.unwrap().unwrap();
        assert_eq!(jwt.expose_str(), Some("a secret of thirty-two bytes, or more"));
        let short = jwt_secret(&|_| Some("short".to_owned()), &stores).await.unwrap_err();
        assert!(short.to_string().contains("32 bytes"));
        let missing = format!("{:#}", jwt_secret(&|_| Some("env:NOT_SET".to_owned()), &stores).await.unwrap_err());
        assert!(
            missing.contains("JWT_SECRET") && missing.contains("`env`") && missing.contains("NOT_SET"),
            "{missing}"
        );
        let mut database = DatabaseSection { url: Some("postgres://cairn@db/cairn".to_owned()), ..Default::default() };
        assert_eq!(database.resolved_url(&stores).await.unwrap().unwrap(), "postgres://cairn@db/cairn");
        database.password = Some("local:password".to_owned());
        assert_eq!(database.resolved_url(&stores).await.unwrap().unwrap(), "postgres://cairn:p%40ss%3Aword@db/cairn");
        database.url = Some("postgres://cairn:other@db/cairn".to_owned());
        assert!(database.resolved_url(&stores).await.is_err());
    }
}
