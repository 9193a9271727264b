//! A world of its own for each test: a database of each engine, a clock, a seed, two tenants, and somebody in every role.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use access::{Actor, Grants, OpCtx, Permit, PlatformPermit, Role, TenantOperation, ops};
use api::{ApiState, Settings};
use axum::Router;
use axum::body::Body;
use crypto::ed25519::SigningKey;
use domain::{Email, RequestId, Secret, SessionId, TenantId, UserId};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use store::{AuditFilter, NewUser, OpenOptions, Placed, Store};
use tempfile::TempDir;
use testkit::{Postgres, TestClock, TestDatabase, TestRng};
use tower::ServiceExt as _;

pub(crate) use crate::answer::Answer;
use crate::ports::{Evaluator, Exporter, Installed, Recordings};
pub(crate) use crate::things::nobodys;

pub(crate) const NODE: &str = "aws:eu-west-1:aws.s3.bucket:b1";
/// Where passkeys are used.
pub(crate) const ORIGIN: &str = "https://cairn.example.org";
pub(crate) const SESSION_MS: i64 = 8 * 3_600_000;

/// The headers that the seed asks for.
pub(crate) const SECURITY_HEADERS: [(&str, &str); 4] = [
    ("strict-transport-security", "max-age=31536000; includeSubDomains"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("content-security-policy", "default-src 'self'"),
];

/// Secrets of this run; none may be in a log or an answer.
pub(crate) struct Planted {
    pub(crate) password: String,
    pub(crate) new_password: String,
    pub(crate) jwt: String,
    pub(crate) aws: String,
    pub(crate) client: String,
}

pub(crate) fn planted() -> &'static Planted {
    static PLANTED: OnceLock<Planted> = OnceLock::new();
    PLANTED.get_or_init(|| {
        let plant = testkit::logs::plant;
        Planted {
            password: plant("password"),
            new_password: plant("new password"),
            jwt: plant("jwt secret"),
            aws: plant("aws secret key"),
            client: plant("oidc client secret"),
        }
    })
}

pub(crate) fn plant_once(name: &str, value: &str) {
    static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SEEN.lock().unwrap().insert(value.to_owned()) {
        testkit::logs::plant_as(name, value);
    }
}

/// One test's world on one engine.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) rng: Arc<TestRng>,
    pub(crate) a: TenantId,
    pub(crate) b: TenantId,
    pub(crate) installation: String,
    /// Makes the next evaluation panic.
    pub(crate) panics: Arc<AtomicBool>,
    pub(crate) state: ApiState,
    pub(crate) router: Router,
    /// Makes another server on the same database, with a memory of its own.
    states: Box<dyn Fn(Settings) -> ApiState>,
    settings: Settings,
    users: HashMap<String, UserId>,
    pub(crate) tokens: tokio::sync::Mutex<HashMap<String, String>>,
    fresh: AtomicU32,
    _draining: tokio::sync::watch::Sender<bool>,
    _watch: testkit::logs::Watch<'static>,
    pub(crate) dir: TempDir,
    database: Option<TestDatabase<'static>>,
}

/// Runs a test in a world on each engine.
pub(crate) fn each_engine<F: Future<Output = ()>>(test: impl Fn(World) -> F) {
    each_engine_with(|_| (), test);
}

/// The same with other settings.
pub(crate) fn each_engine_with<F: Future<Output = ()>>(adjust: fn(&mut Settings), test: impl Fn(World) -> F) {
    testkit::logs::capture();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for postgres in [false, true] {
        let database = postgres.then(|| Postgres::shared().database());
        runtime.block_on(async { test(World::new(database, adjust).await).await });
    }
}

/// The same, and once more on a PostgreSQL whose owner switched row-level security off: there the types alone keep tenants apart.
pub(crate) fn each_wall<F: Future<Output = ()>>(test: impl Fn(World) -> F) {
    each_engine(&test);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::new(Some(Postgres::shared().database()), |_| ()).await;
        let off = "DO $$ DECLARE t regclass; BEGIN \
             FOR t IN SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relrowsecurity LOOP \
             EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', t); END LOOP; END $$";
        let database = world.database.as_ref().unwrap();
        database.owner_sql(off).unwrap();
        assert_ne!(
            database.app_sql("SELECT count(*) FROM member").unwrap().trim(),
            "0",
            "rows are seen without a tenant"
        );
        test(world).await;
    });
}

