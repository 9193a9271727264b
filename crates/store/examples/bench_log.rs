//! What the audit log costs, against what the engine can do, and how long a proof takes in ten million records.
//!
//! Appends: `Store::record` (canonical JSON, leaf hash, commitment, head, tiles), one transaction each, against bare inserts of rows of the
//! same size into the same tables of another database, one transaction each. Proofs: a tree of ten million hashes is written tile by tile
//! (no records under it but the last, which have no full tile), then inclusion proofs of random records are made. Prints one JSON line per
//! result; `CAIRN_BENCH_ENGINES` (default `sqlite,postgres`) chooses.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark: it prints, it measures, and it ends where something fails"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use access::{OpCtx, ops};
use domain::{Digest, TenantId};
use evidence::tile::tile_bytes;
use evidence::{merkle, tree};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use store::{Category, Change, OpenOptions, Store};
use testkit::{Postgres, TestClock, TestDatabase, TestRng};
use uuid::Uuid;

const APPENDS: u32 = 2_000;
const LEAVES: u64 = 10_000_000;
const PROOFS: u64 = 500;

enum Bare {
    Sqlite(SqliteConnection),
    Pg(PgConnection),
}

const RECORD: &str = "INSERT INTO audit_record (tenant_id, seq, id, at, category, action, outcome, actor, object_type, object_id, entry, leaf) \
     VALUES ($1, $2, $1, 7, 'system', 'thing_made', 'success', 'system:bench', 'thing', 'thing', $3, $4)";
const DETAIL: &str =
    "INSERT INTO audit_detail (tenant_id, seq, salt, detail) VALUES ($1, $2, $3, '{\"why\":\"a benchmark\"}')";
const TILE: &str = "INSERT INTO audit_tile (tenant_id, level, idx, root, hashes) VALUES ($1, $2, $3, $4, $5)";
const HEAD: &str = "INSERT INTO audit_head (tenant_id, size) VALUES ($1, $2) ON CONFLICT (tenant_id) DO UPDATE SET size = excluded.size";

macro_rules! run {
    ($tx:expr, $sql:expr, $($value:expr),*) => {
        match $tx {
            Bare::Sqlite(connection) => { sqlx::query($sql)$(.bind($value))*.execute(&mut *connection).await.unwrap(); }
            Bare::Pg(connection) => { sqlx::query($sql)$(.bind($value))*.execute(&mut *connection).await.unwrap(); }
        }
    };
}

impl Bare {
    async fn script(&mut self, sql: String) {
        match self {
            Self::Sqlite(connection) => drop(sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap()),
            Self::Pg(connection) => drop(sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap()),
        }
    }

    async fn record(&mut self, tenant: Uuid, seq: u64) {
        let seq = i64::try_from(seq).unwrap();
        run!(self, RECORD, tenant, seq, vec![7u8; 520], merkle::leaf_hash(&seq.to_be_bytes()).0.to_vec());
        run!(self, DETAIL, tenant, seq, vec![7u8; 32]);
    }
}

struct World {
    store: Store,
    tenant: TenantId,
    bare: Bare,
    ctx: OpCtx,
}

async fn open(dir: &Path, database: Option<&TestDatabase<'_>>) -> World {
    let (clock, rng) = (Arc::new(TestClock::default()), Arc::new(TestRng::seeded(7)));
    let file = dir.join("cairn.db");
    let options = OpenOptions {
        url: database.map_or_else(|| format!("sqlite:{}", file.display()), |database| database.app_url.clone()),
        owner_url: database.map(|database| database.owner_url.clone()),
        master: crypto::aead::AeadKey::from_bytes([7; 32]),
        vault: store::VaultOptions::default(),
        blobs: dir.join("blobs"),
        clock: clock.clone(),
        rng: rng.clone(),
    };
    let store = Store::open(options).await.unwrap();
    let platform = OpCtx::system_platform("bench", clock.clone(), rng.clone());
    let unit = store.write_platform(platform.authorize_platform::<ops::TenantCreate>().unwrap()).await.unwrap();
    let tenant = unit.tenant_create(&"bench".parse().unwrap(), &"Bench".parse().unwrap(), None).await.unwrap().id;
    let mut bare = match database {
        None => Bare::Sqlite(SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap()),
        Some(database) => Bare::Pg(PgConnection::connect(&database.owner_url).await.unwrap()),
    };
    if database.is_none() {
        bare.script("PRAGMA synchronous = FULL".to_owned()).await;
    }
    World { store, tenant, bare, ctx: OpCtx::system("bench", tenant, clock, rng) }
}

