//! Plugins of the server, and the conformance test of one's own.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use crypto::system::{SystemClock, SystemRng};
use domain::{Clock, Rng};
use guest::check::{Calls, Item, Options};
use serde_json::Value;
use wire::credential::Plugin;

use crate::api::{Context, Paging};
use crate::doc::Doc;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::table::Table;
use crate::{job, prompt};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a plugin of one's own, without any server: its manifest, its sandbox, what it says; exit code 1 where a check failed
    Check(Check),
    #[command(flatten)]
    Online(Online),
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The plugin's folder
    path: PathBuf,
    /// A setting of the plugin; the value is JSON where it can be read as JSON, else text
    #[arg(long, value_name = "KEY=VALUE", value_parser = job::setting)]
    set: Vec<(String, Value)>,
    /// Make the calls, and write them and their answers to this tape
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Answer the calls from this tape, without a network
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// With `--record`, read the credential's fields from a JSON object in this file
    #[arg(long, value_name = "FILE", requires = "record")]
    credential_file: Option<PathBuf>,
    /// A folder that the plugin may read and run programs of, such as a Python environment
    #[arg(long, value_name = "DIR")]
    runtime: Vec<PathBuf>,
    /// Let calls go to this machine
    #[arg(long)]
    loopback: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Online {
    /// List the plugins
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a plugin: its credential types, settings and node types
    Show {
        /// Its name
        plugin: String,
    },
}

impl Table for Plugin {
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("NAME", "name"), ("VERSION", "version"), ("ABOUT", "about")];
}

/// What is seen of a check.
struct Line;

impl Table for Line {
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("RESULT", "result"), ("CHECK", "check"), ("DETAIL", "detail")];
}

impl Check {
    pub(crate) async fn run(self, out: Output) -> Result {
        crypto::tls::install();
        let calls = match (self.record, self.replay) {
            (Some(tape), _) => Calls::Record(tape),
            (None, Some(tape)) => Calls::Replay(tape),
            (None, None) => Calls::None,
        };
        let options = Options {
            path: self.path,
            surroundings: guest::Surroundings::own(self.runtime),
            settings: self.set.into_iter().collect(),
            calls,
            credential: self.credential_file.as_deref().map(prompt::secret_file).transpose()?,
            loopback: self.loopback,
        };
        let (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>) = (Arc::new(SystemClock), Arc::new(SystemRng));
        let report = guest::check::check(&options, &clock, &rng).await;
        let doc = |item: &Item| {
            let text = serde_json::to_string(item).unwrap_or_default();
            serde_json::from_str::<Doc>(&text).map_err(|error| Failure::new(error.to_string()))
        };
        out.list::<Line>(report.items.iter().map(doc).collect::<Result<_>>()?)?;
        if report.is_ok() { Ok(()) } else { Err(Failure::new("the plugin did not pass every check")) }
    }
}

impl Online {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.platform()?;
        match self {
            Self::List { paging } => api.show_list::<Plugin>(&["plugins"], &[], paging).await,
            Self::Show { plugin } => api.out.one(&api.find(&["plugins"], "name", &plugin, "plugin").await?),
        }
    }
}
