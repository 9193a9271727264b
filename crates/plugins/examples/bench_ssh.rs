//! The facts of 100 hosts over SSH, against Ansible's module `setup`: `cargo run --release -p plugins --example bench_ssh`.
//!
//! `CAIRN_ANSIBLE` names the program `ansible`; to have it:
//!
//!     python3 -m venv /somewhere/ansible && /somewhere/ansible/bin/pip install 'ansible-core==2.19.*'
//!
//! One sshd answers at 127.0.1.1 to 127.0.1.100 (`CAIRN_BENCH_HOSTS`); both read as many hosts at a time (`CAIRN_BENCH_PARALLEL`, 16), Ansible
//! with pipelining. `CAIRN_BENCH_USER` names the account, if it is not the one that runs this: what its shell reads when it begins (`.bashrc`, say) is
//! in the time of both, each time that one of them has it run something (`useradd -m -s /bin/bash bench; usermod -p '*' bench` makes a plain one). Both run once, ours first, on the machine that is also every host: its own work is in the wall time of both, and in the
//! CPU time of neither but where Ansible's programs wait for it. Facts that both read are compared host by host.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to the terminal")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the environment")]

use std::collections::BTreeMap;
use std::error::Error;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use domain::{Coverage, Page, ScopeId, Secret};
use futures::stream::{self, StreamExt as _};
use plugins::{Plugin as _, Sink, SshLinuxPlugin, TaskSpec};
use serde_json::{Map, Value, json};
use testkit::Sshd;
use tokio_util::sync::CancellationToken;
use transport::{Guard, OpenCredential, Opening, Recorder, TaskReach};

/// What Ansible's facts are about; ours read more unless they are told.
const SAME: &str = "machine,mounts";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What a host showed.
#[derive(Default)]
struct Seen {
    machine: Option<Map<String, Value>>,
    trouble: Vec<String>,
}

#[async_trait]
impl Sink for Seen {
    async fn page(&mut self, page: Page) -> domain::Result<()> {
        let machine = page.nodes.into_iter().find(|node| node.id.as_str().contains(":host.machine:"));
        self.machine = self.machine.take().or_else(|| machine.map(|node| node.properties));
        Ok(())
    }

    async fn scope_done(&mut self, scope: ScopeId, coverage: Coverage) -> domain::Result<()> {
        // Without root parts of a machine are denied: Ansible leaves them out without a word.
        if matches!(coverage, Coverage::Failed { .. }) {
            self.trouble.push(format!("{scope}: {coverage:?}"));
        }
        Ok(())
    }

    fn progress(&mut self, _: u64, _: u64, _: &str) {}
}

/// Seconds of CPU, of this process or of its children that have ended.
fn cpu(of_children: bool) -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // Fields 14 to 17 of proc(5); the first two are before the bracket.
    let at = if of_children { 13 } else { 11 };
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    Ok((ticks(at).ok_or("no time")? + ticks(at + 1).ok_or("no time")?) / 100.0)
}

struct Lab {
    sshd: Sshd,
    user: String,
    hosts: Vec<String>,
    parallel: usize,
}

impl Lab {
    fn reach(&self, config: &Map<String, Value>) -> Result<TaskReach> {
        let secret = json!({ "username": self.user, "private_key": self.sshd.read("user") });
        let clock: Arc<dyn domain::Clock> = Arc::new(crypto::system::SystemClock);
        let rng: Arc<dyn domain::Rng> = Arc::new(crypto::system::SystemRng);
        Ok(transport::open(Opening {
            plugin: "ssh-linux",
            config,
            credential: Some(OpenCredential {
                id: domain::CredentialId::generate(&*clock, &*rng),
                kind: "ssh-key".to_owned(),
                secret: Secret::new(secret.to_string()),
            }),
            guard: Guard::loopback(true),
            call_timeout: Duration::from_mins(1),
            pacer: Arc::default(),
            memory: &transport::Budget::default(),
            recorder: Arc::new(Recorder::default()),
            clock,
            rng,
            cancelled: CancellationToken::new(),
            host_keys: Arc::new(transport::NoHostKeys),
        })?)
    }

    /// Every host read as a task of its own: two targets that are one machine would be collected once.
    async fn read(&self) -> Result<BTreeMap<String, Seen>> {
        let known: Vec<String> = self.hosts.iter().map(|host| self.sshd.known_host(host)).collect();
        let config = Map::from_iter([
            ("known_hosts".to_owned(), Value::from(known.join("\n"))),
            ("collectors".to_owned(), SAME.into()),
        ]);
        let reach = &self.reach(&config)?;
        let reads = self.hosts.iter().map(|host| {
            let target = format!("{host}:{}", self.sshd.port);
            let params = Map::from_iter([
                ("targets".to_owned(), json!([target])),
                ("config".to_owned(), Value::Object(config.clone())),
            ]);
            async move {
                let mut seen = Seen::default();
                let task = TaskSpec { key: "one".to_owned(), params };
                SshLinuxPlugin.run(&task, reach, &mut seen).await.map(|()| (host.clone(), seen))
            }
        });
        let mut reads = stream::iter(reads).buffer_unordered(self.parallel);
        let mut all = BTreeMap::new();
        while let Some(read) = reads.next().await {
            let (host, seen) = read?;
            if let Some(trouble) = seen.trouble.first() {
                return Err(trouble.clone().into());
            }
            all.insert(host, seen);
        }
        Ok(all)
    }

