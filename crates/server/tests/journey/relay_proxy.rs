//! A relay whose only way out is an HTTP proxy with a login: the server's name leads nowhere but there.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use testkit::cable::Cable;
use testkit::logs;

use crate::relay_world::{Relay, port};
use crate::world::{Engine, World, until};

/// A name that no resolver knows (RFC 6761).
const NAME: &str = "cairn-behind-a-proxy.test";

/// A proxy that connects whoever names the server and says the login, and nobody else. Its threads end with the process.
struct Proxy {
    port: u16,
    /// What was asked and answered.
    asked: Arc<Mutex<Vec<(String, u16)>>>,
}

/// Reads a head; none where the other side said no more.
fn head(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 8_192 || stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

impl Proxy {
    /// In front of the server's port.
    fn start(to: u16, login: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (port, asked) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<(String, u16)>>>::default());
        let (kept, login) = (Arc::clone(&asked), format!("Basic {}", STANDARD.encode(login)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, login) = (Arc::clone(&kept), login.clone());
                std::thread::spawn(move || serve(stream, to, &login, &kept));
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> Vec<(String, u16)> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(mut near: TcpStream, to: u16, login: &str, kept: &Mutex<Vec<(String, u16)>>) {
    let Some(head) = head(&mut near) else { return };
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default().to_owned();
    let says = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or_default();
        name.eq_ignore_ascii_case("proxy-authorization") && value.trim() == login
    };
    let status = match (line == format!("CONNECT {NAME}:{to} HTTP/1.1"), lines.any(says)) {
        (true, true) => 200,
        (true, false) => 407,
        (false, _) => 403,
    };
    kept.lock().unwrap_or_else(PoisonError::into_inner).push((line, status));
    if write!(near, "HTTP/1.1 {status} x\r\n\r\n").is_err() || status != 200 {
        return;
    }
    let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else { return };
    let pump = |mut from: TcpStream, mut to: TcpStream| {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    let back = (far.try_clone().unwrap(), near.try_clone().unwrap());
    std::thread::spawn(move || pump(back.0, back.1));
    pump(near, far);
}

#[test]
fn a_relay_whose_only_way_out_is_a_proxy_enrolls_connects_and_works_through_it() {
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false").with("CAIRN_SERVER_NAMES", NAME);
    let server = world.start();
    world.first_login(&server);
    let to = port(&server);
    let password = logs::plant("a proxy's password");
    // What a URL cannot hold as it is has to be escaped there.
    let proxy = Proxy::start(to, &format!("relay:{password}@:/"));
    let address = |login: &str| format!("http://{login}@127.0.0.1:{}", proxy.port);
    let (url, right) = (format!("https://{NAME}:{to}"), address(&format!("relay:{password}%40%3A%2F")));
    // Of the cable nothing is used: the server's name does not lead to it.
    let cable = Cable::to(to);

    let mut relay =
        Relay::start(&world, &server, &cable, &[("RELAY_SERVER", url.as_str()), ("HTTPS_PROXY", right.as_str())]);
    let words = ["jobs", "run", "--plugin", "host", "--relay", "rly-1", "--wait", "-o", "json"];
    let job = world.cairn(words).json();
    assert!(["completed", "partial"].contains(&job["status"].as_str().unwrap()), "{job}");
    relay.says("a task ended");
    let asked = proxy.asked();
    // Once to enroll and once for the channel at least, and everything was let through.
    assert!(asked.len() >= 2 && asked.iter().all(|(_, status)| *status == 200), "{asked:?}");
    assert!(!relay.said().contains(password.as_str()), "{}", relay.said());
    relay.stop();

    // With another login nothing is let through, and the relay says what the proxy said.
    let wrong = address("relay:another");
    let mut relay =
        Relay::begin(&world, &server, &cable, &[("RELAY_SERVER", url.as_str()), ("HTTPS_PROXY", wrong.as_str())]);
    relay.says("the proxy does not connect: HTTP/1.1 407");
    relay.stop();

    // A server that is excepted is never asked for at the proxy, whether or not there is another way.
    let before = proxy.asked().len();
    let excepted = [("RELAY_SERVER", url.as_str()), ("HTTPS_PROXY", right.as_str()), ("NO_PROXY", NAME)];
    let mut relay = Relay::begin(&world, &server, &cable, &excepted);
    relay.says("cannot be reached");
    relay.stop();
    assert_eq!(proxy.asked().len(), before);
    assert_eq!(cable.carried(), 0);
    until("the server's word that the relay is away", || {
        let relay = world.cairn(["relays", "show", "rly-1", "-o", "json"]).ok().json();
        relay["server"].is_null().then_some(())
    });
    server.stop();
}
