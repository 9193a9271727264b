//! How fast discovery results get into the graph, against what the engine can do.
//!
//! The real path (check, hash, plan, apply, audit) takes in pages of 10,000 observations; the yardstick inserts the very same rows, made
//! ready beforehand, in the order in which they come, into the same tables of another database with the fastest statement for many rows that the engine has, one
//! transaction per page. Both in this process, one after the other, on SQLite and on PostgreSQL. Prints one JSON line per result.
//!
//! `CAIRN_BENCH_NODES` (default 1,000,000) is the number of nodes; there are three times as many edges. `CAIRN_BENCH_ENGINES` (default
//! `sqlite,postgres`) chooses. `CAIRN_BENCH_WITHOUT` names indexes to go first, by commas, to see what they cost; the time of a processor that this
//! process took (all of it on SQLite) goes to stderr, since it depends less on what else runs.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark: it prints, it measures, and it ends where something fails"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use access::{OpCtx, ops};
use domain::{CollectionId, Coverage, EdgeObservation, Limits, NodeId, NodeObservation, Page, TenantId};
use inventory::{EdgeKey, NodeKey, PageChanges, Prepared};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use store::Store;
use testkit::Postgres;
use uuid::Uuid;

#[path = "bench/world.rs"]
mod world;

/// Nodes in one scope, as in one region's listing of one service.
const SCOPE_NODES: usize = 20_000;
const PAGE_NODES: usize = Limits::PAGE_OBSERVATIONS / 4;

fn id(n: usize) -> NodeId {
    NodeId::new("aws", "eu-central-1", "aws.ec2.instance", &format!("i-{n:017x}")).unwrap()
}

fn object(value: serde_json::Value) -> domain::Properties {
    serde_json::from_value(value).unwrap()
}

/// Page `n`: nodes of about 400 bytes, each with an edge to its neighbour, one into its scope, and one anywhere that was shown before.
fn page(n: usize, nodes: usize) -> Page {
    let first = n * PAGE_NODES;
    let shown = first..(first + PAGE_NODES).min(nodes);
    let edge = |source: usize, target: usize, edge_type: &str| EdgeObservation {
        source: id(source),
        target: id(target),
        edge_type: edge_type.parse().unwrap(),
        discriminator: String::new(),
        properties: object(json!({})),
    };
    let node = |n: usize| NodeObservation {
        id: id(n),
        name: format!("web-{n}"),
        properties: object(json!({
            "account_id": "123456789012", "instance_type": "m6i.large", "state": "running", "image_id": format!("ami-{:017x}", n % 97),
            "private_ip": format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255), "ebs_optimized": n.is_multiple_of(2),
            "metadata_options": {"http_tokens": "required", "http_put_response_hop_limit": 1}, "launched_at": "2026-01-01T00:00:00Z",
        })),
        tags: [("env".to_owned(), "prod".to_owned()), ("team".to_owned(), format!("t{}", n % 31))].into(),
    };
    Page {
        scope: format!("aws:123456789012:eu-central-1:ec2.instances-{}", first / SCOPE_NODES).parse().unwrap(),
        nodes: shown.clone().map(node).collect(),
        edges: shown
            .flat_map(|n| {
                let scope = n - n % SCOPE_NODES;
                let anywhere = n.wrapping_mul(2_654_435_761) % (n + 1);
                [edge(n, (n + 1) % nodes, "next_to"), edge(n, scope, "member_of"), edge(n, anywhere, "routes_to")]
            })
            .collect(),
    }
}

fn pages(nodes: usize) -> usize {
    nodes.div_ceil(PAGE_NODES)
}

/// Drops what `CAIRN_BENCH_WITHOUT` names.
async fn without(url: &str) {
    let names = std::env::var("CAIRN_BENCH_WITHOUT").unwrap_or_default();
    for name in names.split(',').filter(|name| !name.is_empty()) {
        let sql = AssertSqlSafe(format!("DROP INDEX {name}"));
        if url.starts_with("sqlite:") {
            let mut connection = SqliteConnection::connect(url).await.unwrap();
            sqlx::query(sql).execute(&mut connection).await.unwrap();
        } else {
            let mut connection = PgConnection::connect(url).await.unwrap();
            sqlx::query(sql).execute(&mut connection).await.unwrap();
        }
    }
}

