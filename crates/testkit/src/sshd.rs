//! An OpenSSH server of one test: its own keys, its own configuration, its own free port on loopback.
//!
//! It runs as the user that runs the tests and lets that user in. [`Sshd::start_for`] lets an account with a password in that only this server
//! knows: it sees files of its own in the place of the machine's list of accounts.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::port::HeldPort;

const SSHD: &str = "/usr/sbin/sshd";

/// A running server. It ends when this is dropped.
pub struct Sshd {
    /// Where it listens; it also answers at other addresses of 127.0.0.0/8.
    pub port: u16,
    dir: tempfile::TempDir,
    child: Child,
    _held: HeldPort,
}

fn keygen(args: &[&str]) {
    let output = Command::new("ssh-keygen").args(args).output().expect("ssh-keygen: run `cargo xtask setup`");
    assert!(output.status.success(), "ssh-keygen {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is UTF-8")
}

/// An account with a password, of no machine until a server is started for it.
pub struct Account {
    /// Whom it is to sign in as.
    pub name: String,
    /// Its password, which no log may hold.
    pub password: String,
}

impl Account {
    /// Makes up one.
    #[expect(clippy::new_without_default, reason = "it plants a secret")]
    pub fn new() -> Self {
        Self { name: "of-a-test".to_owned(), password: crate::logs::plant("the password of an account") }
    }

    /// What its server sees instead of the machine's own files: accounts, their passwords, and how PAM asks for one.
    fn write(&self, dir: &Path) {
        let mut hashing = Command::new("openssl")
            .args(["passwd", "-6", "-stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("openssl runs");
        let mut input = hashing.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut input, self.password.as_bytes()).expect("it reads");
        drop(input);
        let hash = String::from_utf8(hashing.wait_with_output().expect("it ends").stdout).expect("text");
        let name = &self.name;
        let write = |file: &str, text: &str, mode: u32| {
            fs::write(dir.join(file), text).expect("a file");
            fs::set_permissions(dir.join(file), fs::Permissions::from_mode(mode)).expect("its mode");
        };
        let accounts = fs::read_to_string("/etc/passwd").expect("the machine's accounts");
        write("passwd", &format!("{accounts}{name}:x:64321:64321::/:/bin/sh\n"), 0o644);
        write("shadow", &format!("{name}:{}:20000:0:99999:7:::\n", hash.trim()), 0o600);
        let pam = "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_permit.so\n";
        write("pam", pam, 0o644);
    }
}

/// What starts a server: itself, or a program that first puts its own list of accounts, for nobody else, where the machine's is.
fn program(dir: &Path) -> Command {
    if dir.join("machine").exists() {
        let script = "mount --bind \"$1/etc\" /etc && mount --bind \"$1/home\" /home && mkdir -p /var/lib/cairn && \
                      mount --bind \"$1/cairn\" /var/lib/cairn && shift && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
            text(&dir.join("machine")),
            SSHD,
        ]);
        return command;
    }
    if !dir.join("passwd").exists() {
        return Command::new(SSHD);
    }
    let script = "mount --bind \"$1/passwd\" /etc/passwd && mount --bind \"$1/shadow\" /etc/shadow && mount --bind \"$1/pam\" /etc/pam.d/sshd \
                  && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh", text(dir), SSHD]);
    command
}

