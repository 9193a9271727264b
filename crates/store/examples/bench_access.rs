//! Who reaches what, in a tenant with many people and grants: `cargo run --release -p store --example bench_access`.
//!
//! Everything goes the real way (checks, audit records) but who is a member and in which groups, which is one statement each: everybody is in 10 of
//! 200 groups, to which some of the grants are, by name and by labels. Measured are how many grants a second are made and taken away, and, with all of
//! them there: how long the first page of `cairn access what USER` and of `cairn access who DESTINATION` takes; what each connection pays (a token,
//! a certificate, whether what it rests on stands); and how soon a thousand open connections are judged anew. Prints one JSON line per result.
//!
//! `CAIRN_BENCH_USERS` (10,000), `CAIRN_BENCH_GRANTS` (100,000), `CAIRN_BENCH_HOSTS` (1,000), `CAIRN_BENCH_ENGINES` (`sqlite,postgres`).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark: it prints, it measures, and it ends where something fails"
)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::{Actor, Grants, OpCtx, Role, member_ops, ops};
use crypto::ssh::PublicKey;
use domain::{Labels, TenantId};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use store::{NewGrant, NewSshHost, NewUser, SessionStart, Standing, Store, SubjectName, TargetName};
use testkit::{Postgres, TestClock, TestRng};

#[path = "bench/world.rs"]
mod world;

/// How many of each question are asked.
const ASKED: usize = 200;
/// Groups of the tenant; everybody is in one of twenty.
const GROUPS: usize = 200;
/// Connections that are judged together.
const CONNECTIONS: usize = 1_000;

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

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()).unwrap()
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
                labels: Some(labels(&[("env", &format!("env-{}", n % 4)), ("team", &format!("team-{}", n % 50))])),
                source_networks: Vec::new(),
                extensions: BTreeSet::new(),
                way: store::Way::default(),
            };
            let permit = self.ctx.authorize::<ops::SshHostPut>(self.tenant).unwrap();
            self.store.write(permit).await.unwrap().ssh_host_put(&host(n), &new).await.unwrap();
        }
    }

    /// Groups, each with two grants by name and two by labels; how many these are.
    async fn groups(&self, hosts: usize) -> usize {
        for n in 0..GROUPS {
            let name = format!("group-{n}");
            let permit = self.ctx.authorize::<ops::GroupCreate>(self.tenant).unwrap();
            self.store.write(permit).await.unwrap().group_create(&name.parse().unwrap(), None).await.unwrap();
            let (env, team) = (format!("env-{}", n % 4), format!("team-{}", n % 50));
            let targets = [
                TargetName::Destination(host(n * 3 % hosts)),
                TargetName::Destination(host(n * 11 % hosts)),
                TargetName::Labels(labels(&[("team", &team)])),
                TargetName::Labels(labels(&[("env", &env), ("team", &format!("team-{}", n % 17))])),
            ];
            for target in targets {
                // Two of them may be one.
                let _ = self.make(SubjectName::Group(name.clone()), target).await;
            }
        }
        GROUPS * 4
    }

    async fn session(&self, n: usize) -> OpCtx {
        let email: domain::Email = user(n).parse().unwrap();
        let row = self.store.login_user(&email).await.unwrap().unwrap().user;
        let start = SessionStart {
            method: domain::AuthMethod::Password,
            second_factor: false,
            request: self.ctx.request(),
            ip: None,
            agent: None,
            lifetime_ms: 86_400_000,
            idle_ms: 86_400_000,
        };
        let live = self.store.session_create(&row, &start).await.unwrap();
        let actor = Actor::User { id: row.id, email, session: live.id };
        let grants = Grants { platform_admin: false, tenants: vec![(self.tenant, Role::ReadOnly)] };
        let (clock, rng) = (Arc::new(TestClock::default()), Arc::new(TestRng::seeded(3 + n as u64)));
        OpCtx::user(actor, grants, self.ctx.request(), None, clock, rng)
    }

    async fn grant(&self, to: usize, at: usize) -> domain::GrantId {
        self.make(SubjectName::User(user(to)), TargetName::Destination(host(at))).await.unwrap()
    }

    async fn make(&self, subject: SubjectName, target: TargetName) -> domain::Result<domain::GrantId> {
        let new = NewGrant {
            subject,
            role: "deploy".parse().unwrap(),
            target,
            namespace: None,
            hours: None,
            expires_at: None,
            act_as: domain::ActAs::default(),
            ssh: domain::SshTerms::default(),
            reason: String::new(),
            approval: false,
        };
        let permit = self.ctx.authorize::<ops::GrantCreate>(self.tenant).unwrap();
        Ok(self.store.write(permit).await?.grant_create(&new).await?.grant.id)
    }
}

/// How long each of so many askings takes, shown as their middle and their slowest hundredth.
async fn ask(what: &str, (middle_goal, slow_goal): (f64, f64), count: usize, mut one: impl AsyncFnMut(usize)) {
    let mut times = Vec::new();
    for n in 0..count {
        let began = Instant::now();
        one(n).await;
        times.push(began.elapsed());
    }
    let (middle, slow) = ranks(times);
    show(&format!("{what}, p50"), middle, "ms", ("goal", middle_goal), "<= 1");
    show(&format!("{what}, p99"), slow, "ms", ("goal", slow_goal), "<= 1");
}

