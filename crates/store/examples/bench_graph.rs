//! How long somebody waits for the asset graph: its first look, a group opened, a path, what a node affects, a look into the past.
//!
//! An estate of nodes in 40 accounts, 20 types and 400 networks, with three edges for each, is brought in by the real path. Then a server that has
//! just started is asked, over the functions that the API calls. Prints one JSON line per result, on SQLite and on PostgreSQL.
//!
//! `CAIRN_BENCH_NODES` (default 1,000,000) is the number of nodes. `CAIRN_BENCH_ENGINES` (default `sqlite,postgres`) chooses.
//! With `CAIRN_BENCH_INTO` nothing is measured: the estate goes into the first tenant of the stopped server whose data directory it names.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark: it prints, it measures, and it ends where something fails"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::{OpCtx, Permit, ops};
use crypto::system::{SystemClock, SystemRng};
use domain::{CollectionId, Coverage, EdgeObservation, Limits, NodeId, NodeObservation, Page, TenantId};
use inventory::map::{By, Filter, Follow, Opened, Sketch, Trip};
use serde_json::json;
use store::{Asked, Expansion, OpenOptions, Store};
use testkit::Postgres;

#[path = "bench/world.rs"]
mod world;

/// Nodes in one scope, as in one region's listing of one service.
const SCOPE_NODES: usize = 20_000;
const PAGE_NODES: usize = Limits::PAGE_OBSERVATIONS / 4;
const KINDS: [&str; 20] = [
    "instance",
    "volume",
    "subnet",
    "vpc",
    "security_group",
    "network_interface",
    "route_table",
    "image",
    "snapshot",
    "key_pair",
    "address",
    "gateway",
    "endpoint",
    "template",
    "function",
    "bucket",
    "queue",
    "topic",
    "table",
    "key",
];

fn id(n: usize) -> NodeId {
    NodeId::new("aws", "eu-central-1", &format!("aws.ec2.{}", KINDS[n / 50 % 20]), &format!("i-{n:017x}")).unwrap()
}

fn object(value: serde_json::Value) -> domain::Properties {
    serde_json::from_value(value).unwrap()
}

/// Page `n`: each node has an edge to its neighbour, one into its scope, and one to any that was shown before.
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
            "account_id": format!("{:012}", 100_000_000_000 + n / 1_000 % 40), "vpc_id": format!("vpc-{:05x}", n / 1_000 % 400),
            "instance_type": "m6i.large", "state": "running", "image_id": format!("ami-{:017x}", n % 97),
            "private_ip": format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255), "launched_at": "2026-01-01T00:00:00Z",
            "metadata_options": {"http_tokens": "required", "http_put_response_hop_limit": 1},
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
                [
                    edge(n, (n + 1) % nodes, "associated_with"),
                    edge(scope, n, "contains"),
                    edge(n, anywhere, "routes_to"),
                ]
            })
            .collect(),
    }
}

async fn fill(store: &Store, tenant: TenantId, ctx: &OpCtx, nodes: usize) {
    let permit = ctx.authorize::<ops::GraphIngest>(tenant).unwrap();
    let mut ingest = store.ingest(permit, "aws".parse().unwrap()).await.unwrap();
    let (pages, mut scope) = (nodes.div_ceil(PAGE_NODES), None);
    for n in 0..=pages {
        let page = (n < pages).then(|| page(n, nodes));
        let next = page.as_ref().map(|page| page.scope.clone());
        if let Some(done) = scope.filter(|done| Some(done) != next.as_ref()) {
            let collection = CollectionId::generate(ctx.clock(), ctx.rng());
            ingest.finish(&done, &Coverage::Complete, collection).await.unwrap();
        }
        if let Some(page) = &page {
            ingest.page(page).await.unwrap();
        }
        scope = next;
    }
    store.relax().await.unwrap();
}

/// Prints how many milliseconds something took, beside how many it may.
fn report(engine: &str, what: &str, took: Duration, goal_ms: Option<f64>) {
    let value = (took.as_secs_f64() * 1e5).round() / 100.0;
    let goal = goal_ms.unwrap_or(value);
    let line = json!({
        "bench": format!("graph {engine}: {what}"), "value": value, "unit": "ms", "compared_to": "what one may wait",
        "compared_value": goal, "ratio": (value / goal * 1_000.0).round() / 1_000.0, "goal": if goal_ms.is_some() { "<= 1" } else { "" },
    });
    println!("{line}");
}

async fn timed<T>(work: impl Future<Output = T>) -> (Duration, T) {
    let begun = Instant::now();
    let done = work.await;
    (begun.elapsed(), done)
}

