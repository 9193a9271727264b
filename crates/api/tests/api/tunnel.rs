//! The way to destinations through a server: who is let through, what it takes of what everybody shares, and what is written down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use access::Role;
use api::ports::{PeerLost, PeerStream, Peers};
use api::{ApiState, Relays};
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use domain::FleetKind;
use gateway::HubSettings;
use gateway::peer::Ask;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::fleet::Machine;
use crate::things::HOST_KEY;
use crate::world::{World, admin, each_engine, holder};

const T: &str = "/api/v1/tenants/acme";

/// A server on which a relay hangs that takes everything and never answers.
#[derive(Default)]
struct Mute {
    held: tokio::sync::Mutex<Vec<tokio::io::DuplexStream>>,
    reached: AtomicUsize,
}

#[async_trait]
impl Peers for Mute {
    async fn reach(&self, _: Uuid, _: &Ask) -> Result<Box<dyn PeerStream>, PeerLost> {
        let (near, far) = tokio::io::duplex(64 * 1_024);
        self.held.lock().await.push(far);
        self.reached.fetch_add(1, Ordering::AcqRel);
        Ok(Box::new(near))
    }
}

/// A cluster and a host behind one relay that hangs elsewhere, and a server that passes connections there.
struct Ways {
    mute: Arc<Mute>,
    router: Router,
    cluster: String,
    host: String,
}

fn analyst() -> String {
    holder(Role::SecurityAnalyst, 'a')
}

async fn token(world: &World, email: &str, name: &str, role: &str) -> String {
    let path = format!("{T}/destinations/{name}/tokens");
    let made = world.by(email, "POST", &path, Some(json!({"role": role}))).await.is(201);
    made.json["token"].as_str().unwrap().to_owned()
}

impl Ways {
    async fn open(world: &World, adjust: fn(&mut api::Settings)) -> Self {
        let mut relay = Machine::enrolled(world, world.a, FleetKind::Relay).await;
        let body =
            json!({"name": "prod", "kind": "kubernetes", "authority": "", "roles": ["view"], "version": "1.0.0"});
        let path = format!("/api/v1/relays/{}/destinations", relay.id);
        let request = relay.request(world, "POST", &path, &body.to_string(), |_| ());
        let cluster = world.send(request).await.is(200).id();
        let body =
            json!({"address": "web1.example:2222", "host_key": HOST_KEY, "roles": ["deploy"], "relay": relay.id});
        let path = format!("{T}/destinations/web1/ssh-host");
        let host = world.by(&admin(), "PUT", &path, Some(body)).await.is(200).json["id"].as_str().unwrap().to_owned();
        for (user, role, destination) in
            [(analyst(), "view", "prod"), (admin(), "view", "prod"), (analyst(), "deploy", "web1")]
        {
            let body = json!({"user": user, "role": role, "destination": destination});
            world.by(&admin(), "POST", &format!("{T}/grants"), Some(body)).await.is(201);
        }
        let mute = Arc::new(Mute::default());
        let relays = Relays::new(HubSettings::default(), world.rng.clone(), "here:1".to_owned());
        let elsewhere = Uuid::from_u128(7);
        world.store.relay_linked(world.a, relay.id.parse().unwrap(), elsewhere, "there:1").await.unwrap();
        let state: ApiState = world.state_with(adjust).with_relays(Arc::new(relays)).with_peers(mute.clone());
        Self { mute, router: api::router(state), cluster, host }
    }

    fn request(&self, token: &str, rest: &str) -> Request<Body> {
        let from: SocketAddr = "192.0.2.9:4242".parse().unwrap();
        Request::get(format!("{T}/destinations/{}/proxy{rest}", self.cluster))
            .header("authorization", format!("Bearer {token}"))
            .extension(ConnectInfo(from))
            .body(Body::empty())
            .unwrap()
    }

    fn ssh(&self, token: &str) -> Request<Body> {
        let from: SocketAddr = "192.0.2.9:4242".parse().unwrap();
        Request::get(format!("{T}/destinations/{}/ssh", self.host))
            .header("authorization", format!("Bearer {token}"))
            .header("connection", "Upgrade")
            .header("upgrade", wire::ssh_access::UPGRADE)
            .extension(ConnectInfo(from))
            .body(Body::empty())
            .unwrap()
    }

    fn begin(&self, request: Request<Body>) -> tokio::task::JoinHandle<Response<Body>> {
        let router = self.router.clone();
        tokio::spawn(async move { router.oneshot(request).await.unwrap() })
    }

    async fn reached(&self, count: usize) {
        while self.mute.reached.load(Ordering::Acquire) < count {
            tokio::task::yield_now().await;
        }
    }
}

async fn text(response: Response<Body>) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn attack_69_connections_to_destinations_that_wait_take_no_places_of_requests() {
    each_engine(|world| async move {
        let ways = Ways::open(&world, |settings| settings.requests_max = 2).await;
        let token = token(&world, &analyst(), "prod", "view").await;
        let mut waiting = Vec::new();
        for count in 1..=4 {
            waiting.push(ways.begin(ways.request(&token, "/api/v1/pods")));
            ways.reached(count).await;
        }
        let asked = Request::get("/readyz").body(Body::empty()).unwrap();
        assert_eq!(ways.begin(asked).await.unwrap().status(), StatusCode::OK);
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
    });
}

