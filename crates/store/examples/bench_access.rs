//! Who reaches what, in a tenant with many people and grants: `cargo run --release -p store --example bench_access`.
//!
//! Everything goes the real way (checks, audit records) but who is a member, which is one statement. Measured are how many grants a second are made
//! and taken away, and how long the answers of `cairn access what USER` and `cairn access who DESTINATION` take with all of them there. Prints one
//! JSON line per result.
//!
//! `CAIRN_BENCH_USERS` (10,000), `CAIRN_BENCH_GRANTS` (100,000), `CAIRN_BENCH_HOSTS` (1,000), `CAIRN_BENCH_ENGINES` (`sqlite,postgres`).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark: it prints, it measures, and it ends where something fails"
)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use access::{OpCtx, ops};
use crypto::ssh::PublicKey;
use domain::TenantId;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use store::{NewGrant, NewSshHost, NewUser, Store, SubjectName, TargetName};
use testkit::Postgres;

#[path = "bench/world.rs"]
mod world;

/// How many of each question are asked.
const ASKED: usize = 200;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn show(bench: &str, value: f64, unit: &str, (compared_to, compared_value): (&str, f64), goal: &str) {
    let line = json!({
        "bench": bench, "value": value, "unit": unit, "compared_to": compared_to, "compared_value": compared_value,
        "ratio": value / compared_value, "goal": goal,
    });
    println!("{line}");
}

