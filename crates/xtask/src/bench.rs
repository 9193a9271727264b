//! `cargo xtask bench [NAME]`: runs the benchmarks and sets each figure beside what it is compared with.
//!
//! A benchmark is a command that prints JSON lines (its other output goes to stderr or is no JSON object):
//! `{"bench","value","unit","compared_to","compared_value","ratio","goal"}`, where `goal` is about the ratio, such as
//! `">= 0.5"` or `"<= 1"`, or empty: such a figure is only shown. A missed goal is shown, not an error: a figure depends on the machine.
//! A benchmark that fails or measures nothing is an error.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::run;
use crate::workspace::Workspace;

/// One entry of the registry.
struct Bench {
    name: &'static str,
    about: &'static str,
    /// Run at the workspace's root; `cargo` is the one that runs us.
    command: &'static [&'static str],
}

/// All benchmarks, in the order in which they run.
const BENCHES: &[Bench] = &[
    Bench {
        name: "ingest",
        about: "observations into the graph, against bare inserts of the same rows (CAIRN_BENCH_NODES, CAIRN_BENCH_ENGINES)",
        command: &["cargo", "run", "--quiet", "--release", "--package", "store", "--example", "bench_ingest"],
    },
    Bench {
        name: "graph",
        about: "the asset graph's first look, a group, a path, what a node affects, the past, in 1,000,000 nodes (CAIRN_BENCH_NODES, CAIRN_BENCH_ENGINES)",
        command: &["cargo", "run", "--quiet", "--release", "--package", "store", "--example", "bench_graph"],
    },
    Bench {
        name: "findings",
        about: "pages, filters, groups, texts and changes to many among 100,000 findings (CAIRN_BENCH_FINDINGS, CAIRN_BENCH_NODES, CAIRN_BENCH_ENGINES)",
        command: &["cargo", "run", "--quiet", "--release", "--package", "store", "--example", "bench_findings"],
    },
    Bench {
        name: "evaluate",
        about: "every shipped rule over 100,000 nodes, on one core",
        command: &["cargo", "run", "--quiet", "--release", "--package", "compliance", "--example", "bench_evaluate"],
    },
    Bench {
        name: "log",
        about: "audit appends against bare inserts, and proofs in ten million records (CAIRN_BENCH_ENGINES)",
        command: &["cargo", "run", "--quiet", "--release", "--package", "store", "--example", "bench_log"],
    },
    Bench {
        name: "auth",
        about: "requests with a JWT, an API key and a CLI session, against one without; sign-ins against bare bcrypt (CAIRN_BENCH_ENGINES, CAIRN_BENCH_SECONDS)",
        command: &["cargo", "run", "--quiet", "--release", "--package", "api", "--example", "bench_auth"],
    },
    Bench {
        name: "access",
        about: "who reaches what among 10,000 users and 100,000 grants; grants made and taken away (CAIRN_BENCH_USERS, CAIRN_BENCH_GRANTS, CAIRN_BENCH_HOSTS, CAIRN_BENCH_ENGINES)",
        command: &["cargo", "run", "--quiet", "--release", "--package", "store", "--example", "bench_access"],
    },
    Bench {
        name: "proxy",
        about: "the access proxy in front of clusters, against nginx and against none; open watches; tokens signed (CAIRN_NGINX, CAIRN_BENCH_REQUESTS, CAIRN_BENCH_SECONDS, CAIRN_BENCH_WATCHES)",
        command: &["cargo", "run", "--quiet", "--release", "--package", "gateway", "--example", "bench_proxy"],
    },
    Bench {
        name: "grant",
        about: "from a grant that is taken away to the end of the watch that it had open, with the real server and relay (CAIRN_BENCH_ROUNDS)",
        command: &["python3", "-B", "benches/grant.py"],
    },
    Bench {
        name: "snmp",
        about: "interfaces of 100 net-snmp agents, against parallel snmpbulkwalk (CAIRN_BENCH_AGENTS, CAIRN_BENCH_INTERFACES, CAIRN_BENCH_PARALLEL)",
        command: &["cargo", "run", "--quiet", "--release", "--package", "transport", "--example", "bench_snmp"],
    },
    Bench {
        name: "devices",
        about: "network devices that one relay discovers in an hour, with the real server, relay and net-snmp agents; as root (CAIRN_BENCH_DEVICES, CAIRN_BENCH_INTERFACES)",
        command: &["python3", "-B", "benches/devices.py"],
    },
    Bench {
        name: "ssh",
        about: "facts of 100 hosts over SSH, against Ansible's module setup (its program in CAIRN_ANSIBLE; CAIRN_BENCH_HOSTS, CAIRN_BENCH_PARALLEL)",
        command: &["cargo", "run", "--quiet", "--release", "--package", "plugins", "--example", "bench_ssh"],
    },
    Bench {
        name: "idle",
        about: "how soon the server is ready, what memory it keeps, how soon the command line is there",
        command: &["python3", "-B", "benches/idle.py"],
    },
    Bench {
        name: "scan",
        about: "a sweep of a /16 and a scan of 257,024 ports, against nmap and masscan; as root",
        command: &["cargo", "run", "--quiet", "--release", "--package", "transport", "--example", "bench_scan"],
    },
    Bench {
        name: "agent",
        about: "reports of many agents into one server, and what an agent costs its host (CAIRN_BENCH_AGENTS, CAIRN_BENCH_SECONDS, CAIRN_BENCH_CYCLES)",
        command: &["python3", "-B", "benches/agent.py"],
    },
    Bench {
        name: "fleet",
        about: "memory of connected agents and relays, their return to a killed server, the channel against bare TLS (CAIRN_BENCH_AGENTS, CAIRN_BENCH_RELAYS)",
        command: &["python3", "-B", "benches/fleet.py"],
    },
    Bench {
        name: "console",
        about: "the console in headless Chromium: its first page, its JavaScript, the overview of 1,000,000 nodes, 20,000 elements moved (CAIRN_BENCH_NODES, CAIRN_BENCH_ROUNDS)",
        command: &["python3", "-B", "benches/console.py"],
    },
    Bench {
        name: "account",
        about: "an AWS account read and judged, against Prowler (its program in CAIRN_PROWLER)",
        command: &["python3", "-B", "benches/account.py"],
    },
];

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Figure {
    bench: String,
    value: f64,
    unit: String,
    compared_to: String,
    compared_value: f64,
    ratio: f64,
    goal: String,
}

