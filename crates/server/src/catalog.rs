//! What is installed: plugins, credential types, rule packs. Packs in a folder are read again when a file changes; a set with any mistake
//! is refused as a whole, told with file and line, and the one in force stays.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use compliance::{PackError, Ruleset, builtin};
use domain::{Error, Result};
use plugins::{JobConfig, Plugin};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use wire::credential::{CredentialType, PluginSetting, SettingKind};

/// How often the folder of packs is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Plugins and rules.
pub(crate) struct Installed {
    plugins: BTreeMap<&'static str, Arc<dyn Plugin>>,
    described: Vec<wire::credential::Plugin>,
    packs: Option<PathBuf>,
    catalog: compliance::Catalog,
    ruleset: RwLock<Arc<Ruleset>>,
}

/// What a form needs to know of a setting's value; the rest is empty.
fn described(kind: plugins::SettingKind) -> PluginSetting {
    use plugins::SettingKind as Is;
    let all = |of: &[&str]| of.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    // What has no end has none in a form.
    let end = |number: i64| (number != i64::MIN && number != i64::MAX).then_some(number);
    match kind {
        Is::Text => PluginSetting::default(),
        Is::Lines => PluginSetting { kind: SettingKind::Lines, ..PluginSetting::default() },
        Is::List => PluginSetting { kind: SettingKind::List, ..PluginSetting::default() },
        Is::OneOf(known) => PluginSetting { choices: all(known), ..PluginSetting::default() },
        Is::SomeOf(known) => PluginSetting { kind: SettingKind::List, choices: all(known), ..PluginSetting::default() },
        Is::Flag => PluginSetting { kind: SettingKind::Flag, ..PluginSetting::default() },
        Is::Number { least, most } => {
            PluginSetting { kind: SettingKind::Number, least: end(least), most: end(most), ..PluginSetting::default() }
        }
    }
}

fn describe(plugin: &dyn Plugin) -> wire::credential::Plugin {
    let manifest = plugin.manifest();
    let credential_types = manifest.credential_types.iter().filter_map(|name| {
        let kind = transport::CREDENTIAL_TYPES.iter().find(|known| known.name == *name)?;
        let owned = |fields: &[&str]| fields.iter().map(|field| (*field).to_owned()).collect::<Vec<String>>();
        Some(CredentialType {
            name: kind.name.to_owned(),
            required: owned(kind.required),
            optional: owned(kind.optional),
            several_lines: owned(&[kind.required, kind.optional].concat())
                .into_iter()
                .filter(|field| transport::SEVERAL_LINES.contains(&field.as_str()))
                .collect(),
        })
    });
    let settings = manifest.settings.iter().map(|setting| PluginSetting {
        key: setting.key.to_owned(),
        help: setting.help.to_owned(),
        example: setting.example.to_owned(),
        required: setting.required,
        ..described(setting.kind)
    });
    wire::credential::Plugin {
        name: manifest.name.to_owned(),
        about: manifest.about.to_owned(),
        version: manifest.version.to_owned(),
        credential_types: credential_types.collect(),
        settings: settings.collect(),
        node_types: manifest.node_types,
    }
}

fn read_folder(folder: &Path) -> std::io::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push((path.display().to_string(), std::fs::read_to_string(&path)?));
        }
    }
    files.sort();
    Ok(files)
}

fn load(
    packs: Option<&Path>,
    catalog: &compliance::Catalog,
) -> anyhow::Result<std::result::Result<Ruleset, Vec<PackError>>> {
    let files = match packs {
        Some(folder) => {
            read_folder(folder).with_context(|| format!("cannot read the rule packs in `{}`", folder.display()))?
        }
        None => builtin::PACKS.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect(),
    };
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    Ok(compliance::load(catalog, &files, crypto::sha256))
}

impl Installed {
    /// Loads everything; a mistake in a pack stops the start.
    pub(crate) fn load(plugins: Vec<Arc<dyn Plugin>>, packs: Option<PathBuf>) -> anyhow::Result<Self> {
        let catalog = builtin::catalog().map_err(|error| anyhow::anyhow!("the built-in catalog is broken: {error}"))?;
        let ruleset = match load(packs.as_deref(), &catalog)? {
            Ok(ruleset) => ruleset,
            Err(errors) => {
                let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
                bail!("the rule packs have mistakes:\n{}", lines.join("\n"))
            }
        };
        let described = plugins.iter().map(|plugin| describe(&**plugin)).collect();
        let plugins = plugins.into_iter().map(|plugin| (plugin.manifest().name, plugin)).collect();
        Ok(Self { plugins, described, packs, catalog, ruleset: RwLock::new(Arc::new(ruleset)) })
    }

    /// A plugin by name.
    pub(crate) fn plugin(&self, name: &str) -> Option<Arc<dyn Plugin>> {
        self.plugins.get(name).cloned()
    }

    /// The frameworks that the rules map to.
    pub(crate) fn frameworks(&self) -> &compliance::Frameworks {
        &self.catalog.frameworks
    }

    /// Reads the packs again, and takes them if they are all right. Tells whether other rules are in force now.
    pub(crate) fn reload(&self) -> bool {
        match load(self.packs.as_deref(), &self.catalog) {
            Ok(Ok(ruleset)) => {
                let mut current = self.ruleset.write().unwrap_or_else(PoisonError::into_inner);
                let changed = current.digest() != ruleset.digest();
                if changed {
                    tracing::info!(rules = ruleset.rules().len(), digest = %ruleset.digest(), "rule packs taken");
                    *current = Arc::new(ruleset);
                }
                changed
            }
            Ok(Err(errors)) => {
                for error in errors {
                    tracing::error!(%error, "rule packs refused; the ones in force stay");
                }
                false
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "rule packs cannot be read; the ones in force stay");
                false
            }
        }
    }

    /// Watches the folder of packs until `stop`.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let Some(folder) = self.packs.clone() else { return };
        let mut seen = read_folder(&folder).ok();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let now = read_folder(&folder).ok();
            if now != seen {
                seen = now;
                self.reload();
            }
        }
    }
}

impl api::ports::Catalog for Installed {
    fn plugins(&self) -> &[wire::credential::Plugin] {
        &self.described
    }

    fn check(&self, plugin: &str, config: &Map<String, Value>) -> Result<()> {
        let plugin = self.plugin(plugin).ok_or_else(|| {
            let known = self.plugins.keys().copied().collect::<Vec<_>>().join(", ");
            Error::invalid("plugin", format!("there is no plugin `{}`: use one of {known}", plugin.escape_debug()))
        })?;
        let config: &JobConfig = config;
        plugin.check(config)
    }

    fn frameworks(&self) -> &compliance::Frameworks {
        &self.catalog.frameworks
    }

    fn ruleset(&self) -> Arc<Ruleset> {
        Arc::clone(&self.ruleset.read().unwrap_or_else(PoisonError::into_inner))
    }
}
