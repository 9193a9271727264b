//! A backup holds everything, from either engine into either engine; a restore is all or nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use access::{OpCtx, Role, ops};
use domain::{BackupId, DisplayName, JobId, Secret, SessionId, TenantId, Timestamp};
use store::{AuditFilter, FoundApiKey, NewUser, OpenOptions, Restore, Schema, SessionStart, Store};
use testkit::{Postgres, TestClock, TestDatabase, TestRng, logs};
use uuid::Uuid;

use crate::world::{World, each_engine};
use crate::{api_key, identity};

type Lines = Vec<(String, Vec<u8>)>;

/// What a restore changes and what the two backups themselves add.
const CHANGED: [&str; 9] = [
    "app_user",
    "audit_detail",
    "audit_head",
    "audit_record",
    "identity",
    "installation",
    "session",
    "sign_in",
    "work",
];

fn platform(clock: &Arc<TestClock>, rng: &Arc<TestRng>) -> OpCtx {
    OpCtx::system_platform("test", clock.clone(), rng.clone())
}

fn start(request: domain::RequestId) -> SessionStart {
    SessionStart {
        method: domain::AuthMethod::Password,
        second_factor: false,
        request,
        ip: None,
        agent: None,
        lifetime_ms: 3_600_000,
        idle_ms: 3_600_000,
    }
}

async fn dump(store: &Store, ctx: &OpCtx) -> (Lines, Vec<store::Artifact>) {
    let mut lines = Vec::new();
    let id = BackupId::generate(ctx.clock(), ctx.rng());
    let backup = store
        .backup(ctx.authorize_platform::<ops::BackupCreate>().unwrap(), id, |table, line| {
            lines.push((table.to_owned(), line.to_vec()));
            Ok(())
        })
        .await
        .unwrap();
    (lines, backup.artifacts)
}

fn by_table(lines: &Lines) -> BTreeMap<&str, Vec<&[u8]>> {
    let mut tables: BTreeMap<&str, Vec<&[u8]>> = BTreeMap::new();
    for (table, line) in lines {
        tables.entry(table).or_default().push(line);
    }
    for lines in tables.values_mut() {
        lines.sort_unstable();
    }
    tables
}

/// An empty database to restore into, and everything around it.
struct Target {
    dir: tempfile::TempDir,
    postgres: Option<TestDatabase<'static>>,
    clock: Arc<TestClock>,
    rng: Arc<TestRng>,
}

impl Target {
    fn new(world: &World, on_postgres: bool) -> Self {
        let postgres = on_postgres.then(|| Postgres::shared().database());
        let dir = tempfile::tempdir().unwrap();
        Self { dir, postgres, clock: world.clock.clone(), rng: Arc::new(TestRng::seeded(99)) }
    }

    fn options(&self, master: [u8; 32]) -> OpenOptions {
        let file = || format!("sqlite:{}", self.dir.path().join("cairn.db").display());
        OpenOptions {
            url: self.postgres.as_ref().map_or_else(file, |database| database.app_url.clone()),
            owner_url: self.postgres.as_ref().map(|database| database.owner_url.clone()),
            master: crypto::aead::AeadKey::from_bytes(master),
            vault: store::VaultOptions::default(),
            blobs: self.dir.path().join("blobs"),
            clock: self.clock.clone(),
            rng: self.rng.clone(),
        }
    }

    async fn begin(&self, schema: &Schema) -> domain::Result<Restore> {
        let permit = platform(&self.clock, &self.rng).authorize_platform::<ops::BackupRestore>().unwrap();
        Restore::begin(self.options([7; 32]), permit, schema).await
    }

    async fn restore(&self, lines: &Lines) -> domain::Result<BackupId> {
        let id = BackupId::generate(&*self.clock, &*self.rng);
        let mut restore = self.begin(&Schema::known()).await?;
        for (table, line) in lines {
            restore.line(table, line).await?;
        }
        restore.finish(id, Timestamp::from_millis(1)).await?;
        Ok(id)
    }
}

struct Lived {
    a: TenantId,
    credential: domain::CredentialId,
    session: SessionId,
    secret: String,
    client_secret: String,
}

/// The public ids of two API keys: of somebody whom a provider vouches for, and of somebody whom it does not know.
const KEYS: [&str; 2] = ["bbbbbbbbbbb1", "aaaaaaaaaaa1"];