fn print(bench: String, value: f64, unit: &str, compared_to: &str, compared_value: f64, goal: &str) {
    let ratio = value / compared_value;
    println!(
        "{}",
        json!({"bench": bench, "value": value, "unit": unit, "compared_to": compared_to, "compared_value": compared_value, "ratio": ratio, "goal": goal})
    );
}

async fn enter(bare: &mut Bare, tenant: Uuid) {
    if matches!(bare, Bare::Pg(_)) {
        bare.script(format!("SET cairn.tenant = '{tenant}'")).await;
    }
}

async fn appends(engine: &str, ours: &mut World, other: &mut World) {
    let begun = Instant::now();
    for _ in 0..APPENDS {
        let change = Change::to(Category::System, "thing", "thing").detail(json!({"why": "a benchmark"}));
        ours.store.record(&ours.ctx, Some(ours.tenant), "thing_made", &change).await.unwrap();
    }
    let ours = f64::from(APPENDS) / begun.elapsed().as_secs_f64();
    let tenant = Uuid::from_u128(9);
    enter(&mut other.bare, tenant).await;
    let begun = Instant::now();
    for seq in 0..u64::from(APPENDS) {
        other.bare.script("BEGIN".to_owned()).await;
        other.bare.record(tenant, seq).await;
        other.bare.script("COMMIT".to_owned()).await;
    }
    let bare = f64::from(APPENDS) / begun.elapsed().as_secs_f64();
    print(format!("audit appends, {engine}"), ours, "records/s", "bare inserts of the same rows", bare, "");
}

async fn proofs(engine: &str, world: &mut World) {
    let tenant = world.tenant.as_uuid();
    enter(&mut world.bare, tenant).await;
    world.bare.script("BEGIN".to_owned()).await;
    let leaf = |seq: u64| merkle::leaf_hash(&seq.to_be_bytes());
    let mut level: Vec<Digest> = (0..LEAVES).map(leaf).collect();
    let head = merkle::root(&level);
    for number in 0i64.. {
        let mut roots = Vec::new();
        for (index, hashes) in (0i64..).zip(level.chunks_exact(256)) {
            let root = merkle::root(hashes);
            run!(&mut world.bare, TILE, tenant, number, index, root.0.to_vec(), tile_bytes(hashes));
            roots.push(root);
        }
        if roots.is_empty() {
            break;
        }
        level = roots;
    }
    // The first records are there already; the last have no full tile.
    for seq in LEAVES - LEAVES % 256..LEAVES {
        world.bare.record(tenant, seq).await;
    }
    run!(&mut world.bare, HEAD, tenant, i64::try_from(LEAVES).unwrap());
    world.bare.script("COMMIT".to_owned()).await;
    let mut slowest = 0f64;
    let begun = Instant::now();
    for number in 0..PROOFS {
        let index = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (LEAVES - 256);
        let one = Instant::now();
        let permit = world.ctx.authorize::<ops::LogRead>(world.tenant).unwrap();
        let mut log = world.store.read(permit).await.unwrap().log();
        let proof = log.inclusion(index, LEAVES).await.unwrap();
        slowest = slowest.max(one.elapsed().as_secs_f64() * 1e3);
        tree::verify_inclusion(&leaf(index), index, LEAVES, &proof, &head).unwrap();
    }
    let mean = begun.elapsed().as_secs_f64() * 1e3 / PROOFS as f64;
    print(format!("proof in 10,000,000 records, {engine}"), mean, "ms", "goal", 10.0, "<= 1");
    print(format!("slowest of {PROOFS} proofs, {engine}"), slowest, "ms", "goal", 10.0, "");
}

#[tokio::main]
async fn main() {
    let engines = std::env::var("CAIRN_BENCH_ENGINES").unwrap_or_else(|_| "sqlite,postgres".to_owned());
    for engine in engines.split(',') {
        let databases = (engine == "postgres").then(|| (Postgres::shared().database(), Postgres::shared().database()));
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut ours = open(one.path(), databases.as_ref().map(|(first, _)| first)).await;
        let mut other = open(two.path(), databases.as_ref().map(|(_, second)| second)).await;
        appends(engine, &mut ours, &mut other).await;
        proofs(engine, &mut other).await;
    }
}
