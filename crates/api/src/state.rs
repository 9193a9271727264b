//! What every handler can reach.

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRef;
use crypto::ed25519::PublicKey;
use domain::{Error, Secret};
use store::Store;
use tokio::sync::Semaphore;
use transport::WebClient;

use crate::api_key::Keys;
use crate::console::Console;
use crate::device::Guesses;
use crate::fleet_connections::Connections;
use crate::fleet_memory::Fleet;
use crate::oidc::Oidc;
use crate::ports::{Catalog, Certify, Evaluate, Export, Peers, Record, Report};
use crate::relay_channel::Relays;
use crate::throttle::Throttle;
use crate::token_key;

/// What the installation decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The `iss` and `aud` of sessions: this installation's id.
    pub installation: String,
    /// How long a session lives, in milliseconds; default 8 h.
    pub session_ms: i64,
    /// How long a session lives without being used, in milliseconds; default 1 h.
    pub idle_ms: i64,
    /// How long a proof of who one is counts as fresh, in milliseconds; default 15 min.
    pub step_up_ms: i64,
    /// Whether everybody needs a second factor; default false.
    pub second_factor_required: bool,
    /// For whom passkeys are made; default none, which turns them off.
    pub relying_party: Option<webauthn::RelyingParty>,
    /// bcrypt's cost; default 12.
    pub bcrypt_cost: u32,
    /// Store passwords with PBKDF2 instead of bcrypt, also those that are stored otherwise as soon as they are used; default false.
    pub pbkdf2: bool,
    /// How long a request may take, in milliseconds; default 30 s. Streams are exempt.
    pub request_ms: u64,
    /// Requests at work at a time; default 512. More are answered with 503.
    pub requests_max: usize,
    /// Of these, from one IPv4 address or IPv6 network; default 128, 0 for no limit of its own.
    pub requests_per_address: usize,
    /// Connections to destinations that one user may have through this server and one relay at a time; default 128. A relay's channel holds 1,024.
    pub tunnels_per_user: usize,
    /// Reports that one agent may send in a minute, which may come at once; default 120. More are answered with 429.
    pub reports_per_min: u32,
    /// Where browsers and identity providers reach this server: `https://` and the host, no slash at its end.
    pub public_url: String,
    /// Where audit records are sent; default nowhere.
    pub forwards: Vec<crate::ForwardSettings>,
    /// The web console; default none.
    pub console: Console,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            installation: String::new(),
            session_ms: 8 * 3_600_000,
            idle_ms: 3_600_000,
            step_up_ms: 15 * 60_000,
            second_factor_required: false,
            relying_party: None,
            bcrypt_cost: 12,
            pbkdf2: false,
            request_ms: 30_000,
            requests_max: 512,
            requests_per_address: 128,
            tunnels_per_user: 128,
            reports_per_min: 120,
            public_url: String::new(),
            forwards: Vec::new(),
            console: Console::default(),
        }
    }
}

/// What every handler can reach. Each request clones it several times, which is one count.
#[derive(Clone)]
pub struct ApiState(Arc<Parts>);

impl Deref for ApiState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// The parts of a server that handlers use.
#[derive(Clone)]
pub struct Parts {
    pub(crate) store: Store,
    pub(crate) settings: Arc<Settings>,
    pub(crate) jwt_secret: Arc<Secret>,
    pub(crate) evidence_key: Arc<PublicKey>,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) evaluator: Arc<dyn Evaluate>,
    pub(crate) exporter: Arc<dyn Export>,
    /// Bounds password hashing, which would otherwise take every core.
    pub(crate) hashing: Arc<Semaphore>,
    /// Bounds guessing.
    pub(crate) throttle: Arc<Throttle>,
    /// What this process remembers of API keys.
    pub(crate) keys: Arc<Keys>,
    /// What this process remembers of agents and relays.
    pub(crate) fleet: Arc<Fleet>,
    /// The connections of agents and relays.
    connections: Arc<Connections>,
    /// What this process remembers of the keys of destination tokens.
    pub(crate) token_keys: Arc<token_key::Keys>,
    /// Who judges those tokens where they come through this server.
    pub(crate) tunnels: Arc<crate::tunnel::Doors>,
    /// Wrong codes on the page for devices.
    pub(crate) guesses: Arc<Guesses>,
    /// Ends streams when the server drains.
    pub(crate) draining: tokio::sync::watch::Receiver<bool>,
    /// Asks identity providers; none until a client is given.
    oidc: Option<Arc<Oidc>>,
    /// The relays that hang here; none until they are given.
    relays: Option<Arc<Relays>>,
    /// Takes in agents' reports; none until one is given.
    reports: Option<Arc<dyn Report>>,
    /// Signs recordings; none until one is given.
    recordings: Option<Arc<dyn Record>>,
    /// The other servers, where there may be some.
    peers: Option<Arc<dyn Peers>>,
    /// What clients are shown; none where nobody says it.
    certificates: Option<Arc<dyn Certify>>,
}

