//! A real API server of one test: `kube-apiserver` with an `etcd` of its own, both on free ports of loopback, RBAC, nobody anonymous.
//!
//! There is no kubelet and no controller behind it: objects are stored, watched and judged, and nothing runs. What needs a pod that runs (`exec`, `attach`,
//! `logs`, `port-forward`) is for the double ([`crate::KubeApi`]).
//!
//! It is the one peer that the suite does without: no distribution has a package of it. `CAIRN_TEST_KUBE_APISERVER` names the program, else it is looked for
//! on `PATH`; `etcd` is named by `CAIRN_TEST_ETCD`, beside it, or on `PATH`. Where it was named and does not start, tests fail.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::port::HeldPort;
use crate::{logs, suite};

/// How long it may take to begin: two busy cores.
const PATIENCE: Duration = Duration::from_mins(3);

/// A running API server. It ends when this is dropped.
pub struct KubeApiserver {
    /// Its port on 127.0.0.1; its certificate is for `localhost` and that address.
    pub port: u16,
    /// Its authority, PEM.
    pub authority: String,
    /// What it says of its version.
    pub version: String,
    etcd_port: u16,
    dir: tempfile::TempDir,
    children: Vec<Child>,
    _held: [HeldPort; 3],
}

/// Where the programs are: the API server's, and etcd's.
fn find() -> Option<(PathBuf, PathBuf)> {
    let path = suite::env("PATH").unwrap_or_default();
    let on_path = |name: &str| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    let named = suite::env("CAIRN_TEST_KUBE_APISERVER").map(PathBuf::from);
    if let Some(named) = &named {
        assert!(named.is_file(), "CAIRN_TEST_KUBE_APISERVER: there is no file `{}`", named.display());
    }
    let is_named = named.is_some();
    let server = named.or_else(|| on_path("kube-apiserver"))?;
    let beside = server.with_file_name("etcd");
    let etcd = suite::env("CAIRN_TEST_ETCD").map(PathBuf::from);
    let etcd = etcd.or_else(|| beside.is_file().then_some(beside)).or_else(|| on_path("etcd"));
    assert!(
        etcd.is_some() || !is_named,
        "there is a kube-apiserver and no etcd: put one beside it or on PATH, or set CAIRN_TEST_ETCD"
    );
    Some((server, etcd?))
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode");
}

impl KubeApiserver {
    /// Starts one and waits until it is ready. None, and a line that says so: this machine has none.
    pub fn start() -> Option<Self> {
        let Some((program, etcd)) = find() else {
            eprintln!(
                "NOT RUN: no kube-apiserver and etcd on PATH, and CAIRN_TEST_KUBE_APISERVER is not set: this test did nothing"
            );
            return None;
        };
        let server = Self::begin(&program, &etcd);
        eprintln!("{}: {}", program.display(), server.version);
        Some(server)
    }