/// Runs a server on the configuration of a folder; none where it does not answer.
fn spawn(dir: &Path, port: u16) -> Option<Child> {
    let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).expect("a log");
    let mut child = program(dir)
        .args(["-D", "-e", "-f", text(&dir.join("config"))])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("sshd starts");
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().expect("its state").is_none() && Instant::now() < deadline {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

impl Sshd {
    /// Starts a server that takes the key `user` of its folder, and certificates signed by the key `ca`.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts one with more lines of configuration before its own: the first that names a setting counts.
    pub fn start_with(lines: &str) -> Self {
        Self::begin(lines, None)
    }

    /// Starts one that knows this account besides the machine's, and how it signs in is for the lines to say. Nobody else sees the account.
    pub fn start_for(account: &Account, lines: &str) -> Self {
        let id = Command::new("id").arg("-u").output().expect("id");
        assert_eq!(id.stdout, b"0\n", "a server with accounts of its own mounts files: run this test as root");
        Self::begin(lines, Some(account))
    }

    /// Starts one on a machine of its own, as far as accounts, homes and rules of `sudo` go: copies that go with the test. As root.
    pub fn start_machine() -> Self {
        let mut sshd = Self::start();
        let machine = sshd.path("machine");
        for name in ["home", "cairn"] {
            fs::create_dir_all(machine.join(name)).expect("a folder");
        }
        let copied = Command::new("cp").arg("-a").args([Path::new("/etc"), &machine.join("etc")]).status();
        assert!(copied.expect("cp runs").success(), "/etc is copied: run this test as root");
        sshd.restart_with("");
        sshd
    }

    /// Runs a shell's words as root on the machine of [`Sshd::start_machine`].
    pub fn on_machine(&self, words: &str) -> std::process::Output {
        let pid = self.child.id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--mount", "sh", "-c", words]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().expect("nsenter runs")
    }

    fn begin(lines: &str, account: Option<&Account>) -> Self {
        assert!(Path::new(SSHD).is_file(), "{SSHD} is missing: run `cargo xtask setup`");
        // A root sshd needs its folder for separated privileges, which the package's service makes.
        let _ = fs::create_dir_all("/run/sshd");
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        for name in ["host", "user", "other", "ca"] {
            keygen(&["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", text(&at(name))]);
        }
        fs::copy(at("user.pub"), at("authorized")).expect("a copy");
        fs::write(at("revoked"), "").expect("a list");
        if let Some(account) = account {
            account.write(dir.path());
        }
        // It answers at other addresses of 127.0.0.0/8 too, so the port has to be free at all of them.
        let held = HeldPort::at(Ipv4Addr::UNSPECIFIED);
        let port = held.number;
        let config = format!(
            "{lines}\nPort {port}\nListenAddress 0.0.0.0\nHostKey {}\nAuthorizedKeysFile {}\nTrustedUserCAKeys {}\nRevokedKeys {}\nPidFile none\n\
             StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n\
             MaxStartups 200\nMaxSessions 20\nLogLevel ERROR\nSubsystem sftp internal-sftp\n",
            text(&at("host")),
            text(&at("authorized")),
            text(&at("ca.pub")),
            text(&at("revoked")),
        );
        fs::write(at("config"), config).expect("a configuration");
        let child = spawn(dir.path(), port).unwrap_or_else(|| {
            panic!("sshd does not start: {}", fs::read_to_string(dir.path().join("log")).unwrap_or_default())
        });
        Self { port, dir, child, _held: held }
    }

    /// Starts it anew with more lines of configuration before all others. Who is signed in stays so.
    pub fn restart_with(&mut self, lines: &str) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let config = format!("{lines}\n{}", self.read("config"));
        fs::write(self.path("config"), config).expect("a configuration");
        let child = spawn(self.dir.path(), self.port);
        self.child = child.unwrap_or_else(|| {
            panic!("sshd does not start again: {}", fs::read_to_string(self.path("log")).unwrap_or_default())
        });
    }

    /// Makes a new host key, as a machine that is set up again has it.
    pub fn change_host_key(&mut self) {
        for name in ["host", "host.pub"] {
            fs::remove_file(self.path(name)).expect("the key was there");
        }
        keygen(&["-q", "-t", "ed25519", "-N", "", "-C", "host", "-f", text(&self.path("host"))]);
        self.restart_with("");
    }

    /// Has it show a certificate of its host key, signed by `ca` for these names (with commas between; none: for any) and for `validity`.
    pub fn certify_host(&mut self, names: &str, validity: &str) {
        let (ca, public) = (self.path("ca"), self.path("host.pub"));
        let mut arguments = vec!["-q", "-s", text(&ca), "-I", "host", "-h", "-V", validity];
        if !names.is_empty() {
            arguments.extend(["-n", names]);
        }
        arguments.push(text(&public));
        let is_first = !self.path("host-cert.pub").exists();
        keygen(&arguments);
        let line = format!("HostCertificate {}", text(&self.path("host-cert.pub")));
        self.restart_with(if is_first { &line } else { "" });
    }

    /// A file of its folder: `user`, `other`, `ca` and `host` are private keys, with `.pub` public ones; `authorized` and `revoked` list
    /// those that it lets in and never.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The text of such a file.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file of the server's folder")
    }

    /// The line of `known_hosts` for this server under a name or address.
    pub fn known_host(&self, host: &str) -> String {
        format!("[{host}]:{} {}", self.port, self.read("host.pub").trim())
    }

    /// Whom it lets in.
    pub fn user(&self) -> String {
        let output = Command::new("id").arg("-un").output().expect("id");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Signs `user.pub` for its user, for `validity` as ssh-keygen's `-V` takes it, and answers the certificate.
    pub fn certificate(&self, validity: &str) -> String {
        let (ca, public, user) = (self.path("ca"), self.path("user.pub"), self.user());
        keygen(&["-q", "-s", text(&ca), "-I", "test", "-n", &user, "-V", validity, text(&public)]);
        self.read("user-cert.pub")
    }

    /// Encrypts a copy of the private key `user`.
    pub fn encrypted_key(&self, passphrase: &str) -> String {
        let copy = self.path("encrypted");
        fs::copy(self.path("user"), &copy).expect("a copy");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).expect("its mode");
        keygen(&["-q", "-p", "-P", "", "-N", passphrase, "-f", text(&copy)]);
        self.read("encrypted")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
