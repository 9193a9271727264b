//! The conformance test of a plugin: what a server would refuse, found before; with calls from the world or from a tape.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::{Clock, Coverage, CredentialId, EdgeObservation, Error, Page, Result, Rng, ScopeId, Secret};
use plugins::{Ending, Plugin as _, Removed, Sink};
use serde::Serialize;
use serde_json::{Map, Value};
use transport::aws::Pacer;
use transport::{
    AwsClient, AwsConfig, AwsCredentials, AwsReach, Guard, HostReach, HttpClient, HttpConfig, HttpCredential,
    HttpReach, Reach, Recorder,
};

use crate::folder::Folder;
use crate::plugin::GuestPlugin;
use crate::process::Surroundings;
use crate::run::{self, Checkpoints, Outcome};
use crate::tape::{Source, Tape, Taper};

/// Where a check's calls go.
#[derive(Debug)]
pub enum Calls {
    /// Nowhere: what needs calls is left out.
    None,
    /// From this tape.
    Replay(PathBuf),
    /// To the world, and onto this tape.
    Record(PathBuf),
}

/// What to check.
#[derive(Debug)]
pub struct Options {
    /// The plugin's folder.
    pub path: PathBuf,
    /// How it is started.
    pub surroundings: Surroundings,
    /// A job's settings.
    pub settings: Map<String, Value>,
    /// Where its calls go.
    pub calls: Calls,
    /// What a stored credential would hold, for calls to the world.
    pub credential: Option<Secret>,
    /// Whether calls may go to this machine.
    pub loopback: bool,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it has to be.
    Passed,
    /// Not so.
    Failed,
    /// Not looked at.
    Skipped,
}

/// One check.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    /// What was checked.
    pub check: &'static str,
    /// How it went.
    pub result: Verdict,
    /// What was seen, or what to change.
    pub detail: String,
}

/// All checks, in their order.
#[derive(Debug, Default)]
pub struct Report {
    /// The checks.
    pub items: Vec<Item>,
}

impl Report {
    /// Whether nothing failed.
    pub fn is_ok(&self) -> bool {
        self.items.iter().all(|item| item.result != Verdict::Failed)
    }

    fn add(&mut self, check: &'static str, result: Result<String, String>) -> bool {
        let (result, detail) = match result {
            Ok(detail) => (Verdict::Passed, detail),
            Err(detail) => (Verdict::Failed, detail),
        };
        self.items.push(Item { check, result, detail });
        result == Verdict::Passed
    }

    fn skip(&mut self, check: &'static str, why: &str) {
        self.items.push(Item { check, result: Verdict::Skipped, detail: why.to_owned() });
    }
}

const READ: &str = "the folder and the manifest are sound";
const START: &str = "it starts in the sandbox and is what its manifest says";
const SETTINGS: &str = "the settings are as its schema says";
const ACCEPTS: &str = "it accepts these settings";
const DISCOVER: &str = "it discovers, and everything that it says holds";
const AGAIN: &str = "the same answers give the same observations";
const DENIED: &str = "with every call denied it says of no scope that it is complete";
const DIFF: &str = "a diff from its checkpoints comes to the same";
const UNKNOWN: &str = "from a checkpoint that it does not know it shows everything";
const DIFF_DENIED: &str = "with every call denied a diff says of no scope that it is unchanged";
const SECRET: &str = "the credential is not on the tape";

/// What a run showed of a scope.
#[derive(Debug, Default, PartialEq)]
struct Scope {
    /// Nodes and edges as JSON, by what tells them apart.
    items: BTreeMap<String, String>,
    coverage: Option<Coverage>,
    /// What is gone, where only the difference was shown.
    since: Option<Removed>,
    checkpoint: Vec<u8>,
}

/// What a run showed.
#[derive(Debug, Default)]
struct Shown {
    scopes: BTreeMap<ScopeId, Scope>,
}