/// The middle one and that of the slowest hundredth, in milliseconds.
fn ranks(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |rank: usize| times[(times.len() * rank / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    (at(50), at(99))
}

struct World {
    store: Store,
    tenant: TenantId,
    ctx: OpCtx,
    platform: OpCtx,
}

fn user(n: usize) -> String {
    format!("user-{n}@example.org")
}

fn host(n: usize) -> String {
    format!("host-{n}")
}

impl World {
    async fn people(&self, users: usize) {
        for n in 0..users {
            let new = NewUser {
                name: format!("User {n}").parse().unwrap(),
                password_hash: "none".to_owned(),
                platform_admin: false,
            };
            let permit = self.platform.authorize_platform::<ops::UserCreate>().unwrap();
            let unit = self.store.write_platform(permit).await.unwrap();
            unit.user_create(&user(n).parse().unwrap(), &new).await.unwrap();
        }
    }

    async fn hosts(&self, hosts: usize) {
        let key = PublicKey::of_ed25519(&crypto::ed25519::SigningKey::generate().unwrap().public());
        for n in 0..hosts {
            let new = NewSshHost {
                address: format!("host-{n}.example:22").parse().unwrap(),
                host_key: key.clone(),
                roles: vec!["deploy".parse().unwrap()],
                labels: None,
                source_networks: Vec::new(),
                extensions: BTreeSet::new(),
                way: store::Way::default(),
            };
            let permit = self.ctx.authorize::<ops::SshHostPut>(self.tenant).unwrap();
            self.store.write(permit).await.unwrap().ssh_host_put(&host(n), &new).await.unwrap();
        }
    }

    async fn grant(&self, to: usize, at: usize) -> domain::GrantId {
        let new = NewGrant {
            subject: SubjectName::User(user(to)),
            role: "deploy".parse().unwrap(),
            target: TargetName::Destination(host(at)),
            namespace: None,
            hours: None,
            expires_at: None,
            act_as: domain::ActAs::default(),
            ssh: domain::SshTerms::default(),
            reason: String::new(),
        };
        let permit = self.ctx.authorize::<ops::GrantCreate>(self.tenant).unwrap();
        self.store.write(permit).await.unwrap().grant_create(&new).await.unwrap().grant.id
    }
}

async fn measure(engine: &str, world: &World, (users, grants, hosts): (usize, usize, usize)) {
    let each = grants.div_ceil(users).min(hosts);
    let (began, mut made) = (Instant::now(), Vec::with_capacity(grants));
    for n in 0..users * each {
        if n == grants {
            break;
        }
        let (to, nth) = (n % users, n / users);
        made.push(world.grant(to, (to * 7 + nth * hosts / each) % hosts).await);
    }
    let rate = made.len() as f64 / began.elapsed().as_secs_f64();
    eprintln!("{engine}: {} grants in {:?}", made.len(), began.elapsed());
    show(&format!("{engine}: grants made, up to {} of them", made.len()), rate, "1/s", ("none", rate), "");

    let mut times = Vec::new();
    for n in 0..ASKED {
        let began = Instant::now();
        let permit = world.ctx.authorize::<ops::AccessWhat>(world.tenant).unwrap();
        let found = world.store.read(permit).await.unwrap().access_what(&user(n * users / ASKED)).await.unwrap();
        times.push(began.elapsed());
        assert!(!found.is_empty());
    }
    let (middle, slow) = ranks(times);
    let what = format!("{engine}: access what, {users} users, {} grants", made.len());
    show(&format!("{what}, p50"), middle, "ms", ("goal", 100.0), "<= 1");
    show(&format!("{what}, p99"), slow, "ms", ("goal", 250.0), "<= 1");

    let mut times = Vec::new();
    for n in 0..ASKED {
        let began = Instant::now();
        let permit = world.ctx.authorize::<ops::AccessWho>(world.tenant).unwrap();
        let found = world.store.read(permit).await.unwrap().access_who(&host(n * hosts / ASKED)).await.unwrap();
        times.push(began.elapsed());
        assert!(!found.is_empty());
    }
    let (middle, slow) = ranks(times);
    let who = format!("{engine}: access who, {users} users, {} grants", made.len());
    show(&format!("{who}, p50"), middle, "ms", ("goal", 250.0), "<= 1");
    show(&format!("{who}, p99"), slow, "ms", ("goal", 500.0), "<= 1");

    let began = Instant::now();
    let count = made.len().min(1_000);
    for id in made.into_iter().rev().take(count) {
        let permit = world.ctx.authorize::<ops::GrantDelete>(world.tenant).unwrap();
        world.store.write(permit).await.unwrap().grant_delete(id).await.unwrap();
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    show(&format!("{engine}: grants taken away"), rate, "1/s", ("none", rate), "");
}

#[tokio::main]
async fn main() {
    let sizes = (
        number("CAIRN_BENCH_USERS", 10_000),
        number("CAIRN_BENCH_GRANTS", 100_000),
        number("CAIRN_BENCH_HOSTS", 1_000).max(ASKED),
    );
    let engines = std::env::var("CAIRN_BENCH_ENGINES").unwrap_or_else(|_| "sqlite,postgres".to_owned());
    for engine in engines.split(',') {
        let dir = tempfile::tempdir().unwrap();
        let database = (engine == "postgres").then(|| Postgres::shared().database());
        let file = dir.path().join("cairn.db");
        let url = database.as_ref().map_or(format!("sqlite:{}", file.display()), |it| it.app_url.clone());
        let owner_url = database.as_ref().map(|it| it.owner_url.clone());
        let (store, platform) = world::open(url, owner_url, dir.path()).await;
        let (tenant, ctx) = world::tenant(&store, &platform).await;
        let world = World { store, tenant, ctx, platform };
        let began = Instant::now();
        world.people(sizes.0).await;
        let id = world.tenant.as_uuid();
        let literal = if database.is_some() { format!("'{id}'::uuid") } else { format!("x'{}'", id.simple()) };
        let members = format!(
            "INSERT INTO member (tenant_id, user_id, role, created_at) \
             SELECT {literal}, id, 'read-only', 0 FROM app_user WHERE email LIKE 'user-%'"
        );
        if let Some(database) = &database {
            let mut raw = PgConnection::connect(&database.app_url).await.unwrap();
            let sql = format!("SET cairn.tenant = '{id}'; {members}");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut raw).await.unwrap();
        } else {
            let mut raw = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(members)).execute(&mut raw).await.unwrap();
        }
        world.hosts(sizes.2).await;
        eprintln!("{engine}: {} users and {} hosts in {:?}", sizes.0, sizes.2, began.elapsed());
        measure(engine, &world, sizes).await;
        world.store.close().await;
    }
}
