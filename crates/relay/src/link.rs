//! Staying connected: dials, says hello, goes on with the session after a cut, and waits with backoff and jitter in between.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use domain::{Digest, Rng};
use fleet::{Backoff, Client, Tls};
use gateway::session::{Session, Timing};
use gateway::websocket::{Side, WebSocketError};
use gateway::{Channel, LinkEnd, Tasks, channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire::frame::{Body, Frame, Reason, VERSION};
use wire::relay::{Hello, SessionKey, Welcome};

use crate::config::Settings;
use crate::dial::{self, Ended, Proxy};
use crate::task::Worker;

/// The waits after a cut.
const WAIT: Backoff =
    Backoff { least: Duration::ZERO, first: Duration::from_millis(500), most: Duration::from_secs(30) };
/// The same while tasks wait for the session to go on.
const WAIT_SESSION: Backoff = Backoff { most: Duration::from_secs(3), ..WAIT };
/// A link that was there for so long ends a row of failures.
const STEADY: Duration = Duration::from_secs(20);
/// How long the server's first words may take.
const GREETING: Duration = Duration::from_secs(20);
/// How long until a relay that is let in no more asks again: nothing but enrolling helps, and somebody has to do it.
const ENDED: Duration = Duration::from_hours(1);
/// How often it is looked whether the credential is due.
const RENEWAL: Duration = Duration::from_hours(1);

/// The link to the server.
pub(crate) struct Link {
    server: String,
    host: String,
    proxy: Option<Proxy>,
    tls: Arc<rustls::ClientConfig>,
    client: Client,
    worker: Arc<Worker>,
    program: Digest,
    rng: Arc<dyn Rng>,
    tasks: TaskTracker,
    session: Option<Open>,
    data_dir: PathBuf,
    /// The relay is let in no more: for whoever else has to know.
    ended: Arc<AtomicBool>,
}

/// A session that may go on.
struct Open {
    key: SessionKey,
    channel: Channel,
    resume: Duration,
    /// When its link was cut.
    cut: Option<Instant>,
}

/// SHA-256 of the program that runs.
fn program() -> anyhow::Result<Digest> {
    let mut file = std::fs::File::open("/proc/self/exe").context("this program cannot be read")?;
    let (mut hash, mut piece) = (crypto::Sha256::new(), vec![0; 256 * 1_024]);
    loop {
        match std::io::Read::read(&mut file, &mut piece)? {
            0 => return Ok(hash.finish()),
            length => hash.update(piece.get(..length).unwrap_or_default()),
        }
    }
}

impl Link {
    pub(crate) fn new(
        settings: &Settings,
        client: Client,
        tls: &Tls,
        worker: Arc<Worker>,
        rng: Arc<dyn Rng>,
        ended: Arc<AtomicBool>,
    ) -> anyhow::Result<Self> {
        // With a certificate of its own it asks to be asked for it; a proxy in between picks what it knows.
        let protocols: &[&[u8]] =
            if tls.certificate.is_some() { &[wire::relay::TLS_PROTOCOL, b"http/1.1"] } else { &[b"http/1.1"] };
        Ok(Self {
            server: settings.server.clone(),
            host: settings.host.clone(),
            proxy: settings.proxy.clone(),
            tls: Arc::new(tls.client_config(protocols)?),
            client,
            worker,
            program: program()?,
            rng,
            tasks: TaskTracker::new(),
            session: None,
            data_dir: settings.data_dir.clone(),
            ended,
        })
    }

    /// Holds the link until `stop`.
    pub(crate) async fn run(mut self, tasks: Tasks, stop: CancellationToken) {
        let client = self.client.clone();
        let renewing = tasks.spawn("renewing the credential", async move {
            loop {
                if let Err(error) = client.renew_if_due(crate::VERSION).await {
                    tracing::warn!(%error, "the credential was not renewed yet");
                }
                tokio::time::sleep(RENEWAL).await;
            }
        });
        let mut failures = 0;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let tried = tokio::select! {
                tried = self.once(&stop) => tried,
                () = stop.cancelled() => break,
            };
            let asked = tried.as_ref().err().and_then(asked);
            match tried {
                Ok(end) => tracing::info!(%end, "the link ended"),
                Err(error) if error.is::<Ended>() => {
                    self.end_session("the relay is let in no more");
                    self.ended.store(true, Ordering::Relaxed);
                    tracing::error!(
                        error = format!("{error:#}"),
                        "this relay is let in no more, and asks again in an hour: remove `{}` and start it with a new RELAY_TOKEN",
                        self.data_dir.display()
                    );
                    let wait = fleet::between(&*self.rng, ENDED, ENDED.mul_f64(1.1));
                    tokio::select! {
                        () = tokio::time::sleep(wait) => continue,
                        () = stop.cancelled() => break,
                    }
                }
                Err(error) => tracing::warn!(error = format!("{error:#}"), "no link to the server"),
            }
            if began.elapsed() > STEADY {
                failures = 0;
            }
            self.forget_late_session();
            let backoff = if self.session.is_some() { WAIT_SESSION } else { WAIT };
            tokio::select! {
                () = tokio::time::sleep(backoff.wait(&*self.rng, failures, asked)) => {}
                () = stop.cancelled() => {}
            }
            failures = failures.saturating_add(1);
        }
        renewing.abort();
        self.end_session("the relay stops");
        self.tasks.close();
        let _ = tokio::time::timeout(GREETING, self.tasks.wait()).await;
    }

    fn end_session(&mut self, text: &str) {
        if let Some(open) = self.session.take() {
            open.channel.end(Reason::Done, text);
        }
    }

    /// Ends the tasks of a session that the server keeps no longer.
    fn forget_late_session(&mut self) {
        let late = |open: &Open| open.cut.is_some_and(|cut| cut.elapsed() > open.resume);
        if self.session.as_ref().is_some_and(late) {
            self.end_session("the link was cut for too long");
        }
    }

    /// One link, from dialing to its end.
    async fn once(&mut self, stop: &CancellationToken) -> anyhow::Result<LinkEnd> {
        let identity = self.client.identity();
        let (mut socket, mut buffer) =
            dial::channel(&self.server, self.proxy.as_ref(), &self.tls, identity, &*self.rng).await?;
        let hello = Hello {
            versions: vec![VERSION],
            session: self.session.as_ref().map(|open| open.key),
            received: self.session.as_ref().map_or(0, |open| open.channel.received()),
            version: crate::VERSION.to_owned(),
            program: self.program,
            host: self.host.clone(),
            plugins: self.worker.plugins(),
            sealing_key: self.worker.sealing_key(),
        };
        let hello = serde_json::to_vec(&hello)?;
        channel::write_first(&mut socket, Side::Client, Body::Hello(&hello), &*self.rng).await?;
        let first = channel::read_first(&mut socket, Side::Client, &mut buffer);
        let first = tokio::time::timeout(GREETING, first).await.context("the server does not greet")??;
        let welcome: Welcome = match Frame::decode(&first)?.body {
            Body::Welcome(document) => serde_json::from_slice(document)?,
            Body::Goodbye(reason, text) => bail!("the server refuses this relay ({reason}): {text}"),
            _ => bail!("the server does not greet first"),
        };
        if welcome.version != VERSION {
            bail!("the server wants version {} of the channel, which this relay does not speak", welcome.version);
        }
        let channel = self.channel_of(&welcome);
        self.ended.store(false, Ordering::Relaxed);
        tracing::info!(resumed = welcome.resumed, "connected");
        let off_s = -self.client.identity().clock_offset_ms() / 1_000;
        if off_s != 0 {
            tracing::warn!(off_s, "this machine's clock is off: tokens and certificates are judged by the server's");
        }
        let end = channel.drive(socket, Side::Client, buffer, welcome.received, &*self.rng, stop).await;
        if end.may_resume() && channel.ended().is_none() {
            if let Some(open) = &mut self.session {
                open.cut = Some(Instant::now());
            }
        } else {
            self.end_session(&end.to_string());
        }
        Ok(end)
    }

    /// The channel that the server speaks of: the one that was cut, or a new one, with which the tasks of the one before are over.
    fn channel_of(&mut self, welcome: &Welcome) -> Channel {
        if let Some(open) = &mut self.session
            && welcome.resumed
            && open.key == welcome.session
        {
            open.cut = None;
            return open.channel.clone();
        }
        self.end_session("the server does not know the session any more");
        let heartbeat_ms = u64::from(welcome.heartbeat_ms).max(100);
        let channel = Channel::new(Session::relay(Timing { heartbeat_ms, answer_ms: heartbeat_ms }));
        let resume = Duration::from_millis(welcome.resume_ms.into());
        self.session = Some(Open { key: welcome.session, channel: channel.clone(), resume, cut: None });
        let (accepting, worker, tasks) = (channel.clone(), Arc::clone(&self.worker), self.tasks.clone());
        self.tasks.spawn(async move {
            while let Some(stream) = accepting.accept().await {
                tasks.spawn(Arc::clone(&worker).run(stream));
            }
        });
        channel
    }
}

/// How long the server asks to wait, where it does.
fn asked(error: &anyhow::Error) -> Option<Duration> {
    match error.downcast_ref() {
        Some(WebSocketError::Refused(answer)) => answer.retry_after_s.map(Duration::from_secs),
        _ => None,
    }
}
