//! The agent at work: collects what is due, spools what there is to say, and sends it in order.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use crypto::system::{SystemClock, SystemRng};
use domain::{Clock as _, Timestamp};
use fleet::{Backoff, Client, Connection, Folder, Identity, Tls, Trust};
use http::Method;
use inventory::state_digest;
use plugins::HostPlugin;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use wire::report::{Answer, End, Head, Line, MEDIA_TYPE, Outcome, Program, SENT_BYTES};

use crate::collect::{self, Collected, LinuxHost, Room, Source};
use crate::command_line::VERSION;
use crate::config::{AgentSection, Config};
use crate::memory::Memory;
use crate::report::Part;
use crate::spool::Spool;
use crate::status::{ScopeStatus, Status};
use crate::watch::Watch;
use crate::{disk, pace, talk};

/// From this many packed bytes on a report is ended and the next one begun: what follows fits in any case.
const FULL: usize = SENT_BYTES / 2;
/// How long after a watched file changed it is looked at: what belongs together is told together.
const SETTLE: Duration = Duration::from_secs(1);
/// A watched file that changes all the time takes no more than a twentieth of a core.
const WATCH_SHARE: f64 = 20.0;
/// How long until an agent whose credential has ended asks again.
const ENDED: Duration = Duration::from_hours(1);

/// The folder of the identity.
pub(crate) fn identity_folder(agent: &AgentSection) -> PathBuf {
    agent.state_dir.join("identity")
}

/// The way to the server.
pub(crate) fn connection(agent: &AgentSection) -> anyhow::Result<Connection> {
    let server = agent.server.as_deref().context("no server is set: set `agent.server` or CAIRN_AGENT_SERVER")?;
    let trust = match &agent.ca_file {
        Some(path) => Trust::of_file(path)?,
        None => Trust::System,
    };
    let program = concat!("cairn-agent/", env!("CARGO_PKG_VERSION"));
    Ok(Connection::through(server, agent.relay.as_deref(), &Tls::new(trust), program)?)
}

fn program(source: &dyn Source) -> anyhow::Result<Program> {
    Ok(Program {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sha256: collect::own_digest().context("cannot read the running program: is /proc mounted?")?,
        config_sha256: source.settings(),
        host: rustix::system::uname().nodename().to_string_lossy().chars().take(255).collect(),
    })
}

/// Prints what a first report would say, line by line as it would be sent.
pub(crate) async fn print(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let source = LinuxHost::open(config.host.settings()).await?;
    let (mut memory, clock) = (Memory::default(), SystemClock);
    let epoch = u64::try_from(clock.now().as_millis()).unwrap_or_default();
    let (machine, program) = (source.machine().to_owned(), program(&source)?);
    let mut part = Part::default();
    let version = wire::report::VERSION;
    part.line(&Line::Head(Head {
        version,
        machine,
        epoch,
        sequence: 1,
        at: clock.now(),
        clock_offset_ms: None,
        program,
    }))?;
    out.write_all(part.text())?;
    for name in source.scopes() {
        let collected = collect::collect(&source, name, &memory, Room::USUAL, &clock).await?;
        if let Some(part) = collected.part {
            out.write_all(part.text())?;
        }
        memory.keep(name, collected.said, None)?;
    }
    let mut part = Part::default();
    part.line(&Line::End(End { forget: Vec::new(), state: state_digest(memory.digests()) }))?;
    out.write_all(part.text())?;
    Ok(())
}

/// When a collector runs, and what it costs.
struct Due {
    at: Instant,
    /// Seconds of a core, smoothed.
    cost: f64,
}

/// Everything at work.
struct Agent {
    settings: AgentSection,
    source: LinuxHost,
    program: Program,
    memory: Memory,
    spool: Spool,
    client: Client,
    epoch: u64,
    sequence: u64,
    due: BTreeMap<String, Due>,
    status: Status,
    failures: u32,
    retry: Option<Instant>,
}