impl Figure {
    /// Whether the goal is met, if there is one.
    fn is_met(&self) -> anyhow::Result<Option<bool>> {
        if self.goal.is_empty() {
            return Ok(None);
        }
        let (at_least, bound) = match (self.goal.strip_prefix(">="), self.goal.strip_prefix("<=")) {
            (Some(bound), _) => (true, bound),
            (_, Some(bound)) => (false, bound),
            _ => bail!("the goal of `{}` is not `>= RATIO` or `<= RATIO`", self.bench),
        };
        let bound: f64 = bound.trim().parse().with_context(|| format!("the goal of `{}`", self.bench))?;
        Ok(Some(if at_least { self.ratio >= bound } else { self.ratio <= bound }))
    }
}

/// Runs all, or the one of that name.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> anyhow::Result<()> {
    run_of(BENCHES, workspace, args)
}

fn run_of(benches: &[Bench], workspace: &Workspace, args: &[String]) -> anyhow::Result<()> {
    let name = args.first();
    let chosen: Vec<&Bench> = benches.iter().filter(|bench| name.is_none_or(|name| name == bench.name)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = benches.iter().map(|bench| bench.name).collect();
        let asked = name.map(|name| format!(" `{name}`")).unwrap_or_default();
        bail!(
            "there is no benchmark{asked}; those there are: {}",
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        );
    }
    let mut figures = Vec::new();
    let mut failed = Vec::new();
    for bench in chosen {
        let begun = Instant::now();
        println!("==> {}: {}", bench.name, bench.about);
        match measure(bench, workspace) {
            Ok(found) => figures.extend(found),
            Err(e) => {
                eprintln!("error: {}: {e:#}", bench.name);
                failed.push(bench.name);
            }
        }
        println!("    {}", run::duration(begun.elapsed()));
    }
    print!("{}", table(&figures)?);
    if !failed.is_empty() {
        bail!("benchmarks failed: {}", failed.join(", "));
    }
    Ok(())
}

