//! Evidence: listing it, exporting a bundle, and verifying a bundle without any server.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use domain::Digest;
use evidence::BundleError;
use wire::evidence::Evidence;

use crate::api::{Context, Paging};
use crate::doc::Doc;
use crate::download::download;
use crate::failure::{Exit, Failure, Result};
use crate::output::{Output, warn};
use crate::table::Table;
use crate::trust::parse_fingerprint;

const DEFAULT_FRAMEWORK: &str = "nist-800-53-r5";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Verify a bundle, without any server; exit code 3 names the file that is wrong
    Verify {
        /// The bundle
        file: PathBuf,
        /// The SHA-256 of the key that must have signed it, as `cairn evidence key` shows it or the signer tells it
        #[arg(long, value_name = "SHA256", value_parser = parse_fingerprint)]
        key_fingerprint: Option<Digest>,
    },
    #[command(flatten)]
    Online(Online),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Online {
    /// List signed statements, the newest first
    List {
        /// Only of this kind
        #[arg(long, value_parser = ["api-response", "config", "scan", "null-result", "assessment", "attestation", "recording"])]
        kind: Option<String>,
        /// Only of this framework
        #[arg(long)]
        framework: Option<String>,
        /// Only of this control
        #[arg(long)]
        control: Option<String>,
        /// Only of this scope
        #[arg(long)]
        scope: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a signed statement
    Show {
        /// Its id
        evidence: String,
    },
    /// Write a bundle for an auditor: artifacts, signatures and how they were collected, as one ZIP
    Export(Export),
    /// Show the public key that the server signs evidence with
    Key,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["finding", "control", "framework", "statement"]).required(true).multiple(true))]
pub(crate) struct Export {
    /// The finding whose evidence is exported
    #[arg(conflicts_with_all = ["control", "framework"])]
    finding: Option<String>,
    /// The control whose evidence is exported, of nist-800-53-r5 where no --framework is given
    #[arg(long)]
    control: Option<String>,
    /// The framework whose evidence is exported
    #[arg(long)]
    framework: Option<String>,
    /// The statement that is exported, with what it rests on: its id
    #[arg(long, value_name = "ID", conflicts_with_all = ["finding", "control", "framework"])]
    statement: Option<String>,
    /// Where the bundle goes
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

impl Table for Evidence {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("CREATED", "created_at"),
        ("KIND", "kind"),
        ("SCOPE", "scope"),
        ("FRAMEWORK", "framework"),
        ("CONTROL", "control"),
        ("ID", "id"),
    ];
}

impl Online {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        match self {
            Self::List { kind, framework, control, scope, paging } => {
                let query = [
                    ("kind", kind.as_deref()),
                    ("framework", framework.as_deref()),
                    ("control", control.as_deref()),
                    ("scope", scope.as_deref()),
                ];
                cx.tenant()?.show_list::<Evidence>(&["evidence"], &query, paging).await
            }
            Self::Show { evidence } => {
                let api = cx.tenant()?;
                api.out.one(&api.get(&["evidence", &evidence]).await?)
            }
            Self::Export(export) => export.run(cx).await,
            Self::Key => {
                let api = cx.platform()?;
                api.out.one(&api.get(&["evidence-key"]).await?)
            }
        }
    }
}

impl Export {
    async fn run(self, cx: &Context) -> Result {
        let framework = self.framework.as_deref().or(self.control.as_ref().map(|_| DEFAULT_FRAMEWORK));
        let query = [
            ("finding", self.finding.as_deref()),
            ("framework", framework),
            ("control", self.control.as_deref()),
            ("evidence", self.statement.as_deref()),
        ];
        let mut size = 0;
        let (api, to) = (cx.tenant()?, (self.output.as_path(), self.force));
        download(&api, &["evidence-bundle"], &query, to, |bytes| size += bytes.len()).await?;
        cx.out.say(&format!("wrote {} ({size} bytes); check it: cairn evidence verify {0}", self.output.display()));
        Ok(())
    }
}

/// `verify`, which needs no server.
pub(crate) fn verify(out: Output, path: &Path, key_fingerprint: Option<Digest>) -> Result {
    let file = std::fs::File::open(path).map_err(|e| Failure::file("read", path, e))?;
    let report =
        evidence::verify_bundle(std::io::BufReader::new(file), key_fingerprint).map_err(|error| match error {
            BundleError::Io(e) => Failure::file("read", path, e),
            refused @ BundleError::Refused { .. } => {
                Failure::new(format!("`{}` does not verify: {refused}", path.display()))
                    .hint("do not rely on any file of this bundle; ask for it again")
                    .exit(Exit::NotVerified)
            }
        })?;
    let shown = serde_json::to_string(&report).and_then(|text| serde_json::from_str::<Doc>(&text));
    out.one(&shown.map_err(|e| Failure::new(format!("cannot write the report: {e}")))?)?;
    if report.key_trusted {
        out.say(&format!("verified: {} files, signed by the key that you named", report.files));
    } else {
        out.say(&format!("verified: {} files are as they were signed", report.files));
        warn("who signed is not checked: compare key_fingerprint with the signer's, or give it as --key-fingerprint");
    }
    Ok(())
}
