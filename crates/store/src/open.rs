//! Opening a database.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crypto::ed25519::SigningKey;
use domain::{Clock, Error, Result, Rng};

use crate::db::{Db, Engine, WriterCache, args};
use crate::gather::Gather;
use crate::log_sign::LogKey;
use crate::remembered::Answers;
use crate::vault::VaultOptions;
use crate::{Inner, Store, migrate, vault};

/// How to open a store.
pub struct OpenOptions {
    /// `sqlite:PATH` or `postgres://user:password@host/database`: the role that the server runs as.
    pub url: String,
    /// PostgreSQL: the role that owns the tables and runs migrations. Without it `url` is that role, and the server's connections become
    /// `cairn_app` by `SET ROLE`.
    pub owner_url: Option<String>,
    /// The installation's master key, which seals everything else.
    pub master: crypto::aead::AeadKey,
    /// How the vault is opened.
    pub vault: VaultOptions,
    /// Where artifacts lie.
    pub blobs: PathBuf,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from.
    pub rng: Arc<dyn Rng>,
}

/// How many who ask the same of the database share their turns at a time: one is at work while the next begins.
const TURNS: usize = 2;
/// The role that owns nothing, for installations with one database user.
pub(crate) const APP_ROLE: &str = "cairn_app";

pub(crate) async fn current_user(db: &Db) -> Result<String> {
    let mut tx = db.read().await?;
    let row = tx.row("SELECT current_user::text", args![]).await?;
    row.ok_or_else(|| Error::internal("no current user"))?.text(0)
}

/// Makes the role that owns nothing and lets the owner become it. Roles belong to the whole cluster, so another database may have made it.
pub(crate) async fn make_app_role(owner: &Db) -> Result<()> {
    let mut tx = owner.write().await?;
    tx.script(format!(
        "SELECT pg_advisory_xact_lock(7165327602);\n\
         DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{APP_ROLE}') THEN \
         CREATE ROLE {APP_ROLE} NOLOGIN NOSUPERUSER NOBYPASSRLS; END IF; END $$;\n\
         GRANT {APP_ROLE} TO CURRENT_USER;"
    ))
    .await?;
    tx.commit().await
}

/// Refuses a role for which row-level security would not hold.
async fn check_role(db: &Db) -> Result<()> {
    let mut tx = db.read().await?;
    let row = tx
        .row(
            "SELECT rolname::text, rolsuper OR rolbypassrls, \
             EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                     WHERE n.nspname = 'public' AND c.relkind = 'r' AND c.relowner = r.oid) \
             FROM pg_roles r WHERE rolname = current_user",
            args![],
        )
        .await?
        .ok_or_else(|| Error::internal("the database does not know its own role"))?;
    let (role, bypasses, owns) = (row.text(0)?, row.bool(1)?, row.bool(2)?);
    if bypasses || owns {
        return Err(Error::invalid(
            "database.url",
            format!(
                "the role `{role}` owns tables or bypasses row-level security: give the server a role that does neither, and the owner as \
                 `database.owner_url`"
            ),
        ));
    }
    Ok(())
}

impl Store {
    /// Opens the database, brings its schema up to date, and checks that the role it runs as is bound by row-level security.
    pub async fn open(options: OpenOptions) -> Result<Self> {
        let OpenOptions { url, owner_url, master, vault: vault_options, blobs, clock, rng } = options;
        let first = Db::open(&url, None).await?;
        vault::which(&first, std::slice::from_ref(&master)).await?;
        let db = match (first.engine(), owner_url) {
            (Engine::Sqlite, _) => {
                migrate::migrate(&first, None).await?;
                first
            }
            (Engine::Pg, Some(owner_url)) => {
                let role = current_user(&first).await?;
                let owner = Db::open(&owner_url, None).await?;
                migrate::migrate(&owner, Some(&role)).await?;
                owner.close().await;
                first
            }
            (Engine::Pg, None) => {
                make_app_role(&first).await?;
                migrate::migrate(&first, Some(APP_ROLE)).await?;
                first.close().await;
                Db::open(&url, Some(APP_ROLE)).await?
            }
        };
        if db.engine() == Engine::Pg {
            check_role(&db).await?;
        }
        let heads = blobs.with_file_name("log-heads");
        let (vault, signals, log) = (vault::Slot::default(), crate::work::Signals::default(), OnceLock::new());
        let endings = crate::fleet::Endings::default();
        let inner = Inner {
            db,
            vault,
            blobs,
            log,
            signals,
            endings,
            finds: Gather::new(TURNS),
            grants_counted: crate::grant::Counted::default(),
            sightings: Gather::new(TURNS),
            fleet: crate::fleet_memory::FleetMemory::default(),
            sessions: Answers::default(),
            cli_sessions: Answers::default(),
            api_keys: Answers::default(),
            only_writer: std::sync::atomic::AtomicBool::new(false),
            reports: Gather::new(TURNS),
            maps: crate::graph_map::Maps::default(),
            clock,
            rng,
        };
        let store = Self { inner: Arc::new(inner) };
        vault::open(&store, master, vault_options).await?;
        let make = || SigningKey::generate().map(|key| key.to_pkcs8()).map_err(Error::internal);
        let key = store.installation_secret("log_key", make).await?;
        let key = SigningKey::from_pkcs8(key.expose()).map_err(Error::internal)?;
        let id = store.installation_id().await?;
        let installation = id.strip_prefix("cairn:").unwrap_or(&id).to_owned();
        let _ = store.inner.log.set(LogKey::new(key, installation, heads));
        Ok(store)
    }

    /// After a large piece of work: gives back the memory that it took.
    pub async fn relax(&self) -> Result<()> {
        self.db().writer_cache(WriterCache::Usual).await
    }

    /// Which of these master keys the database was made with, without changing anything; none while it was not made with any.
    pub async fn master_in_force(url: &str, masters: &[crypto::aead::AeadKey]) -> Result<Option<usize>> {
        let db = Db::open(url, None).await?;
        let found = vault::which(&db, masters).await;
        db.close().await;
        found
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.db().close().await;
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        let mut tx = self.db().read().await?;
        tx.row("SELECT 1", args![]).await.map(drop)
    }
}

impl Store {
    /// The installation's id: the `iss` of its tokens and the host part of its logs' names.
    pub async fn installation_id(&self) -> Result<String> {
        let rng = Arc::clone(self.rng());
        let make = move || Ok(domain::Secret::new(crypto::token::random_token(&*rng, 22).into_bytes()));
        let id = self.installation_secret("installation_id", make).await?;
        Ok(format!("cairn:{}", id.expose_str().unwrap_or_default()))
    }
}