/// Until its owner has signed in with their provider again, a key is as suspended as that of somebody who was dismissed.
async fn keys_wait_for_the_provider(world: &World, target: &Target, store: &Store) {
    let refused = async |lookup| match store.api_key_find(lookup, None).await.unwrap() {
        FoundApiKey::Live(_) => None,
        FoundApiKey::Refused { reason, .. } => Some(reason),
        FoundApiKey::Unknown => Some("unknown"),
    };
    assert_eq!((refused(KEYS[0]).await, refused(KEYS[1]).await), (Some("owner"), None));
    let (corp, _) = store.login_provider("corp").await.unwrap();
    identity::sign_in_at(store, world, &corp, "bea").await;
    assert_eq!(refused(KEYS[0]).await, None);
    let filter = AuditFilter { action: Some("user_confirm".to_owned()), limit: 10, ..AuditFilter::default() };
    let permit = platform(&target.clock, &target.rng).authorize_platform().unwrap();
    assert_eq!(store.platform_audit_list(permit, &filter).await.unwrap().items.len(), 1);
}

/// Some of everything: tenants, a user who is signed in, a credential, a job that a worker holds.
async fn live(world: &World) -> Lived {
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let ctx = platform(&world.clock, &world.rng);
    let new = NewUser { name: "Ann".parse().unwrap(), password_hash: "$2b$10$x".to_owned(), platform_admin: true };
    let unit = world.store.write_platform(ctx.authorize_platform::<ops::UserCreate>().unwrap()).await.unwrap();
    let email = "ann@example.org".parse().unwrap();
    unit.user_create(&email, &new).await.unwrap();
    let user = world.store.login_user(&email).await.unwrap().unwrap().user;
    let session = world.store.session_create(&user, &start(ctx.request())).await.unwrap().id;
    let begun =
        "INSERT INTO sign_in (id, user_id, method, expires_at) SELECT id, user_id, method, expires_at FROM session";
    world.raw(a, begun).await.unwrap();
    let secret = logs::plant("store-backup-secret");
    let name: DisplayName = "one \"name\", ünïcode".parse().unwrap();
    let mut credential = None;
    for tenant in [a, b] {
        let unit = world.store.write(world.permit::<ops::CredentialCreate>(tenant)).await.unwrap();
        credential.get_or_insert(
            unit.credential_create("aws", &name, "aws-keys", &Secret::new(secret.as_str())).await.unwrap().id,
        );
        let job = store::NewJob {
            relay: None,
            plugin: "host".to_owned(),
            credential: None,
            config: serde_json::Map::new(),
            schedule: None,
        };
        let unit = world.store.write(world.permit::<ops::JobCreate>(tenant)).await.unwrap();
        unit.job_create(job).await.unwrap();
    }
    world.store.installation_secret("jwt_secret", || Ok(Secret::new(vec![9; 48]))).await.unwrap();
    let (corp, client_secret) = identity::provider(world, a, "corp").await;
    let (bea, _) = identity::sign_in_at(&world.store, world, &corp, "bea").await;
    api_key::key(world, a, bea.id, KEYS[0]).await;
    let unit = world.store.write(world.permit::<ops::MemberPut>(a)).await.unwrap();
    unit.member_put(&email, Role::ReadOnly).await.unwrap();
    world.store.session_create(&user, &start(ctx.request())).await.unwrap();
    api_key::key(world, a, user.id, KEYS[1]).await;
    Lived { a, credential: credential.unwrap(), session, secret, client_secret }
}