/// The number of this run: larger than those before, also where the clock went back.
fn next_epoch(state: &Path, least: u64) -> u64 {
    let path = state.join("epoch");
    let last: u64 = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default();
    let now = u64::try_from(SystemClock.now().as_millis()).unwrap_or_default();
    let epoch = now.max(last.saturating_add(1)).max(least);
    if let Err(error) = disk::replace(&path, epoch.to_string().as_bytes()) {
        talk::warn(format!("cannot write `{}`: {error}", path.display()));
    }
    epoch
}

impl Agent {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        let settings = config.agent.clone();
        let folder = identity_folder(&settings);
        anyhow::ensure!(folder.exists(), "this host is not enrolled: run `cairn-agent enroll`");
        let folder = Folder::open(&folder)?;
        let identity = Identity::open(folder, Arc::new(SystemClock), Arc::new(SystemRng))?;
        let client = Client::new(connection(&settings)?, Arc::new(identity));
        let source = LinuxHost::open(config.host.settings()).await?;
        let program = program(&source)?;
        let memory = Memory::load(&settings.state_dir);
        let spool = Spool::open(&settings.state_dir, settings.spool_bytes_max).context("cannot read the spool")?;
        // A full disk may have kept the last run from writing its number down.
        let epoch = next_epoch(&settings.state_dir, spool.epoch().map_or(0, |last| last.saturating_add(1)));
        let now = Instant::now();
        let due = source.scopes().iter().map(|name| (name.clone(), Due { at: now, cost: 0.0 })).collect();
        let status = Status {
            version: VERSION.to_owned(),
            server: client.connection().server().to_string(),
            ..Status::default()
        };
        Ok(Self {
            settings,
            source,
            program,
            memory,
            spool,
            client,
            epoch,
            sequence: 0,
            due,
            status,
            failures: 0,
            retry: None,
        })
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(self.settings.interval_s)
    }

    fn head(&self, sequence: u64) -> Line {
        let at = SystemClock.now();
        Line::Head(Head {
            version: wire::report::VERSION,
            machine: self.source.machine().to_owned(),
            epoch: self.epoch,
            sequence,
            at,
            clock_offset_ms: Some(-self.client.identity().clock_offset_ms()),
            program: self.program.clone(),
        })
    }

    /// A report of these packed parts; without any it says that nothing changed.
    fn report(&self, sequence: u64, parts: &[u8], forget: Vec<String>) -> anyhow::Result<Vec<u8>> {
        let (mut head, mut end) = (Part::default(), Part::default());
        head.line(&self.head(sequence))?;
        end.line(&Line::End(End { forget, state: state_digest(self.memory.digests()) }))?;
        let mut report = head.packed()?;
        report.extend_from_slice(parts);
        report.extend_from_slice(&end.packed()?);
        Ok(report)
    }

    fn spool(&mut self, parts: &[u8], forget: Vec<String>, names: &[String]) -> anyhow::Result<()> {
        self.sequence += 1;
        let report = self.report(self.sequence, parts, forget)?;
        let (dropped, error) = self.spool.push((self.epoch, self.sequence), report);
        if dropped {
            // What was in it nobody knows any more: every scope is told from the beginning once the server answers again.
            let all: Vec<String> = self.source.scopes().to_vec();
            let others = all.iter().filter(|name| !names.contains(name)).map(String::as_str);
            self.memory.tell_whole(others);
            talk::warn(format!("the spool is full: {} reports were given up so far", self.spool.dropped));
        }
        if let Some(error) = error {
            self.status.disk = Some(error.to_string());
            talk::warn(format!("cannot spool a report, it waits in memory: {error}"));
        }
        Ok(())
    }

    /// Collects one scope in a way that fits into a report.
    async fn collect(&self, name: &str) -> anyhow::Result<(Collected, Vec<u8>)> {
        for room in [Room::USUAL, Room::LEAST] {
            let collected = collect::collect(&self.source, name, &self.memory, room, &SystemClock).await?;
            let packed = collected.part.as_ref().map_or(Ok(Vec::new()), Part::packed)?;
            if packed.len() <= FULL {
                return Ok((collected, packed));
            }
        }
        anyhow::bail!("`{name}` does not fit into a report")
    }

    /// Collects these scopes and spools what changed.
    async fn cycle(&mut self, names: &[String]) -> anyhow::Result<()> {
        let state = self.settings.state_dir.clone();
        let forget = self.memory.others(self.source.scopes());
        for name in &forget {
            self.memory.forget(name, &state);
        }
        let (mut parts, mut inside, mut forget) = (Vec::new(), Vec::new(), forget);
        if !self.spool.holds() {
            self.status.disk = None;
        }
        for name in names {
            let before = pace::cpu_seconds();
            let collected = self.collect(name).await;
            let cost = (pace::cpu_seconds() - before).max(0.0);
            if let Some(due) = self.due.get_mut(name) {
                due.cost = if due.cost == 0.0 { cost } else { due.cost.mul_add(0.7, cost * 0.3) };
            }
            let (collected, packed) = match collected {
                Ok(collected) => collected,
                Err(error) => {
                    talk::warn(format!("cannot collect `{name}`: {error:#}"));
                    continue;
                }
            };
            let entry = ScopeStatus {
                coverage: collected.said.coverage.as_str().to_owned(),
                reason: collected.said.coverage.reason().map(str::to_owned),
                nodes: collected.said.held.nodes.len(),
                cpu_ms: cost * 1_000.0,
                every_s: 0,
            };
            self.status.scopes.insert(name.clone(), entry);
            if collected.part.is_none() {
                continue;
            }
            if parts.len() + packed.len() > FULL {
                self.spool(&parts, std::mem::take(&mut forget), &inside)?;
                (parts, inside) = (Vec::new(), Vec::new());
            }
            parts.extend_from_slice(&packed);
            inside.push(collected.name.clone());
            if let Err(error) = self.memory.keep(&collected.name, collected.said, Some(&state)) {
                // The next start tells this scope from the beginning.
                self.status.disk = Some(error.to_string());
            }
        }
        if !parts.is_empty() || !forget.is_empty() {
            self.spool(&parts, forget, &inside)?;
        }
        self.status.collected_at = Some(SystemClock.now());
        Ok(())
    }

    /// When everything that ran runs again.
    fn plan(&mut self, ran: &[String], now: Instant) {
        let costs = self.due.iter().map(|(name, due)| (name.clone(), due.cost)).collect();
        let periods = pace::periods(&costs, self.interval(), self.settings.cpu_percent_max);
        // One jitter for all: what runs at every interval runs together and is told together.
        let jitter = pace::jittered(&SystemRng, Duration::from_secs(1)).as_secs_f64();
        for name in ran {
            let (Some(due), Some(period)) = (self.due.get_mut(name), periods.get(name)) else { continue };
            due.at = now + period.mul_f64(jitter);
            if let Some(entry) = self.status.scopes.get_mut(name) {
                entry.every_s = period.as_secs();
            }
        }
    }

    /// Sends what waits, and then that nothing else changed if nothing waited. Whether everything arrived.
    async fn send(&mut self, heartbeat: bool) -> bool {
        let mut quiet = true;
        while let Some((number, report)) = self.spool.first() {
            quiet = false;
            match self.post(&report).await {
                Ok(answer) => {
                    self.spool.done(number);
                    self.take(&answer);
                }
                Err(error) if !Self::gives_up(&error) => return self.failed(&error),
                Err(error) => {
                    talk::warn(format!("the server refuses a report, which is given up: {error}"));
                    self.spool.done(number);
                    self.memory.tell_whole(self.source.scopes().iter().map(String::as_str));
                    return self.failed(&error);
                }
            }
        }
        if quiet && heartbeat {
            let Ok(report) = self.report(self.sequence, &[], Vec::new()) else { return false };
            match self.post(&report).await {
                Ok(answer) => self.take(&answer),
                Err(error) => return self.failed(&error),
            }
        }
        self.failures = 0;
        self.retry = None;
        self.status.error = None;
        self.status.accepted_at = Some(SystemClock.now());
        true
    }

    /// Whether a report will never be taken as it is.
    fn gives_up(error: &fleet::Error) -> bool {
        matches!(error, fleet::Error::Refused { status: 400 | 409 | 413, .. })
    }

    async fn post(&mut self, report: &[u8]) -> fleet::Result<Answer> {
        match self.client.renew_if_due(env!("CARGO_PKG_VERSION")).await {
            Ok(_) => self.status.renewal = None,
            // Where the next credential cannot be kept, the one so far goes on.
            Err(error @ fleet::Error::Folder { .. }) if self.client.identity().is_good() => {
                let text = format!(
                    "the credential is not renewed yet, and ends on {}: {error}",
                    self.client.identity().expires_at()
                );
                if self.status.renewal.as_deref() != Some(&text) {
                    talk::warn(&text);
                }
                self.status.renewal = Some(text);
            }
            Err(error) => return Err(error),
        }
        let target = format!("{}/report", self.client.path());
        let answer = self.client.call_as(Method::POST, &target, MEDIA_TYPE, report).await?;
        let server = || self.client.connection().server().to_string();
        serde_json::from_slice(&answer.body).map_err(|_| fleet::Error::Nonsense { server: server() })
    }

    /// Does what the answer asks.
    fn take(&mut self, answer: &Answer) {
        if answer.epoch > self.epoch {
            // The clock went back, or the folder is an old copy.
            self.epoch = next_epoch(&self.settings.state_dir, answer.epoch.saturating_add(1));
            self.sequence = 0;
        }
        // What waits may be what the server lacks: only with nothing left the two states have to be the same.
        if answer.result == Outcome::Resend && self.spool.len() == 0 {
            let differs = |(name, digest): &(&str, domain::Digest)| answer.scopes.get(*name) != Some(digest);
            let names: Vec<String> = self.memory.digests().filter(differs).map(|(name, _)| name.to_owned()).collect();
            let gone: Vec<String> =
                answer.scopes.keys().filter(|name| !self.source.scopes().contains(name)).cloned().collect();
            talk::info(format!("the server asks for {} scopes from the beginning", names.len()));
            self.memory.tell_whole(names.iter().map(String::as_str));
            for name in names {
                if let Some(due) = self.due.get_mut(&name) {
                    due.at = Instant::now();
                }
            }
            if !gone.is_empty()
                && let Err(error) = self.spool(&[], gone, &[])
            {
                talk::warn(format!("cannot tell which scopes ended: {error:#}"));
            }
        }
    }

    fn failed(&mut self, error: &fleet::Error) -> bool {
        let asked = match error {
            fleet::Error::Refused { wait_s, .. } => wait_s.map(Duration::from_secs),
            _ => None,
        };
        let most = if error.has_ended() { ENDED } else { self.interval() };
        let asked = if error.has_ended() { Some(ENDED) } else { asked };
        let backoff = Backoff { least: Duration::from_millis(500), first: Duration::from_secs(1), most };
        let wait = backoff.wait(&SystemRng, self.failures, asked);
        self.failures = self.failures.saturating_add(1);
        self.retry = Some(Instant::now() + wait);
        let text = if error.has_ended() {
            // Nothing but enrolling helps, and somebody has to do it.
            let folder = identity_folder(&self.settings);
            format!(
                "the server lets this agent in no more: it was revoked, its credential expired, or a copy of its key is in use; \
                 remove `{}` and run `cairn-agent enroll` with a new token ({error})",
                folder.display()
            )
        } else {
            error.to_string()
        };
        if self.status.error.as_deref() != Some(&text) {
            talk::warn(format!("cannot report: {text}; {} reports wait", self.spool.len()));
        }
        self.status.error = Some(text);
        false
    }

    fn write_status(&mut self) {
        self.status.epoch = self.epoch;
        self.status.sequence = self.sequence;
        self.status.id = self.client.identity().id().to_string();
        self.status.pid = std::process::id();
        let left = self.retry.map(|at| at.saturating_duration_since(Instant::now()).as_millis());
        self.status.retry_at = left.map(|left| SystemClock.now().plus_millis(i64::try_from(left).unwrap_or(i64::MAX)));
        self.status.expires_at = Some(self.client.identity().expires_at());
        self.status.spooled = self.spool.len();
        self.status.spooled_bytes = self.spool.bytes();
        self.status.dropped = self.spool.dropped;
        self.status.resident_bytes = pace::resident_bytes();
        self.status.cpu_s = pace::cpu_seconds();
        // Where it cannot be written there is nobody to tell but the journal, which knows why.
        let _ = self.status.write(&self.settings.state_dir);
    }

    fn due_now(&self, now: Instant) -> Vec<String> {
        self.source
            .scopes()
            .iter()
            .filter(|name| self.due.get(*name).is_some_and(|due| due.at <= now))
            .cloned()
            .collect()
    }
}

