//! The cluster that the relay serves: registers it with the server, and runs the access proxy in front of its API server.
//!
//! **Not for** what a request means and as whom it goes on (`gateway::kubernetes`), nor for who may reach the cluster: the server's tokens say so,
//! and the server is asked every second whether they still hold.

mod asking;
mod authority;
mod binding;
mod bindings;
mod list;
mod namespaces;
mod settings;
mod spool;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use domain::{Clock, DestinationId, Digest, Rng};
use fleet::Client;
use gateway::kubernetes::{Cluster, Listener, Live, Proxy, Record, Roles, TokenFile};
use gateway::tunnel::Tunnel;
use gateway::websocket::Side;
use gateway::{StreamHandle, Tasks};
use tokio_util::sync::CancellationToken;
use wire::destination::DestinationRegister;
use wire::relay::Connect;

use self::asking::Asking;
use self::authority::Authority;
use self::bindings::Bindings;
use self::namespaces::{Namespaces, told};
pub(crate) use self::settings::ClusterSettings;
use self::spool::Spool;
use crate::direct::Way;
use crate::recording::Recordings;

/// How often the server is told of the cluster, and asked for the keys of tokens.
const REGISTER: Duration = Duration::from_secs(30);
/// The same while it does not work.
const AGAIN: Duration = Duration::from_secs(2);
/// How often it is asked whether what is open may stay open.
const CHECK: Duration = Duration::from_secs(1);
/// How long a relay that stops waits for the server to have what was done.
const PARTING: Duration = Duration::from_secs(5);

/// The way in through the server; cheap to clone.
#[derive(Clone)]
pub(crate) struct Door {
    proxy: Arc<Proxy>,
    asking: Asking,
    stop: CancellationToken,
}

impl Door {
    /// Whether it leads there.
    pub(crate) fn leads_to(&self, destination: DestinationId) -> bool {
        self.asking.destination() == Some(destination)
    }

    /// Serves what comes over a stream that began with these words.
    pub(crate) async fn serve(&self, stream: StreamHandle, connect: Connect) {
        let tunnel = Tunnel::new(stream, Side::Client);
        Arc::clone(&self.proxy).serve(tunnel, connect.from, self.stop.clone()).await;
    }
}

/// The cluster and its proxy.
pub(crate) struct Service {
    settings: ClusterSettings,
    proxy: Arc<Proxy>,
    authority: Authority,
    asking: Asking,
    bindings: Arc<Bindings>,
    spool: Arc<Spool>,
    listener: Option<Listener>,
    /// What users are told of that one.
    way: Option<Way>,
    namespaces: Namespaces,
}

impl Service {
    /// Reads what it needs and listens, if it is asked for.
    pub(crate) async fn open(
        settings: ClusterSettings,
        client: Client,
        recordings: Recordings,
        clock: &Arc<dyn Clock>,
        rng: &Arc<dyn Rng>,
    ) -> anyhow::Result<Self> {
        let (authority, tls) = Authority::open(settings.account.join("ca.crt")).context("RELAY_CLUSTER_ACCOUNT_DIR")?;
        let token = TokenFile::new(settings.account.join("token"));
        let cluster =
            Cluster::new(&settings.api, tls, token).map_err(anyhow::Error::msg).context("RELAY_CLUSTER_API")?;
        let cluster = Arc::new(cluster);
        let (live, spool) = (Arc::new(Live::default()), Arc::<Spool>::default());
        let bindings = Bindings::new(Arc::clone(&cluster), Arc::clone(&live), &settings.roles, settings.bindings);
        let (bindings, recorder) = (Arc::new(bindings), Box::new(recordings.clone()));
        let asking =
            Asking::new(client, &settings, Arc::clone(&bindings), Arc::clone(&live), recordings, Arc::clone(clock));
        let proxy = Arc::new(Proxy {
            cluster,
            admit: Box::new(asking.clone()),
            confirm: Box::new(asking.clone()),
            roles: Arc::clone(&bindings) as Arc<dyn Roles>,
            record: Arc::clone(&spool) as Arc<dyn Record>,
            recorder,
            live,
            clock: Arc::clone(clock),
            rng: Arc::clone(rng),
        });
        let (mut listener, mut way) = (None, None);
        if let Some(direct) = &settings.direct {
            let (opened, told) = direct.open().await?;
            (listener, way) = (Some(opened), Some(told));
        }
        Ok(Self {
            settings,
            proxy,
            authority,
            asking,
            bindings,
            spool,
            listener,
            way,
            namespaces: Namespaces::default(),
        })
    }

    /// The way in through the server.
    pub(crate) fn door(&self, stop: &CancellationToken) -> Door {
        Door { proxy: Arc::clone(&self.proxy), asking: self.asking.clone(), stop: stop.clone() }
    }

    /// Serves until `stop`.
    pub(crate) async fn run(mut self, tasks: Tasks, stop: CancellationToken) {
        let listening = self.listener.take();
        let listening = listening.map(|listener| {
            tasks.spawn("the way in to the cluster", listener.serve(Arc::clone(&self.proxy), stop.clone()))
        });
        let asking = self.asking.clone();
        let looking = async move {
            let mut ticks = tokio::time::interval(CHECK);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                asking.look().await;
            }
        };
        let (asking, spool, rng) = (self.asking.clone(), Arc::clone(&self.spool), Arc::clone(&self.proxy.rng));
        let telling = tasks.spawn("telling of calls", async move { spool.tell(&asking, &*rng).await });
        tokio::select! {
            () = self.registering() => {}
            () = looking => {}
            () = stop.cancelled() => {}
        }
        if let Some(listening) = listening {
            let _ = listening.await;
        }
        // What goes on ends before the process does: its records and its recording have an end, and the server gets it.
        self.proxy.live.end("the relay stops").await;
        let _ = tokio::time::timeout(PARTING, self.spool.wait_empty()).await;
        telling.abort();
        if let calls @ 1.. = self.spool.untold() {
            tracing::error!(calls, "the server did not hear of everything that was done in the cluster");
        }
    }

    async fn registering(&mut self) {
        loop {
            let registered = self.register().await;
            if let Err(error) = &registered {
                tracing::warn!(error = format!("{error:#}"), "the server was not told of the cluster");
            }
            tokio::time::sleep(if registered.is_ok() { REGISTER } else { AGAIN }).await;
        }
    }

    async fn register(&mut self) -> anyhow::Result<()> {
        if let Some(tls) = self.authority.changed() {
            self.proxy.cluster.trust(tls);
        }
        let namespaces = self.namespaces.look(&self.proxy.cluster).await?;
        let way = self.way.as_ref().map(|way| way.told(self.proxy.clock.now())).transpose()?.flatten();
        let (address, authority) = way.unzip();
        let document = DestinationRegister {
            name: self.settings.name.to_string(),
            kind: "kubernetes".to_owned(),
            authority: authority.unwrap_or_default(),
            address,
            namespaces: told(namespaces),
            roles: self.settings.roles.clone(),
            version: crate::VERSION.to_owned(),
            cluster_sha256: std::fs::read_to_string(self.settings.account.join("ca.crt"))
                .ok()
                .and_then(|pem| crypto::client_certificate::only_certificate_sha256(&pem))
                .map(Digest::to_hex),
            certificate_ends_at: self.way.as_ref().map(Way::ends),
        };
        let (destination, granted) = self.asking.register(&document).await?;
        self.bindings.follow(granted, namespaces, destination).await;
        Ok(())
    }
}
