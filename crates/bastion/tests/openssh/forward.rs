//! Agents, screens and connections that are forwarded: where they are lent, on the record, and nowhere else.

use std::path::Path;

use russh::server::{self, Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, keys};
use tokio::io::AsyncBufReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Child;

use super::*;

const ALL: [&str; 4] = ["permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding", "permit-pty"];

/// An agent of the user's with one key.
struct Agent {
    _child: Child,
    socket: PathBuf,
    fingerprint: String,
}

impl Agent {
    async fn start(dir: &Path) -> Self {
        let socket = dir.join("agent");
        let child = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        until("an agent", || socket.exists()).await;
        let own = key();
        let file = dir.join("of-the-agent");
        std::fs::write(&file, crypto::ssh::private_key(&own, &SystemRng).expose()).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let added = Command::new("ssh-add").arg("-q").arg(&file).env("SSH_AUTH_SOCK", &socket).status().await.unwrap();
        assert!(added.success());
        Self { _child: child, socket, fingerprint: line(&own).fingerprint() }
    }
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Says a word to everybody who connects.
async fn banner(word: &'static str) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(word.as_bytes()).await;
        }
    });
    port
}

/// The first word that a peer says.
async fn first_word(mut stream: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut came = vec![0u8; 64];
    let read =
        tokio::time::timeout(Duration::from_secs(20), stream.read(&mut came)).await.expect("a word").unwrap_or(0);
    String::from_utf8_lossy(&came[..read]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_and_connections_in_both_directions_pass_where_they_are_lent_and_are_on_the_record() {
    let mut setup = Setup::new();
    setup.extensions = ALL.map(str::to_owned).to_vec();
    let port = setup.serve().await;
    let config = setup.good(port);
    let agent = Agent::start(setup.dir.path()).await;

    let mut command = setup.command("ssh", &config);
    let ran = command.env("SSH_AUTH_SOCK", &agent.socket).args(["-A", "web1", "ssh-add -l"]).output().await.unwrap();
    assert!(text(&ran).0.contains(&agent.fingerprint), "{ran:?}");

    // The host listens for the user, at a port of its own choice and at a socket; who connects there is with the user, who speaks first.
    let mine = banner("mine\n").await;
    let (near, far) = (setup.path("near"), setup.path("far"));
    let theirs = UnixListener::bind(&far).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = theirs.accept().await {
            let _ = stream.write_all(b"theirs\n").await;
        }
    });
    let back = setup.path("back");
    let mut command = setup.command("ssh", &config);
    let words = [
        "-N".to_owned(),
        "-R".to_owned(),
        format!("0:127.0.0.1:{mine}"),
        "-R".to_owned(),
        format!("{}:127.0.0.1:{mine}", back.display()),
        "-L".to_owned(),
        format!("{}:{}", near.display(), far.display()),
        "web1".to_owned(),
    ];
    let mut child = command.args(&words).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = tokio::io::BufReader::new(child.stderr.take().unwrap()).lines();
    let listens = loop {
        let line =
            tokio::time::timeout(Duration::from_secs(20), said.next_line()).await.expect("a port").unwrap().unwrap();
        if let Some(rest) = line.strip_prefix("Allocated port ") {
            break rest.split(' ').next().unwrap().parse::<u16>().unwrap();
        }
    };
    assert_eq!(first_word(TcpStream::connect(("127.0.0.1", listens)).await.unwrap()).await, "mine\n");
    until("sockets at both ends", || back.exists() && near.exists()).await;
    assert_eq!(first_word(UnixStream::connect(&back).await.unwrap()).await, "mine\n");
    assert_eq!(first_word(UnixStream::connect(&near).await.unwrap()).await, "theirs\n");
    child.kill().await.unwrap();

    let to = format!("127.0.0.1:{}", setup.sshd.port);
    assert!(text(&setup.ssh(&config, &["-W", &to, "web1"]).await).0.starts_with("SSH-2.0-OpenSSH"));
    let heard = setup.witness.all.lock().unwrap().clone();
    for expect in [
        ("agent", String::new()),
        ("remote", "localhost:0".to_owned()),
        ("remote-socket", back.display().to_string()),
        ("local-socket", far.display().to_string()),
        ("local", to),
    ] {
        assert_eq!(heard.iter().filter(|one| **one == expect).count(), 1, "{expect:?}: {heard:?}");
    }
    // Which port the host chose is known too.
    assert!(heard.contains(&("remote", format!("localhost:{listens}"))), "{heard:?}");
    // Of all this only what was shown is recorded.
    let told = setup.recorder.about.lock().unwrap().len();
    assert_eq!(told, 1, "the command that asked the agent");
}