/// The login name of who holds a role in tenant `a` or `b`.
pub(crate) fn holder(role: Role, tenant: char) -> String {
    format!("{role}-{tenant}@example.org")
}

/// `tenant-admin` of tenant A.
pub(crate) fn admin() -> String {
    holder(Role::TenantAdmin, 'a')
}

pub(crate) const PLATFORM: &str = "platform@example.org";
pub(crate) const STRANGER: &str = "stranger@example.org";
/// `tenant-admin` of A whose one-time password was not changed yet.
pub(crate) const NEWCOMER: &str = "newcomer@example.org";
/// `tenant-admin` of A, with a session of the command line.
pub(crate) const TERMINAL: &str = "terminal@example.org";
/// `tenant-admin` of A, to be disabled.
pub(crate) const LEAVER: &str = "leaver@example.org";

impl World {
    async fn new(database: Option<TestDatabase<'static>>, adjust: fn(&mut Settings)) -> Self {
        let (dir, watch) = (tempfile::tempdir().unwrap(), testkit::logs::watch());
        let (clock, rng) = (Arc::new(TestClock::default()), Arc::new(TestRng::seeded(7)));
        let url = match &database {
            None => format!("sqlite:{}", dir.path().join("cairn.db").display()),
            Some(database) => database.app_url.clone(),
        };
        let owner_url = database.as_ref().map(|database| database.owner_url.clone());
        let master = crypto::aead::AeadKey::from_bytes([7; 32]);
        let options = OpenOptions {
            url,
            owner_url,
            master,
            vault: store::VaultOptions::default(),
            blobs: dir.path().join("blobs"),
            clock: clock.clone(),
            rng: rng.clone(),
        };
        let store = Store::open(options).await.unwrap();
        store.only_writer();
        let installation = store.installation_id().await.unwrap();
        let mut settings = Settings {
            installation: installation.clone(),
            session_ms: SESSION_MS,
            bcrypt_cost: 4,
            relying_party: webauthn::RelyingParty::of_origin(ORIGIN),
            public_url: crate::idp::PUBLIC_URL.to_owned(),
            ..Settings::default()
        };
        adjust(&mut settings);
        let (draining, drained) = tokio::sync::watch::channel(false);
        let panics = Arc::new(AtomicBool::new(false));
        let (served, panic) = (store.clone(), panics.clone());
        let (key, installed) = (SigningKey::generate().unwrap().public(), Arc::new(Installed::load()));
        let states = move |settings: Settings| {
            let state = ApiState::new(
                served.clone(),
                settings,
                Secret::new(planted().jwt.clone()),
                key,
                installed.clone(),
                Arc::new(Evaluator { store: served.clone(), panics: panic.clone() }),
                Arc::new(Exporter { store: served.clone() }),
                drained.clone(),
            );
            // Providers of tests are on this machine.
            let recordings = Arc::new(Recordings { store: served.clone() });
            state.with_web(crate::idp::client()).with_recordings(recordings)
        };
        let nobody = TenantId::generate(&*clock, &*rng);
        let state = states(settings.clone());
        let mut world = Self {
            router: api::router(state.clone()),
            state,
            states: Box::new(states),
            settings,
            store,
            clock,
            rng,
            a: nobody,
            b: nobody,
            installation,
            panics,
            users: HashMap::new(),
            tokens: tokio::sync::Mutex::default(),
            fresh: AtomicU32::new(0),
            _draining: draining,
            _watch: watch,
            dir,
            database,
        };
        (world.a, world.b) = (world.tenant("acme").await, world.tenant("globex").await);
        let hash = api::hash_one_time_password(&planted().password, 4, &*world.rng).unwrap();
        for (letter, tenant) in [('a', world.a), ('b', world.b)] {
            for role in Role::ALL {
                world.user(&holder(role, letter), &hash, Some((tenant, role)), false).await;
            }
        }
        world.user(PLATFORM, &hash, None, true).await;
        world.user(STRANGER, &hash, None, false).await;
        world.user(LEAVER, &hash, Some((world.a, Role::TenantAdmin)), false).await;
        world.user(NEWCOMER, &hash, Some((world.a, Role::TenantAdmin)), false).await;
        world.user(TERMINAL, &hash, Some((world.a, Role::TenantAdmin)), false).await;
        world
    }