/// Seconds of a processor that this process took until now.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    let ticks: Vec<f64> = after.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse().unwrap()).collect();
    (ticks[0] + ticks[1]) / 100.0
}

async fn open(url: String, owner_url: Option<String>, dir: &Path) -> (Store, TenantId, OpCtx) {
    let owner = owner_url.clone().unwrap_or_else(|| url.clone());
    let (store, platform) = world::open(url, owner_url, dir).await;
    without(&owner).await;
    let (tenant, ctx) = world::tenant(&store, &platform).await;
    (store, tenant, ctx)
}

/// The whole graph through the real path: time spent in the store, and what changed.
async fn run(store: &Store, tenant: TenantId, ctx: &OpCtx, nodes: usize) -> (Duration, PageChanges) {
    let (mut spent, mut changes) = (Duration::ZERO, PageChanges::default());
    let mut ingest =
        store.ingest(ctx.authorize::<ops::GraphIngest>(tenant).unwrap(), "aws".parse().unwrap()).await.unwrap();
    let mut scope = None;
    for n in 0..=pages(nodes) {
        let page = (n < pages(nodes)).then(|| page(n, nodes));
        let begun = Instant::now();
        let next = page.as_ref().map(|page| page.scope.clone());
        if let Some(done) = scope.filter(|done| Some(done) != next.as_ref()) {
            let collection = CollectionId::generate(ctx.clock(), ctx.rng());
            ingest.finish(&done, &Coverage::Complete, collection).await.unwrap();
        }
        if let Some(page) = &page {
            changes += ingest.page(page).await.unwrap();
        }
        spent += begun.elapsed();
        scope = next;
    }
    (spent, changes)
}

/// Rows as the yardstick inserts them.
struct Rows {
    tenant: Uuid,
    scope: Uuid,
    nodes: Vec<NodeValues>,
    /// Ends that are shown by a later page: the real path inserts them as placeholders.
    edges: Vec<EdgeValues>,
}

struct NodeValues {
    key: Uuid,
    id: String,
    name: String,
    properties: String,
    tags: String,
    hash: Uuid,
}

struct EdgeValues {
    key: Uuid,
    source: Uuid,
    target: Uuid,
    properties: String,
    edge_type: String,
    hash: Uuid,
}

/// The rows of a page in the order in which it shows them.
fn rows(page: &Page, tenant: TenantId) -> Rows {
    let mut prepared = Prepared::new(&"aws".parse().unwrap(), page).unwrap();
    let place = |keys: Vec<u128>| keys.into_iter().zip(0..).collect::<std::collections::HashMap<u128, usize>>();
    let nodes = place(page.nodes.iter().map(|node| NodeKey::of(&node.id).0).collect());
    let edge = |edge: &EdgeObservation| {
        EdgeKey::of(NodeKey::of(&edge.source), &edge.edge_type, NodeKey::of(&edge.target), &edge.discriminator).0
    };
    let edges = place(page.edges.iter().map(edge).collect());
    prepared.nodes.sort_by_key(|node| nodes[&node.key.0]);
    prepared.edges.sort_by_key(|edge| edges[&edge.key.0]);
    let uuid = Uuid::from_u128;
    Rows {
        tenant: tenant.as_uuid(),
        scope: uuid(prepared.scope.0),
        nodes: prepared
            .nodes
            .iter()
            .map(|node| NodeValues {
                key: uuid(node.key.0),
                id: node.id.to_string(),
                name: node.name.to_owned(),
                properties: node.properties.clone(),
                tags: node.tags.clone(),
                hash: uuid(node.hash.0),
            })
            .collect(),
        edges: prepared
            .edges
            .iter()
            .map(|edge| EdgeValues {
                key: uuid(edge.key.0),
                source: uuid(edge.source.0),
                target: uuid(edge.target.0),
                properties: edge.properties.clone(),
                edge_type: edge.edge_type.to_owned(),
                hash: uuid(edge.hash.0),
            })
            .collect(),
    }
}