/// What a program at the host says first to a screen, with the cookie that it was given.
const TO_THE_SCREEN: &str = r#"for _ in 1 2 3 4 5 6 7 8 9; do [ -s "$KEPT" ] && break; sleep 0.2; done; perl -MIO::Socket::INET -e '
    my ($cookie) = `cat $ENV{KEPT}` =~ /MIT-MAGIC-COOKIE-1 ([0-9a-f]+)/ or die "no cookie";
    my ($display) = $ENV{DISPLAY} =~ /:(\d+)/ or die "no display";
    my $screen = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => 6000 + $display) or die "no screen: $!";
    print $screen pack("a1xvvvvxx", "l", 11, 0, 18, 16), "MIT-MAGIC-COOKIE-1", "\0\0", pack("H*", $cookie);
    $screen->flush; sysread($screen, my $said, 64); print "the screen says $said\n"'"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_screen_passes_where_it_is_lent() {
    let mut setup = Setup::new();
    setup.extensions = ALL.map(str::to_owned).to_vec();
    let port = setup.serve().await;
    let config = setup.good(port);
    // The user's screen answers who has said hello.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let display = i32::from(listener.local_addr().unwrap().port()) - 6_000;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut hello = [0u8; 48];
            if stream.read_exact(&mut hello).await.is_ok() && hello[12..30] == *b"MIT-MAGIC-COOKIE-1" {
                let _ = stream.write_all(b"hello").await;
            }
        }
    });
    let xauth = setup.path("xauth").display().to_string();
    let script = format!("export KEPT={xauth}.kept; {TO_THE_SCREEN}");
    let mut command = setup.command("ssh", &config);
    command.env("DISPLAY", format!("127.0.0.1:{display}")).args(["-Y", "-o", &format!("XAuthLocation={xauth}")]);
    let run = command.args(["web1", &script]).output();
    let ran = tokio::time::timeout(Duration::from_secs(40), run).await.expect("it ends").unwrap();
    assert!(text(&ran).0.contains("the screen says hello"), "{ran:?}");
    assert_eq!(setup.witness.all.lock().unwrap().clone(), [("x11", String::new())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_ssh_nothing_is_forwarded_that_is_not_lent_or_not_on_the_record() {
    for unheard in [false, true] {
        let mut setup = Setup::new();
        if unheard {
            setup.extensions = ALL.map(str::to_owned).to_vec();
            setup.witness = Arc::new(Heard { refuses: true, ..Heard::default() });
        }
        let port = setup.serve().await;
        let config = setup.good(port);
        let agent = Agent::start(setup.dir.path()).await;
        let mut command = setup.command("ssh", &config);
        command.env("SSH_AUTH_SOCK", &agent.socket).env("DISPLAY", "127.0.0.1:1");
        command.args(["-A", "-Y", "-o", &format!("XAuthLocation={}", setup.path("xauth").display())]);
        let ran = command.args(["web1", "echo [$SSH_AUTH_SOCK][$DISPLAY]"]).output().await.unwrap();
        assert_eq!(text(&ran).0, "[][]\n", "{ran:?}");
        let to = format!("127.0.0.1:{}", setup.sshd.port);
        let ran = setup.ssh(&config, &["-W", &to, "web1"]).await;
        assert!(!ran.status.success() && text(&ran).1.contains("prohibited"), "{ran:?}");
        let back = format!("{}:127.0.0.1:1", setup.path("back").display());
        for listen in ["0:127.0.0.1:1", &back] {
            let ran = setup.ssh(&config, &["-o", "ExitOnForwardFailure=yes", "-R", listen, "web1", "true"]).await;
            assert!(!ran.status.success(), "{listen} {ran:?}");
        }
        assert!(!setup.path("back").exists());
        assert_eq!(setup.witness.all.lock().unwrap().is_empty(), !unheard, "what is not lent is not even asked about");
    }
}

/// A host that somebody else has: it lets the relay in, and asks it for everything of its user's.
#[derive(Clone, Default)]
struct Greedy {
    refused: Arc<Mutex<Vec<bool>>>,
}

impl server::Handler for Greedy {
    type Error = russh::Error;

    async fn auth_openssh_certificate(&mut self, _: &str, _: &keys::Certificate) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        let (handle, refused) = (session.handle(), Arc::clone(&self.refused));
        tokio::spawn(async move {
            let opened = [
                handle.channel_open_agent().await.is_err(),
                handle.channel_open_x11("127.0.0.1", 1).await.is_err(),
                handle.channel_open_forwarded_tcpip("localhost", 22, "127.0.0.1", 1).await.is_err(),
                handle.channel_open_forwarded_streamlocal("/tmp/x").await.is_err(),
                handle.channel_open_session().await.is_err(),
                handle.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1).await.is_err(),
                handle.channel_open_direct_streamlocal("/tmp/x").await.is_err(),
            ];
            refused.lock().unwrap().extend(opened);
        });
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_ssh_a_host_opens_nothing_of_its_users_that_they_did_not_ask_to_forward() {
    let mut setup = Setup::new();
    setup.extensions = ALL.map(str::to_owned).to_vec();
    let host_key = keys::PrivateKey::from_openssh(setup.sshd.read("host")).unwrap();
    let config = Arc::new(server::Config { keys: vec![host_key], ..server::Config::default() });
    let (greedy, listener) = (Greedy::default(), TcpListener::bind(("127.0.0.1", 0)).await.unwrap());
    setup.host_port = listener.local_addr().unwrap().port();
    let handler = greedy.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(running) = server::run_stream(config, stream, handler).await {
            let _ = running.await;
        }
    });
    let port = setup.serve().await;
    let config = setup.good(port);
    let mut command = setup.command("ssh", &config);
    let mut child = command.args(["web1", "true"]).spawn().unwrap();
    until("all answers", || greedy.refused.lock().unwrap().len() == 7).await;
    assert_eq!(greedy.refused.lock().unwrap().clone(), [true; 7]);
    child.kill().await.unwrap();
}
