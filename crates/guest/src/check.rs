//! The conformance test of a plugin: what a server would refuse, found before; with calls from the world or from a tape.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::{Clock, Coverage, CredentialId, Error, Page, Result, Rng, ScopeId, Secret};
use plugins::{Plugin as _, Sink};
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
use crate::run::{self, Job, Outcome};
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
const DIFF: &str = "a diff from its checkpoint shows nothing else";
const SECRET: &str = "the credential is not on the tape";

/// What a run showed.
#[derive(Debug, Default, PartialEq)]
struct Shown {
    /// Per scope: nodes and edges as JSON, sorted, and the verdict.
    scopes: BTreeMap<ScopeId, (Vec<String>, Option<Coverage>)>,
}

#[async_trait]
impl Sink for Shown {
    async fn page(&mut self, page: Page) -> Result<()> {
        let nodes = page.nodes.iter().map(serde_json::to_string);
        let edges = page.edges.iter().map(serde_json::to_string);
        let texts = nodes.chain(edges).collect::<std::result::Result<Vec<_>, _>>().map_err(Error::internal)?;
        let (shown, _) = self.scopes.entry(page.scope).or_default();
        shown.extend(texts);
        shown.sort();
        Ok(())
    }

    async fn scope_done(&mut self, scope: ScopeId, coverage: Coverage) -> Result<()> {
        self.scopes.entry(scope).or_default().1 = Some(coverage);
        Ok(())
    }

    fn progress(&mut self, _done: u64, _total: u64, _what: &str) {}
}

impl Shown {
    fn count(&self) -> usize {
        self.scopes.values().map(|(shown, _)| shown.len()).sum()
    }

    fn verdicts(&self) -> String {
        let words = self.scopes.iter().map(|(scope, (shown, coverage))| {
            let own = scope.as_str().splitn(3, ':').last().unwrap_or_default();
            let coverage = coverage.as_ref();
            let reason = coverage.and_then(Coverage::reason).map(|why| format!(" ({why})")).unwrap_or_default();
            format!("{own}: {} seen, {}{reason}", shown.len(), coverage.map_or("no verdict", Coverage::as_str))
        });
        words.collect::<Vec<_>>().join("; ")
    }
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
    async fn run(&self, reach: &dyn Reach, checkpoint: Option<Vec<u8>>) -> Result<(Shown, Outcome), String> {
        let mut shown = Shown::default();
        let mut running = self.plugin.start().await.map_err(words)?;
        let job = Job { manifest: &self.plugin.folder.manifest, settings: &self.settings, reach };
        let outcome = run::run(&mut running, &job, checkpoint, &mut shown).await.map_err(words)?;
        Ok((shown, outcome))
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
    let accepted = plugin.validate(&running, &settings).await;
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
            for check in [DISCOVER, AGAIN, DIFF] {
                report.skip(check, "give --record FILE to call the world once, then --replay FILE");
            }
            let nothing = Taper::new(Source::Nothing, credential, Tape::default());
            denied(report, checked, &nothing).await;
            return;
        }
        Calls::Replay(_) if tape.plugin != name => {
            report.add(DISCOVER, Err(format!("the tape is of the plugin `{}`", tape.plugin.escape_debug())));
            return;
        }
        Calls::Replay(_) => {
            let taper = Taper::new(Source::Tape, credential, tape);
            let first = checked.run(&taper, None).await;
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
            let first = checked.run(&taper, None).await;
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
    let (shown, outcome) = match first {
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
    let again = checked.run(&taper, None).await;
    let same = again.and_then(|(again, _)| {
        if again == shown {
            Ok(format!("{} nodes and edges, twice", shown.count()))
        } else {
            Err(format!("first {}; then {}", shown.verdicts(), again.verdicts()))
        }
    });
    report.add(AGAIN, same);
    let tape = taper.into_tape();
    if checked.plugin.folder.manifest.diff {
        let taper = Taper::new(Source::Tape, credential, tape);
        let diff = checked.run(&taper, Some(outcome.checkpoint)).await;
        report.add(DIFF, diff.and_then(|(diff, outcome)| differs(&shown, &diff, &outcome)));
    } else {
        report.skip(DIFF, "its manifest does not say `diff = true`");
    }
    let nothing = Taper::new(Source::Nothing, credential, Tape::default());
    denied(report, checked, &nothing).await;
}

/// Nothing changed between a discovery and a diff on one tape: each scope is unchanged, or shown whole and alike.
fn differs(shown: &Shown, diff: &Shown, outcome: &Outcome) -> Result<String, String> {
    for (scope, before) in &shown.scopes {
        match diff.scopes.get(scope) {
            Some(now) if now != before => return Err(format!("the scope `{scope}` is another one than before")),
            None if !outcome.unchanged.contains(scope) => {
                return Err(format!("the scope `{scope}` is neither shown nor said to be unchanged"));
            }
            _ => {}
        }
    }
    Ok(format!("{} scopes unchanged, {} shown whole", outcome.unchanged.len(), diff.scopes.len()))
}

/// A plugin that can read nothing and says that all is read would close everything. A server does not believe it either, but says so.
async fn denied(report: &mut Report, checked: &Checked, nothing: &Taper<'_>) {
    let result = match tokio::time::timeout(Duration::from_mins(2), checked.run(nothing, None)).await {
        Err(_) => Err("it did not end within two minutes".to_owned()),
        Ok(Err(why)) => Err(format!("it has to end well and say of each scope why it was not read: {why}")),
        Ok(Ok((shown, _))) => {
            let lies = shown.scopes.values().filter_map(|(_, coverage)| coverage.as_ref()?.reason());
            let lie = lies.into_iter().find(|reason| reason.starts_with("the plugin said"));
            match lie {
                Some(lie) => Err(lie.to_owned()),
                None => Ok(shown.verdicts()),
            }
        }
    };
    report.add(DENIED, result);
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
