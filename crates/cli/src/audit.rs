//! The audit log.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use domain::Digest;
use wire::audit::AuditRecord;
use wire::forward::Forward;

use crate::api::{Context, Paging};
use crate::audit_log::{self, Verify};
use crate::failure::Result;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List records of the tenant's log, the newest first
    List {
        /// Only of this category
        #[arg(long, value_parser = ["authentication", "authorization", "credential", "discovery", "user", "evidence", "access", "system"])]
        category: Option<String>,
        /// Only of this operation, e.g. finding_accept
        #[arg(long)]
        action: Option<String>,
        /// Only with this outcome
        #[arg(long, value_parser = ["success", "deny", "fail"])]
        outcome: Option<String>,
        /// Only by actors whose name holds this
        #[arg(long)]
        actor: Option<String>,
        /// Only about the object with this id
        #[arg(long)]
        object: Option<String>,
        /// Only records that hold this text in their operation, actor, object or detail
        #[arg(long)]
        text: Option<String>,
        /// Only from this moment on, e.g. 2026-11-22T03:00:00Z
        #[arg(long)]
        since: Option<String>,
        /// Only before this moment
        #[arg(long)]
        until: Option<String>,
        /// The platform's own log instead of a tenant's
        #[arg(long)]
        platform: bool,
        #[command(flatten)]
        paging: Paging,
    },
    /// Write the whole log to one file that verifies without any server, or its records as lines for another system
    Export {
        /// Where the log goes
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// `bundle` verifies; the others are one record a line, the newest first, each with its place in the log
        #[arg(long, default_value = "bundle", value_parser = ["bundle", "jsonl", "cef", "ocsf"])]
        format: String,
        /// Put an earlier checkpoint into the file, for the auditor to compare with
        #[arg(long, value_name = "CHECKPOINT", conflicts_with = "format")]
        since: Option<PathBuf>,
        #[command(flatten)]
        of: Of,
        /// Replace the file if it exists
        #[arg(long)]
        force: bool,
    },
    /// Show the signed head of the log, or keep it in a file: with it a later change of the log is proven
    Checkpoint {
        /// Where the checkpoint goes [default: the standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        of: Of,
        /// Replace the file if it exists
        #[arg(long)]
        force: bool,
    },
    /// Where the server sends records, and how far each place has come
    Forwards,
    /// Verify an exported log, without any server; exit code 3 names the record that was changed or removed
    Verify(Verify),
}

/// Which log, and what is known of it.
#[derive(Debug, Args)]
pub(crate) struct Of {
    /// The platform's own log instead of a tenant's
    #[arg(long)]
    platform: bool,
    /// The SHA-256 of the log's key [default: the one that was seen first]
    #[arg(long = "key-fingerprint", value_name = "SHA256", value_parser = crate::trust::parse_fingerprint)]
    key: Option<Digest>,
}

impl Table for Forward {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("NAME", "name"),
        ("KIND", "kind"),
        ("ADDRESS", "address"),
        ("FORMAT", "format"),
        ("DELIVERED", "delivered"),
        ("WAITING", "waiting"),
        ("LAST DELIVERY", "delivered_at"),
        ("FAILURES", "failures"),
        ("WHY", "error"),
    ];
}

impl Table for AuditRecord {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("SEQ", "seq"),
        ("AT", "at"),
        ("CATEGORY", "category"),
        ("ACTION", "action"),
        ("OUTCOME", "outcome"),
        ("ACTOR", "actor"),
        ("OBJECT", "object_id"),
    ];
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let log = |platform: bool| if platform { cx.platform() } else { cx.tenant() };
        match self {
            Self::List { category, action, outcome, actor, object, text, since, until, platform, paging } => {
                let query = [
                    ("category", category.as_deref()),
                    ("action", action.as_deref()),
                    ("outcome", outcome.as_deref()),
                    ("actor", actor.as_deref()),
                    ("object", object.as_deref()),
                    ("text", text.as_deref()),
                    ("since", since.as_deref()),
                    ("until", until.as_deref()),
                ];
                log(platform)?.show_list::<AuditRecord>(&["audit"], &query, paging).await
            }
            Self::Export { output, format, of, force, .. } if format != "bundle" => {
                audit_log::export_lines(&log(of.platform)?, &format, &output, force).await
            }
            Self::Export { output, since, of, force, .. } => {
                audit_log::export(cx, &log(of.platform)?, of.key, since.as_deref(), &output, force).await
            }
            Self::Checkpoint { output, of, force } => {
                audit_log::checkpoint(cx, &log(of.platform)?, of.key, output.as_deref(), force).await
            }
            Self::Forwards => cx.platform()?.show_list::<Forward>(&["audit-forwards"], &[], Paging::ALL).await,
            Self::Verify(verify) => audit_log::verify_on_server(cx, &log(verify.platform)?, verify.told.key).await,
        }
    }
}
