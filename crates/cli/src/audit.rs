//! The audit log.

use clap::Subcommand;
use wire::audit::AuditRecord;

use crate::api::{Context, Paging};
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
        /// The platform's own log instead of a tenant's
        #[arg(long)]
        platform: bool,
        #[command(flatten)]
        paging: Paging,
    },
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
        let Self::List { category, action, outcome, platform, paging } = self;
        let api = if platform { cx.platform()? } else { cx.tenant()? };
        let query = [("category", category.as_deref()), ("action", action.as_deref()), ("outcome", outcome.as_deref())];
        api.show_list::<AuditRecord>(&["audit"], &query, paging).await
    }
}
