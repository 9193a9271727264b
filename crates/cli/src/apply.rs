//! Access as a file: what differs from what is there, making it so, and writing down what is there.
//!
//! Invariant: what is made is what was shown; the server refuses anything else.

use std::io::Read as _;
use std::path::Path;

use clap::Args;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::{Spanned, budget, options};
use wire::access_file::{AccessFile, AccessFileApply, AccessFileChange, AccessFilePlan};

use crate::api::{Api, Context};
use crate::client::not_ours;
use crate::doc::Doc;
use crate::failure::{Exit, Failure, Result};
use crate::output::{self, Format};
use crate::prompt;

/// Largest file: what a server takes in one request.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// The file, in YAML or JSON; -: the standard input
    #[arg(short, long, value_name = "FILE")]
    file: String,
    /// What names a user or a destination that is not there yet waits, instead of being refused
    #[arg(long)]
    missing_waits: bool,
    #[command(flatten)]
    how: How,
}

/// How a difference is made.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// Take what the file made earlier and does not name any more
    #[arg(long)]
    prune: bool,
    /// Only show the difference; exit code 3 says that there is one
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl How {
    pub(crate) fn prune(&self) -> bool {
        self.prune
    }
}

/// Asks, unless it was said not to.
fn confirmed(how: &How, question: &str) -> Result {
    if how.yes {
        return Ok(());
    }
    if !prompt::is_interactive() {
        return Err(Failure::new("applying needs a confirmation").hint("add --yes, or --dry-run to look only"));
    }
    if !prompt::confirm(question)? {
        return Err(Failure::new("nothing was changed"));
    }
    Ok(())
}

fn read(path: &str) -> Result<String> {
    let (mut text, shown) = (String::new(), Path::new(path));
    let failed = |e: std::io::Error| Failure::file("read", shown, e);
    let mut input: Box<dyn std::io::Read> =
        if path == "-" { Box::new(std::io::stdin()) } else { Box::new(std::fs::File::open(shown).map_err(failed)?) };
    (&mut input).take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::file("read", shown, format!("it is larger than {FILE_BYTES_MAX} bytes"))
            .hint("divide it into several files, each with a `name` of its own"));
    }
    Ok(text)
}

/// Parses within a budget: a file is the text that it shows, and no text that unfolds from a few lines.
fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, serde_saphyr::Error> {
    let options = options! {
        budget: budget! {
            max_documents: 1,
            max_depth: 16,
            max_aliases: 64,
            max_anchors: 64,
            max_events: 1_000_000,
            max_nodes: 500_000,
            max_merge_keys: 64,
            max_recorded_anchor_events: 20_000,
            flow_nesting_limit: 16,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 20_000, max_replay_stack_depth: 8 },
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
}

fn understood(path: &str, text: &str) -> Result<AccessFile> {
    parse(text).map_err(|error| {
        let at = error.location().map(|at| format!("{}:{}: ", at.line(), at.column())).unwrap_or_default();
        let words = error.without_snippet().to_string();
        let words = words.lines().next().unwrap_or_default();
        let words = words.split(" at line ").next().unwrap_or_default();
        Failure::new(format!("{path}:{at}{words}"))
    })
}

/// Where each entry of a file begins.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Places {
    members: Vec<Spanned<IgnoredAny>>,
    groups: Vec<Spanned<IgnoredAny>>,
    group_roles: Vec<Spanned<IgnoredAny>>,
    hosts: Vec<Spanned<IgnoredAny>>,
    sets: Vec<Spanned<IgnoredAny>>,
    destinations: Vec<Spanned<IgnoredAny>>,
    grants: Vec<Spanned<IgnoredAny>>,
}

/// A server's `grants[3]: …` with the line of that entry before it.
fn placed(path: &str, text: &str, message: &str) -> Option<String> {
    let (list, rest) = message.split_once('[')?;
    let index: usize = rest.split_once(']')?.0.parse().ok()?;
    let places: Places = parse(text).ok()?;
    let items = match list {
        "members" => places.members,
        "groups" => places.groups,
        "group_roles" => places.group_roles,
        "hosts" => places.hosts,
        "sets" => places.sets,
        "destinations" => places.destinations,
        "grants" => places.grants,
        _ => return None,
    };
    let line = items.get(index)?.referenced.line();
    Some(format!("{path}:{line}: {message}"))
}

/// One difference in a line: `+` comes, `-` goes, `~` changes, `=` is taken over as it is.
fn line(change: &AccessFileChange) -> String {
    let sign = match change.action.as_str() {
        "create" | "invite" => '+',
        "delete" => '-',
        "adopt" => '=',
        _ => '~',
    };
    let verb = if change.action == "invite" { "invitation" } else { change.kind.as_str() };
    let value = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let how = match (change.action.as_str(), change.kind.as_str()) {
        ("update", _) => format!("  {} -> {}", value(&change.before), value(&change.after)),
        ("invite" | "create", "member" | "group-role") => format!("  {}", value(&change.after)),
        ("create", "set") => format!("  {}", change.after.get("selector").map(&value).unwrap_or_default()),
        ("create", "host") => {
            let part = |name: &str| change.after.get(name);
            let roles = part("roles").and_then(serde_json::Value::as_array).into_iter().flatten().map(&value);
            let address = part("address").map(&value).unwrap_or_default();
            let way = match part("relay").and_then(serde_json::Value::as_str) {
                Some(relay) => format!("through {relay}"),
                None => "direct: not recorded".to_owned(),
            };
            format!("  {address}, accounts {}, {way}", roles.collect::<Vec<_>>().join(" "))
        }
        _ => String::new(),
    };
    format!("{sign} {verb} {}{how}", change.name)
}