    fn begin(program: &Path, etcd: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let (authority, certificate, key) = crate::kube::certificates();
        let at = |name: &str| dir.path().join(name).to_str().expect("a temporary path is UTF-8").to_owned();
        let accounts = rcgen::KeyPair::generate().expect("a key");
        let token = logs::plant("cluster-administrator");
        // Neither can be told to take a free port.
        let held = [(); 3].map(|()| HeldPort::at(Ipv4Addr::LOCALHOST));
        let [port, etcd_port, peer_port] = held.each_ref().map(|held| held.number);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": format!("https://127.0.0.1:{port}"), "certificate-authority": at("ca.crt")}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        });
        for (name, text) in [
            ("ca.crt", &authority),
            ("tls.crt", &certificate),
            ("tls.key", &key),
            ("accounts.key", &accounts.serialize_pem()),
            ("accounts.pub", &accounts.public_key_pem()),
            ("tokens.csv", &format!("{token},administrator,1,system:masters\n")),
            ("kubeconfig", &config.to_string()),
        ] {
            private(&dir.path().join(name), text);
        }
        let spawn = |program: &Path, arguments: &[String]| {
            let log = fs::File::create(dir.path().join(program.file_name().expect("a name")).with_extension("log"));
            let log = log.expect("a log");
            Command::new(program)
                .args(arguments)
                .env_clear()
                .env("HOME", dir.path())
                .current_dir(dir.path())
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("a log"))
                .stderr(log)
                .spawn()
                .unwrap_or_else(|error| panic!("{}: {error}", program.display()))
        };
        let (client, peer) = (format!("http://127.0.0.1:{etcd_port}"), format!("http://127.0.0.1:{peer_port}"));
        let etcd_arguments = [
            "--data-dir=data".to_owned(),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            // It lives as long as one test.
            "--unsafe-no-fsync".to_owned(),
        ];
        let arguments = [
            format!("--etcd-servers={client}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            format!("--tls-cert-file={}", at("tls.crt")),
            format!("--tls-private-key-file={}", at("tls.key")),
            format!("--token-auth-file={}", at("tokens.csv")),
            "--anonymous-auth=false".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", at("accounts.pub")),
            format!("--service-account-signing-key-file={}", at("accounts.key")),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            // Its own address is of loopback, which no endpoint may be.
            "--endpoint-reconciler-type=none".to_owned(),
            "--profiling=false".to_owned(),
        ];
        let children = vec![spawn(etcd, &etcd_arguments), spawn(program, &arguments)];
        let mut server = Self { port, authority, version: String::new(), etcd_port, dir, children, _held: held };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ready = server.kubectl(&["get", "--raw", "/readyz"]).output();
            let ready = ready.expect("kubectl: run `cargo xtask setup`");
            if ready.status.success() {
                break;
            }
            let ended = server.children.iter_mut().any(|child| child.try_wait().expect("its state").is_some());
            let said = || format!("{}\n{}", String::from_utf8_lossy(&ready.stderr), server.log());
            assert!(!ended && Instant::now() < deadline, "{} does not start: {}", program.display(), said());
            std::thread::sleep(Duration::from_millis(200));
        }
        let version: Value = serde_json::from_str(&server.admin(&["get", "--raw", "/version"])).expect("its version");
        server.aggregate();
        server.version = format!("Kubernetes {}", version["gitVersion"].as_str().expect("its version"));
        server
    }

    /// Fills the roles for people, as a cluster's controller manager does.
    fn aggregate(&self) {
        let mut rules = Vec::new();
        for role in ["view", "edit", "admin"] {
            let part = self.get(&["clusterrole", &format!("system:aggregate-to-{role}")]);
            rules.extend(part["rules"].as_array().expect("rules").clone());
            self.admin(&["patch", "clusterrole", role, "--type=merge", "-p", &json!({"rules": rules}).to_string()]);
        }
    }

    /// Its address, `localhost:PORT`.
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The end of what both programs said.
    pub fn log(&self) -> String {
        let names = fs::read_dir(self.dir.path()).expect("its folder").flatten().map(|entry| entry.path());
        let logs = names.filter(|path| path.extension().is_some_and(|end| end == "log"));
        let texts = logs.map(|path| fs::read_to_string(path).unwrap_or_default());
        let last = texts.map(|text| text.lines().rev().take(30).map(|line| format!("{line}\n")).collect::<Vec<_>>());
        last.flat_map(|lines| lines.into_iter().rev()).collect()
    }

    /// `kubectl` as the cluster's administrator, past Cairn.
    pub fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.dir.path())
            .env("KUBECONFIG", self.dir.path().join("kubeconfig"))
            .stdin(Stdio::null());
        command
    }

    /// Runs it, and answers what it says.
    ///
    /// # Panics
    /// When it fails.
    pub fn admin(&self, arguments: &[&str]) -> String {
        let output = self.kubectl(arguments).output().expect("kubectl: run `cargo xtask setup`");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}\n{}", self.log());
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What there is, as JSON; `Value::Null` where there is nothing.
    pub fn get(&self, arguments: &[&str]) -> Value {
        let words = [&["get"], arguments, &["-o", "json", "--ignore-not-found"]].concat();
        serde_json::from_str(&self.admin(&words)).unwrap_or_default()
    }

    /// Applies objects in YAML or JSON.
    ///
    /// # Panics
    /// When it does not take one of them.
    pub fn apply(&self, objects: &str) {
        let mut command = self.kubectl(&["apply", "-f", "-"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("kubectl");
        child.stdin.take().expect("its input").write_all(objects.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("its end");
        assert!(output.status.success(), "{}\n{objects}", String::from_utf8_lossy(&output.stderr));
    }

    /// Makes etcd forget everything before this version, as it does by itself after minutes.
    pub fn forget_before(&self, resource_version: &str) {
        let body = json!({"revision": resource_version, "physical": true}).to_string();
        let mut socket = TcpStream::connect(("127.0.0.1", self.etcd_port)).expect("etcd");
        let head = format!(
            "POST /v3/kv/compaction HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        socket.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).expect("etcd reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Drop for KubeApiserver {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}