#[test]
fn attack_69_one_user_does_not_take_every_connection_of_a_relay() {
    each_engine(|world| async move {
        let ways = Ways::open(&world, |settings| settings.tunnels_per_user = 2).await;
        let (ours, theirs) =
            (token(&world, &analyst(), "prod", "view").await, token(&world, &admin(), "prod", "view").await);
        let one = ways.begin(ways.request(&ours, "/api/v1/pods"));
        let _two = ways.begin(ways.request(&ours, "/api/v1/pods"));
        ways.reached(2).await;
        let third = ways.begin(ways.request(&ours, "/api/v1/pods")).await.unwrap();
        assert_eq!(third.status(), StatusCode::SERVICE_UNAVAILABLE);
        let said = text(third).await;
        assert!(said.contains("as many connections to this relay as one user may"), "{said}");
        // A host behind the same relay is no way around it.
        let ssh = ways.begin(ways.ssh(&self::token(&world, &analyst(), "web1", "deploy").await)).await.unwrap();
        assert_eq!(ssh.status(), StatusCode::SERVICE_UNAVAILABLE);
        let _theirs = ways.begin(ways.request(&theirs, "/api/v1/pods"));
        ways.reached(3).await;
        // What ends gives its place back.
        one.abort();
        assert!(one.await.unwrap_err().is_cancelled());
        let _again = ways.begin(ways.request(&ours, "/api/v1/pods"));
        ways.reached(4).await;
    });
}

/// The records of refused connections: outcome, user, reason.
async fn refusals(world: &World) -> Vec<Value> {
    let path = format!("{T}/audit?action=destination_connect&limit=500");
    let log = world.by(&holder(Role::Auditor, 'a'), "GET", &path, None).await.is(200);
    log.json["items"].as_array().unwrap().clone()
}

#[test]
fn a_destination_token_that_is_refused_is_on_the_record_of_its_tenant_and_a_flood_of_them_is_not() {
    each_engine(|world| async move {
        let ways = Ways::open(&world, |_| ()).await;
        let forged = "eyJhbGciOiJFUzUxMiJ9.e30.AAAA";
        assert_eq!(ways.begin(ways.request(forged, "/api/v1/pods")).await.unwrap().status(), StatusCode::UNAUTHORIZED);
        assert_eq!(ways.begin(ways.ssh(forged)).await.unwrap().status(), StatusCode::FORBIDDEN);
        let told = refusals(&world).await;
        let objects: Vec<_> = told.iter().map(|record| record["object_id"].as_str().unwrap()).collect();
        assert!(objects.contains(&ways.cluster.as_str()) && objects.contains(&ways.host.as_str()), "{told:?}");
        assert!(told.iter().all(|record| record["outcome"] == "deny"), "{told:?}");
        assert!(told[0].to_string().contains("192.0.2.9") && told[0].to_string().contains("not accepted"), "{told:?}");

        // A token that was good, and rests on nothing any more, is known by its user.
        let good = token(&world, &admin(), "prod", "view").await;
        let grants = world.by(&admin(), "GET", &format!("{T}/grants"), None).await.is(200);
        for grant in grants.json["items"].as_array().unwrap() {
            let path = format!("{T}/grants/{}", grant["id"].as_str().unwrap());
            world.by(&admin(), "DELETE", &path, None).await.is(204);
        }
        let late = ways.begin(ways.request(&good, "/api/v1/pods")).await.unwrap();
        assert_eq!(late.status(), StatusCode::UNAUTHORIZED);
        let told = refusals(&world).await;
        assert!(told.iter().any(|record| record["detail"]["user"] == json!(admin())), "{told:?}");

        for _ in 0..40 {
            ways.begin(ways.request(forged, "/api/v1/pods")).await.unwrap();
        }
        let told = refusals(&world).await;
        assert!(told.len() <= 8, "{}", told.len());
        let said = |word: &str| told.iter().filter(|record| record["detail"].to_string().contains(word)).count();
        assert_eq!(said("further ones of this burst"), 1, "{told:?}");

        // Nothing is written where there is no such destination, and nothing of another tenant's in this one.
        let nowhere = Request::get(ways.request(forged, "/").uri().to_string().replace("acme", "globex"))
            .header("authorization", format!("Bearer {forged}"))
            .body(Body::empty())
            .unwrap();
        assert_eq!(ways.begin(nowhere).await.unwrap().status(), StatusCode::UNAUTHORIZED);
        assert_eq!(refusals(&world).await.len(), told.len());
        let path = "/api/v1/tenants/globex/audit?action=destination_connect";
        let theirs = world.by(&holder(Role::Auditor, 'b'), "GET", path, None).await.is(200);
        assert_eq!(theirs.json["items"], json!([]));
    });
}
