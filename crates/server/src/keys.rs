//! Where the master key lies, how it is replaced without a moment at which it is lost, and the sealing anew that follows a rotation.
//!
//! A new master key is first written beside the old one (`….next`), then the database is sealed anew in one transaction, then the new one is
//! moved over the old one. A start that finds both asks the database which of the two it was made with, and finishes or undoes what a kill
//! cut off.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use access::{OpCtx, ops};
use anyhow::{Context as _, bail};
use crypto::aead::AeadKey;
use crypto::system::{SystemClock, SystemRng};
use domain::{Clock, Rng};
use secrets::{KeyProvider, Stores, WrappedKey};
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::arguments::Rotate;
use crate::config::Config;
use crate::datadir::{self, DataDir, MASTER_KEY, read_private, write_private};
use crate::{open_store, say, sign};

/// Where the master key comes from.
pub(crate) enum Source {
    /// A file of 64 hex digits, made on the first start.
    File(PathBuf),
    /// A secret reference; somebody else makes and replaces it.
    Reference(String),
    /// A file that a key provider wrapped, made on the first start.
    Wrapped(PathBuf, KeyProvider),
}

/// The name of the file that holds the key which is to take over.
fn next_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

impl Source {
    pub(crate) fn of(config: &Config, data: &Path, stores: &Stores) -> anyhow::Result<Self> {
        let file = config.database.master_key_file.clone();
        if let Some(provider) = KeyProvider::of(&config.keys, stores)? {
            anyhow::ensure!(
                file.is_none(),
                "database.master_key_file goes with keys.provider `native`: remove one of the two"
            );
            return Ok(Self::Wrapped(data.join("master.wrapped"), provider));
        }
        match (config.keys.master.clone(), file) {
            (Some(_), Some(_)) => {
                bail!("keys.master and database.master_key_file name two master keys: remove one of the two")
            }
            (Some(reference), None) => Ok(Self::Reference(reference)),
            (None, file) => Ok(Self::File(file.unwrap_or_else(|| data.join(MASTER_KEY)))),
        }
    }