/// Collects and reports once.
pub(crate) async fn once(config: &Config) -> anyhow::Result<()> {
    let mut agent = Agent::open(config).await?;
    // The second time for what the server had lost.
    for _ in 0..2 {
        let names = agent.due_now(Instant::now());
        agent.cycle(&names).await?;
        agent.plan(&names, Instant::now());
        let arrived = agent.send(true).await;
        agent.write_status();
        if !arrived {
            anyhow::bail!("{}", agent.status.error.clone().unwrap_or_default());
        }
        if agent.memory.untold().next().is_none() {
            return Ok(());
        }
    }
    Ok(())
}

/// Waits for a changed file; for ever without a watch.
async fn changed(watch: Option<&Watch>) -> std::io::Result<()> {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Collects and reports until it is told to stop.
pub(crate) async fn run(config: &Config) -> anyhow::Result<()> {
    let mut agent = Agent::open(config).await?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut watch = None;
    if config.agent.watch && agent.source.scopes().iter().any(|name| name == "integrity") {
        match Watch::open(&HostPlugin::integrity_paths(&config.host.settings())?) {
            Ok(opened) => watch = Some(opened),
            Err(error) => talk::warn(format!("files are not watched, and looked at every interval instead: {error}")),
        }
    }
    talk::info(format!("cairn-agent {VERSION} reports to {}", agent.client.connection().server()));
    // Agents that were updated together do not begin together.
    let first =
        Instant::now() + fleet::between(&SystemRng, Duration::ZERO, agent.interval().min(Duration::from_secs(30)) / 10);
    agent.due.values_mut().for_each(|due| due.at = first);
    let mut looked: Option<Instant> = None;
    loop {
        let next = agent.due.values().map(|due| due.at).min();
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = at(looked) => {
                looked = None;
                let names = ["integrity".to_owned()];
                if let Some(watch) = &mut watch {
                    // Before reading: what changes from here on is an event again.
                    watch.renew();
                    watch.drain().unwrap_or_default();
                }
                agent.cycle(&names).await?;
                agent.plan(&names, Instant::now());
                if agent.retry.is_none() {
                    agent.send(false).await;
                }
            }
            () = at(next) => {
                // What is due a moment later is told along.
                let names = agent.due_now(Instant::now() + agent.interval() / 20);
                if let Some(watch) = &mut watch {
                    watch.renew();
                }
                agent.cycle(&names).await?;
                agent.plan(&names, Instant::now());
                if agent.retry.is_none() {
                    agent.send(true).await;
                }
            }
            () = at(agent.retry) => {
                agent.send(true).await;
            }
            event = changed(watch.as_ref()), if looked.is_none() => match event {
                Ok(()) => {
                    let cost = agent.due.get("integrity").map_or(0.0, |due| due.cost);
                    looked = Some(Instant::now() + SETTLE.max(Duration::from_secs_f64((cost * WATCH_SHARE).min(300.0))));
                }
                Err(error) => {
                    talk::warn(format!("files are not watched any more: {error}"));
                    watch = None;
                }
            },
        }
        agent.write_status();
    }
    talk::info("stopped");
    agent.write_status();
    Ok(())
}

/// When something was, for people.
pub(crate) fn ago(then: Option<Timestamp>) -> String {
    then.map_or_else(|| "never".to_owned(), |then| format!("{} s ago", SystemClock.now().millis_since(then) / 1_000))
}