/// Shows what differs, and makes it so if that is wanted. `tell`: turns a refusal of the server into one that names a place.
pub(crate) async fn apply(api: &Api, body: AccessFileApply, how: &How, tell: impl Fn(Failure) -> Failure) -> Result {
    let mut body = AccessFileApply { prune: how.prune, ..body };
    let shown = api.post(&["access-file", "plan"], &body).await.map_err(&tell)?;
    let plan: AccessFilePlan = shown.parse().map_err(|_| not_ours())?;
    show(api, &shown, &plan)?;
    if plan.changes.is_empty() {
        api.out.say("nothing differs");
        return Ok(());
    }
    if how.dry_run {
        return Err(
            Failure::new(format!("{} differences, nothing was changed", plan.changes.len())).exit(Exit::NotVerified)
        );
    }
    confirmed(how, &format!("Make these {} changes?", plan.changes.len()))?;
    body.digest = Some(plan.digest);
    api.post(&["access-file", "apply"], &body).await.map_err(tell)?;
    api.out.say(&format!("{} changes are made", plan.changes.len()));
    for host in plan.changes.iter().filter(|change| change.kind == "host") {
        api.out.say(&format!("`cairn destinations host {} --sshd-config` prints what to tell that host", host.name));
    }
    Ok(())
}

fn show(api: &Api, shown: &Doc, plan: &AccessFilePlan) -> Result {
    for waits in &plan.waiting {
        output::warn(waits);
    }
    if api.out.format != Format::Table {
        return api.out.one(shown);
    }
    let mut lines = String::new();
    for change in &plan.changes {
        lines.extend([&*crate::clean::clean(&line(change)), "\n"]);
    }
    output::data(lines.as_bytes())
}

impl Apply {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        let text = read(&self.file)?;
        let file = understood(&self.file, &text)?;
        let body = AccessFileApply { file, prune: false, missing_waits: self.missing_waits, digest: None };
        let tell = |failure: Failure| match placed(&self.file, &text, &failure.message) {
            Some(message) => Failure { message, ..failure },
            None => failure,
        };
        apply(&api, body, &self.how, tell).await
    }
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The name that the file says: what it makes later is its own
    #[arg(long, default_value = "access")]
    name: String,
}

impl Export {
    pub(crate) async fn run(self, api: &Api) -> Result {
        let file = api.get_with(&["access-file"], &[("name", Some(&self.name))]).await?;
        if api.out.format == Format::Json {
            return output::data(file.to_json().as_bytes());
        }
        // No grant says so, and a file sets no policy.
        let glass = crate::destination::breaks_glass(api).await?.map(|wire::grant::BreakGlass { group, s_max }| {
            format!("# Besides, members of `{group}` may break glass everywhere, for {s_max} s at most: see `cairn access policy`.\n")
        });
        output::data(format!("{}{}", glass.unwrap_or_default(), file.to_yaml()).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "version: 1\nname: team\ngrants:\n- group: devs\n  role: view\n  destination: prod\n- user: ann@example.com\n  role: edit\n  labels: {env: test}\n";

    #[test]
    fn a_mistake_is_told_with_its_line_and_its_name() {
        for (wrong, says) in [
            (FILE.replace("  role: edit", "  rolle: edit"), "f.yaml:8:3: unknown field `rolle`"),
            (FILE.replace("role: view", "role: system:masters"), "f.yaml:5:9: "),
            (FILE.replace("version: 1", "version: one"), "f.yaml:1:10: "),
            (format!("{FILE}name: other\n"), "f.yaml:10:1: "),
            (format!("{FILE}---\nversion: 1\n"), "f.yaml:"),
        ] {
            let told = understood("f.yaml", &wrong).unwrap_err().message;
            assert!(told.starts_with(says), "{told}");
        }
        assert_eq!(understood("f.yaml", FILE).unwrap().grants.len(), 2);
        let told = placed("f.yaml", FILE, "grants[1].user: there is no member");
        assert_eq!(told.as_deref(), Some("f.yaml:7: grants[1].user: there is no member"));
        assert_eq!(placed("f.yaml", FILE, "grants[7]: x"), None);
    }

    #[test]
    fn text_that_unfolds_from_a_few_lines_is_refused() {
        let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (from, to) in "abcdefgh".chars().zip("bcdefghi".chars()) {
            bomb.extend([format!("{to}: &{to} [{}]\n", vec![format!("*{from}"); 10].join(","))]);
        }
        assert!(understood("bomb.yaml", &bomb).is_err());
        let deep = format!("version: {}1{}", "[".repeat(100), "]".repeat(100));
        assert!(understood("deep.yaml", &deep).is_err());
    }

    #[test]
    fn a_difference_is_one_line_with_a_sign() {
        let change = |action: &str, kind: &str, before: serde_json::Value, after: serde_json::Value| AccessFileChange {
            action: action.to_owned(),
            kind: kind.to_owned(),
            name: "x".to_owned(),
            before,
            after,
        };
        let null = serde_json::Value::Null;
        assert_eq!(line(&change("create", "grant", null.clone(), serde_json::json!({"reason": ""}))), "+ grant x");
        assert_eq!(line(&change("invite", "member", null.clone(), "read-only".into())), "+ invitation x  read-only");
        assert_eq!(
            line(&change("update", "group-role", "auditor".into(), "read-only".into())),
            "~ group-role x  auditor -> read-only"
        );
        assert_eq!(line(&change("delete", "group", null.clone(), null.clone())), "- group x");
        assert_eq!(line(&change("adopt", "group", null.clone(), null)), "= group x");
    }
}