fn measure(bench: &Bench, workspace: &Workspace) -> anyhow::Result<Vec<Figure>> {
    let mut command = match bench.command {
        ["cargo", args @ ..] => run::cargo(workspace, args),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.current_dir(&workspace.root).args(args);
            command
        }
        [] => bail!("its command is empty"),
    };
    let output = command.stderr(Stdio::inherit()).output().context("cannot start")?;
    if !output.status.success() {
        bail!("ended with {}", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let figures: Vec<Figure> =
        lines.map(|line| serde_json::from_str(line).with_context(|| format!("`{line}`"))).collect::<Result<_, _>>()?;
    if figures.is_empty() {
        bail!("it printed no figure");
    }
    Ok(figures)
}

fn table(figures: &[Figure]) -> anyhow::Result<String> {
    let mut rows = vec![["benchmark", "value", "compared to", "its value", "ratio", "goal", ""].map(str::to_owned)];
    for figure in figures {
        let Figure { bench, value, unit, compared_to, compared_value, ratio, goal } = figure;
        let met = match figure.is_met()? {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        rows.push([
            bench.clone(),
            format!("{} {unit}", number(*value)),
            compared_to.clone(),
            format!("{} {unit}", number(*compared_value)),
            format!("{ratio:.2}"),
            goal.clone(),
            met.to_owned(),
        ]);
    }
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; 7]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    Ok(rows.iter().map(line).collect::<Vec<_>>().concat())
}

/// With as many decimals as its size needs.
fn number(value: f64) -> String {
    let decimals = if value.abs() >= 100.0 { 0 } else { 3 };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAKE: &[Bench] = &[
        Bench {
            name: "ingest",
            about: "rows",
            command: &[
                "sh",
                "-c",
                r#"echo warming up; echo '{"bench":"ingest","value":80000,"unit":"rows/s","compared_to":"raw insert","compared_value":100000,"ratio":0.8,"goal":">= 0.5"}'"#,
            ],
        },
        Bench { name: "broken", about: "fails", command: &["sh", "-c", "exit 4"] },
        Bench { name: "hollow", about: "measures nothing", command: &["true"] },
        Bench { name: "other", about: "prints another shape", command: &["echo", r#"{"bench":"x"}"#] },
    ];

    fn here() -> Workspace {
        Workspace { root: ".".into(), target: "target".into() }
    }

    #[test]
    fn figures_are_read_and_set_beside_their_goal() {
        let figures = measure(&FAKE[0], &here()).unwrap();
        let expected = "benchmark  value         compared to  its value      ratio  goal\n\
                        ingest     80000 rows/s  raw insert   100000 rows/s  0.80   >= 0.5  met\n";
        assert_eq!(table(&figures).unwrap(), expected);
    }

    #[test]
    fn a_benchmark_that_fails_or_measures_nothing_is_an_error() {
        for name in ["broken", "hollow", "other"] {
            assert!(run_of(FAKE, &here(), &[name.to_owned()]).unwrap_err().to_string().contains(name));
        }
        assert!(run_of(FAKE, &here(), &["ingest".to_owned()]).is_ok());
        assert!(run_of(FAKE, &here(), &["nosuch".to_owned()]).unwrap_err().to_string().contains("ingest, broken"));
    }

    #[test]
    fn goals_have_a_direction() {
        let figure = |ratio: f64, goal: &str| Figure {
            bench: "b".into(),
            value: 1.0,
            unit: "s".into(),
            compared_to: "c".into(),
            compared_value: 1.0,
            ratio,
            goal: goal.into(),
        };
        let is_met = |ratio, goal| figure(ratio, goal).is_met().unwrap();
        assert_eq!([is_met(0.5, ">= 0.5"), is_met(0.49, ">= 0.5")], [Some(true), Some(false)]);
        assert_eq!([is_met(0.9, "<= 1"), is_met(1.1, "<= 1")], [Some(true), Some(false)]);
        assert_eq!(is_met(1.0, ""), None);
        assert!(figure(1.0, "fast").is_met().is_err());
    }
}