async fn restores_into(world: &World, on_postgres: bool) {
    let lived = live(world).await;
    let (before, _) = dump(&world.store, &platform(&world.clock, &world.rng)).await;
    assert!(before.iter().all(|(_, line)| logs::scan(line).is_empty()), "a secret is in the rows");
    let target = Target::new(world, on_postgres);
    let id = target.restore(&before).await.unwrap();

    let store = Store::open(target.options([7; 32])).await.unwrap();
    assert!(store.session_live(lived.session).await.unwrap().is_none(), "the session lives on");
    assert!(world.store.session_live(lived.session).await.unwrap().is_some(), "it lives where it was");
    let ctx = OpCtx::system("test", lived.a, target.clock.clone(), target.rng.clone());
    let unit = store.write(ctx.authorize::<ops::CredentialUse>(lived.a).unwrap()).await.unwrap();
    let (_, secret) = unit.credential_use(lived.credential, JobId::from_uuid(Uuid::nil())).await.unwrap();
    assert_eq!(secret.expose_str(), Some(lived.secret.as_str()));
    let (_, client_secret) = store.login_provider("corp").await.unwrap();
    assert_eq!(client_secret.expose_str(), Some(lived.client_secret.as_str()));
    assert!(identity::due(&store).await.is_none(), "an old token would be taken for a stolen one");
    let jwt = store.installation_secret("jwt_secret", || panic!("it is there")).await.unwrap();
    assert_eq!(jwt.expose(), [9; 48]);

    let ctx = platform(&target.clock, &target.rng);
    let (after, _) = dump(&store, &ctx).await;
    let (old, new) = (by_table(&before), by_table(&after));
    assert_eq!(old.keys().collect::<Vec<_>>(), new.keys().collect::<Vec<_>>());
    for (table, rows) in &old {
        if !CHANGED.contains(table) && *table != "credential" {
            assert_eq!(rows, &new[table], "{table}");
        }
        assert!(new[table].len() >= rows.len() || *table == "sign_in", "{table}");
    }
    assert_eq!((old["sign_in"].len(), new["sign_in"].len()), (2, 1), "the columns, and whoever was between two steps");
    // The log goes on where it was, and its old records are the same bytes.
    assert!(old["audit_record"].iter().all(|record| new["audit_record"].contains(record)));

    // The mark is there until the first start takes it, once.
    assert_eq!(store.restored().await.unwrap().unwrap().backup, id);
    let accept = async || {
        let permit = ctx.authorize_platform::<ops::RestoreAccept>().unwrap();
        store.write_platform(permit).await.unwrap().restore_accept().await.unwrap()
    };
    assert_eq!(accept().await.unwrap().backup, id);
    assert!(accept().await.is_none());
    assert!(store.restored().await.unwrap().is_none());
    keys_wait_for_the_provider(world, &target, &store).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_comes_back_on_the_same_engine_and_on_the_other() {
    each_engine(async |world| {
        restores_into(world, false).await;
    })
    .await;
    each_engine(async |world| {
        restores_into(world, true).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_74_a_database_that_holds_anything_is_not_restored_over() {
    each_engine(async |world| {
        live(world).await;
        let (lines, _) = dump(&world.store, &platform(&world.clock, &world.rng)).await;
        let target = Target::new(world, world.postgres.is_some());
        target.restore(&lines).await.unwrap();
        let store = Store::open(target.options([7; 32])).await.unwrap();
        let (before, _) = dump(&store, &platform(&target.clock, &target.rng)).await;
        let error = target.begin(&Schema::known()).await.err().unwrap();
        assert!(error.to_string().contains("is not empty"), "{error}");
        let (after, _) = dump(&store, &platform(&target.clock, &target.rng)).await;
        let (old, new) = (by_table(&before), by_table(&after));
        assert!(old.iter().all(|(table, rows)| CHANGED.contains(table) || rows == &new[table]));
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_74_a_backup_that_does_not_fit_leaves_the_database_empty() {
    each_engine(async |world| {
        live(world).await;
        let (lines, _) = dump(&world.store, &platform(&world.clock, &world.rng)).await;
        let target = Target::new(world, world.postgres.is_some());
        for schema in ["[]", "[0]", "[1,4711]"] {
            let error = target.begin(&serde_json::from_str(schema).unwrap()).await.err().unwrap();
            assert!(error.to_string().contains("the version that made it, or a newer one"), "{error}");
        }
        let cut = |keep: &dyn Fn(&str) -> bool| -> Lines { lines.iter().filter(|(table, _)| keep(table)).cloned().collect() };
        let with = |table: &str, line: &str| -> Lines {
            lines.iter().cloned().chain([(table.to_owned(), line.as_bytes().to_vec())]).collect()
        };
        for (wrong, expected) in [
            (cut(&|table| table != "finding"), "lacks the table `finding`"),
            (cut(&|table| table != "tenant"), "does not exist"),
            (with("stranger", "[\"id\"]"), "unknown table `stranger`"),
            (with("tenant", "[\"id\"]"), "twice"),
            (lines.iter().cloned().map(|(table, line)| if table == "node" { (table, b"[\"id\"]".to_vec()) } else { (table, line) }).collect(), "other columns"),
        ] {
            let error = target.restore(&wrong).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{expected}: {error}");
            if let Some(database) = &target.postgres {
                let count = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public'";
                assert_eq!(database.owner_sql(count).unwrap().trim(), "0");
            } else {
                assert_eq!(store::schema_of(&target.options([7; 32]).url).await.unwrap(), None);
            }
        }
        // Nothing was left behind, so the whole one fits.
        target.restore(&lines).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_that_somebody_else_wrote_is_none() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let bytes = if world.postgres.is_some() { "decode('00', 'hex')" } else { "x'00'" };
        let insert = format!("INSERT INTO installation (name, value) VALUES ('restored', {bytes}) RETURNING name");
        world.raw(a, &insert).await.unwrap();
        assert!(world.store.restored().await.is_err());
    })
    .await;
}
