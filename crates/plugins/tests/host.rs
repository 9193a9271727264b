//! The `host` plugin on fixture roots (Debian, RHEL, Alpine) and on the machine that the test runs on.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test ends where its expectation does"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{Clock, Coverage, CredentialId, Digest, NodeObservation, Page, Result, ScopeId, Timestamp};
use plugins::{HostPlugin, JobConfig, Plugin, Sink};
use serde_json::json;
use transport::{
    AwsReach, CallError, CallTag, CommandOutput, DirEntry, FileKind, FileStat, FileUsage, HostReach, LocalHost, Reach,
    Recorder, Reply, Socket,
};

/// A host whose root is a directory of the fixtures, with what files cannot hold given by hand.
#[derive(Default)]
struct Rooted {
    root: PathBuf,
    links: BTreeMap<String, String>,
    contents: BTreeMap<String, Vec<u8>>,
    denied: Vec<String>,
    /// Directories whose names may not be read.
    unlisted: Vec<String>,
    modes: BTreeMap<String, u32>,
    commands: BTreeMap<String, (i32, &'static str)>,
    sockets: Vec<Socket>,
}

impl Rooted {
    fn new(name: &str) -> Self {
        Self { root: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host")).join(name), ..Self::default() }
    }

    fn find(&self, path: &str) -> Result<PathBuf, CallError> {
        if self.denied.iter().any(|denied| denied == path) {
            return Err(CallError::Denied(path.into()));
        }
        let found = self.root.join(path.trim_start_matches('/'));
        if found.exists() { Ok(found) } else { Err(CallError::NotFound(path.into())) }
    }

    fn reply(body: Vec<u8>) -> Reply {
        // A stand-in that only has to tell bodies apart.
        let mut digest = [0u8; 32];
        for (i, byte) in body.iter().enumerate() {
            digest[i % 32] = digest[i % 32].wrapping_mul(31).wrapping_add(*byte);
        }
        Reply { status: 200, headers: BTreeMap::new(), digest: Digest(digest), body: Bytes::from(body) }
    }
}

#[async_trait]
impl HostReach for Rooted {
    async fn read(&self, path: &str, max: usize, _: &CallTag) -> Result<Reply, CallError> {
        let body = match self.contents.get(path) {
            Some(body) => body.clone(),
            None => std::fs::read(self.find(path)?).map_err(|error| CallError::Malformed(error.to_string()))?,
        };
        if body.len() > max { Err(CallError::TooLarge { max }) } else { Ok(Self::reply(body)) }
    }