async fn bench(engine: &str, nodes: usize) {
    let dir = tempfile::tempdir().unwrap();
    let database = (engine == "postgres").then(|| Postgres::shared().database());
    let (url, owner_url) = match &database {
        None => (format!("sqlite:{}", dir.path().join("cairn.db").display()), None),
        Some(database) => (database.app_url.clone(), Some(database.owner_url.clone())),
    };
    let (store, platform) = world::open(url.clone(), owner_url.clone(), dir.path()).await;
    let (tenant, ctx) = world::tenant(&store, &platform).await;
    fill(&store, tenant, &ctx, nodes).await;
    let permit = || -> Permit<ops::GraphOverview> { ctx.authorize(tenant).unwrap() };
    // As after a discovery job.
    let (took, ()) = timed(async { store.graph_prepare(permit()).await.unwrap() }).await;
    report(engine, "made ready in the background", took, None);
    store.close().await;

    // A server that has just started, and somebody who opens the page.
    let (store, _) = world::open(url, owner_url, dir.path()).await;
    let now = Asked::default();
    let overview = |by| Sketch { by, groups: true, elements: 200, ..Sketch::default() };
    let (took, drawn) = timed(store.graph_draw(permit(), &now, overview(By::Account))).await;
    let drawn = drawn.unwrap();
    assert_eq!((drawn.is.nodes, drawn.is_current), (Some(nodes as u64), true));
    report(engine, "first overview of a server that has just started", took, Some(1_000.0));
    let (took, _) = timed(store.graph_draw(permit(), &now, overview(By::Kind))).await;
    report(engine, "overview by another property", took, Some(1_000.0));

    let open_one = |value: &str| {
        let open = vec![Opened { value: value.to_owned(), most: 100 }];
        Sketch { open, ..overview(By::Account) }
    };
    let (took, drawn) = timed(store.graph_draw(permit(), &now, open_one("100000000007"))).await;
    assert!(drawn.unwrap().is.view.elements.len() > 100);
    report(engine, "first group opened: the graph is read into memory", took, None);
    let (took, _) = timed(store.graph_draw(permit(), &now, open_one("100000000011"))).await;
    report(engine, "a group opened", took, Some(1_000.0));
    let expansion = Expansion { group: Some((By::Account, "100000000011".to_owned())), after: None, limit: 500 };
    let (took, _) = timed(store.graph_members(permit(), &now, expansion)).await;
    report(engine, "500 nodes of a group listed", took, Some(1_000.0));
    let filter = Filter { kind: Some("aws.ec2.instance".to_owned()), ..Filter::default() };
    let asked = Asked { filter, ..Asked::default() };
    let (took, _) = timed(store.graph_draw(permit(), &asked, overview(By::Network))).await;
    report(engine, "one type by network", took, Some(1_000.0));

    let mut paths = Vec::new();
    for n in 0..50_usize {
        let (from, to) = (n.wrapping_mul(7_919_317) % nodes, n.wrapping_mul(104_729_331) % nodes);
        let trip = Trip { follow: Follow::Any, types: Vec::new(), hops: 16 };
        let (took, found) = timed(store.graph_path(permit(), &now, (&id(from), &id(to)), trip)).await;
        assert!(found.unwrap().is.path.is_some());
        paths.push(took);
    }
    paths.sort_unstable();
    report(engine, "a path between any two nodes, median of 50", paths[25], Some(250.0));
    report(engine, "the slowest of these", paths[49], None);
    let mut reaches = Vec::new();
    for n in 0..10_usize {
        let trip = Trip { follow: Follow::Impact, types: Vec::new(), hops: 64 };
        let node = id(n.wrapping_mul(7_919_317) % nodes);
        let (took, found) = timed(store.graph_affected(permit(), &now, &node, trip, (By::Account, 100))).await;
        found.unwrap();
        reaches.push(took);
    }
    reaches.sort_unstable();
    report(engine, "what a node affects, all of it counted, median of 10", reaches[5], Some(1_000.0));

    let (took, moments) = timed(store.graph_moments(permit(), 100)).await;
    let at = moments.unwrap().is.last().unwrap().at;
    report(engine, "first look into the past: the graph is read with what is gone", took, None);
    let past = Asked { as_of: Some(at), ..Asked::default() };
    let (took, drawn) = timed(store.graph_draw(permit(), &past, overview(By::Account))).await;
    assert_eq!(drawn.unwrap().is.view.elements.iter().map(|element| element.nodes).sum::<u64>(), nodes as u64);
    report(engine, "overview of a moment in the past", took, Some(1_000.0));
    store.close().await;
}

/// Fills a server's own tenant, for benchmarks that look at the whole of it.
async fn fill_server(data: &Path, nodes: usize) {
    let (clock, rng) = (Arc::new(SystemClock), Arc::new(SystemRng));
    let key = std::fs::read_to_string(data.join("master.key")).unwrap();
    let options = OpenOptions {
        url: format!("sqlite:{}", data.join("cairn.db").display()),
        owner_url: None,
        master: crypto::aead::AeadKey::from_bytes(key.trim().parse::<domain::Digest>().unwrap().0),
        vault: store::VaultOptions::default(),
        blobs: data.join("blobs"),
        clock: Arc::clone(&clock) as _,
        rng: Arc::clone(&rng) as _,
    };
    let store = Store::open(options).await.unwrap();
    let platform = OpCtx::system_platform("bench", Arc::clone(&clock) as _, Arc::clone(&rng) as _);
    let tenants = store.tenant_list(platform.authorize_platform::<ops::TenantList>().unwrap(), None, 1).await.unwrap();
    let tenant = tenants.items[0].id;
    let ctx = OpCtx::system("bench", tenant, clock, rng);
    fill(&store, tenant, &ctx, nodes).await;
    // As after a discovery job.
    store.graph_prepare(ctx.authorize(tenant).unwrap()).await.unwrap();
    store.close().await;
}

#[tokio::main]
async fn main() {
    let nodes = std::env::var("CAIRN_BENCH_NODES").map_or(1_000_000, |nodes| nodes.parse().unwrap());
    if let Some(data) = std::env::var_os("CAIRN_BENCH_INTO") {
        return fill_server(Path::new(&data), nodes).await;
    }
    let engines = std::env::var("CAIRN_BENCH_ENGINES").unwrap_or_else(|_| "sqlite,postgres".to_owned());
    for engine in engines.split(',') {
        bench(engine, nodes).await;
    }
}
