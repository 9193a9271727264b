//! The coverage ledger.

use clap::Args;
use wire::coverage::CoverageEntry;

use crate::api::{Context, Paging};
use crate::failure::Result;
use crate::table::Table;

#[derive(Debug, Args)]
pub(crate) struct Coverage {
    /// Only of this source: a plugin, PLUGIN@RELAY or agent/MACHINE
    #[arg(long)]
    source: Option<String>,
    /// Only scopes that begin so
    #[arg(long)]
    scope: Option<String>,
    /// Only of this kind, such as ec2.instances
    #[arg(long)]
    kind: Option<String>,
    /// Only with this verdict: complete, unchanged, partial, denied, throttled, failed, absent, unfinished or not_tried
    #[arg(long)]
    verdict: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

impl Table for CoverageEntry {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("SOURCE", "source"),
        ("SCOPE", "scope"),
        ("VERDICT", "verdict"),
        ("LAST TRIED", "tried_at"),
        ("LAST COMPLETE", "complete_at"),
        ("REASON", "reason"),
    ];
}

impl Coverage {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let query = [
            ("source", self.source.as_deref()),
            ("scope", self.scope.as_deref()),
            ("kind", self.kind.as_deref()),
            ("verdict", self.verdict.as_deref()),
        ];
        cx.tenant()?.show_list::<CoverageEntry>(&["coverage"], &query, self.paging).await
    }
}
