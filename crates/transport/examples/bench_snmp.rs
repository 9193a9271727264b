//! ifTable of many net-snmp agents, against as many `snmpbulkwalk`: `cargo run --release -p transport --example bench_snmp`.
//!
//! As root the agents and both readers live in a network namespace of their own with 501 interfaces (`CAIRN_BENCH_INTERFACES`), so that a
//! table is 11,022 objects; as another user they see the machine's own interfaces. `CAIRN_BENCH_AGENTS` (100) agents answer; the programs
//! run `CAIRN_BENCH_PARALLEL` (8) at a time. The same objects are read by both, in turns; agents and readers share the machine.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to the terminal")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the environment")]

use std::error::Error;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use domain::Secret;
use futures::stream::{self, StreamExt as _};
use serde_json::json;
use testkit::Snmpd;
use transport::{CallTag, Guard, Oid, Recorder, SnmpClient, SnmpConfig, SnmpCredentials, SnmpReach as _};

const INSIDE: &str = "CAIRN_BENCH_INSIDE";
const TABLE: &str = "1.3.6.1.2.1.2.2";
const ROUNDS: usize = 3;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() -> Result<()> {
    let root = std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    if root && std::env::var_os(INSIDE).is_none() {
        let status = Command::new("unshare").arg("--net").arg(std::env::current_exe()?).env(INSIDE, "1").status()?;
        return if status.success() { Ok(()) } else { Err("the benchmark failed in its namespace".into()) };
    }
    if root {
        interfaces(number("CAIRN_BENCH_INTERFACES", 501))?;
    }
    let count = number("CAIRN_BENCH_AGENTS", 100);
    eprintln!("starting {count} agents");
    let agents: Vec<Snmpd> = (0..count).map(|_| Snmpd::start("rocommunity bench\n")).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        ours.push(measured(|| runtime.block_on(read(&agents)), "utime")?);
        theirs.push(measured(|| programs(&agents), "cutime")?);
        eprintln!("round {round}: {:?} and {:?}", ours.last(), theirs.last());
    }
    let (own, other) = (median(&ours).ok_or("no run")?, median(&theirs).ok_or("no run")?);
    if own.objects != other.objects {
        return Err(format!("{} objects where snmpbulkwalk reads {}", own.objects, other.objects).into());
    }
    let what = format!("{count} devices, {} objects", own.objects);
    let programs = "snmpbulkwalk -Cr25 in parallel";
    // The anchor: 500 devices of 11,000 objects each within a minute, by one process.
    let minute = 60.0 * f64::from(u32::try_from(own.objects)?) / (500.0 * 11_000.0);
    let figures = [
        ("wall time", own.wall, programs, other.wall, "<= 1"),
        ("CPU time of the reader", own.cpu, programs, other.cpu, "<= 0.5"),
        ("wall time", own.wall, "5,500,000 objects in 60 s", minute, "<= 1"),
    ];
    for (name, own, compared_to, other, goal) in figures {
        let line = json!({
            "bench": format!("snmp: {name}, {what}, median of {ROUNDS}"), "value": round(own), "unit": "s",
            "compared_to": compared_to, "compared_value": round(other), "ratio": round(own / other), "goal": goal,
        });
        println!("{line}");
    }
    Ok(())
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[derive(Debug, Clone, Copy)]
struct Run {
    wall: f64,
    cpu: f64,
    objects: usize,
}

fn median(runs: &[Run]) -> Option<Run> {
    let mut runs = runs.to_vec();
    runs.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    runs.get(runs.len() / 2).copied()
}

/// Seconds of CPU, of this process or of its children that have ended: agents still run and do not count.
fn cpu(of: &str) -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // Fields 14 to 17 of proc(5); the first two are before the bracket.
    let at = if of == "utime" { 11 } else { 13 };
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    Ok((ticks(at).ok_or("no time")? + ticks(at + 1).ok_or("no time")?) / 100.0)
}

fn measured(work: impl FnOnce() -> Result<usize>, of: &str) -> Result<Run> {
    let (begun, before) = (Instant::now(), cpu(of)?);
    let objects = work()?;
    Ok(Run { wall: begun.elapsed().as_secs_f64(), cpu: cpu(of)? - before, objects })
}

/// `lo` and pairs of virtual interfaces, in this namespace.
fn interfaces(count: usize) -> Result<()> {
    let mut batch = String::from("link set lo up\n");
    for pair in 0..count / 2 {
        writeln!(batch, "link add a{pair} type veth peer name b{pair}")?;
    }
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?;
    std::io::Write::write_all(&mut child.stdin.take().ok_or("no input")?, batch.as_bytes())?;
    if child.wait()?.success() { Ok(()) } else { Err("`ip` made no interfaces".into()) }
}

async fn read(agents: &[Snmpd]) -> Result<usize> {
    let secret = Secret::new(json!({ "community": "bench" }).to_string());
    let client = SnmpClient::new(
        SnmpCredentials::from_secret_json("snmp-community", &secret)?,
        SnmpConfig { wait_max: std::time::Duration::from_secs(10), ..SnmpConfig::default() },
        Guard::loopback(true),
        Arc::new(Recorder::default()),
        Arc::new(crypto::system::SystemClock),
        Arc::new(crypto::system::SystemRng),
    );
    let (client, table): (_, Oid) = (&client, TABLE.parse()?);
    let (table, tag) = (&table, &CallTag { scope: "snmp:bench".parse()?, about: None, keep: false });
    let walks = agents.iter().map(|agent| async move {
        let address = SocketAddr::from(([127, 0, 0, 1], agent.port));
        client.walk(address, std::slice::from_ref(table), tag).await
    });
    let mut objects = 0;
    let mut walks = stream::iter(walks).buffer_unordered(64);
    while let Some(walked) = walks.next().await {
        if let Some(error) = walked.failed {
            return Err(error.into());
        }
        objects += walked.columns.iter().map(Vec::len).sum::<usize>();
    }
    Ok(objects)
}

fn programs(agents: &[Snmpd]) -> Result<usize> {
    let parallel = number("CAIRN_BENCH_PARALLEL", 8).max(1);
    let mut objects = 0;
    let mut waiting = agents.iter();
    let mut running = std::collections::VecDeque::new();
    loop {
        while running.len() < parallel
            && let Some(agent) = waiting.next()
        {
            let child = Command::new("snmpbulkwalk")
                .args(["-v2c", "-c", "bench", "-On", "-Cr25", "-t10", &format!("127.0.0.1:{}", agent.port), TABLE])
                .env("MIBS", "")
                .stdout(Stdio::piped())
                .spawn()?;
            // Its own thread drains each, so that none waits for another.
            running.push_back(std::thread::spawn(move || child.wait_with_output()));
        }
        let Some(first) = running.pop_front() else { return Ok(objects) };
        let output = first.join().map_err(|_| "a thread ended")??;
        // A hardware address may print as several lines.
        objects +=
            output.stdout.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b".1.3.6.1.2.1.2.2.")).count();
    }
}
