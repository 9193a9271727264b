//! A world of its own for each test: a database of each engine, a clock, a seed, two tenants, and somebody in every role.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use access::{Actor, Grants, OpCtx, Permit, PlatformPermit, Role, TenantOperation, ops};
use api::ports::{Catalog, Evaluate, Export, Subject};
use api::{ApiState, Settings};
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use compliance::{FindingChange, Ruleset, builtin};
use crypto::ed25519::SigningKey;
use domain::{
    Clock as _, CollectionId, Coverage, Digest, Email, EvidenceId, FindingId, NodeObservation, Page, RequestId, Secret,
    SessionId, Severity, TenantId, UserId,
};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Map, Value, json};
use store::{
    AuditFilter, Collection, EvaluationRow, FindingCounts, FindingFilter, MaterialOf, NewArtifact, NewSchedule,
    NewStatement, NewTask, NewUser, OpenOptions, Placed, Store, TaskOutcome, WorkKind,
};
use tempfile::TempDir;
use testkit::{Postgres, TestClock, TestDatabase, TestRng};
use tower::ServiceExt as _;
use wire::credential::{CredentialType, Plugin, PluginSetting};

pub(crate) use crate::answer::Answer;

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
    _dir: TempDir,
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
            state.with_web(crate::idp::client())
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
            _dir: dir,
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
        let mut settings = self.settings.clone();
        change(&mut settings);
        api::router((self.states)(settings))
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
            ("POST", path) if path.ends_with("/scim-token") => Some("token"),
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
        // SCIM and the pages for devices have forms of their own for errors.
        let is_page = path.starts_with("/scim/") || answer.header("content-type").starts_with("text/html");
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

    pub(crate) async fn credential(&self, tenant: TenantId) -> String {
        let name = format!("c{}", self.fresh()).parse().unwrap();
        let secret = Secret::new(json!({"access_key_id": "AKIA", "secret_access_key": planted().aws}).to_string());
        let unit = self.store.write(self.permit::<ops::CredentialCreate>(tenant)).await.unwrap();
        unit.credential_create("aws", &name, "aws-keys", &secret).await.unwrap().id.to_string()
    }

    pub(crate) async fn job(&self, tenant: TenantId) -> String {
        let new = store::NewJob { plugin: "host".to_owned(), credential: None, config: Map::new(), schedule: None };
        self.store
            .write(self.permit::<ops::JobCreate>(tenant))
            .await
            .unwrap()
            .job_create(new)
            .await
            .unwrap()
            .id
            .to_string()
    }

    pub(crate) async fn schedule(&self, tenant: TenantId) -> String {
        let new = NewSchedule { plugin: "host".to_owned(), credential: None, config: Map::new(), interval_s: 3_600 };
        self.store
            .write(self.permit::<ops::ScheduleCreate>(tenant))
            .await
            .unwrap()
            .schedule_create(new)
            .await
            .unwrap()
            .id
            .to_string()
    }

    pub(crate) async fn node(&self, tenant: TenantId) -> String {
        let mut ingest = self.store.ingest(self.permit(tenant));
        let scope: domain::ScopeId = "aws:1:eu-west-1:s3.buckets".parse().unwrap();
        let id = |text: &str| text.parse::<domain::NodeId>().unwrap();
        let nodes = [NODE, "aws:eu-west-1:aws.s3.bucket:b2"].map(|text| NodeObservation {
            id: id(text),
            name: format!("bucket of {tenant}"),
            properties: Map::new(),
            tags: domain::Tags::default(),
        });
        let edge = json!({"source": NODE, "target": "aws:eu-west-1:aws.s3.bucket:b2", "type": "logs_to"});
        let edges = vec![serde_json::from_value(edge).unwrap()];
        ingest.page(&Page { scope: scope.clone(), nodes: nodes.to_vec(), edges }).await.unwrap();
        let collection = CollectionId::generate(&*self.clock, &*self.rng);
        ingest.finish(&scope, &Coverage::Complete, collection).await.unwrap();
        NODE.to_owned()
    }

    /// An open finding on [`NODE`], which has to be there.
    pub(crate) async fn finding(&self, tenant: TenantId) -> String {
        let rule = format!("rule-{}", self.fresh());
        let facts = compliance::Facts {
            severity: Severity::High,
            risk_score: 70,
            message: "it is open".to_owned(),
            values: json!({"public": true}),
        };
        let change = FindingChange::Open { rule_id: rule.clone(), node_id: NODE.to_owned(), facts };
        let mut unit = self.store.write(self.permit::<ops::EvaluationRun>(tenant)).await.unwrap();
        let counts = unit.findings_apply(&[change]).await.unwrap();
        unit.evaluation_finish(&evaluation(self.clock.now()), counts).await.unwrap();
        let filter = FindingFilter { rule: Some(rule), ..FindingFilter::default() };
        let mut read = self.store.read(self.permit::<ops::FindingList>(tenant)).await.unwrap();
        read.finding_list(&filter, None, 2).await.unwrap().items[0].id.to_string()
    }

    /// A collection with an artifact, made by a job that runs.
    pub(crate) async fn evidence(&self, tenant: TenantId) -> String {
        let job = self.job(tenant).await;
        let claim = async |kind: WorkKind| loop {
            let claim = self.store.work_claim("test", 30_000).await.unwrap().expect("there is work");
            if claim.kind == kind && (kind == WorkKind::Task || claim.job().to_string() == job) {
                return claim;
            }
        };
        let plan = claim(WorkKind::Plan).await;
        let run = || async { self.store.write(self.permit::<ops::JobRun>(tenant)).await.unwrap() };
        run().await.job_started(&plan).await.unwrap();
        run().await.job_planned(&plan, vec![NewTask { key: "t".to_owned(), params: Map::new() }]).await.unwrap();
        let claim = claim(WorkKind::Task).await;
        run().await.task_started(&claim).await.unwrap();
        let id = EvidenceId::generate(&*self.clock, &*self.rng);
        let (bytes, key_id, now) = (Bytes::from_static(b"what was seen"), Digest([2; 32]), self.clock.now());
        let artifact =
            NewArtifact { digest: crypto::sha256(&bytes), bytes, signature: [4; 64], key_id, about: String::new() };
        let statement = NewStatement {
            id,
            kind: "api-response",
            pae: format!("DSSEv1 {id}").into_bytes(),
            signature: [1; 64],
            key_id,
        };
        let collection = Collection {
            id: CollectionId::generate(&*self.clock, &*self.rng),
            scope: "aws:1:eu-west-1:s3.buckets".parse().unwrap(),
            coverage: Coverage::Complete,
            nodes: 1,
            edges: 1,
            calls: 0,
            artifacts: vec![artifact],
            statement,
            started: now,
            finished: now,
        };
        self.store.collection_add(self.permit(tenant), &claim, collection).await.unwrap();
        run().await.task_finished(&claim, TaskOutcome::Completed).await.unwrap();
        id.to_string()
    }

    /// A new user who is a read-only member.
    pub(crate) async fn member(&self, tenant: TenantId) -> String {
        let email: Email = format!("member{}@example.org", self.fresh()).parse().unwrap();
        let password_hash = api::hash_one_time_password(&planted().password, 4, &*self.rng).unwrap();
        let new = NewUser { name: "New".parse().unwrap(), password_hash, platform_admin: false };
        let unit = self.store.write_platform(self.platform_permit::<ops::UserCreate>()).await.unwrap();
        let id = unit.user_create(&email, &new).await.unwrap();
        self.invite(tenant, &email, Role::ReadOnly).await;
        self.sign_in(email.as_str()).await;
        id.to_string()
    }

    /// Waits long enough that ids and times are later than all before.
    pub(crate) fn later(&self) {
        self.clock.advance(Duration::from_millis(1));
    }
}