impl ApiState {
    /// Puts the parts together. Each is another part of the server, so there are many. `jwt_secret`: 32 bytes or more, which `server` has checked.
    #[expect(clippy::too_many_arguments, reason = "each is a different part of the server")]
    pub fn new(
        store: Store,
        settings: Settings,
        jwt_secret: Secret,
        evidence_key: PublicKey,
        catalog: Arc<dyn Catalog>,
        evaluator: Arc<dyn Evaluate>,
        exporter: Arc<dyn Export>,
        draining: tokio::sync::watch::Receiver<bool>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let throttle = Arc::new(Throttle::new(cores, &**store.rng()));
        let keys = Arc::new(Keys::new(&**store.rng(), cores));
        let fleet = Arc::new(Fleet::new(&**store.rng()));
        let tunnels = Arc::new(crate::tunnel::Doors::new(settings.tunnels_per_user));
        Self(Arc::new(Parts {
            store,
            settings: Arc::new(settings),
            jwt_secret: Arc::new(jwt_secret),
            evidence_key: Arc::new(evidence_key),
            catalog,
            evaluator,
            exporter,
            hashing: Arc::new(Semaphore::new(cores)),
            throttle,
            keys,
            fleet,
            connections: Arc::default(),
            token_keys: Arc::default(),
            tunnels,
            guesses: Arc::default(),
            draining,
            oidc: None,
            relays: None,
            reports: None,
            recordings: None,
            peers: None,
            certificates: None,
        }))
    }

    /// With another part, before anybody else has it.
    fn with(self, put: impl FnOnce(&mut Parts)) -> Self {
        let mut parts = Arc::unwrap_or_clone(self.0);
        put(&mut parts);
        Self(Arc::new(parts))
    }

    /// With a client for identity providers.
    #[must_use]
    pub fn with_web(self, web: WebClient) -> Self {
        self.with(|parts| parts.oidc = Some(Arc::new(Oidc::new(web))))
    }

    /// With a place for relays.
    #[must_use]
    pub fn with_relays(self, relays: Arc<Relays>) -> Self {
        self.with(|parts| parts.relays = Some(relays))
    }

    /// The relays that hang here.
    pub(crate) fn relays(&self) -> Result<&Arc<Relays>, Error> {
        self.relays.as_ref().ok_or_else(|| Error::Unavailable {
            message: "no relay can hang on this server".to_owned(),
            detail: "no place was given".to_owned(),
        })
    }

    /// The connections of agents and relays, for whoever hears that one is let in no more.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// With what takes in agents' reports.
    #[must_use]
    pub fn with_reports(self, reports: Arc<dyn Report>) -> Self {
        self.with(|parts| parts.reports = Some(reports))
    }

    /// What takes in agents' reports.
    pub(crate) fn reports(&self) -> Result<&dyn Report, Error> {
        self.reports.as_deref().ok_or_else(|| Error::Unavailable {
            message: "this server takes in no reports".to_owned(),
            detail: "nothing was given that does".to_owned(),
        })
    }

    /// With what signs recordings.
    #[must_use]
    pub fn with_recordings(self, recordings: Arc<dyn Record>) -> Self {
        self.with(|parts| parts.recordings = Some(recordings))
    }

    /// What signs recordings.
    pub(crate) fn recordings(&self) -> Result<&dyn Record, Error> {
        self.recordings.as_deref().ok_or_else(|| Error::Unavailable {
            message: "this server keeps no recordings".to_owned(),
            detail: "nothing was given that does".to_owned(),
        })
    }

    /// With a way to the other servers of the same database.
    #[must_use]
    pub fn with_peers(self, peers: Arc<dyn Peers>) -> Self {
        self.with(|parts| parts.peers = Some(peers))
    }

    /// The way to the other servers; none where this one takes no part in it.
    pub(crate) fn peers(&self) -> Option<&dyn Peers> {
        self.peers.as_deref()
    }

    /// With what knows its certificates.
    #[must_use]
    pub fn with_certificates(self, certificates: Arc<dyn Certify>) -> Self {
        self.with(|parts| parts.certificates = Some(certificates))
    }

    /// The installation's own authority, where a client that reaches this server by this name has to trust it.
    pub(crate) fn own_authority(&self, name: &str) -> Option<String> {
        self.certificates.as_deref()?.authority(name)
    }

    /// What asks identity providers.
    pub(crate) fn oidc(&self) -> Result<&Oidc, Error> {
        self.oidc.as_deref().ok_or_else(|| Error::Unavailable {
            message: "this server cannot reach identity providers".to_owned(),
            detail: "no client was given".to_owned(),
        })
    }
}

impl FromRef<ApiState> for Store {
    fn from_ref(state: &ApiState) -> Self {
        state.store.clone()
    }
}