    /// Somebody who holds everything, for arranging.
    fn ctx(&self, actor: Actor) -> OpCtx {
        let tenants = [self.a, self.b].map(|tenant| (tenant, Role::SystemAdmin)).to_vec();
        let request = RequestId::generate(&*self.clock, &*self.rng);
        OpCtx::user(
            actor,
            Grants { platform_admin: true, tenants },
            request,
            None,
            self.clock.clone(),
            self.rng.clone(),
        )
    }

    pub(crate) fn permit<O: TenantOperation>(&self, tenant: TenantId) -> Permit<O> {
        self.ctx(Actor::System { part: "test" }).authorize(tenant).unwrap()
    }

    pub(crate) fn platform_permit<O: access::PlatformOperation>(&self) -> PlatformPermit<O> {
        self.ctx(Actor::System { part: "test" }).authorize_platform().unwrap()
    }

    /// Makes a tenant.
    pub(crate) async fn tenant(&self, slug: &str) -> TenantId {
        let unit = self.store.write_platform(self.platform_permit::<ops::TenantCreate>()).await.unwrap();
        unit.tenant_create(&slug.parse().unwrap(), &slug.parse().unwrap(), None).await.unwrap().id
    }

    async fn user(&mut self, email: &str, hash: &str, role: Option<(TenantId, Role)>, platform_admin: bool) {
        let email: Email = email.parse().unwrap();
        let new = NewUser { name: "Somebody".parse().unwrap(), password_hash: hash.to_owned(), platform_admin };
        let unit = self.store.write_platform(self.platform_permit::<ops::UserCreate>()).await.unwrap();
        let id = unit.user_create(&email, &new).await.unwrap();
        if email.as_str() != NEWCOMER {
            let actor =
                Actor::User { id, email: email.clone(), session: SessionId::generate(&*self.clock, &*self.rng) };
            let after = api::hash_one_time_password(&planted().password, 4, &*self.rng).unwrap();
            self.store.password_change(&self.ctx(actor), hash, &after).await.unwrap();
        }
        if let Some((tenant, role)) = role {
            self.invite(tenant, &email, role).await;
            // Whoever signs in takes the role up.
            self.sign_in(email.as_str()).await;
        }
        self.users.insert(email.to_string(), id);
    }

    pub(crate) async fn invite(&self, tenant: TenantId, email: &Email, role: Role) -> Placed {
        let unit = self.store.write(self.permit::<ops::MemberPut>(tenant)).await.unwrap();
        unit.member_put(email, role).await.unwrap()
    }

    /// Another server of the same installation.
    pub(crate) fn server(&self, change: impl FnOnce(&mut Settings)) -> Router {
        api::router(self.state_with(change))
    }

    /// The state of one, to put more into.
    pub(crate) fn state_with(&self, change: impl FnOnce(&mut Settings)) -> ApiState {
        let mut settings = self.settings.clone();
        change(&mut settings);
        (self.states)(settings)
    }

    pub(crate) fn user_id(&self, email: &str) -> UserId {
        self.users[email]
    }

    /// A number that was not used before in this world.
    pub(crate) fn fresh(&self) -> u32 {
        self.fresh.fetch_add(1, Ordering::Relaxed)
    }

    /// Signs in anew.
    pub(crate) async fn sign_in(&self, email: &str) -> String {
        let body = json!({"email": email, "password": planted().password});
        let answer = self.call("POST", "/api/v1/sessions", None, Some(body)).await.is(201);
        answer.json["token"].as_str().unwrap().to_owned()
    }

    /// Somebody's session, kept for the whole test.
    pub(crate) async fn token(&self, email: &str) -> String {
        if let Some(token) = self.tokens.lock().await.get(email) {
            return token.clone();
        }
        let token = self.sign_in(email).await;
        self.tokens.lock().await.insert(email.to_owned(), token.clone());
        token
    }

