//! What changed in the tenant.

use clap::Args;
use domain::Clock as _;

use crate::api::Context;
use crate::destination::ago;
use crate::doc::Doc;
use crate::failure::Result;
use crate::graph::number;
use crate::output::{Format, Output};

#[derive(Debug, Args)]
pub(crate) struct Changes {
    /// Since when: a moment (RFC 3339), or how long ago, such as 24h or 7d [default: since you said in the console that you have seen it all]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<String>,
}

/// A moment as the API takes it.
fn moment(text: &str) -> Result<String, String> {
    if text.parse::<domain::Timestamp>().is_ok() {
        return Ok(text.to_owned());
    }
    let before = ago(text).map_err(|_| "use a moment such as 2027-01-31T08:00:00Z, or 24h or 7d for that long ago")?;
    Ok(crypto::system::SystemClock.now().plus_millis(-before).to_string())
}

const SEVERITIES: [&str; 5] = ["critical", "high", "medium", "low", "info"];

/// One line of what changed: how many of what, and which.
fn line(what: &str, count: u64, which: String) -> Doc {
    Doc::Map(vec![
        ("what".to_owned(), Doc::Text(what.to_owned())),
        ("count".to_owned(), Doc::Number(count.into())),
        ("which".to_owned(), Doc::Text(which)),
    ])
}

fn listed(of: impl Iterator<Item = (String, u64)>) -> String {
    of.filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

/// What there is to say; nothing for what did not change.
fn lines(changes: &Doc) -> Vec<Doc> {
    let mut lines = Vec::new();
    if let Some(findings) = changes.field("findings") {
        for what in ["opened", "accepted", "resolved"] {
            let Some(counts) = findings.field(what) else { continue };
            let of = || SEVERITIES.into_iter().map(|severity| (severity.to_owned(), number(counts, severity)));
            lines.push(line(&format!("findings {what}"), of().map(|(_, count)| count).sum(), listed(of())));
        }
    }
    if let Some(nodes) = changes.field("nodes") {
        for (what, field) in [("first seen", "first_seen"), ("changed", "changed"), ("closed", "closed")] {
            let of = nodes.items("by_type").iter().map(|of| (of.text("type").to_owned(), number(of, field)));
            lines.push(line(&format!("nodes {what}"), number(nodes, field), listed(of)));
        }
    }
    if let Some(fleet) = changes.field("fleet") {
        for what in ["enrolled", "revoked", "cloned", "silent"] {
            let units = fleet.items("units").iter().filter(|unit| unit.text("what") == what);
            let which: Vec<_> = units.map(|unit| format!("{} {}", unit.text("kind"), unit.text("name"))).collect();
            lines.push(line(&format!("agents and relays {what}"), number(fleet, what), which.join(", ")));
        }
    }
    if let Some(access) = changes.field("access") {
        for (what, field) in
            [("access requests that wait", "waiting"), ("grants made", "made"), ("grants taken away", "taken")]
        {
            lines.push(line(what, number(access, field), String::new()));
        }
    }
    if let Some(jobs) = changes.field("jobs") {
        let which: Vec<_> = jobs.items("newest").iter().map(|job| job.text("plugin").to_owned()).collect();
        lines.push(line("jobs failed", number(jobs, "failed"), which.join(", ")));
    }
    lines.retain(|line| number(line, "count") > 0);
    lines
}

impl Changes {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        let doc = api.get_with(&["changes"], &[("since", self.since.as_deref())]).await?;
        if api.out.format != Format::Table {
            return api.out.one(&doc);
        }
        let lines = lines(&doc);
        let is_more = ["findings", "nodes", "access", "jobs"]
            .iter()
            .any(|part| matches!(doc.field(part).and_then(|part| part.field("more")), Some(Doc::Bool(true))));
        if !lines.is_empty() {
            let columns = ["what", "count", "which"].map(|name| (name.to_uppercase(), name.to_owned()));
            Output::lines(&columns, &lines)?;
        }
        let what = if lines.is_empty() { "nothing changed " } else { "" };
        let more = if is_more { "; there is more than was counted" } else { "" };
        api.out.say(&format!("{what}since {}{more}", doc.text("since")));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_line_by_line_and_what_did_not_is_left_out() {
        let none = r#"{"critical":0,"high":0,"medium":0,"low":0,"info":0}"#;
        let doc: Doc = serde_json::from_str(&format!(
            r#"{{"since":"x","findings":{{"opened":{{"critical":1,"high":2,"medium":0,"low":0,"info":0}},"accepted":{none},"resolved":{none},
            "more":false,"newest":[]}},"nodes":{{"first_seen":3,"changed":0,"closed":0,"more":false,
            "by_type":[{{"type":"host.user","first_seen":3,"changed":0,"closed":0}}]}},
            "fleet":{{"enrolled":0,"revoked":0,"cloned":0,"silent":1,
            "units":[{{"kind":"agent","name":"web-1","what":"silent","at":"x"}}]}},"jobs":{{"failed":0,"more":false,"newest":[]}}}}"#
        ))
        .unwrap();
        let lines: Vec<_> = lines(&doc)
            .iter()
            .map(|line| (line.text("what").to_owned(), number(line, "count"), line.text("which").to_owned()))
            .collect();
        let expect = [
            ("findings opened", 3, "1 critical, 2 high"),
            ("nodes first seen", 3, "3 host.user"),
            ("agents and relays silent", 1, "agent web-1"),
        ];
        assert_eq!(lines, expect.map(|(what, count, which)| (what.to_owned(), count, which.to_owned())));
    }

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        assert_eq!(moment("2027-01-31T08:00:00Z").unwrap(), "2027-01-31T08:00:00Z");
        let day: domain::Timestamp = moment("24h").unwrap().parse().unwrap();
        let before = crypto::system::SystemClock.now().millis_since(day);
        assert!((86_400_000..86_460_000).contains(&before), "{before}");
        assert!(moment("yesterday").unwrap_err().contains("24h"));
    }
}
