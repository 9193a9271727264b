//! Findings, and the rules and controls that they are about.

use std::borrow::Cow;

use clap::{Args, Subcommand};
use domain::{Clock, Timestamp};
use wire::control::{Control, Framework, Pack, Rule};
use wire::finding::{Finding, FindingAccept, FindingCount, FindingGroup};

use crate::api::{Context, Paging};
use crate::clean::clean;
use crate::doc::Doc;
use crate::failure::{Failure, Result};
use crate::finding_change::Change;
use crate::output::{self, Format, Output};
use crate::table::Table;

/// Which findings: those that are all of what is named.
#[derive(Debug, Default, Args)]
pub(crate) struct Filter {
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
    /// Only with this in the message, the rule's id, or the node's name or id
    #[arg(long)]
    text: Option<String>,
    /// Only of rules that support this framework, e.g. nist-800-53-r5
    #[arg(long)]
    framework: Option<String>,
    /// Only of rules that support this control of the framework
    #[arg(long, requires = "framework")]
    control: Option<String>,
}

impl Filter {
    pub(crate) fn query(&self) -> [(&'static str, Option<&str>); 8] {
        [
            ("status", self.status.as_deref()),
            ("severity", self.severity.as_deref()),
            ("rule", self.rule.as_deref()),
            ("node", self.node.as_deref()),
            ("type", self.kind.as_deref()),
            ("text", self.text.as_deref()),
            ("framework", self.framework.as_deref()),
            ("control", self.control.as_deref()),
        ]
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List findings, the greatest risk first
    List {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        paging: Paging,
    },
    /// Count findings in groups, the greatest risk first: by rule, node, framework or control
    Groups {
        /// What they are grouped by
        #[arg(long, value_parser = ["rule", "node", "framework", "control"], default_value = "rule")]
        by: String,
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a finding: what is wrong, the values, and what to do
    Show {
        /// Its id
        finding: String,
    },
    /// Print what can be run or applied against a finding: nothing but the text
    Patch {
        /// Its id
        finding: String,
        /// In which form, where there are several
        #[arg(long, value_parser = ["shell", "terraform"])]
        form: Option<String>,
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
    /// Accept, resolve or reopen many findings at once, all of them or none: says first how many of which
    Change(Change),
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
    /// List the packs that the rules are in, with their versions
    Packs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FrameworkCommand {
    /// List the frameworks, with their versions and how much of each the rules support
    List,
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
    /// Show a control: its rules and how they judged, who says so, and on what
    Show {
        /// FRAMEWORK:CONTROL, e.g. nist-800-53-r5:AC-6
        control: String,
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

impl Table for FindingGroup {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("RISK", "risk"),
        ("OPEN", "open"),
        ("ACCEPTED", "accepted"),
        ("RESOLVED", "resolved"),
        ("KEY", "key"),
        ("LABEL", "label"),
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

impl Table for Pack {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("ID", "id"),
        ("VERSION", "version"),
        ("RULES", "rules"),
        ("FRAMEWORKS", "frameworks"),
        ("TITLE", "title"),
        ("SOURCE", "source"),
    ];
}

impl Table for Framework {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("ID", "id"),
        ("VERSION", "version"),
        ("CONTROLS", "controls"),
        ("SUPPORTED", "supported"),
        ("RULES", "rules"),
        ("PACKS", "packs"),
        ("TITLE", "title"),
    ];
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

pub(crate) fn until(text: &str, clock: &dyn Clock) -> Result<Timestamp, String> {
    const DAY_MILLIS: i64 = 86_400_000;
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse::<u16>().ok()) {
        return Ok(clock.now().plus_millis(i64::from(days) * DAY_MILLIS));
    }
    let moment = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
    moment.parse().map_err(|_| "use 2027-01-31, 2027-01-31T12:00:00Z or 90d".to_owned())
}

/// A text of several lines, each fit for a terminal.
fn lines(text: &str) -> String {
    text.lines().flat_map(|line| [clean(line), Cow::Borrowed("\n")]).collect()
}

/// A finding for people: its patches stand below it as they are run, line by line.
fn show(out: Output, shown: Doc) -> Result {
    let Doc::Map(fields) = shown else { return out.one(&shown) };
    if out.format != Format::Table {
        return out.one(&Doc::Map(fields));
    }
    let (patches, plain): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(name, _)| name == "patches");
    out.one(&Doc::Map(plain))?;
    let patches = Doc::Map(patches);
    for patch in patches.items("patches") {
        let about = format!("{} ({})", clean(patch.text("form")), clean(patch.text("where")));
        let text = match patch.field("text") {
            Some(Doc::Text(text)) => format!("\n{about}:\n{}", lines(text)),
            _ => format!("\n{about}: none, {}\n", clean(patch.text("missing"))),
        };
        output::data(text.as_bytes())?;
    }
    Ok(())
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        match self {
            Self::List { filter, paging } => api.show_list::<Finding>(&["findings"], &filter.query(), paging).await,
            Self::Groups { by, filter, paging } => {
                let query = [&filter.query()[..], &[("by", Some(by.as_str()))]].concat();
                api.show_list::<FindingGroup>(&["finding-groups"], &query, paging).await
            }
            Self::Show { finding } => {
                let shown = api.get(&["findings", &finding]).await?;
                show(api.out, shown)
            }
            Self::Patch { finding, form } => {
                let shown = api.get(&["findings", &finding]).await?;
                let fits = |patch: &&Doc| form.as_deref().is_none_or(|form| patch.text("form") == form);
                let Some(patch) = shown.items("patches").iter().find(fits) else {
                    return Err(Failure::new("the rule has no such patch for this finding")
                        .hint(format!("cairn findings show {finding} says what to do")));
                };
                match patch.field("text") {
                    Some(Doc::Text(text)) => output::data(lines(text).as_bytes()),
                    _ => Err(Failure::new(format!("there is no patch: {}", patch.text("missing")))),
                }
            }
            Self::Accept { finding, reason, until } => {
                let body = FindingAccept { reason, until: until.to_string() };
                api.out.row::<Finding>(api.post(&["findings", &finding, "accept"], &body).await?)
            }
            Self::Resolve { finding } => api.out.row::<Finding>(api.act(&["findings", &finding, "resolve"]).await?),
            Self::Reopen { finding } => api.out.row::<Finding>(api.act(&["findings", &finding, "reopen"]).await?),
            Self::Change(change) => change.run(&api).await,
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
            Self::Packs => api.show_list::<Pack>(&["packs"], &[], Paging::ALL).await,
        }
    }
}

impl FrameworkCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let Self::List = self;
        cx.platform()?.show_list::<Framework>(&["frameworks"], &[], Paging::ALL).await
    }
}

impl ControlCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        match self {
            Self::List { framework, paging } => {
                api.show_list::<Control>(&["controls"], &[("framework", framework.as_deref())], paging).await
            }
            Self::Show { control } => api.out.one(&api.get(&["controls", &control]).await?),
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