fn evaluation(at: domain::Timestamp) -> EvaluationRow {
    EvaluationRow { at, ruleset: Digest([3; 32]), rules: 0, nodes: 0, passed: 0, failed: 0, errors: 0 }
}

/// The shipped rules, and two plugins as the server describes them.
struct Installed {
    plugins: Vec<Plugin>,
    catalog: compliance::Catalog,
    ruleset: Arc<Ruleset>,
}

impl Installed {
    fn load() -> Self {
        let catalog = builtin::catalog().unwrap();
        let ruleset = Arc::new(
            compliance::load(&catalog, &builtin::PACKS, crypto::sha256).map_err(|errors| errors.len()).unwrap(),
        );
        let plugin = |name: &str, credential_types, setting: &str| Plugin {
            name: name.to_owned(),
            about: format!("reads {name}"),
            version: "1".to_owned(),
            credential_types,
            settings: vec![PluginSetting {
                key: setting.to_owned(),
                help: "which".to_owned(),
                example: "x".to_owned(),
            }],
            node_types: vec![],
        };
        let owned = |fields: &[&str]| fields.iter().map(|field| (*field).to_owned()).collect();
        let keys = CredentialType {
            name: "aws-keys".to_owned(),
            required: owned(&["access_key_id", "secret_access_key"]),
            optional: owned(&["session_token"]),
        };
        Self {
            plugins: vec![plugin("aws", vec![keys], "regions"), plugin("host", vec![], "packages")],
            catalog,
            ruleset,
        }
    }
}