const NODE_COLUMNS: &str =
    "tenant_id, key, id, type, region, name, properties, tags, hash, scope_key, observed, first_seen, valid_from";
const EDGE_COLUMNS: &str =
    "tenant_id, key, source_key, type, target_key, discriminator, properties, hash, scope_key, valid_from";

async fn raw_sqlite(connection: &mut SqliteConnection, rows: &Rows) {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
    for chunk in rows.nodes.chunks(64) {
        let values = vec!["(?,?,?,?,?,?,?,?,?,?,?,?,?)"; chunk.len()].join(",");
        let sql = format!("INSERT INTO node ({NODE_COLUMNS}) VALUES {values}");
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for node in chunk {
            query =
                query.bind(rows.tenant).bind(node.key).bind(&*node.id).bind("aws.ec2.instance").bind("eu-central-1");
            query = query.bind(&*node.name).bind(&*node.properties).bind(&*node.tags).bind(node.hash).bind(rows.scope);
            query = query.bind(true).bind(1_i64).bind(1_i64);
        }
        query.execute(&mut *tx).await.unwrap();
    }
    for chunk in rows.edges.chunks(64) {
        let values = vec!["(?,?,?,?,?,?,?,?,?,?)"; chunk.len()].join(",");
        let sql = format!("INSERT INTO edge ({EDGE_COLUMNS}) VALUES {values}");
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for edge in chunk {
            query = query.bind(rows.tenant).bind(edge.key).bind(edge.source).bind(&*edge.edge_type).bind(edge.target);
            query = query.bind("").bind(&*edge.properties).bind(edge.hash).bind(rows.scope).bind(1_i64);
        }
        query.execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn raw_postgres(connection: &mut PgConnection, rows: &Rows) {
    let (nodes, edges) = (&rows.nodes, &rows.edges);
    let mut tx = connection.begin().await.unwrap();
    sqlx::query("SELECT set_config('cairn.tenant', $1, true)")
        .bind(rows.tenant.to_string())
        .execute(&mut *tx)
        .await
        .unwrap();
    let sql = format!(
        "INSERT INTO node ({NODE_COLUMNS}) SELECT $1, k, i, 'aws.ec2.instance', 'eu-central-1', n, p, t, h, $2, TRUE, 1, 1 \
         FROM UNNEST($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[]) AS v(k, i, n, p, t, h)"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(rows.tenant)
        .bind(rows.scope)
        .bind(nodes.iter().map(|node| node.key).collect::<Vec<_>>())
        .bind(nodes.iter().map(|node| &*node.id).collect::<Vec<_>>())
        .bind(nodes.iter().map(|node| &*node.name).collect::<Vec<_>>())
        .bind(nodes.iter().map(|node| &*node.properties).collect::<Vec<_>>())
        .bind(nodes.iter().map(|node| &*node.tags).collect::<Vec<_>>())
        .bind(nodes.iter().map(|node| node.hash).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await
        .unwrap();
    let sql = format!(
        "INSERT INTO edge ({EDGE_COLUMNS}) SELECT $1, k, s, y, t, '', p, h, $2, 1 \
         FROM UNNEST($3::uuid[], $4::uuid[], $5::text[], $6::uuid[], $7::text[], $8::uuid[]) AS v(k, s, y, t, p, h)"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(rows.tenant)
        .bind(rows.scope)
        .bind(edges.iter().map(|edge| edge.key).collect::<Vec<_>>())
        .bind(edges.iter().map(|edge| edge.source).collect::<Vec<_>>())
        .bind(edges.iter().map(|edge| &*edge.edge_type).collect::<Vec<_>>())
        .bind(edges.iter().map(|edge| edge.target).collect::<Vec<_>>())
        .bind(edges.iter().map(|edge| &*edge.properties).collect::<Vec<_>>())
        .bind(edges.iter().map(|edge| edge.hash).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

enum Raw {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// The same rows, bare. Edges to nodes of the next page go with that page, so that every end exists.
async fn run_raw(raw: &mut Raw, tenant: TenantId, nodes: usize) -> Duration {
    let (mut spent, mut held) = (Duration::ZERO, Vec::new());
    for n in 0..pages(nodes) {
        let page = page(n, nodes);
        let mut rows = rows(&page, tenant);
        let last = rows.nodes.last().unwrap().key;
        let later = rows.edges.iter().position(|edge| edge.source == last && edge.edge_type == "next_to").unwrap();
        let later = (n + 1 < pages(nodes)).then(|| rows.edges.remove(later));
        rows.edges.append(&mut held);
        held.extend(later);
        let begun = Instant::now();
        match raw {
            Raw::Sqlite(connection) => raw_sqlite(connection, &rows).await,
            Raw::Postgres(connection) => raw_postgres(connection, &rows).await,
        }
        spent += begun.elapsed();
    }
    spent
}

fn report(engine: &str, bench: &str, value: f64, raw: f64, goal: &str) {
    let (value, raw) = (value.round(), raw.round());
    let line = json!({
        "bench": format!("{bench} {engine}"), "value": value, "unit": "rows/s", "compared_to": "raw multi-row insert of the same rows",
        "compared_value": raw, "ratio": (value / raw * 1_000.0).round() / 1_000.0, "goal": goal,
    });
    println!("{line}");
}

async fn bench(engine: &str, nodes: usize) {
    let dir = tempfile::tempdir().unwrap();
    let databases = (engine == "postgres").then(|| (Postgres::shared().database(), Postgres::shared().database()));
    let (ours, bare) = match &databases {
        None => {
            let url = |name: &str| (format!("sqlite:{}", dir.path().join(name).display()), None);
            (url("ours.db"), url("bare.db"))
        }
        Some((ours, bare)) => {
            ((ours.app_url.clone(), Some(ours.owner_url.clone())), (bare.app_url.clone(), Some(bare.owner_url.clone())))
        }
    };
    let total = (nodes * 4) as f64;

    let (store, tenant, _) = open(bare.0.clone(), bare.1, dir.path()).await;
    store.close().await;
    let mut raw = match &databases {
        None => {
            let mut connection = SqliteConnection::connect(&bare.0).await.unwrap();
            for pragma in ["journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "cache_size = -196608"] {
                sqlx::query(AssertSqlSafe(format!("PRAGMA {pragma}"))).execute(&mut connection).await.unwrap();
            }
            Raw::Sqlite(connection)
        }
        Some(_) => Raw::Postgres(PgConnection::connect(&bare.0).await.unwrap()),
    };
    let raw_rate = total / run_raw(&mut raw, tenant, nodes).await.as_secs_f64();
    drop(raw);

    let (store, tenant, ctx) = open(ours.0, ours.1, dir.path()).await;
    let before = processor_seconds();
    let (spent, changes) = run(&store, tenant, &ctx, nodes).await;
    eprintln!("ingest {engine}: {:.1} s of a processor", processor_seconds() - before);
    assert_eq!((changes.nodes_inserted, changes.edges_inserted), (nodes, nodes * 3));
    report(engine, "ingest", total / spent.as_secs_f64(), raw_rate, ">= 0.5");

    let (spent, changes) = run(&store, tenant, &ctx, nodes).await;
    report(engine, "identical second run", total / spent.as_secs_f64(), raw_rate, "");
    let written: u64 = serde_json::to_value(changes)
        .unwrap()
        .as_object()
        .unwrap()
        .values()
        .filter_map(serde_json::Value::as_u64)
        .sum();
    let line = json!({
        "bench": format!("rows written by the identical second run {engine}"), "value": written, "unit": "rows",
        "compared_to": "rows of the first run", "compared_value": total, "ratio": written as f64 / total, "goal": "<= 0",
    });
    println!("{line}");
    store.close().await;
}

#[tokio::main]
async fn main() {
    let nodes = std::env::var("CAIRN_BENCH_NODES").map_or(1_000_000, |nodes| nodes.parse().unwrap());
    let engines = std::env::var("CAIRN_BENCH_ENGINES").unwrap_or_else(|_| "sqlite,postgres".to_owned());
    for engine in engines.split(',') {
        bench(engine, nodes).await;
    }
}
