//! A sweep of a /16 and a scan of 257,024 ports, against nmap and masscan in the same minute: `cargo xtask bench scan`, as root.
//!
//! The network is a namespace at the end of a cable: one address of sixteen is there (4,096 of 65,536), and of 256 hosts ten ports of
//! 1,004 are open, on each of them others. Needs `nmap` and `masscan` (Debian packages of these names) on the PATH; without one of them only
//! ours is measured. A time covers everything from the call to the last answer; theirs also the start of their programs.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to the terminal")]
#![expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]

use std::collections::BTreeSet;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{Lab, TestClock};
use transport::scan::{ScanReach as _, SweepHow};
use transport::{CallTag, Guard, Recorder, Scanner};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Probes per second that we are allowed, the most that a job may ask for.
const RATE: u32 = 1_000_000;
/// Runs of ours; the median counts.
const RUNS: usize = 3;
const HOSTS: u32 = 256;
const PORTS: std::ops::Range<u16> = 2_000..3_004;
/// Open ports of each host.
const OPEN: u32 = 10;

/// What somebody found in what time.
struct Found<T> {
    took: Duration,
    what: BTreeSet<T>,
}

fn address(network: [u8; 2], n: u32) -> IpAddr {
    let [a, b] = network;
    IpAddr::V4(Ipv4Addr::from_bits(u32::from_be_bytes([a, b, 0, 0]) + n))
}

fn ours<T: Ord>(mut scan: impl FnMut() -> Result<BTreeSet<T>>) -> Result<Found<T>> {
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        let what = scan()?;
        runs.push(Found { took: begun.elapsed(), what });
    }
    runs.sort_by_key(|run| run.took);
    runs.into_iter().nth(RUNS / 2).ok_or_else(|| "no run".into())
}