    /// The file of the key, or of what a provider wrapped.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::Wrapped(path, _) => Some(path),
            Self::Reference(_) => None,
        }
    }

    /// The master key as it is; none is ever made.
    pub(crate) async fn existing(&self, stores: &Stores) -> anyhow::Result<AeadKey> {
        match self.path() {
            Some(path) if path.exists() => self.read(path).await,
            Some(path) => bail!("the master key `{}` is not there", path.display()),
            None => self.referenced(stores).await,
        }
    }

    async fn referenced(&self, stores: &Stores) -> anyhow::Result<AeadKey> {
        let Self::Reference(reference) = self else { bail!("no master key") };
        let secret = stores.resolve(reference).await.context("keys.master")?;
        secrets::master_key(secret.expose())
            .context("keys.master is not a master key: it is 64 hex digits or 32 bytes that nobody can guess")
    }

    /// The master key in such a file.
    pub(crate) async fn read(&self, path: &Path) -> anyhow::Result<AeadKey> {
        let bytes = read_private(path)?;
        match self {
            Self::Wrapped(_, provider) => {
                let wrapped: WrappedKey = serde_json::from_slice(&bytes).map_err(|_| {
                    anyhow::anyhow!("`{}` is not a wrapped master key: put the right file back", path.display())
                })?;
                let unwrapped = provider.unwrap(&wrapped).await;
                unwrapped.with_context(|| format!("the master key in `{}` cannot be unwrapped", path.display()))
            }
            _ => secrets::master_key(&bytes).with_context(|| {
                format!(
                    "`{}` is not a master key: it is 64 lower-case hex digits that nobody can guess",
                    path.display()
                )
            }),
        }
    }

    async fn write(&self, path: &Path, key: &AeadKey, rng: &dyn Rng) -> anyhow::Result<()> {
        match self {
            Self::Wrapped(_, provider) => {
                let wrapped = provider.wrap(key, rng).await?;
                write_private(path, &serde_json::to_vec_pretty(&wrapped)?)
            }
            _ => write_private(path, format!("{}\n", domain::Digest(*key.expose())).as_bytes()),
        }
    }

    /// The master key that the database at `url` was made with; a new one where there is no such database yet. `exists`: it may be looked at.
    pub(crate) async fn open(
        &self,
        stores: &Stores,
        url: &str,
        exists: bool,
        rng: &dyn Rng,
    ) -> anyhow::Result<AeadKey> {
        let Some(path) = self.path() else {
            return self.referenced(stores).await;
        };
        let next = next_of(path);
        if !path.exists() {
            if exists && is_made(url).await? {
                bail!(
                    "the master key `{}` is not there, but the database exists: put the key that it was made with in its place; without it nothing \
                     sealed can be opened, and nothing was changed",
                    path.display()
                );
            }
            let key = AeadKey::generate(rng);
            self.write(path, &key, rng).await?;
            return Ok(key);
        }
        let key = self.read(path).await?;
        if !next.exists() {
            return Ok(key);
        }
        // A rotation was cut off. Which of the two keys is in force is for the database to say.
        let candidates = [key, self.read(&next).await?];
        let in_force = if exists { Store::master_in_force(url, &candidates).await? } else { None };
        let [old, new] = candidates;
        if in_force == Some(1) {
            tracing::warn!("a rotation of the master key was cut off after it took effect: it is finished now");
            std::fs::rename(&next, path).with_context(|| format!("cannot rename `{}`", next.display()))?;
            Ok(new)
        } else {
            tracing::warn!("a rotation of the master key was cut off before it took effect: it is undone");
            std::fs::remove_file(&next).with_context(|| format!("cannot remove `{}`", next.display()))?;
            Ok(old)
        }
    }

    /// Replaces the master key.
    pub(crate) async fn rotate(
        &self,
        store: &Store,
        stores: &Stores,
        to: Option<&str>,
        ctx: &OpCtx,
    ) -> anyhow::Result<()> {
        let rng = store.rng().clone();
        let unit = store.write_platform(ctx.authorize_platform::<ops::MasterKeyRotate>()?).await?;
        match (self.path(), to) {
            (Some(path), None) => {
                let (next, key) = (next_of(path), AeadKey::generate(&*rng));
                self.write(&next, &key, &*rng).await?;
                // What is in the file, not what was meant to be: the next start reads the file.
                let key = self.read(&next).await?;
                unit.master_key_rotate(key).await?;
                std::fs::rename(&next, path).with_context(|| format!("cannot rename `{}`", next.display()))?;
                Ok(datadir::sync_folder(path)?)
            }
            (None, Some(reference)) => {
                let secret = stores.resolve(reference).await.context("--to")?;
                let key = secrets::master_key(secret.expose())
                    .context("--to is not a master key: it is 64 hex digits or 32 bytes, not all alike")?;
                Ok(unit.master_key_rotate(key).await?)
            }
            (None, None) => bail!(
                "the master key is a secret reference, which this server cannot write: put the new key under another reference, name it with \
                 `--to`, and set keys.master to it"
            ),
            (Some(_), Some(_)) => bail!("`--to` is for a master key that is a secret reference (keys.master)"),
        }
    }
}

