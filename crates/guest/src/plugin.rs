//! Such a plugin as the runner knows plugins. Every call of it is a fresh process.

use async_trait::async_trait;
use domain::{Digest, Error, Result};
use plugins::{Checks, JobConfig, Manifest, Plugin, Setting, SettingKind, Sink, TaskSpec};
use serde_json::Value;
use transport::Reach;

use crate::folder::Folder;
use crate::manifest;
use crate::observe::Bounds;
use crate::process::{Running, Surroundings};
use crate::proto;
use crate::run::{self, Job, Outcome, told};

/// The task's parameter that holds the job's settings.
const SETTINGS: &str = "settings";

/// A plugin of somebody else.
#[derive(Debug)]
pub struct GuestPlugin {
    pub(crate) folder: Folder,
    pub(crate) surroundings: Surroundings,
    manifest: Manifest,
}

/// Text for as long as the program runs: plugins are loaded once, at its start.
fn kept(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

/// What forms need to know of a setting's value.
fn kind(setting: &manifest::Setting) -> SettingKind {
    match setting.kind {
        _ if !setting.one_of.is_empty() => {
            let known: Vec<&'static str> = setting.one_of.iter().map(|value| kept(value)).collect();
            SettingKind::OneOf(Vec::leak(known))
        }
        manifest::Kind::Text | manifest::Kind::Origin => SettingKind::Text,
        manifest::Kind::Number => SettingKind::Number { least: i64::MIN, most: i64::MAX },
        manifest::Kind::Boolean => SettingKind::Flag,
    }
}

impl GuestPlugin {
    /// The plugin of a folder.
    pub fn new(folder: Folder, surroundings: Surroundings) -> Self {
        let own = &folder.manifest;
        let settings: Vec<Setting> = own
            .settings
            .iter()
            .map(|setting| Setting {
                key: kept(&setting.key),
                help: kept(&setting.help),
                example: kept(&setting.example),
                kind: kind(setting),
                required: setting.required,
            })
            .collect();
        let credential_types: Vec<&'static str> = own.credential_types.iter().map(|kind| kept(kind)).collect();
        let manifest = Manifest {
            name: kept(&own.name),
            about: kept(&own.about),
            version: kept(&own.version),
            credential_types: Vec::leak(credential_types),
            settings: Vec::leak(settings),
            node_types: own.node_types.clone(),
        };
        Self { folder, surroundings, manifest }
    }

    /// Starts the plugin, and sees that it is what its manifest says.
    pub(crate) async fn start(&self) -> Result<Running> {
        let folder = self.folder.clone();
        let unchanged = tokio::task::spawn_blocking(move || folder.check_unchanged());
        unchanged.await.map_err(Error::internal)??;
        let running = Running::start(&self.folder, &self.surroundings).await?;
        let described = self.unary(running.client().describe(proto::DescribeRequest {})).await?;
        if described.name != self.manifest.name || described.version != self.manifest.version {
            return Err(self.wrong("it describes itself as another name or version than its manifest"));
        }
        Ok(running)
    }

    /// A run of this plugin with settings that its schema has passed.
    pub(crate) fn job<'a>(&'a self, settings: &'a JobConfig, reach: &'a dyn Reach) -> Job<'a> {
        let basis = format!("{} {}", self.folder.digest, Value::Object(settings.clone()));
        Job { manifest: &self.folder.manifest, settings, reach, basis: crypto::sha256(basis.as_bytes()) }
    }

    fn wrong(&self, why: impl std::fmt::Display) -> Error {
        Error::Invalid { field: None, message: format!("the plugin `{}`: {why}", self.manifest.name) }
    }

    async fn unary<T>(
        &self,
        call: impl Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T> {
        let silence = std::time::Duration::from_secs(self.folder.manifest.limits.silence_s);
        let answered = tokio::time::timeout(silence, call).await;
        let answered = answered.map_err(|_| self.wrong(format!("it was silent for {} s", silence.as_secs())))?;
        answered.map(tonic::Response::into_inner).map_err(|status| self.wrong(told(&status)))
    }

    /// What the plugin says of settings that its schema has passed.
    pub(crate) async fn validate_settings(&self, running: &Running, settings: &JobConfig) -> Result<()> {
        let request = proto::ValidateRequest { settings_json: Value::Object(settings.clone()).to_string() };
        let reply = self.unary(running.client().validate(request)).await?;
        if reply.problem.is_empty() {
            return Ok(());
        }
        let problem = crate::observe::clean(&reply.problem, 300);
        let setting = crate::observe::clean(&reply.setting, 64);
        let message = if setting.is_empty() { problem } else { format!("`{setting}`: {problem}") };
        Err(Error::invalid("config", message))
    }
}

#[async_trait]
impl Plugin for GuestPlugin {
    fn manifest(&self) -> Manifest {
        self.manifest.clone()
    }

    fn program(&self) -> Option<Digest> {
        Some(self.folder.digest)
    }

    fn check(&self, config: &JobConfig) -> Result<()> {
        // Errors that name their setting first; what a form cannot know comes after.
        plugins::check(self.manifest.name, self.manifest.settings, config)?;
        self.folder.manifest.settings(config).map(drop)
    }

    async fn plan(&self, config: &JobConfig, _reach: &dyn Reach) -> Result<Vec<TaskSpec>> {
        let settings = self.folder.manifest.settings(config)?;
        let running = self.start().await?;
        self.validate_settings(&running, &settings).await?;
        let params = JobConfig::from_iter([(SETTINGS.to_owned(), Value::Object(settings))]);
        Ok(vec![TaskSpec { key: "all".to_owned(), params }])
    }

    async fn validate(&self, config: &JobConfig, reach: &dyn Reach, checks: &Checks) -> Result<()> {
        let settings = self.folder.manifest.settings(config)?;
        crate::trial::validate(self, &settings, reach, checks).await
    }

    async fn run(&self, task: &TaskSpec, reach: &dyn Reach, sink: &mut dyn Sink) -> Result<()> {
        let told = task.params.get(SETTINGS).and_then(Value::as_object);
        let told = told.ok_or_else(|| Error::internal("a task of a plugin without settings"))?;
        // Also those of a job that was planned by an earlier version.
        let settings = self.folder.manifest.settings(told)?;
        let job = self.job(&settings, reach);
        if job.manifest.diff {
            let source = job.manifest.source(&settings, reach.credential());
            let prefix = Bounds { manifest: job.manifest, source }.prefix();
            let checkpoints = sink.checkpoints(&prefix, job.basis).await?;
            if !checkpoints.is_empty() {
                let mut running = self.start().await?;
                match run::run(&mut running, &job, checkpoints, sink).await? {
                    Outcome::Read => return Ok(()),
                    Outcome::StartOver(why) => sink.progress(0, 0, &format!("reads everything: {why}")),
                }
            }
        }
        let mut running = self.start().await?;
        run::run(&mut running, &job, Vec::new(), sink).await.map(drop)
    }
}
