//! A hub and relays over pipes in memory that a test cuts.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what is not as expected ends the test, also in what arranges it"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use gateway::session::{Session, Timing};
use gateway::websocket::Side;
use gateway::{Channel, Hub, HubSettings, LinkEnd, Refused, channel};
use testkit::TestRng;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wire::frame::{Body, Frame, MessageKind, Reason, VERSION};
use wire::relay::{Hello, SessionKey, Welcome};

fn settings() -> HubSettings {
    HubSettings {
        timing: Timing { heartbeat_ms: 200, answer_ms: 200 },
        resume: Duration::from_millis(700),
        handshake: Duration::from_secs(5),
        probe: Duration::from_millis(300),
        relays_max: 3,
    }
}

fn hub() -> Arc<Hub<u32>> {
    Arc::new(Hub::new(settings(), Arc::new(TestRng::seeded(1))))
}

type Served = JoinHandle<Result<bool, Refused>>;

/// The server's side of a connection, with what comes after it.
fn serve(hub: &Arc<Hub<u32>>, key: u32, socket: DuplexStream) -> Served {
    let hub = Arc::clone(hub);
    tokio::spawn(async move {
        let (admitted, connected) = hub.serve(key, socket, async |_: &Hello| Ok(())).await?;
        Ok(admitted.is_over || hub.expire(key, &connected).await)
    })
}

/// A relay's end.
struct Relay {
    channel: Channel,
    session: Option<SessionKey>,
    link: CancellationToken,
    driven: Option<JoinHandle<LinkEnd>>,
}

impl Relay {
    fn new() -> Self {
        let timing = Timing { heartbeat_ms: 60_000, answer_ms: 60_000 };
        let channel = Channel::new(Session::relay(timing));
        Self { channel, session: None, link: CancellationToken::new(), driven: None }
    }

    fn hello(&self) -> Hello {
        Hello {
            versions: vec![VERSION],
            session: self.session,
            received: self.channel.received(),
            version: "1".to_owned(),
            program: crypto::sha256(b"program"),
            host: "test".to_owned(),
            plugins: vec!["host".to_owned()],
            sealing_key: String::new(),
        }
    }

    /// Says hello; the welcome, or why there is none.
    async fn connect(&mut self, mut socket: DuplexStream) -> Result<Welcome, Reason> {
        let rng = TestRng::seeded(2);
        let hello = serde_json::to_vec(&self.hello()).unwrap();
        channel::write_first(&mut socket, Side::Client, Body::Hello(&hello), &rng).await.unwrap();
        let mut rest = BytesMut::new();
        let first = channel::read_first(&mut socket, Side::Client, &mut rest).await.unwrap();
        let welcome: Welcome = match Frame::decode(&first).unwrap().body {
            Body::Welcome(document) => serde_json::from_slice(document).unwrap(),
            Body::Goodbye(reason, _) => return Err(reason),
            other => panic!("{other:?}"),
        };
        self.session = Some(welcome.session);
        self.link = CancellationToken::new();
        let (channel, link, received) = (self.channel.clone(), self.link.clone(), welcome.received);
        self.driven =
            Some(tokio::spawn(async move { channel.drive(socket, Side::Client, rest, received, &rng, &link).await }));
        Ok(welcome)
    }

    /// Cuts the link without a word, as a cable does.
    async fn cut(&mut self) {
        let driven = self.driven.take().unwrap();
        driven.abort();
        let _ = driven.await;
    }
}

#[tokio::test]
async fn a_stream_goes_on_over_a_new_link_and_what_was_sent_meanwhile_comes_once() {
    let hub = hub();
    let (ours, theirs) = tokio::io::duplex(4_096);
    let served = serve(&hub, 7, ours);
    let mut relay = Relay::new();
    let welcome = relay.connect(theirs).await.unwrap();
    assert!(!welcome.resumed);
    let stream = hub.relay(7).unwrap().channel.open().unwrap();
    stream.send(MessageKind::Start, "{}").await.unwrap();
    let at_relay = relay.channel.accept().await.unwrap();
    assert_eq!(at_relay.recv().await.unwrap().kind, MessageKind::Start);
    let page = vec![7; 3_000_000];
    let (sending, cut) = (page.clone(), tokio::sync::Notify::new());
    let (came, ()) = tokio::join!(
        async {
            let first = stream.recv().await.unwrap();
            cut.notify_one();
            (first, stream.recv().await.unwrap(), stream.recv().await.unwrap())
        },
        async {
            for _ in 0..2 {
                at_relay.send(MessageKind::Page, sending.clone()).await.unwrap();
            }
            cut.notified().await;
            relay.cut().await;
            at_relay.send(MessageKind::Ended, "{}").await.unwrap();
            let (ours, theirs) = tokio::io::duplex(4_096);
            let again = serve(&hub, 7, ours);
            assert!(relay.connect(theirs).await.unwrap().resumed);
            drop(again);
        }
    );
    assert!(came.0.bytes == page && came.1.bytes == page);
    assert_eq!((came.2.kind, came.2.bytes.as_slice()), (MessageKind::Ended, &b"{}"[..]));
    assert!(!served.await.unwrap().unwrap(), "the session went on");
}

#[tokio::test]
async fn a_session_whose_relay_does_not_come_back_in_time_ends_with_its_streams() {
    let hub = hub();
    let (ours, theirs) = tokio::io::duplex(4_096);
    let served = serve(&hub, 7, ours);
    let mut relay = Relay::new();
    relay.connect(theirs).await.unwrap();
    let stream = hub.relay(7).unwrap().channel.open().unwrap();
    relay.cut().await;
    assert_eq!(stream.recv().await.unwrap_err().text, "the relay did not come back");
    assert!(served.await.unwrap().unwrap());
    assert!(hub.relay(7).is_none());
}