/// Whether the database was made with any master key.
async fn is_made(url: &str) -> anyhow::Result<bool> {
    match Store::master_in_force(url, &[]).await {
        Ok(_) => Ok(false),
        Err(domain::Error::Invalid { field: Some("master_key"), .. }) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Seals anew, in small transactions, whatever an older data key still opens, and drops keys that nothing needs.
pub(crate) struct Resealer {
    store: Store,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

/// How often a rotation is looked for that another server began.
const LOOK: Duration = Duration::from_secs(10);
/// How often the whole vault is checked while the server runs.
const CHECK: Duration = Duration::from_hours(1);

impl Resealer {
    pub(crate) fn new(store: &Store) -> Self {
        Self { store: store.clone(), clock: store.clock().clone(), rng: store.rng().clone() }
    }

    /// All that there is to do now.
    pub(crate) async fn run_once(&self) -> domain::Result<u64> {
        let platform = OpCtx::system_platform("keys", Arc::clone(&self.clock), Arc::clone(&self.rng));
        let mut values = 0;
        for scope in self.store.data_key_list(platform.authorize_platform()?).await? {
            let Some(newest) = scope.keys.last().map(|key| key.version) else { continue };
            if scope.keys.iter().all(|key| key.version == newest) {
                continue;
            }
            loop {
                let step = match scope.tenant {
                    None => {
                        let permit = platform.authorize_platform::<ops::PlatformKeyReseal>()?;
                        self.store.write_platform(permit).await?.platform_key_reseal().await?
                    }
                    Some(tenant) => {
                        let ctx = OpCtx::system("keys", tenant, Arc::clone(&self.clock), Arc::clone(&self.rng));
                        let permit = ctx.authorize::<ops::DataKeyReseal>(tenant)?;
                        self.store.write(permit).await?.data_key_reseal().await?
                    }
                };
                if step.is_done() {
                    break;
                }
                values += step.values;
            }
        }
        Ok(values)
    }

    /// Follows an old key of destination tokens with a new one, and takes the private half of one that was followed.
    async fn tend_token_keys(&self) -> domain::Result<()> {
        if !self.store.token_key_is_due().await? {
            return Ok(());
        }
        let platform = OpCtx::system_platform("keys", Arc::clone(&self.clock), Arc::clone(&self.rng));
        let permit = platform.authorize_platform::<ops::SigningKeyRotate>()?;
        self.store.write_platform(permit).await?.token_key_tend().await
    }

    /// Takes the private half of a key of SSH certificates that was followed.
    async fn tend_ssh_ca(&self) -> domain::Result<()> {
        if !self.store.ssh_ca_is_due().await? {
            return Ok(());
        }
        let platform = OpCtx::system_platform("keys", Arc::clone(&self.clock), Arc::clone(&self.rng));
        let permit = platform.authorize_platform::<ops::SigningKeyRotate>()?;
        self.store.write_platform(permit).await?.ssh_ca_tend().await
    }

    /// Until the server stops.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut checked = tokio::time::Instant::now();
        while !stop.is_cancelled() {
            if let Err(error) = self.tend_token_keys().await {
                tracing::warn!(?error, "the keys of destination tokens cannot be seen to now: it is tried again");
            }
            if let Err(error) = self.tend_ssh_ca().await {
                tracing::warn!(?error, "the keys of SSH certificates cannot be seen to now: it is tried again");
            }
            if let Err(error) = self.run_once().await {
                tracing::warn!(?error, "values cannot be sealed anew now: it is tried again");
            }
            if checked.elapsed() > CHECK {
                checked = tokio::time::Instant::now();
                if let Err(error) = self.store.vault_check().await {
                    tracing::error!(?error, "the vault's check failed");
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}

/// Keeps sessions with secret stores alive until the server stops.
pub(crate) async fn keep(stores: Arc<Stores>, stop: CancellationToken) {
    loop {
        let wait = stores.keep().await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(wait.unsigned_abs())) => {}
        }
    }
}

/// `keys rotate`: the data directory's lock says that no server runs on it meanwhile.
pub(crate) async fn rotate(config: &Config, stores: &Stores, what: Rotate) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let rng: Arc<dyn Rng> = Arc::new(SystemRng);
    let data = DataDir::open(&config.server.data_dir)?;
    anyhow::ensure!(
        config.database.url.is_some() || data.join(datadir::DATABASE).exists(),
        "there is no database in `{}` yet: start the server once first",
        config.server.data_dir.display()
    );
    let (store, source) = open_store(config, &data, stores, false, &clock, &rng).await?;
    let ctx = OpCtx::system_platform("keys", Arc::clone(&clock), Arc::clone(&rng));
    if what.master {
        source.rotate(&store, stores, what.to.as_deref(), &ctx).await?;
        say("the master key was replaced: every data key is sealed with the new one");
    }
    if what.evidence {
        let key = store
            .write_platform(ctx.authorize_platform::<ops::SigningKeyRotate>()?)
            .await?
            .signing_key_rotate(sign::EVIDENCE)
            .await?;
        say(&format!("evidence is signed with the key {} from now on", key.fingerprint()));
    }
    if what.tokens {
        let permit = ctx.authorize_platform::<ops::SigningKeyRotate>()?;
        let key = store.write_platform(permit).await?.token_key_rotate(what.withdraw).await?;
        let when = if what.withdraw {
            "now on; what was signed before is refused within six minutes"
        } else {
            "ten minutes from now on"
        };
        say(&format!("destination tokens are signed with the key {} from {when}", key.kid()));
    }
    if what.ssh_ca {
        let permit = ctx.authorize_platform::<ops::SigningKeyRotate>()?;
        let key = store.write_platform(permit).await?.ssh_ca_rotate(what.withdraw).await?;
        let key = crypto::ssh::PublicKey::of_ed25519(&key);
        let when = if what.withdraw {
            "now on; hosts take nothing that was signed before once they have read the new one"
        } else {
            "a week from now on: until then every host has to have it among its authorities"
        };
        say(&format!("SSH certificates are signed with the key {} from {when}", key.fingerprint()));
    }
    if what.data || what.tenant.is_some() || !(what.master || what.evidence || what.tokens || what.ssh_ca) {
        let of = what.tenant.map_or(store::RotationOf::All, store::RotationOf::Tenant);
        let unit = store.write_platform(ctx.authorize_platform::<ops::DataKeyRotate>()?).await?;
        let keys = unit.data_key_rotate(of).await?;
        let values = Resealer::new(&store).run_once().await?;
        say(&format!("{keys} data keys were replaced, {values} values sealed anew"));
    }
    store.close().await;
    Ok(())
}
