//! Findings, and the rules and controls that they are about.

use clap::Subcommand;
use domain::{Clock, Timestamp};
use wire::control::{Control, Rule};
use wire::finding::{Finding, FindingAccept, FindingCount};

use crate::api::{Context, Paging};
use crate::failure::Result;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List findings, the greatest risk first
    List {
        /// Only with this status
        #[arg(long, value_parser = ["open", "resolved", "accepted"])]
        status: Option<String>,
        /// Only of this severity
        #[arg(long, value_parser = ["info", "low", "medium", "high", "critical"])]
        severity: Option<String>,
        /// Only of this rule
        #[arg(long)]
        rule: Option<String>,
        /// Only of this node
        #[arg(long)]
        node: Option<String>,
        /// Only of nodes of this type
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a finding: what is wrong, the values, and what to do
    Show {
        /// Its id
        finding: String,
    },
    /// Accept a finding's risk for a while
    Accept {
        /// Its id
        finding: String,
        /// Why the risk is taken
        #[arg(long)]
        reason: String,
        /// Until when: a date (2027-01-31), a moment (RFC 3339) or a number of days (90d); a year at most
        #[arg(long, value_name = "TIME", value_parser = |text: &str| until(text, &crypto::system::SystemClock))]
        until: Timestamp,
    },
    /// Say that a finding is resolved; it opens again where the next evaluation sees it
    Resolve {
        /// Its id
        finding: String,
    },
    /// Open an accepted or resolved finding again
    Reopen {
        /// Its id
        finding: String,
    },
    /// Count the findings of each status and severity
    Counts,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RuleCommand {
    /// List the rules
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a rule: its condition, and what to do
    Show {
        /// Its id
        rule: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ControlCommand {
    /// List the controls and how they stand
    List {
        /// Only of this framework, e.g. nist-800-53-r5
        #[arg(long)]
        framework: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Judge all nodes by all rules now
    Evaluate,
}

impl Table for Finding {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("RISK", "risk"),
        ("SEVERITY", "severity"),
        ("STATUS", "status"),
        ("NODE", "node_name"),
        ("TITLE", "title"),
        ("RULE", "rule"),
        ("ID", "id"),
    ];
}

impl Table for FindingCount {
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("STATUS", "status"), ("SEVERITY", "severity"), ("COUNT", "count")];
}

impl Table for Rule {
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("ID", "id"), ("SEVERITY", "severity"), ("TITLE", "title"), ("NODE TYPES", "node_types"), ("PACK", "pack")];
}

impl Table for Control {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("FRAMEWORK", "framework"),
        ("CONTROL", "control"),
        ("RESULT", "result"),
        ("PASSED", "passed"),
        ("FAILED", "failed"),
        ("ERRORS", "errors"),
        ("TITLE", "title"),
    ];
}

fn until(text: &str, clock: &dyn Clock) -> Result<Timestamp, String> {
    const DAY_MILLIS: i64 = 86_400_000;
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse::<u16>().ok()) {
        return Ok(clock.now().plus_millis(i64::from(days) * DAY_MILLIS));
    }
    let moment = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
    moment.parse().map_err(|_| "use 2027-01-31, 2027-01-31T12:00:00Z or 90d".to_owned())
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        match self {
            Self::List { status, severity, rule, node, kind, paging } => {
                let query = [
                    ("status", status.as_deref()),
                    ("severity", severity.as_deref()),
                    ("rule", rule.as_deref()),
                    ("node", node.as_deref()),
                    ("type", kind.as_deref()),
                ];
                api.show_list::<Finding>(&["findings"], &query, paging).await
            }
            Self::Show { finding } => api.out.one(&api.get(&["findings", &finding]).await?),
            Self::Accept { finding, reason, until } => {
                let body = FindingAccept { reason, until: until.to_string() };
                api.out.row::<Finding>(api.post(&["findings", &finding, "accept"], &body).await?)
            }
            Self::Resolve { finding } => api.out.row::<Finding>(api.act(&["findings", &finding, "resolve"]).await?),
            Self::Reopen { finding } => api.out.row::<Finding>(api.act(&["findings", &finding, "reopen"]).await?),
            Self::Counts => api.show_list::<FindingCount>(&["finding-counts"], &[], Paging::ALL).await,
        }
    }
}

impl RuleCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.platform()?;
        match self {
            Self::List { paging } => api.show_list::<Rule>(&["rules"], &[], paging).await,
            Self::Show { rule } => api.out.one(&api.find(&["rules"], "id", &rule, "rule").await?),
        }
    }
}

impl ControlCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        match self {
            Self::List { framework, paging } => {
                api.show_list::<Control>(&["controls"], &[("framework", framework.as_deref())], paging).await
            }
            Self::Evaluate => api.out.one(&api.act(&["evaluations"]).await?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acceptance_ends_at_a_date_a_moment_or_after_days() {
        let clock = testkit::TestClock::at("2026-11-22T03:00:00Z".parse().unwrap());
        for (input, expect) in [
            ("2027-01-31", "2027-01-31T00:00:00.000Z"),
            ("2027-01-31T12:00:00+02:00", "2027-01-31T10:00:00.000Z"),
            ("90d", "2027-02-20T03:00:00.000Z"),
        ] {
            assert_eq!(until(input, &clock).unwrap().to_string(), expect);
        }
        for bad in ["", "d", "soon", "2027-02-30", "-1d", "90"] {
            assert!(until(bad, &clock).is_err(), "{bad}");
        }
    }
}
