//! A net-snmp agent of one test: its own configuration, its own memory of boots and users, its own free port on loopback.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SNMPD: &str = "/usr/sbin/snmpd";
/// SNMPv3's question who is there (RFC 3414, section 4), which every agent answers whatever it is configured for.
const WHO_IS_THERE: &[u8] = &[
    0x30, 0x3a, 2, 1, 3, 0x30, 0x0f, 2, 2, 0x4a, 0x69, 2, 3, 0, 0xff, 0xe3, 4, 1, 4, 2, 1, 3, 4, 0x10, 0x30, 0x0e, 4,
    0, 2, 1, 0, 2, 1, 0, 4, 0, 4, 0, 4, 0, 0x30, 0x12, 4, 0, 4, 0, 0xa0, 0x0c, 2, 2, 0x37, 0xf0, 2, 1, 0, 2, 1, 0,
    0x30, 0,
];

/// A running agent. It ends when this is dropped.
pub struct Snmpd {
    /// Where it listens on 127.0.0.1 and 127.0.0.2.
    pub port: u16,
    dir: tempfile::TempDir,
    child: Child,
}

/// Whether an agent answers there.
fn answers(port: u16) -> bool {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    socket.connect(("127.0.0.1", port)).expect("a destination");
    socket.send(WHO_IS_THERE).is_ok() && socket.recv(&mut [0; 2_048]).is_ok()
}

fn spawn(dir: &Path, port: u16) -> Child {
    let log = fs::File::create(dir.join("log")).expect("a log");
    Command::new(SNMPD)
        .args(["-f", "-Le", "-C", "-c"])
        .arg(dir.join("snmpd.conf"))
        .arg("-p")
        .arg(dir.join("pid"))
        .args(["127.0.0.1", "127.0.0.2"].map(|address| format!("udp:{address}:{port}")))
        .env("SNMP_PERSISTENT_DIR", dir.join("memory"))
        .env("SNMPCONFPATH", dir)
        .env("MIBS", "")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("snmpd starts")
}

fn is_up(child: &mut Child, port: u16) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    while child.try_wait().expect("its state").is_none() && Instant::now() < deadline {
        if answers(port) {
            return true;
        }
    }
    false
}

impl Snmpd {
    /// Starts an agent with these lines of snmpd.conf(5).
    pub fn start(config: &str) -> Self {
        assert!(Path::new(SNMPD).is_file(), "{SNMPD} is missing: run `cargo xtask setup`");
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("memory")).expect("a folder");
        fs::write(dir.path().join("snmpd.conf"), config).expect("a configuration");
        let mut last = String::new();
        for _ in 0..5 {
            let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
            let port = socket.local_addr().expect("its address").port();
            drop(socket);
            let mut child = spawn(dir.path(), port);
            if is_up(&mut child, port) {
                return Self { port, dir, child };
            }
            // Somebody else was faster at the port, or it does not start at all: the last log tells.
            let _ = child.kill();
            let _ = child.wait();
            last = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        }
        panic!("snmpd does not start: {last}")
    }

    /// What it said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Ends it as `kill` does, so that it remembers its boots, and starts it at the same port with another configuration, or the same.
    pub fn restart(&mut self, config: Option<&str>) {
        if let Some(config) = config {
            fs::write(self.dir.path().join("snmpd.conf"), config).expect("a configuration");
        }
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").arg(&pid).status();
        let _ = self.child.wait();
        self.child = spawn(self.dir.path(), self.port);
        assert!(is_up(&mut self.child, self.port), "snmpd does not start again: {}", self.log());
    }
}

impl Drop for Snmpd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