#[tokio::test]
async fn attack_24_a_second_connection_is_refused_while_the_first_answers_and_never_takes_over_silently() {
    let hub = hub();
    let (ours, theirs) = tokio::io::duplex(4_096);
    let first = serve(&hub, 7, ours);
    let mut relay = Relay::new();
    relay.connect(theirs).await.unwrap();
    let stream = hub.relay(7).unwrap().channel.open().unwrap();
    let at_relay = relay.channel.accept().await.unwrap();

    // The thief has the credential, and even the session's key.
    for session in [None, relay.session] {
        let (ours, theirs) = tokio::io::duplex(4_096);
        let second = serve(&hub, 7, ours);
        let mut thief = Relay { session, ..Relay::new() };
        assert_eq!(thief.connect(theirs).await.unwrap_err(), Reason::Taken);
        assert!(matches!(second.await.unwrap(), Err(Refused::Taken)));
    }
    at_relay.send(MessageKind::Log, "still here").await.unwrap();
    assert_eq!(stream.recv().await.unwrap().bytes, b"still here");

    // One that does not answer any more gives way.
    relay.driven.as_ref().unwrap().abort();
    let (frozen, theirs) = tokio::io::duplex(4_096);
    let third = serve(&hub, 7, frozen);
    assert!(Relay::new().connect(theirs).await.is_ok());
    assert_eq!(stream.recv().await.unwrap_err().text, "the relay started anew");
    drop((first, third));
}

#[tokio::test]
async fn a_relay_that_is_ended_is_told_why_and_its_connection_closes() {
    let hub = hub();
    let (ours, theirs) = tokio::io::duplex(4_096);
    let served = serve(&hub, 7, ours);
    let mut relay = Relay::new();
    relay.connect(theirs).await.unwrap();
    let stream = hub.relay(7).unwrap().channel.open().unwrap();
    assert!(hub.end(7, Reason::Revoked, "the relay was revoked"));
    let end = relay.driven.take().unwrap().await.unwrap();
    assert!(end.to_string().contains("revoked"), "{end}");
    assert_eq!(stream.recv().await.unwrap_err().reason, Reason::Revoked);
    assert!(served.await.unwrap().unwrap());
    assert!(!hub.end(7, Reason::Revoked, ""));
}

#[tokio::test]
async fn a_relay_that_is_ended_while_it_is_being_let_in_gets_no_place() {
    let hub = hub();
    let (ours, theirs) = tokio::io::duplex(4_096);
    let serving = Arc::clone(&hub);
    let served = tokio::spawn(async move {
        // It is revoked after the look whether it is let in, and before it has a place.
        let admitted = async |_: &Hello| {
            assert!(!serving.end(7, Reason::Revoked, "the relay was revoked"), "it has no place yet");
            Ok(())
        };
        serving.serve(7, ours, admitted).await
    });
    assert_eq!(Relay::new().connect(theirs).await.unwrap_err(), Reason::Revoked);
    assert!(matches!(served.await.unwrap(), Err(Refused::Ended)));
    assert!(hub.keys().is_empty());

    // What happened before does not count: one whose terms changed comes back at once.
    let (ours, theirs) = tokio::io::duplex(4_096);
    let again = serve(&hub, 7, ours);
    assert!(Relay::new().connect(theirs).await.is_ok());
    drop(again);
}

#[tokio::test]
async fn a_silent_peer_and_one_that_speaks_otherwise_are_sent_away() {
    let hub = hub();
    let send = async |frame: Vec<u8>| {
        let (ours, mut theirs) = tokio::io::duplex(4_096);
        let served = serve(&hub, 7, ours);
        let (mut out, rng) = (Vec::new(), TestRng::seeded(3));
        gateway::websocket::write_message(Side::Client, &frame, &rng, &mut out);
        tokio::io::AsyncWriteExt::write_all(&mut theirs, &out).await.unwrap();
        let refused = served.await.unwrap().unwrap_err();
        let said = channel::read_first(&mut theirs, Side::Client, &mut BytesMut::new()).await.unwrap();
        let Body::Goodbye(reason, _) = Frame::decode(&said).unwrap().body else { panic!() };
        (refused.to_string(), reason)
    };
    let hello = |versions: Vec<u8>| {
        let document = serde_json::to_vec(&Hello { versions, ..Relay::new().hello() }).unwrap();
        let mut frame = Vec::new();
        Frame::channel(Body::Hello(&document)).encode(&mut frame).unwrap();
        frame
    };
    let (said, reason) = send(hello(vec![2, 3])).await;
    assert!(reason == Reason::Version && said.contains("[2, 3]"), "{said}");
    let mut other = hello(vec![1]);
    other[0] = 9;
    let (said, reason) = send(other).await;
    assert!(reason == Reason::Protocol && said.contains("version 9"), "{said}");
    assert!(hub.keys().is_empty());
}

#[tokio::test]
async fn a_hub_holds_no_more_relays_than_it_may() {
    let hub = hub();
    let mut relays = Vec::new();
    for key in 0..4 {
        let (ours, theirs) = tokio::io::duplex(4_096);
        let served = serve(&hub, key, ours);
        let mut relay = Relay::new();
        let welcome = relay.connect(theirs).await;
        assert_eq!(welcome.is_ok(), key < 3);
        relays.push((relay, served));
    }
    assert_eq!(*hub.count().borrow(), 3);
}
