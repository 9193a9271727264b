//! Many agents that report to one server, each with a key, a credential and a connection of its own; `benches/agent.py` starts it.
//!
//! What counts is the server's processor time, which the kernel tells: the load runs on the same machine. First check-ins, which say that
//! nothing changed and are what a fleet mostly sends, then reports of one changed node, each with its signed statement.
//!
//! Arguments: the server's address, its authority's file, its process, a file of enrollment tokens (an agent each), a folder, seconds.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark: it prints, it measures, and it ends where something fails"
)]

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::system::{SystemClock, SystemRng};
use domain::{Clock as _, Coverage, Digest, FleetKind, NodeObservation, Properties, Secret};
use flate2::Compression;
use flate2::write::GzEncoder;
use fleet::{Client, Connection, Enrolling, Folder, Tls, Trust};
use http::Method;
use serde_json::json;
use wire::report::{Answer, Call, End, Head, Line, MEDIA_TYPE, Outcome, Page, Program, Scope, VERSION};

/// How many ask at once.
const AT_ONCE: usize = 16;
const SCOPE: &str = "accounts";

struct Agent {
    client: Client,
    machine: String,
    sequence: u64,
}

impl Agent {
    fn digest(&self, sequence: u64) -> Digest {
        crypto::sha256(format!("{} {sequence}", self.machine).as_bytes())
    }

    fn head(&self) -> Line {
        let program = Program {
            version: "0.1.0".to_owned(),
            sha256: Digest([1; 32]),
            config_sha256: Digest([2; 32]),
            host: "bench".to_owned(),
        };
        let (machine, at) = (self.machine.clone(), SystemClock.now());
        Line::Head(Head {
            version: VERSION,
            machine,
            epoch: 1,
            sequence: self.sequence,
            at,
            clock_offset_ms: Some(0),
            program,
        })
    }

    fn end(&self) -> Line {
        let state = inventory::state_digest([(SCOPE, self.digest(self.sequence))]);
        Line::End(End { forget: Vec::new(), state })
    }

    /// One node changed.
    fn change(&mut self) -> Vec<Line> {
        let base = (self.sequence > 0).then(|| self.digest(self.sequence));
        self.sequence += 1;
        let now = SystemClock.now();
        let scope = Scope {
            name: SCOPE.to_owned(),
            base,
            digest: self.digest(self.sequence),
            coverage: Coverage::Complete,
            nodes: 1,
            edges: 0,
            calls: 1,
            started: now,
            finished: now,
        };
        let node = NodeObservation {
            id: format!("host:local:host.user:{}/root", self.machine).parse().unwrap(),
            name: "root".to_owned(),
            properties: Properties::from_iter([("shell".to_owned(), json!(self.sequence))]),
            tags: [].into(),
        };
        let call = Call {
            system: "file".to_owned(),
            operation: "/etc/passwd".to_owned(),
            digest: Some(self.digest(self.sequence)),
            size: 1_315,
            error: None,
            kept: false,
            started: now,
            finished: now,
        };
        let page = Page { nodes: vec![node], edges: Vec::new() };
        vec![self.head(), Line::Scope(scope), Line::Page(page), Line::Calls(vec![call]), self.end()]
    }

    async fn send(&self, lines: &[Line]) {
        let mut packed = GzEncoder::new(Vec::new(), Compression::new(6));
        for line in lines {
            serde_json::to_writer(&mut packed, line).unwrap();
            packed.write_all(b"\n").unwrap();
        }
        let (target, report) = (format!("{}/report", self.client.path()), packed.finish().unwrap());
        let answer = self.client.call_as(Method::POST, &target, MEDIA_TYPE, &report).await.unwrap();
        let answer: Answer = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.result, Outcome::Accepted);
    }
}

async fn enroll(server: &str, authority: &Path, token: &str, folder: &Path, number: usize) -> Agent {
    let way = Connection::new(server, &Tls::new(Trust::of_file(authority).unwrap()), "cairn-agent/0.1.0").unwrap();
    let folder = Folder::open(&folder.join(number.to_string())).unwrap();
    let who = Enrolling { kind: FleetKind::Agent, name: &format!("bench-{number}"), version: "0.1.0" };
    let identity =
        way.enroll(folder, &Secret::new(token), who, Arc::new(SystemClock), Arc::new(SystemRng)).await.unwrap();
    let mut agent =
        Agent { client: Client::new(way, Arc::new(identity)), machine: format!("{number:016x}"), sequence: 0 };
    let first = agent.change();
    agent.send(&first).await;
    agent
}

/// User and system time of a process, in seconds.
fn cpu_s(process: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields = text.rsplit_once(')').unwrap().1;
    let ticks: u64 = fields.split_ascii_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

/// Lets all report for some time; how many reports, in how many seconds, for how many of the server's.
async fn load(groups: &mut Vec<Vec<Agent>>, time: Duration, changes: bool, process: &str) -> (f64, f64, f64) {
    let (began, before) = (Instant::now(), cpu_s(process));
    let tasks: Vec<_> = groups
        .drain(..)
        .map(|mut group| {
            tokio::spawn(async move {
                let mut sent = 0u32;
                while began.elapsed() < time {
                    for agent in &mut group {
                        let lines = if changes { agent.change() } else { vec![agent.head(), agent.end()] };
                        agent.send(&lines).await;
                        sent += 1;
                    }
                }
                (group, sent)
            })
        })
        .collect();
    let mut sent = 0;
    for task in tasks {
        let (group, of_it) = task.await.unwrap();
        groups.push(group);
        sent += of_it;
    }
    (f64::from(sent), began.elapsed().as_secs_f64(), cpu_s(process) - before)
}

fn show(bench: &str, value: f64, unit: &str, compared_to: &str, compared_value: f64, goal: &str) {
    let line = json!({
        "bench": bench, "value": value, "unit": unit, "compared_to": compared_to, "compared_value": compared_value,
        "ratio": value / compared_value, "goal": goal,
    });
    println!("{line}");
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, authority, process, tokens, folder, seconds] = arguments.as_slice() else {
        panic!("use `bench_agent SERVER AUTHORITY PROCESS TOKENS FOLDER SECONDS`")
    };
    crypto::tls::install();
    let (authority, folder, time) =
        (Path::new(authority), Path::new(folder), Duration::from_secs(seconds.parse().unwrap()));
    let tokens: Vec<String> = std::fs::read_to_string(tokens).unwrap().lines().map(str::to_owned).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut groups: Vec<Vec<Agent>> = (0..AT_ONCE).map(|_| Vec::new()).collect();
        for (number, token) in tokens.iter().enumerate() {
            groups[number % AT_ONCE].push(enroll(server, authority, token, folder, number).await);
        }
        // One without agents would spin.
        groups.retain(|group| !group.is_empty());
        eprintln!("{} agents are enrolled", tokens.len());
        let many = tokens.len();
        for (what, changes, goal) in [("check-ins", false, ">= 1"), ("reports of one change", true, "")] {
            load(&mut groups, Duration::from_secs(1), changes, process).await;
            let (sent, wall, cpu) = load(&mut groups, time, changes, process).await;
            let name = format!("{what} of {many} agents, per second of the server's core");
            show(&name, sent / cpu, "1/s", "goal", 10_000.0, goal);
            show(&format!("{what} of {many} agents, beside their load"), sent / wall, "1/s", "goal", 10_000.0, "");
        }
    });
}