async fn measure(engine: &str, world: &World, (users, grants, hosts): (usize, usize, usize)) {
    let each = grants.div_ceil(users).min(hosts);
    let (began, mut made) = (Instant::now(), Vec::with_capacity(grants));
    for n in 0..users * each {
        if n == grants {
            break;
        }
        made.push(world.grant(n % users, at(n, (users, each, hosts))).await);
    }
    let rate = made.len() as f64 / began.elapsed().as_secs_f64();
    eprintln!("{engine}: {} grants in {:?}", made.len(), began.elapsed());
    show(&format!("{engine}: grants made, up to {} of them", made.len()), rate, "1/s", ("none", rate), "");

    let what = format!("{engine}: access what, {users} users, {grants} grants");
    ask(&what, (100.0, 250.0), ASKED, async |n| {
        let permit = world.ctx.authorize::<ops::AccessWhat>(world.tenant).unwrap();
        let mut unit = world.store.read(permit).await.unwrap();
        assert!(!unit.access_what(&user(n * users / ASKED), None, 100).await.unwrap().items.is_empty());
    })
    .await;
    let who = format!("{engine}: access who, {users} users, {grants} grants");
    ask(&who, (250.0, 500.0), ASKED, async |n| {
        let permit = world.ctx.authorize::<ops::AccessWho>(world.tenant).unwrap();
        let mut unit = world.store.read(permit).await.unwrap();
        assert!(!unit.access_who(&host(n * hosts / ASKED), None, 100).await.unwrap().items.is_empty());
    })
    .await;
    connect(engine, world, (users, each, hosts)).await;

    let began = Instant::now();
    let count = made.len().min(1_000);
    for id in made.into_iter().rev().take(count) {
        let permit = world.ctx.authorize::<ops::GrantDelete>(world.tenant).unwrap();
        world.store.write(permit).await.unwrap().grant_delete(id).await.unwrap();
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    show(&format!("{engine}: grants taken away"), rate, "1/s", ("none", rate), "");
}

/// The host of the `n`th grant.
fn at(n: usize, (users, each, hosts): (usize, usize, usize)) -> usize {
    let (to, nth) = (n % users, n / users);
    (to * 7 + nth * hosts / each) % hosts
}

/// What connections pay.
async fn connect(engine: &str, world: &World, sizes: (usize, usize, usize)) {
    let (users, ..) = sizes;
    let whose = |n: usize| n * users / ASKED;
    let mut sessions = Vec::new();
    for n in 0..ASKED {
        sessions.push(world.session(whose(n)).await);
    }
    let ends = world.ctx.clock().now().plus_millis(3_600_000);
    let mut tokens = Vec::new();
    ask(&format!("{engine}: a destination token"), (10.0, 50.0), ASKED, async |n| {
        let permit = sessions[n].authorize_member::<member_ops::DestinationTokenCreate>(world.tenant).unwrap();
        let place = host(at(whose(n), sizes));
        tokens.push(world.store.destination_token_create(permit, &place, None, ends).await.unwrap());
    })
    .await;
    let authority_key = PublicKey::of_ed25519(&crypto::ed25519::SigningKey::generate().unwrap().public());
    ask(&format!("{engine}: an SSH certificate"), (10.0, 50.0), ASKED, async |n| {
        let permit = sessions[n].authorize_member::<member_ops::SshCertificateCreate>(world.tenant).unwrap();
        let place = host(at(whose(n), sizes));
        world.store.ssh_certificate_create(permit, &place, None, &authority_key, ends).await.unwrap();
    })
    .await;
    let standings: Vec<Standing> = sessions
        .iter()
        .zip(&tokens)
        .map(|(ctx, token)| {
            let Actor::User { id, session, .. } = ctx.actor() else { panic!("they are people") };
            Standing {
                tenant: world.tenant,
                user: *id,
                name: Some(token.name.clone()),
                session: *session,
                destination: token.destination.id,
                role: token.role.clone(),
                namespaces: token.namespaces.clone(),
                act_as: token.act_as.clone(),
                groups: token.groups.clone(),
                ssh: access::ssh::SshUse::default(),
            }
        })
        .collect();
    ask(&format!("{engine}: whether a connection stands"), (10.0, 50.0), ASKED, async |n| {
        assert!(world.store.standing_until(&standings[n..=n]).await.unwrap()[0].is_some());
    })
    .await;
    let many: Vec<Standing> = standings.iter().cycle().take(CONNECTIONS).cloned().collect();
    let what = format!("{engine}: {CONNECTIONS} connections of {ASKED} people judged anew");
    ask(&what, (500.0, 1_000.0), 10, async |_| {
        assert!(world.store.standing_until(&many).await.unwrap().iter().all(Option::is_some));
    })
    .await;
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
        let places = format!(
            "INSERT INTO access_group_member (tenant_id, group_id, user_id, created_at) SELECT {literal}, g.id, u.id, 0 \
             FROM (SELECT id, row_number() OVER (ORDER BY name) AS n FROM access_group) g \
             JOIN (SELECT id, row_number() OVER (ORDER BY email) AS n FROM app_user WHERE email LIKE 'user-%') u ON (u.n * 7 + g.n) % 20 = 0"
        );
        let raw = async |sql: String| {
            if let Some(database) = &database {
                let mut raw = PgConnection::connect(&database.app_url).await.unwrap();
                let sql = format!("SET cairn.tenant = '{id}'; {sql}");
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut raw).await.unwrap();
            } else {
                let mut raw = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut raw).await.unwrap();
            }
        };
        raw(members).await;
        world.hosts(sizes.2).await;
        let to_groups = world.groups(sizes.2).await;
        raw(places).await;
        eprintln!("{engine}: {} users and {} hosts in {:?}", sizes.0, sizes.2, began.elapsed());
        measure(engine, &world, (sizes.0, sizes.1.saturating_sub(to_groups), sizes.2)).await;
        world.store.close().await;
    }
}