/// Runs another scanner and reads its output, line by line. None when it is not installed.
fn theirs<T: Ord>(lab: &Lab, command: &str, read: impl Fn(&str) -> Option<T> + Sync) -> Result<Option<Found<T>>> {
    let mut words = command.split(' ');
    let Some(program) = words.next() else { return Ok(None) };
    let words: Vec<&str> = words.collect();
    let begun = Instant::now();
    let output = lab.here(|| Command::new(program).args(words).stdin(Stdio::null()).output());
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("`{program}` is not installed: `apt-get install {program}`");
            return Ok(None);
        }
        other => other?,
    };
    let took = begun.elapsed();
    if !output.status.success() {
        return Err(
            format!("`{command}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into()
        );
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(Some(Found { took, what: text.lines().filter_map(read).collect() }))
}

fn tell<T: Ord>(what: &str, goal_s: f64, expect: &BTreeSet<T>, ours: &Found<T>, others: &[(&str, Option<Found<T>>)]) {
    let seconds = |took: Duration| (took.as_secs_f64() * 1_000.0).round() / 1_000.0;
    let share = |found: &BTreeSet<T>| 100.0 * found.intersection(expect).count() as f64 / expect.len() as f64;
    let line = |bench: String, value: f64, unit: &str, compared_to: &str, compared: f64, goal: &str| {
        let ratio = (value / compared * 1_000.0).round() / 1_000.0;
        println!(
            "{}",
            json!({ "bench": bench, "value": value, "unit": unit, "compared_to": compared_to, "compared_value": compared, "ratio": ratio, "goal": goal })
        );
    };
    let (took, found) = (seconds(ours.took), share(&ours.what));
    line(format!("{what}, median of {RUNS}"), took, "s", &format!("{goal_s} s"), goal_s, "<= 1");
    line(format!("{what}: found"), found, "%", "all", 100.0, ">= 1");
    line(format!("{what}: false"), ours.what.difference(expect).count() as f64 + 1.0, "+1", "none", 1.0, "<= 1");
    for (name, other) in others {
        if let Some(other) = other {
            line(format!("{what}: time"), took, "s", name, seconds(other.took), "<= 1");
            line(format!("{what}: found"), found, "%", name, share(&other.what), ">= 1");
        }
    }
}

fn main() -> Result<()> {
    let lab = Lab::new();
    lab.hosts(
        "{ for a in $(seq 0 255); do for b in $(seq 3 16 255); do echo route add local 10.77.$a.$b/32 dev lo; done; done; } | ip -batch - ; \
         ip route add blackhole 10.77.0.0/16; ip route add local 10.78.0.0/24 dev lo",
    );
    let network: Vec<IpAddr> = (0..1 << 16).map(|n| address([10, 77], n)).collect();
    let alive: BTreeSet<IpAddr> = (0..1 << 16).filter(|n| n % 16 == 3).map(|n| address([10, 77], n)).collect();
    let hosts: Vec<IpAddr> = (0..HOSTS).map(|n| address([10, 78], n)).collect();
    let ports: Vec<u16> = PORTS.collect();
    let open: BTreeSet<SocketAddr> = (0..HOSTS)
        .flat_map(|host| (0..OPEN).map(move |n| (host, n)))
        .map(|(host, n)| {
            let port = u16::try_from((host * 37 + n * 101) % u32::from(PORTS.end - PORTS.start)).unwrap_or(0);
            SocketAddr::new(address([10, 78], host), PORTS.start + port)
        })
        .collect();
    let _listeners = lab.there(|| open.iter().map(TcpListener::bind).collect::<std::io::Result<Vec<TcpListener>>>())?;

    let tag = CallTag { scope: "bench".parse()?, about: None, keep: false };
    let scanner = Scanner::new(Guard::default(), Arc::new(TestClock::default()), Arc::new(Recorder::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let how = SweepHow { echo: true, ports: Vec::new(), packets_per_s: RATE };
    let swept = lab.here(|| {
        ours(|| {
            let swept = runtime.block_on(scanner.sweep(&network, &how, &tag))?;
            swept.doubt.map_or(Ok(()), Err)?;
            Ok(swept.alive.into_iter().collect())
        })
    })?;
    let nmap_host = |line: &str| line.strip_prefix("Host: ")?.split(' ').next()?.parse().ok();
    let masscan_host = |line: &str| line.strip_prefix("Discovered open port ")?.split(' ').nth(2)?.parse().ok();
    let nmap = theirs(&lab, "nmap -sn -n -PE --min-rate 50000 --max-retries 1 -oG - 10.77.0.0/16", nmap_host)?;
    // It tells of a reply to a ping as of port 0.
    let masscan = "masscan --ping --rate 100000 --wait 2 -e v0 --source-ip 10.99.0.1 10.77.0.0/16";
    let masscan = theirs(&lab, masscan, masscan_host)?;
    tell("sweep of a /16", 2.0, &alive, &swept, &[("nmap", nmap), ("masscan", masscan)]);

    let scanned = lab.here(|| {
        ours(|| {
            let scanned = runtime.block_on(scanner.ports(&hosts, &ports, RATE, &tag))?;
            scanned.doubt.map_or(Ok(()), Err)?;
            Ok(scanned.open.into_iter().collect())
        })
    })?;
    let range = format!("{}-{}", PORTS.start, PORTS.end - 1);
    let nmap = theirs_many(&lab, &format!("nmap -sS -Pn -n -T4 -p {range} -oG - 10.78.0.0/24"))?;
    let masscan_port = |line: &str| {
        let mut words = line.strip_prefix("Discovered open port ")?.split_whitespace();
        let port = words.next()?.strip_suffix("/tcp")?.parse().ok()?;
        Some(SocketAddr::new(words.nth(1)?.parse().ok()?, port))
    };
    let masscan = format!("masscan --rate 50000 --wait 2 -e v0 --source-ip 10.99.0.1 -p {range} 10.78.0.0/24");
    let masscan = theirs(&lab, &masscan, masscan_port)?;
    tell("scan of 257,024 ports", 3.0, &open, &scanned, &[("nmap", nmap), ("masscan", masscan)]);
    Ok(())
}

/// nmap's greppable lines name all open ports of a host.
fn theirs_many(lab: &Lab, command: &str) -> Result<Option<Found<SocketAddr>>> {
    let lines = theirs(lab, command, |line| line.contains("Ports: ").then(|| line.to_owned()))?;
    Ok(lines.map(|Found { took, what }| {
        let ports = |line: &String| -> Option<Vec<SocketAddr>> {
            let host: IpAddr = line.strip_prefix("Host: ")?.split(' ').next()?.parse().ok()?;
            let (_, ports) = line.split_once("Ports: ")?;
            let open = ports.split(", ").filter(|port| port.contains("/open/"));
            Some(
                open.filter_map(|port| Some(SocketAddr::new(host, port.split('/').next()?.trim().parse().ok()?)))
                    .collect(),
            )
        };
        Found { took, what: what.iter().filter_map(ports).flatten().collect() }
    }))
}