impl Catalog for Installed {
    fn plugins(&self) -> &[Plugin] {
        &self.plugins
    }

    fn check(&self, plugin: &str, config: &Map<String, Value>) -> domain::Result<()> {
        let found = self.plugins.iter().find(|known| known.name == plugin);
        let found = found.ok_or_else(|| domain::Error::invalid("plugin", "there is no such plugin"))?;
        match config.keys().find(|key| found.settings.iter().all(|setting| setting.key != **key)) {
            Some(key) => Err(domain::Error::invalid("config", format!("there is no setting `{key}`"))),
            None => Ok(()),
        }
    }

    fn control_title(&self, framework: &str, control: &str) -> String {
        self.catalog.frameworks.control(framework, control).map(|control| control.title.clone()).unwrap_or_default()
    }

    fn ruleset(&self) -> Arc<Ruleset> {
        Arc::clone(&self.ruleset)
    }
}

/// Keeps an evaluation that found nothing to judge; judging is `compliance`'s, and tested there.
struct Evaluator {
    store: Store,
    panics: Arc<AtomicBool>,
}

#[async_trait]
impl Evaluate for Evaluator {
    async fn evaluate(&self, permit: Permit<ops::EvaluationRun>) -> domain::Result<wire::finding::Evaluation> {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "a handler panics");
        let at = permit.ctx().clock().now();
        self.store.write(permit).await?.evaluation_finish(&evaluation(at), FindingCounts::default()).await?;
        Ok(wire::finding::Evaluation { at, rules: 0, nodes: 0, passed: 0, failed: 0, errors: 0, changes: 0 })
    }
}

/// The statements' signed bytes in one file; bundles are `evidence`'s, and tested there.
struct Exporter {
    store: Store,
}

#[async_trait]
impl Export for Exporter {
    async fn export(&self, permit: Permit<ops::EvidenceExport>, subject: Subject) -> domain::Result<std::fs::File> {
        use std::io::{Seek as _, Write as _};
        let of = match subject {
            Subject::Finding(id) => MaterialOf::Finding(id, vec![]),
            Subject::Control { framework, control } => MaterialOf::Control(framework, control),
            Subject::Framework(framework) => MaterialOf::Framework(framework),
        };
        let material = self.store.write(permit).await?.evidence_material(&of).await?;
        let mut file = tempfile::tempfile().unwrap();
        for statement in &material.statements {
            file.write_all(&statement.pae).unwrap();
        }
        file.rewind().unwrap();
        Ok(file)
    }
}

/// An id of a kind that nobody has.
pub(crate) fn nobodys(world: &World, kind: &str) -> String {
    let (clock, rng) = (&*world.clock, &*world.rng);
    match kind {
        "tenant" => TenantId::generate(clock, rng).to_string(),
        "user" => UserId::generate(clock, rng).to_string(),
        "api_key" => domain::ApiKeyId::generate(clock, rng).to_string(),
        "invitation" => domain::InvitationId::generate(clock, rng).to_string(),
        "credential" => domain::CredentialId::generate(clock, rng).to_string(),
        "group_role" => domain::GroupRoleId::generate(clock, rng).to_string(),
        "provider" => domain::ProviderId::generate(clock, rng).to_string(),
        "job" => domain::JobId::generate(clock, rng).to_string(),
        "schedule" => domain::ScheduleId::generate(clock, rng).to_string(),
        "factor" => domain::FactorId::generate(clock, rng).to_string(),
        "session" => SessionId::generate(clock, rng).to_string(),
        "finding" => FindingId::generate(clock, rng).to_string(),
        "evidence" => EvidenceId::generate(clock, rng).to_string(),
        "node" => format!("aws:eu-west-1:aws.s3.bucket:n{}", world.fresh()),
        other => panic!("there is no kind of id `{other}`: add it"),
    }
}