fn edge_key(edge: &EdgeObservation) -> String {
    format!("{} {} {} {}", edge.source, edge.edge_type, edge.target, edge.discriminator)
}

#[async_trait]
impl Sink for Shown {
    async fn page(&mut self, page: Page) -> Result<()> {
        let items = &mut self.scopes.entry(page.scope).or_default().items;
        let json = |item: serde_json::Result<String>| item.map_err(Error::internal);
        for node in &page.nodes {
            items.entry(node.id.to_string()).or_insert(json(serde_json::to_string(node))?);
        }
        for edge in &page.edges {
            items.entry(edge_key(edge)).or_insert(json(serde_json::to_string(edge))?);
        }
        Ok(())
    }

    async fn scope_done(&mut self, scope: ScopeId, coverage: Coverage) -> Result<()> {
        self.scopes.entry(scope).or_default().coverage = Some(coverage);
        Ok(())
    }

    async fn scope_ended(&mut self, scope: ScopeId, ending: Ending) -> Result<()> {
        let shown = self.scopes.entry(scope).or_default();
        (shown.coverage, shown.since, shown.checkpoint) = (Some(ending.coverage), ending.since, ending.checkpoint);
        Ok(())
    }

    fn progress(&mut self, _done: u64, _total: u64, _what: &str) {}
}

impl Shown {
    fn count(&self) -> usize {
        self.scopes.values().map(|shown| shown.items.len()).sum()
    }

    fn is_like(&self, other: &Self) -> bool {
        let alike = |(one, two): (&Scope, &Scope)| (&one.items, &one.coverage) == (&two.items, &two.coverage);
        self.scopes.keys().eq(other.scopes.keys()) && self.scopes.values().zip(other.scopes.values()).all(alike)
    }

    /// What a server would offer to the next run.
    fn checkpoints(&self) -> Checkpoints {
        let kept = self.scopes.iter().filter(|(_, shown)| {
            !shown.checkpoint.is_empty() && shown.coverage.as_ref().is_some_and(Coverage::may_close)
        });
        kept.map(|(scope, shown)| (scope.clone(), shown.checkpoint.clone())).collect()
    }

    fn verdicts(&self) -> String {
        let words = self.scopes.iter().map(|(scope, shown)| {
            let coverage = shown.coverage.as_ref();
            let reason = coverage.and_then(Coverage::reason).map(|why| format!(" ({why})")).unwrap_or_default();
            let verdict = coverage.map_or("no verdict", Coverage::as_str);
            format!("{}: {} seen, {verdict}{reason}", own(scope), shown.items.len())
        });
        words.collect::<Vec<_>>().join("; ")
    }
}

/// The plugin's own name of a scope.
fn own(scope: &ScopeId) -> &str {
    scope.as_str().splitn(3, ':').last().unwrap_or_default()
}

/// The world, as a job would reach it.
struct Live {
    http: HttpClient,
    aws: Option<AwsClient>,
    credential: Option<CredentialId>,
}

impl Reach for Live {
    fn aws(&self) -> Option<&dyn AwsReach> {
        self.aws.as_ref().map(|client| client as &dyn AwsReach)
    }

    fn host(&self) -> Option<&dyn HostReach> {
        None
    }

    fn http(&self) -> Option<&dyn HttpReach> {
        Some(&self.http)
    }