    fn ansible(&self, program: &str, folder: &Path) -> Result<BTreeMap<String, Value>> {
        let known = folder.join("known_hosts");
        let lines: Vec<String> = self.hosts.iter().map(|host| self.sshd.known_host(host)).collect();
        std::fs::write(&known, lines.join("\n") + "\n")?;
        let facts = folder.join("facts");
        let status = Command::new(program)
            .args(["all", "-m", "setup", "-i", &(self.hosts.join(",") + ","), "-f", &self.parallel.to_string()])
            .args(["-u", &self.user, "--private-key"])
            .arg(self.sshd.path("user"))
            .args(["-e", &format!("ansible_port={} ansible_python_interpreter=/usr/bin/python3", self.sshd.port)])
            .arg("-t")
            .arg(&facts)
            .env(
                "ANSIBLE_SSH_ARGS",
                format!("-o UserKnownHostsFile={} -o ControlMaster=auto -o ControlPersist=60s", known.display()),
            )
            .env("ANSIBLE_PIPELINING", "1")
            .env("ANSIBLE_HOME", folder)
            .env("HOME", folder)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .map_err(|error| format!("`{program}` (CAIRN_ANSIBLE): {error}"))?;
        if !status.success() {
            return Err("ansible did not reach every host".into());
        }
        let mut all = BTreeMap::new();
        for host in &self.hosts {
            let read: Value = serde_json::from_slice(&std::fs::read(facts.join(host))?)?;
            all.insert(host.clone(), read.get("ansible_facts").cloned().unwrap_or_default());
        }
        Ok(all)
    }
}

/// The facts that both read, as each calls them: how many of a host agree, and which do not.
fn compared(ours: &Map<String, Value>, theirs: &Value) -> Result<usize> {
    let pairs = [
        ("/hostname", "/ansible_nodename"),
        ("/kernel/release", "/ansible_kernel"),
        ("/kernel/version", "/ansible_kernel_version"),
        ("/kernel/arch", "/ansible_machine"),
        ("/hardware/cores", "/ansible_processor_vcpus"),
        ("/hardware/vendor", "/ansible_system_vendor"),
        ("/hardware/product", "/ansible_product_name"),
        ("/hardware/bios_version", "/ansible_bios_version"),
    ];
    let ours = Value::Object(ours.clone());
    let mut same = 0;
    for (own, other) in pairs {
        let (Some(own_fact), Some(other_fact)) = (ours.pointer(own), theirs.pointer(other)) else { continue };
        // Ansible writes `NA` where it could not read.
        if other_fact == "NA" {
            continue;
        }
        if own_fact != other_fact {
            return Err(format!("{own} is {own_fact}, and Ansible's {other} is {other_fact}").into());
        }
        same += 1;
    }
    if same < 4 { Err("fewer than four facts could be compared".into()) } else { Ok(same) }
}

fn figure(name: &str, value: f64, unit: &str, (compared_to, compared): (&str, f64), ratio: f64, goal: &str) {
    let round = |number: f64| (number * 10_000.0).round() / 10_000.0;
    let line = json!({
        "bench": format!("ssh: {name}"), "value": round(value), "unit": unit, "compared_to": compared_to,
        "compared_value": round(compared), "ratio": round(ratio), "goal": goal,
    });
    println!("{line}");
}

fn main() -> Result<()> {
    let program = std::env::var("CAIRN_ANSIBLE")
        .map_err(|_| "set CAIRN_ANSIBLE to the program `ansible`: this file's head says how to have it")?;
    let count = number("CAIRN_BENCH_HOSTS", 100);
    if !(1..=250).contains(&count) {
        return Err("CAIRN_BENCH_HOSTS is 1 to 250".into());
    }
    let hosts = (1..=count).map(|host| format!("127.0.1.{host}")).collect();
    let sshd = Sshd::start();
    // sshd reads whom it lets in as that account.
    std::fs::set_permissions(sshd.path(""), std::fs::Permissions::from_mode(0o755))?;
    let user = std::env::var("CAIRN_BENCH_USER").unwrap_or_else(|_| sshd.user());
    let lab = Lab { sshd, user, hosts, parallel: number("CAIRN_BENCH_PARALLEL", 16) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (begun, before) = (Instant::now(), cpu(false)?);
    let ours = runtime.block_on(lab.read())?;
    let (wall, own_cpu) = (begun.elapsed().as_secs_f64(), cpu(false)? - before);
    eprintln!("ours: {wall:.2} s, {own_cpu:.2} s of CPU");
    let folder = tempfile::tempdir()?;
    let (begun, before) = (Instant::now(), cpu(true)?);
    let theirs = lab.ansible(&program, folder.path())?;
    let (their_wall, their_cpu) = (begun.elapsed().as_secs_f64(), cpu(true)? - before);
    let mut same = 0;
    for (host, seen) in &ours {
        let machine = seen.machine.as_ref().ok_or_else(|| format!("{host} showed no machine"))?;
        same =
            compared(machine, theirs.get(host).unwrap_or(&Value::Null)).map_err(|error| format!("{host}: {error}"))?;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of hosts")]
    let hosts = count as f64;
    let what = format!("{count} hosts, {same} facts of each the same");
    let ansible = ("Ansible's setup", their_wall);
    figure(&format!("wall time, {what}"), wall, "s", ansible, their_wall / wall, ">= 4");
    figure("CPU time of the reader", own_cpu, "s", ("Ansible with its programs", their_cpu), their_cpu / own_cpu, "");
    figure("CPU time of the reader per host", own_cpu / hosts, "s", ("goal", 0.03), own_cpu / hosts / 0.03, "<= 1");
    Ok(())
}
