//! One change to many findings: what it would be about is shown, and it is done once that is confirmed.

use clap::{Args, ValueEnum};
use domain::Timestamp;
use wire::finding::{FindingChange, FindingFilter, FindingSelection};

use crate::api::Api;
use crate::failure::{Failure, Result};
use crate::finding::{Filter, until};
use crate::prompt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Verb {
    Accept,
    Resolve,
    Reopen,
}

impl Verb {
    const fn word(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Resolve => "resolve",
            Self::Reopen => "reopen",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    /// What is done to them
    #[arg(value_enum, value_name = "CHANGE")]
    verb: Verb,
    /// These findings, at most 1,000; without any: all that match
    findings: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// How many you expect to match: it is done without a question, or, where another number matches, not at all
    #[arg(long, value_name = "N", conflicts_with = "findings")]
    count: Option<u64>,
    /// To accept: why the risk is taken
    #[arg(long, required_if_eq("verb", "accept"))]
    reason: Option<String>,
    /// To accept: until when, a date (2027-01-31), a moment (RFC 3339) or a number of days (90d); a year at most
    #[arg(long, value_name = "TIME", required_if_eq("verb", "accept"), value_parser = |text: &str| until(text, &crypto::system::SystemClock))]
    until: Option<Timestamp>,
}

impl Change {
    pub(crate) async fn run(self, api: &Api) -> Result {
        let query = self.filter.query();
        let is_filtered = query.iter().any(|(_, value)| value.is_some());
        let verb = self.verb.word();
        if self.verb != Verb::Accept && (self.reason.is_some() || self.until.is_some()) {
            return Err(Failure::usage("only `accept` takes --reason and --until"));
        }
        let mut body = FindingChange {
            change: verb.to_owned(),
            reason: self.reason.clone(),
            until: self.until.map(|until| until.to_string()),
            ..FindingChange::default()
        };
        if self.findings.is_empty() {
            let asked = [&query[..], &[("change", Some(verb))]].concat();
            let shown = api.get_with(&["finding-selection"], &asked).await?;
            let selection: FindingSelection = shown.parse().map_err(|_| {
                Failure::new("the answer is not one of this version").hint("use a `cairn` of the server's version")
            })?;
            confirmed(api, verb, &selection, self.count)?;
            body.seen = selection.seen;
            body.filter = Some(self.filter.document());
        } else if is_filtered {
            return Err(Failure::usage("name findings, or say which match, not both"));
        } else {
            body.findings = Some(self.findings);
        }
        api.out.one(&api.post(&["finding-changes"], &body).await?)
    }
}

/// Says how many of which match, and goes on where that is what is wanted.
fn confirmed(api: &Api, verb: &str, selection: &FindingSelection, expected: Option<u64>) -> Result {
    let which: Vec<String> =
        selection.counts.iter().map(|of| format!("{} {} {}", of.count, of.status, of.severity)).collect();
    let left = if selection.left > 0 { format!("; {} more stay as they are", selection.left) } else { String::new() };
    let found = if which.is_empty() {
        "0 findings".to_owned()
    } else {
        format!("{} findings ({})", selection.count, which.join(", "))
    };
    api.out.say(&format!("{verb}: {found}{left}"));
    if selection.count == 0 {
        return Err(Failure::new("no finding matches to which this can be done"));
    }
    if selection.seen.is_none() {
        return Err(Failure::new(format!("at most {} findings are changed together", selection.most))
            .hint("say more narrowly which: --severity, --rule, --node, --type, --text, --framework"));
    }
    match expected {
        Some(expected) if expected == selection.count => Ok(()),
        Some(expected) => {
            Err(Failure::new(format!("{} findings match, not {expected}: nothing was changed", selection.count)))
        }
        None if !prompt::is_interactive() => {
            Err(Failure::new("this needs a confirmation").hint(format!("add --count {}", selection.count)))
        }
        None if prompt::confirm(&format!("{verb} these {} findings?", selection.count))? => Ok(()),
        None => Err(Failure::new("nothing was changed")),
    }
}

impl Filter {
    fn document(&self) -> FindingFilter {
        let [status, severity, rule, node, node_type, text, framework, control] =
            self.query().map(|(_, value)| value.map(str::to_owned));
        FindingFilter { status, severity, rule, node, node_type, text, framework, control }
    }
}
