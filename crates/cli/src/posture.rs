//! How frameworks stand.

use clap::Args;
use wire::posture::Posture as Document;

use crate::api::{Context, Paging};
use crate::failure::Result;
use crate::table::Table;

#[derive(Debug, Args)]
pub(crate) struct Posture {
    /// Days of history with today, 1 to 366; shown with -o json and -o yaml [default: 90]
    #[arg(long, value_name = "N")]
    days: Option<String>,
}

impl Table for Document {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("FRAMEWORK", "framework"),
        ("PASS %", "percent"),
        ("PASS", "pass"),
        ("PARTIAL", "partial"),
        ("FAIL", "fail"),
        ("NOT ASSESSED", "not_assessed"),
        ("OPEN FINDINGS", "open_findings"),
        ("JUDGED", "evaluated_at"),
    ];
}

impl Posture {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let query = [("days", self.days.as_deref())];
        cx.tenant()?.show_list::<Document>(&["posture"], &query, Paging::ALL).await
    }
}