    fn credential(&self) -> Option<CredentialId> {
        self.credential
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

impl Live {
    fn open(
        options: &Options,
        settings: &Map<String, Value>,
        credential: Option<CredentialId>,
        clock: &Arc<dyn Clock>,
        rng: &Arc<dyn Rng>,
    ) -> Result<Self, transport::CallError> {
        let recorder = Arc::new(Recorder::default());
        let aws = options.credential.as_ref().and_then(|secret| AwsCredentials::from_secret_json(secret).ok());
        let aws = aws.map(|keys| {
            let config = AwsConfig::from_settings(settings, Guard::loopback(options.loopback))?;
            let pacer = Arc::new(Pacer::default());
            AwsClient::new(keys, config, pacer, Arc::clone(&recorder), Arc::clone(clock), Arc::clone(rng))
        });
        let aws = aws.transpose()?;
        let http = match &options.credential {
            Some(secret) if aws.is_none() => Some(HttpCredential::from_secret_json(secret)?),
            _ => None,
        };
        let config = HttpConfig { guard: Guard::loopback(options.loopback), ..HttpConfig::default() };
        let http = HttpClient::new(http, config, recorder, Arc::clone(clock), Arc::clone(rng))?;
        Ok(Self { http, aws, credential })
    }
}

fn words(error: Error) -> String {
    match error {
        Error::Internal { detail } => detail,
        Error::Unavailable { message, detail } => format!("{message} ({detail})"),
        other => other.to_string(),
    }
}

struct Checked {
    plugin: GuestPlugin,
    settings: Map<String, Value>,
}

impl Checked {
    async fn run(&self, reach: &dyn Reach, checkpoints: Checkpoints) -> Result<(Shown, Outcome), String> {
        let mut shown = Shown::default();
        let mut running = self.plugin.start().await.map_err(words)?;
        let job = self.plugin.job(&self.settings, reach);
        let outcome = run::run(&mut running, &job, checkpoints, &mut shown).await.map_err(words)?;
        Ok((shown, outcome))
    }

    async fn discover(&self, reach: &dyn Reach) -> Result<Shown, String> {
        self.run(reach, Vec::new()).await.map(|(shown, _)| shown)
    }
}

/// Runs every check that can be run.
pub async fn check(options: &Options, clock: &Arc<dyn Clock>, rng: &Arc<dyn Rng>) -> Report {
    let mut report = Report::default();
    let folder = match Folder::read(&options.path) {
        Ok(folder) => folder,
        Err(error) => {
            report.add(READ, Err(words(error)));
            return report;
        }
    };
    report.add(READ, Ok(format!("{} {}, SHA-256 {}", folder.manifest.name, folder.manifest.version, folder.digest)));
    let plugin = GuestPlugin::new(folder, options.surroundings.clone());
    let begun = clock.now();
    let running = match plugin.start().await {
        Ok(running) => running,
        Err(error) => {
            report.add(START, Err(words(error)));
            return report;
        }
    };
    report.add(START, Ok(format!("after {} ms", clock.now().millis_since(begun))));
    let mut tape = Tape::default();
    if let Calls::Replay(path) = &options.calls {
        match Tape::read(path) {
            Ok(read) => tape = read,
            Err(error) => {
                report.add(DISCOVER, Err(words(error)));
                return report;
            }
        }
    }
    let given = if options.settings.is_empty() { &tape.settings } else { &options.settings };
    let settings = match plugin.folder.manifest.settings(given) {
        Ok(settings) => settings,
        Err(error) if matches!(options.calls, Calls::None) && given.is_empty() => {
            report.skip(SETTINGS, &format!("give --set KEY=VALUE: {error}"));
            return report;
        }
        Err(error) => {
            report.add(SETTINGS, Err(words(error)));
            return report;
        }
    };
    report.add(SETTINGS, Ok(format!("{} given", settings.len())));
    let accepted = plugin.validate_settings(&running, &settings).await;
    drop(running);
    if !report.add(ACCEPTS, accepted.map(|()| String::new()).map_err(words)) {
        return report;
    }
    let checked = Checked { plugin, settings };
    discover(&mut report, &checked, options, tape, clock, rng).await;
    report
}

async fn discover(
    report: &mut Report,
    checked: &Checked,
    options: &Options,
    tape: Tape,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
) {
    let credential =
        (options.credential.is_some() || tape.authenticated).then(|| CredentialId::generate(&**clock, &**rng));
    let name = checked.plugin.manifest().name.to_owned();
    let first = match &options.calls {
        Calls::None => {
            for check in [DISCOVER, AGAIN, DIFF, UNKNOWN, DIFF_DENIED] {
                report.skip(check, "give --record FILE to call the world once, then --replay FILE");
            }
            let nothing = Taper::new(Source::Nothing, credential, Tape::default());
            denied(report, DENIED, checked, &nothing, Vec::new()).await;
            return;
        }
        Calls::Replay(_) if tape.plugin != name => {
            report.add(DISCOVER, Err(format!("the tape is of the plugin `{}`", tape.plugin.escape_debug())));
            return;
        }
        Calls::Replay(_) => {
            let taper = Taper::new(Source::Tape, credential, tape);
            let first = checked.discover(&taper).await;
            (first, taper.into_tape())
        }
        Calls::Record(path) => {
            let live = match Live::open(options, &checked.settings, credential, clock, rng) {
                Ok(live) => live,
                Err(error) => {
                    report.add(DISCOVER, Err(error.to_string()));
                    return;
                }
            };
            let empty = Tape {
                plugin: name,
                settings: checked.settings.clone(),
                authenticated: credential.is_some(),
                ..Tape::default()
            };
            let taper = Taper::new(Source::Live(&live), credential, empty);
            let first = checked.discover(&taper).await;
            // A diff may ask other things than a discovery: they belong on the tape too. How it went is judged from there.
            if let Ok(first) = &first
                && checked.plugin.folder.manifest.diff
            {
                let _ = checked.run(&taper, first.checkpoints()).await;
            }
            let tape = taper.into_tape();
            if let Some(secret) = &options.credential {
                let leaked = leaks(secret, &serde_json::to_string(&tape).unwrap_or_default());
                if !report.add(SECRET, leaked) {
                    return;
                }
            }
            if let Err(error) = tape.write(path) {
                report.add(DISCOVER, Err(words(error)));
                return;
            }
            (first, tape)
        }
    };
    let (first, tape) = first;
    let shown = match first {
        Ok(first) => first,
        Err(why) => {
            report.add(DISCOVER, Err(why));
            return;
        }
    };
    let silent = shown.scopes.is_empty();
    let said = if silent { Err("it showed no scope".to_owned()) } else { Ok(shown.verdicts()) };
    report.add(DISCOVER, said);
    let taper = Taper::new(Source::Tape, credential, tape);
    let again = checked.discover(&taper).await;
    let checkpoints = again.as_ref().map(Shown::checkpoints).unwrap_or_default();
    let same = again.and_then(|again| {
        if again.is_like(&shown) {
            Ok(format!("{} nodes and edges, twice", shown.count()))
        } else {
            Err(format!("first {}; then {}", shown.verdicts(), again.verdicts()))
        }
    });
    report.add(AGAIN, same);
    let why = match (checked.plugin.folder.manifest.diff, checkpoints.is_empty()) {
        (false, _) => Some("its manifest does not say `diff = true`"),
        (true, true) => Some("no scope that was read completely left a checkpoint"),
        (true, false) => None,
    };
    let nothing = Taper::new(Source::Nothing, credential, Tape::default());
    if let Some(why) = why {
        for check in [DIFF, UNKNOWN, DIFF_DENIED] {
            report.skip(check, why);
        }
    } else {
        // The tape goes on where the second discovery ended: what the recorded diff was answered comes next.
        let diff = checked.run(&taper, checkpoints.clone()).await;
        report.add(DIFF, diff.and_then(|(diff, outcome)| comes_to_the_same(&shown, &diff, &outcome)));
        let taper = Taper::new(Source::Tape, credential, taper.into_tape());
        let unknown = checkpoints.iter().map(|(scope, _)| (scope.clone(), b"another's checkpoint".to_vec())).collect();
        report.add(
            UNKNOWN,
            checked.run(&taper, unknown).await.and_then(|(all, outcome)| is_whole(&shown, &all, &outcome)),
        );
        denied(report, DIFF_DENIED, checked, &nothing, checkpoints).await;
    }
    denied(report, DENIED, checked, &nothing, Vec::new()).await;
}

/// Nothing changed between a discovery and a diff on one tape: whatever a diff says, what was shown before comes out of it.
fn comes_to_the_same(before: &Shown, diff: &Shown, outcome: &Outcome) -> Result<String, String> {
    if let Outcome::StartOver(why) = outcome {
        return Err(format!("it begins anew from what it left itself: {why}"));
    }
    let (mut unchanged, mut differences) = (0, 0);
    for (scope, was) in &before.scopes {
        let name = own(scope);
        let now = diff.scopes.get(scope).ok_or_else(|| format!("the scope `{name}` is neither shown nor unchanged"))?;
        if now.coverage == Some(Coverage::Unchanged) {
            unchanged += 1;
            continue;
        }
        let mut items = BTreeMap::new();
        if let Some(removed) = &now.since {
            differences += 1;
            items.clone_from(&was.items);
            for key in removed.nodes.iter().map(ToString::to_string).chain(removed.edges.iter().map(edge_key)) {
                items.remove(&key);
            }
        }
        items.extend(now.items.clone());
        if items != was.items || now.coverage != was.coverage {
            return Err(format!(
                "the scope `{name}` is another one than before; if it changed meanwhile, record again"
            ));
        }
    }
    let whole = diff.scopes.len() - unchanged - differences;
    Ok(format!("{unchanged} scopes unchanged, {differences} differences, {whole} shown whole"))
}

/// A checkpoint that a plugin cannot read says nothing of what is there.
fn is_whole(before: &Shown, all: &Shown, outcome: &Outcome) -> Result<String, String> {
    if let Outcome::StartOver(why) = outcome {
        return Ok(format!("it asks to begin anew: {why}"));
    }
    let is_cut = |(scope, was): &(&ScopeId, &Scope)| {
        let alike = |now: &Scope| now.since.is_none() && (&now.items, &now.coverage) == (&was.items, &was.coverage);
        !all.scopes.get(*scope).is_some_and(alike)
    };
    match before.scopes.iter().find(is_cut) {
        Some((scope, _)) => Err(format!("the scope `{}` is not shown whole", own(scope))),
        None => Ok(format!("{} scopes shown whole", all.scopes.len())),
    }
}

/// A plugin that can read nothing and says that all is read would close everything. A server does not believe it either, but says so.
async fn denied(
    report: &mut Report,
    check: &'static str,
    checked: &Checked,
    nothing: &Taper<'_>,
    checkpoints: Checkpoints,
) {
    let result = match tokio::time::timeout(Duration::from_mins(2), checked.run(nothing, checkpoints)).await {
        Err(_) => Err("it did not end within two minutes".to_owned()),
        Ok(Err(why)) => Err(format!("it has to end well and say of each scope why it was not read: {why}")),
        Ok(Ok((shown, _))) => {
            let lies = shown.scopes.values().filter_map(|shown| shown.coverage.as_ref()?.reason());
            let lie = lies.into_iter().find(|reason| reason.starts_with("the plugin said"));
            match lie {
                Some(lie) => Err(lie.to_owned()),
                None => Ok(shown.verdicts()),
            }
        }
    };
    report.add(check, result);
}

/// No text of the secret's fields may be on the tape.
fn leaks(secret: &Secret, tape: &str) -> Result<String, String> {
    let fields: Map<String, Value> = serde_json::from_slice(secret.expose()).unwrap_or_default();
    let public = ["origin", "username", "header", "ca", "access_key_id", "role_arn", "session_name"];
    let found = fields
        .iter()
        .filter(|(key, _)| !public.contains(&key.as_str()))
        .find(|(_, value)| value.as_str().is_some_and(|text| text.len() >= 6 && tape.contains(text)));
    match found {
        Some((key, _)) => Err(format!("the service repeats the credential's `{key}`: nothing was written")),
        None => Ok("looked for it".to_owned()),
    }
}