    async fn list(&self, path: &str, _: Option<&CallTag>) -> Result<Vec<DirEntry>, CallError> {
        if self.unlisted.iter().any(|unlisted| unlisted == path) {
            return Err(CallError::Denied(path.into()));
        }
        let mut out: Vec<DirEntry> = Vec::new();
        for rest in self.links.keys().filter_map(|link| link.strip_prefix(&format!("{path}/"))) {
            // Directories that hold nothing but links are not in the fixtures.
            let (name, kind) = rest.split_once('/').map_or((rest, FileKind::Link), |(dir, _)| (dir, FileKind::Dir));
            if !self.root.join(path.trim_start_matches('/')).join(name).exists()
                && out.iter().all(|entry| entry.name != name)
            {
                out.push(DirEntry { name: name.to_owned(), kind });
            }
        }
        match self.find(path) {
            Ok(dir) => {
                for entry in std::fs::read_dir(dir).map_err(|error| CallError::Malformed(error.to_string()))? {
                    let entry = entry.unwrap();
                    let kind = if entry.file_type().unwrap().is_dir() { FileKind::Dir } else { FileKind::File };
                    out.push(DirEntry { name: entry.file_name().into_string().unwrap(), kind });
                }
            }
            Err(error) if out.is_empty() => return Err(error),
            Err(_) => {}
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    async fn stat(&self, path: &str, _: &CallTag) -> Result<FileStat, CallError> {
        let kind = match self.find(path) {
            _ if self.links.contains_key(path) => FileKind::Link,
            Ok(found) if found.is_dir() => FileKind::Dir,
            Ok(_) => FileKind::File,
            Err(error) => return Err(error),
        };
        Ok(FileStat { kind, mode: self.modes.get(path).copied().unwrap_or(0o644), uid: 0, gid: 0, size: 1, mtime_s: 0 })
    }

    async fn read_link(&self, path: &str) -> Result<String, CallError> {
        self.links.get(path).cloned().ok_or_else(|| CallError::NotFound(path.into()))
    }

    async fn hash(&self, path: &str, tag: &CallTag) -> Result<Digest, CallError> {
        Ok(self.read(path, usize::MAX, tag).await?.digest)
    }

    async fn usage(&self, _: &str) -> Result<FileUsage, CallError> {
        Ok(FileUsage { total: 1_000, available: 50 })
    }

    async fn sockets(&self, _: &CallTag) -> Result<Vec<Socket>, CallError> {
        Ok(self.sockets.clone())
    }

    async fn command(&self, argv: &[&str], _: usize, _: Duration, _: &CallTag) -> Result<CommandOutput, CallError> {
        let (code, out) = self.commands.get(argv[0]).ok_or_else(|| CallError::NotFound(argv[0].into()))?;
        Ok(CommandOutput {
            code: *code,
            stdout: Self::reply(out.as_bytes().to_vec()),
            stderr: if *code == 0 { String::new() } else { (*out).into() },
        })
    }
}

struct Only<H>(H);

impl<H: HostReach> Reach for Only<H> {
    fn aws(&self) -> Option<&dyn AwsReach> {
        None
    }
    fn host(&self) -> Option<&dyn HostReach> {
        Some(&self.0)
    }
    fn credential(&self) -> Option<CredentialId> {
        None
    }
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// What a run showed.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    pages: Vec<Page>,
    coverage: BTreeMap<String, Coverage>,
}

#[async_trait]
impl Sink for Seen {
    async fn page(&mut self, page: Page) -> Result<()> {
        assert!(!self.coverage.contains_key(page.scope.as_str()), "a page after its scope was done");
        self.pages.push(page);
        Ok(())
    }
    async fn scope_done(&mut self, scope: ScopeId, coverage: Coverage) -> Result<()> {
        let name = scope.as_str().splitn(3, ':').nth(2).unwrap().to_owned();
        assert!(self.coverage.insert(name, coverage).is_none(), "a scope is done once");
        Ok(())
    }
    fn progress(&mut self, _: u64, _: u64, _: &str) {}
}

impl Seen {
    fn nodes(&self) -> impl Iterator<Item = &NodeObservation> {
        self.pages.iter().flat_map(|page| &page.nodes)
    }

    fn of(&self, node_type: &str) -> Vec<&NodeObservation> {
        self.nodes().filter(|node| node.id.node_type() == node_type).collect()
    }

    fn one(&self, node_type: &str, end: &str) -> &NodeObservation {
        let found = self.nodes().find(|node| node.id.node_type() == node_type && node.id.resource().ends_with(end));
        found.unwrap_or_else(|| panic!("no {node_type} {end}"))
    }

    fn has_edge(&self, source_end: &str, edge: &str, target_end: &str) -> bool {
        let mut edges = self.pages.iter().flat_map(|page| &page.edges);
        edges.any(|e| {
            e.source.as_str().ends_with(source_end)
                && e.edge_type.as_str() == edge
                && e.target.as_str().ends_with(target_end)
        })
    }

    fn state(&self, scope: &str) -> &str {
        self.coverage[scope].as_str()
    }

    fn reason(&self, scope: &str) -> &str {
        self.coverage[scope].reason().unwrap_or_default()
    }
}

async fn run(reach: impl HostReach, config: serde_json::Value) -> Seen {
    let reach = Only(reach);
    let config: JobConfig = config.as_object().unwrap().clone();
    HostPlugin.check(&config).unwrap();
    let tasks = HostPlugin.plan(&config, &reach).await.unwrap();
    assert_eq!(tasks.len(), 1);
    let mut seen = Seen::default();
    HostPlugin.run(&tasks[0], &reach, &mut seen).await.unwrap();
    let ids: Vec<&str> = seen.nodes().map(|node| node.id.as_str()).collect();
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(ids.len(), unique.len(), "one node is shown once");
    let types = HostPlugin.manifest().node_types;
    assert!(seen.nodes().all(|node| types.iter().any(|name| name == node.id.node_type())));
    seen
}

fn debian() -> Rooted {
    let mut host = Rooted::new("debian");
    let link = |host: &mut Rooted, path: &str, target: &str| host.links.insert(path.into(), target.into());
    link(&mut host, "/etc/systemd/system/multi-user.target.wants/ssh.service", "/lib/systemd/system/ssh.service");
    link(&mut host, "/etc/systemd/system/getty.target.wants/getty@tty1.service", "/lib/systemd/system/getty@.service");
    link(&mut host, "/etc/systemd/system/bad.service", "/dev/null");
    link(&mut host, "/proc/100/fd/3", "socket:[77]");
    link(&mut host, "/proc/100/fd/4", "socket:[78]");
    link(&mut host, "/proc/100/exe", "/usr/sbin/sshd (deleted)");
    host.contents.insert("/var/lib/dpkg/info".into(), vec![]);
    host.modes.insert("/home/alice".into(), 0o777);
    let socket = |local: &str, remote: &str, state, inode| Socket {
        protocol: "tcp",
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
        state,
        uid: 0,
        inode,
    };
    host.sockets = vec![
        socket("0.0.0.0:22", "0.0.0.0:0", "listen", 77),
        socket("10.0.0.1:22", "203.0.113.9:50001", "established", 78),
        socket("10.0.0.1:22", "203.0.113.9:50002", "established", 78),
    ];
    host.commands.insert(
        "nft".into(),
        (0, r#"{"nftables":[{"chain":{"name":"i","type":"filter","hook":"input","policy":"drop"}}]}"#),
    );
    host
}

#[tokio::test]
async fn a_debian_host_is_read_as_its_files_say() {
    let seen = run(debian(), json!({ "site": "fra1", "integrity_paths": "/etc/passwd,/etc/none" })).await;
    let machine = &seen.of("host.machine")[0];
    assert_eq!(machine.id.region(), "fra1");
    let p = &machine.properties;
    assert_eq!((&p["os"]["id"], &p["os"]["version"], &p["hostname"]), (&json!("debian"), &json!("12"), &json!("web1")));
    assert_eq!((&p["hardware"]["cores"], &p["hardware"]["virtualization"]), (&json!(2), &json!("unknown")));
    assert_eq!(
        p["kernel"]["cmdline"],
        json!(["BOOT_IMAGE=/vmlinuz", "root=/dev/vda1", "luks_password=<redacted>", "audit=1"])
    );
    assert_eq!(
        (&p["sysctl"]["net_ipv4_ip_forward"], &p["sysctl_configured"]["net_ipv4_ip_forward"]),
        (&json!(1), &json!("0"))
    );
    let sshd = &p["sshd"];
    assert_eq!(sshd["settings"]["permitrootlogin"], "no", "the included file comes first");
    assert_eq!(
        (&sshd["settings"]["logingracetime"], &sshd["settings"]["maxauthtries"], &sshd["settings"]["port"]),
        (&json!(60), &json!(6), &json!([22]))
    );
    assert!(
        !sshd["settings"]["macs"].to_string().contains("sha1")
            && sshd["settings"]["macs"].to_string().contains("hmac-sha2-256")
    );
    assert_eq!(
        sshd["match_blocks"][0],
        json!({ "criteria": "User bob", "settings": { "passwordauthentication": "no" } })
    );
    assert_eq!(p["sections"]["sshd"], "partial", "it includes itself");
    assert!(
        seen.reason("machine").contains("/etc/ssh/sshd_config.d/10.conf:3: includes itself"),
        "{}",
        seen.reason("machine")
    );
    assert_eq!(p["modules"]["disabled"], json!(["cramfs"]));
    assert_eq!((&p["pam"]["pwquality"]["minlen"], &p["pam"]["hash"]), (&json!(14), &json!("yescrypt")));
    assert_eq!(
        (&p["access"]["uid0_users"], &p["access"]["empty_password_users"]),
        (&json!(["root", "toor"]), &json!(["bob"]))
    );
    assert_eq!((&p["banners"]["issue"]["leaks_os"], &p["login_defs"]["umask"]), (&json!(true), &json!("027")));
    assert_eq!(
        (&p["sudo"]["use_pty"], &p["sudo"]["logfile"], &p["sudo"]["nopasswd_rules"]),
        (&json!(true), &json!("/var/log/sudo.log"), &json!(1))
    );
    assert!(!serde_json::to_string(&seen.pages).unwrap().contains("hunter2"));

    assert_eq!(seen.state("accounts"), "partial");
    assert!(seen.reason("accounts").contains("/etc/passwd:6"));
    let alice = &seen.one("host.user", "/alice").properties;
    assert_eq!(
        (&alice["password_state"], &alice["password_algorithm"], &alice["password_changed"]),
        (&json!("set"), &json!("yescrypt"), &json!("2024-02-29"))
    );
    assert_eq!(
        (&alice["sudo"], &alice["home_world_writable"], &alice["authorized_keys"]),
        (&json!(true), &json!(true), &json!(1))
    );
    assert!(seen.has_edge("/alice", "member_of", "/sudo") && seen.has_edge(machine.id.as_str(), "contains", "/alice"));

    assert_eq!(seen.state("sudo"), "partial");
    assert!(seen.reason("sudo").contains("/etc/sudoers:5"));
    let bob = seen.of("host.sudo_rule").into_iter().find(|rule| rule.properties["principal"] == "bob").unwrap();
    assert_eq!((&bob.properties["nopasswd"], &bob.properties["all_commands"]), (&json!(true), &json!(false)));
    assert!(seen.has_edge(bob.id.as_str(), "applies_to", "/bob"));
    assert!(!serde_json::to_string(&seen.pages).unwrap().contains("mallory"));

    assert_eq!(seen.state("mounts"), "partial");
    let tmp = &seen.one("host.mount", "//tmp").properties;
    assert_eq!(
        (&tmp["nosuid"], &tmp["noexec"], &tmp["in_fstab"], &tmp["used_percent_over_90"]),
        (&json!(true), &json!(false), &json!(true), &json!(true))
    );

    let ssh = &seen.one("host.listener", "/tcp:0.0.0.0:22").properties;
    assert_eq!(
        (&ssh["process"], &ssh["unit"], &ssh["executable_deleted"], &ssh["user"]),
        (&json!("sshd"), &json!("ssh.service"), &json!(true), &json!("root"))
    );
    assert!(
        seen.has_edge("/tcp:0.0.0.0:22", "executes_as", "/root")
            && seen.has_edge("/tcp:0.0.0.0:22", "associated_with", "/ssh.service")
    );
    assert_eq!(seen.of("host.connection").len(), 1, "two connections that differ in a passing port are one");
    assert_eq!(seen.of("host.connection")[0].properties["direction"], "inbound");

    let service = &seen.one("host.service", "/ssh.service").properties;
    assert_eq!(
        (&service["state"], &service["executable"], &service["wanted_by"]),
        (&json!("enabled"), &json!("/usr/sbin/sshd"), &json!(["multi-user.target"]))
    );
    assert_eq!(seen.one("host.service", "/bad.service").properties["state"], "masked");
    assert_eq!(seen.one("host.service", "/getty@tty1.service").properties["enabled"], true);

    let names: Vec<&str> = seen.of("host.package").iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["bash 5.2.15-2+b2", "PyJWT 2.6.0", "npm 9.2.0", "@x/y 1.0.0"]);
    assert_eq!(seen.of("host.package")[0].properties["purl"], "pkg:deb/debian/bash@5.2.15-2%2Bb2?arch=amd64");
    assert_eq!(
        (seen.state("packages.dpkg"), seen.state("packages.rpm"), seen.state("packages.gem")),
        ("complete", "absent", "absent")
    );
    assert_eq!(seen.one("host.firewall", "/nftables").properties["default_deny_inbound"], true);
    assert_eq!(seen.one("host.file", "/etc/none").properties["exists"], false);
    assert_eq!(seen.one("host.file", "/etc/passwd").properties["sha256"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn a_second_run_of_a_quiet_host_shows_the_same_bytes() {
    let (first, second) = (run(debian(), json!({})).await, run(debian(), json!({})).await);
    assert_eq!(serde_json::to_string(&first.pages).unwrap(), serde_json::to_string(&second.pages).unwrap());
    assert_eq!(first.coverage, second.coverage);
}

#[tokio::test]
async fn a_red_hat_host_is_read_with_rpm() {
    let mut host = Rooted::new("rhel");
    host.commands.insert("rpm".into(), (0, "bash\t0\t5.1.8\t6.el9\tx86_64\t1700000000\tRed Hat\tbash-5.1.8-6.el9.src.rpm\nkernel\t0\t5.14\t1\tx86_64\t1\tx\tx\nkernel\t0\t5.14\t2\tx86_64\t1\tx\tx\n"));
    host.commands.insert("nft".into(), (1, "Operation not permitted (you must be root)"));
    host.denied.push("/etc/shadow".into());
    let seen = run(host, json!({})).await;
    assert_eq!(
        (seen.of("host.package").len(), seen.state("packages.rpm"), seen.state("packages.dpkg")),
        (3, "complete", "absent")
    );
    let bash = &seen.one("host.package", "rpm:bash:x86_64@5.1.8-6.el9").properties;
    assert_eq!(
        (&bash["installed_on"], &bash["purl"]),
        (&json!("2023-11-14"), &json!("pkg:rpm/rhel/bash@5.1.8-6.el9?arch=x86_64"))
    );
    let p = &seen.of("host.machine")[0].properties;
    assert_eq!(
        (&p["lsm"]["selinux"]["mode"], &p["os"]["like"], &p["package_manager"]["gpgcheck_disabled_repos"]),
        (&json!("enforcing"), &json!(["fedora"]), &json!(["bad"]))
    );
    assert_eq!(p["package_manager"]["sources"], json!(["https://<redacted>@mirror/x"]));
    assert_eq!(
        (seen.state("accounts"), seen.one("host.user", "/root").properties["password_state"].as_str()),
        ("partial", Some("unknown"))
    );
    assert_eq!(seen.state("firewall"), "partial", "firewalld was seen, nft was refused");
    assert_eq!(p["sections"]["sshd"], "absent");
}

#[tokio::test]
async fn an_alpine_host_without_systemd_is_read() {
    let seen = run(Rooted::new("alpine"), json!({})).await;
    let machine = seen.of("host.machine")[0];
    let plain = run(Rooted::new("rhel"), json!({ "collectors": "machine" })).await;
    assert_ne!(machine.id, plain.of("host.machine")[0].id, "`uninitialized` identifies nobody");
    assert_eq!(seen.of("host.package").len(), 2);
    let crond = &seen.one("host.service", "/crond").properties;
    assert_eq!((&crond["kind"], &crond["enabled"]), (&json!("openrc"), &json!(true)));
    assert_eq!(seen.one("host.service", "/sshd").properties["enabled"], false);
    assert_eq!(seen.one("host.firewall", "/none").properties["active"], false);
    assert_eq!((seen.state("firewall"), seen.state("sudo"), seen.state("mounts")), ("absent", "absent", "absent"));
}

#[tokio::test]
async fn what_was_refused_of_a_home_is_missing_and_listed() {
    let refused = async |path: &str| {
        let mut host = debian();
        host.denied.push(path.into());
        let seen = run(host, json!({ "collectors": "accounts" })).await;
        assert_eq!(seen.state("accounts"), "partial");
        assert!(seen.reason("accounts").contains(path), "{}", seen.reason("accounts"));
        seen.one("host.user", "/alice").properties.clone()
    };
    let dots = ["dot_files_writable", "forward_file", "netrc_file", "rhosts_file"];
    let keys = ["authorized_key_fingerprints", "authorized_key_types", "authorized_keys"];
    let whole = run(debian(), json!({ "collectors": "accounts" })).await;
    let alice = &whole.one("host.user", "/alice").properties;
    assert!(dots.iter().chain(&keys).all(|name| alice.contains_key(*name)) && !alice.contains_key("unread"));
    let root = &whole.one("host.user", "/root").properties;
    assert_eq!(root["home_exists"], false, "what is not there is not refused");

    // The fixtures' host refuses the directory itself: neither its mode nor its entries are known.
    let alice = refused("/home/alice").await;
    assert_eq!(alice["unread"], json!(["home_exists"]));
    assert!(!alice.contains_key("home_exists") && dots.iter().chain(&keys).all(|name| !alice.contains_key(*name)));

    let mut host = debian();
    host.unlisted.push("/home/alice".into());
    let seen = run(host, json!({ "collectors": "accounts" })).await;
    let alice = &seen.one("host.user", "/alice").properties;
    assert_eq!((&alice["unread"], &alice["home_exists"]), (&json!(dots), &json!(true)));
    assert!(dots.iter().all(|name| !alice.contains_key(*name)));
    assert_eq!((&alice["authorized_keys"], seen.state("accounts")), (&json!(1), "partial"));

    let alice = refused("/home/alice/.ssh/authorized_keys").await;
    assert_eq!((&alice["rhosts_file"], keys.iter().any(|name| alice.contains_key(*name))), (&json!(false), false));
    assert!(keys.iter().all(|name| alice["unread"].as_array().unwrap().contains(&json!(name))));
}

#[tokio::test]
async fn a_socket_is_the_kernels_only_where_no_process_can_have_it() {
    let socket = |port: u16, inode| Socket {
        protocol: "tcp",
        local: ([0, 0, 0, 0], port).into(),
        remote: ([0, 0, 0, 0], 0).into(),
        state: "listen",
        uid: 0,
        inode,
    };
    let mut host = debian();
    // 2049: the kernel's; 99: a process that cannot be seen; 22 and 99 also have a socket without an inode.
    host.sockets = vec![socket(2049, 0), socket(22, 0), socket(22, 77), socket(99, 5), socket(99, 0), socket(98, 6)];
    let seen = run(host, json!({ "collectors": "ports" })).await;
    let of = |port: &str| seen.one("host.listener", port);
    assert_eq!(
        (&of(":2049").properties["kernel"], of(":2049").name.as_str()),
        (&json!(true), "tcp:0.0.0.0:2049 kernel")
    );
    for port in [":22", ":99", ":98"] {
        assert!(!of(port).properties.contains_key("kernel"), "{port}");
    }
    assert_eq!(of(":22").properties["process"], "sshd");
    assert_eq!(seen.state("ports"), "partial");
    assert!(seen.reason("ports").contains("the process of 2 listening sockets"), "{}", seen.reason("ports"));
}

#[tokio::test]
async fn what_a_sandbox_of_the_reader_mounted_is_no_fact_about_the_host() {
    // As a unit with `ProtectSystem=strict` and `PrivateTmp=yes` has it.
    let own = b"1 1 0:1 / / ro,nodev - ext4 /dev/sda1 ro\n2 1 0:1 /tmp/private /tmp rw,nosuid - ext4 /dev/sda1 rw\n";
    let (expected, mut host) = (run(debian(), json!({})).await, debian());
    host.contents.insert("/proc/self/mountinfo".into(), own.to_vec());
    let seen = run(host, json!({})).await;
    assert_eq!(seen.of("host.mount"), expected.of("host.mount"));
    assert_eq!(seen.reason("mounts"), expected.reason("mounts"));
    // Where the host's cannot be read, what is read is not called complete.
    let mut host = debian();
    host.contents.insert("/proc/self/mountinfo".into(), own.to_vec());
    host.denied.push("/proc/1/mountinfo".to_owned());
    let seen = run(host, json!({})).await;
    assert_eq!((seen.state("mounts"), seen.of("host.mount").len()), ("partial", 2));
}

#[tokio::test]
async fn refused_files_make_a_scope_denied_or_partial_never_complete() {
    let mut host = debian();
    host.denied = ["/etc/sudoers", "/proc/1/mountinfo", "/etc/ssh/sshd_config", "/var/lib/dpkg/status"]
        .map(str::to_owned)
        .to_vec();
    let seen = run(host, json!({})).await;
    for scope in ["sudo", "mounts", "packages.dpkg"] {
        assert_eq!(seen.state(scope), "denied", "{scope}: {}", seen.reason(scope));
    }
    assert_eq!(seen.state("machine"), "partial");
    assert_eq!(seen.of("host.machine")[0].properties["sections"]["sshd"], "denied");
    assert!(
        seen.of("host.machine")[0].properties["sshd"].get("settings").is_none(),
        "defaults are no fact about a file that could not be read"
    );
}

#[tokio::test]
async fn hostile_content_ends_in_a_bounded_partial_result() {
    let long_line = vec![b'a'; 1_024 * 1_024];
    let many_lines = b"\xff\x00:\n".repeat(60_000);
    for content in [long_line, many_lines, b"\x00".repeat(100_000), b"[".repeat(200_000)] {
        let mut host = debian();
        for path in [
            "/etc/passwd",
            "/etc/group",
            "/etc/shadow",
            "/etc/sudoers",
            "/etc/ssh/sshd_config",
            "/etc/login.defs",
            "/etc/fstab",
            "/proc/1/mountinfo",
            "/var/lib/dpkg/status",
            "/etc/os-release",
            "/usr/lib/systemd/system/ssh.service",
            "/proc/cmdline",
            "/usr/lib/node_modules/npm/package.json",
        ] {
            host.contents.insert(path.into(), content.clone());
        }
        let seen = run(host, json!({})).await;
        for node in seen.nodes() {
            assert!(serde_json::to_vec(&node.properties).unwrap().len() <= domain::Limits::PROPERTIES_BYTES);
        }
        assert!(seen.pages.iter().all(|page| page.nodes.len() + page.edges.len() <= domain::Limits::PAGE_OBSERVATIONS));
    }
}

#[tokio::test]
async fn a_task_planned_for_another_machine_is_refused() {
    let tasks = HostPlugin.plan(&JobConfig::new(), &Only(Rooted::new("debian"))).await.unwrap();
    let error = HostPlugin.run(&tasks[0], &Only(Rooted::new("rhel")), &mut Seen::default()).await.unwrap_err();
    assert!(error.to_string().contains("another machine"));
}

struct Hand;

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_machine_is_collected_with_its_packages_ports_and_accounts() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let recorder = Arc::new(Recorder::default());
    let config = json!({ "collectors": "machine,accounts,mounts,ports,services,packages,firewall", "package_managers": "dpkg,rpm,pip" });
    let local = || LocalHost::new(Arc::new(Hand), Arc::clone(&recorder), "test".into());
    let seen = run(local(), config.clone()).await;
    for scope in ["machine", "accounts", "mounts"] {
        assert_eq!(seen.state(scope), "complete", "{scope}: {}", seen.reason(scope));
    }
    let mine = &seen.one("host.listener", &format!("/tcp:127.0.0.1:{port}")).properties;
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(mine["process"], comm.trim());
    assert_eq!(mine["executable"], std::env::current_exe().unwrap().to_str().unwrap());
    if std::path::Path::new("/var/lib/dpkg/status").exists() {
        assert!(seen.of("host.package").iter().filter(|node| node.properties["manager"] == "dpkg").count() > 100);
    }
    let machine = seen.of("host.machine")[0];
    let raw = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let scope: ScopeId = format!("host:{}:accounts", machine.id.resource()).parse().unwrap();
    let records = recorder.take(&scope);
    assert!(records.iter().any(|record| record.request.operation == "/etc/passwd" && record.kept.is_some()));
    assert!(records.iter().all(|record| record.request.operation != "/etc/shadow"
        || !record.kept.as_ref().is_some_and(|body| body.contains(&b'$'))));
    if raw.trim().len() == 32 {
        assert!(!serde_json::to_string(&seen.pages).unwrap().contains(raw.trim()));
    }
    // Other programs of the machine may start and end between the runs; what describes the machine itself may not move.
    let again = run(local(), config).await;
    let still = |seen: &Seen, scope: &str| {
        serde_json::to_string(
            &seen.pages.iter().filter(|page| page.scope.as_str().ends_with(scope)).collect::<Vec<_>>(),
        )
        .unwrap()
    };
    for scope in [":accounts", ":services", ":packages.dpkg", ":mounts"] {
        assert_eq!(still(&seen, scope), still(&again, scope), "{scope}");
    }
    assert_eq!(machine.properties, again.of("host.machine")[0].properties);
}