    /// A call of somebody who is signed in.
    pub(crate) async fn by(&self, email: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let token = self.token(email).await;
        self.call(method, path, Some(&token), body).await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = match body {
            None => Body::empty(),
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
        };
        self.send(request.body(body).unwrap()).await
    }

    /// Sends any request; what every answer must have is checked here, and all of it goes to the suite's log.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        self.send_to(&self.router, request).await
    }

    /// The same to another server.
    pub(crate) async fn send_to(&self, router: &Router, request: Request<Body>) -> Answer {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, mut body) = response.into_parts();
        let mut bytes = Vec::new();
        let streams = parts.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        while let Some(frame) = body.frame().await {
            bytes.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
            // One that goes on as long as its job does is read to its first event.
            if streams && !String::from_utf8_lossy(&bytes).contains("\"status\":\"cancelled\"") {
                break;
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, text, json, raw: bytes };
        let mut seen = answer.text.clone();
        // Some documents show a secret once.
        let once = match (method.as_str(), uri.path()) {
            ("POST", path) if path.ends_with("/scim-token") || path.ends_with("/enrollment-tokens") => Some("token"),
            (
                "POST",
                "/api/v1/sessions"
                | "/api/v1/sessions/second-step"
                | "/api/v1/sessions/passkey"
                | "/api/v1/cli-sessions"
                | "/api/v1/device-tokens",
            ) => Some("token"),
            ("POST", "/api/v1/me/factors/totp") => Some("secret"),
            ("POST", "/api/v1/users") => Some("one_time_password"),
            ("POST", "/api/v1/device-codes") => Some("device_code"),
            ("POST", path) if path.ends_with("/api-keys") || path.ends_with("/rotate") => Some("secret"),
            _ => None,
        };
        if let Some(secret) = once.and_then(|field| answer.json[field].as_str()) {
            plant_once("shown once", secret);
            seen = seen.replace(secret, "***");
        }
        for code in answer.json["recovery_codes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            plant_once("recovery code", code);
            seen = seen.replace(code, "***");
        }
        let shown = crate::idp::without_cookies(&answer.headers);
        let path = uri.path();
        // Not the path: a test may put a secret there, to see that it is not logged by us.
        testkit::logs::tee("api", format!("{method} {}\n{shown}\n{seen}", answer.status));
        for (name, value) in SECURITY_HEADERS {
            let found = answer.header(name);
            assert!(
                found == value || (name == "content-security-policy" && found.starts_with(value)),
                "{method} {path}: {name}: {found}"
            );
        }
        let id = answer.header("x-request-id");
        assert!(id.parse::<RequestId>().is_ok(), "{method} {path}: x-request-id: {id}");
        // SCIM, the pages for devices and a server without a console have forms of their own for errors.
        let is_page =
            path == "/" || path.starts_with("/scim/") || answer.header("content-type").starts_with("text/html");
        if answer.status >= 400 && method != "HEAD" && !is_page {
            assert_eq!(answer.json["request_id"], id, "{method} {path}: {}", answer.text);
            for field in ["code", "message"] {
                assert!(
                    answer.json[field].as_str().is_some_and(|text| !text.is_empty()),
                    "{method} {path}: {}",
                    answer.text
                );
            }
            assert_eq!(answer.header("content-type"), "application/json");
        }
        answer
    }

    /// The newest records of a tenant's log (none: the platform's) behind a place, oldest first, as action and outcome.
    pub(crate) async fn audit(&self, tenant: Option<TenantId>, behind: i64) -> Vec<(i64, String, String)> {
        let filter = AuditFilter { limit: 20, ..AuditFilter::default() };
        let page = match tenant {
            Some(tenant) => {
                self.store.read(self.permit::<ops::AuditList>(tenant)).await.unwrap().audit_list(&filter).await
            }
            None => self.store.platform_audit_list(self.platform_permit(), &filter).await,
        };
        let records = page.unwrap().items.into_iter().rev().filter(|record| record.seq > behind);
        records.map(|record| (record.seq, record.action, record.outcome)).collect()
    }

    /// Waits long enough that ids and times are later than all before.
    pub(crate) fn later(&self) {
        self.clock.advance(Duration::from_millis(1));
    }
}
