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
use gateway::session::{Broken, Session, Timing};
use gateway::websocket::Side;
use gateway::{Channel, Hub, HubSettings, LinkEnd, Refused, channel};
use testkit::TestRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::watch;
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
    hub_with(settings())
}

fn hub_with(settings: HubSettings) -> Arc<Hub<u32>> {
    Arc::new(Hub::new(settings, Arc::new(TestRng::seeded(1))))
}

/// One that keeps a session for longer than any test takes.
fn patient_hub() -> Arc<Hub<u32>> {
    hub_with(HubSettings { resume: Duration::from_mins(10), ..settings() })
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

/// Waits until a condition holds, without letting time go by where it stands still.
async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

/// A cable between two sockets that carries nothing while it is told to hold.
fn cable() -> (DuplexStream, DuplexStream, watch::Sender<bool>) {
    let ((near, near_end), (far, far_end)) = (tokio::io::duplex(4_096), tokio::io::duplex(4_096));
    let (holds, held) = watch::channel(false);
    let ((near_reads, near_writes), (far_reads, far_writes)) = (tokio::io::split(near_end), tokio::io::split(far_end));
    for (mut from, mut to) in [(near_reads, far_writes), (far_reads, near_writes)] {
        let mut held = held.clone();
        tokio::spawn(async move {
            let mut bytes = [0; 1_024];
            while let Ok(length @ 1..) = from.read(&mut bytes).await {
                let _ = held.wait_for(|held| !held).await;
                if to.write_all(&bytes[..length]).await.is_err() {
                    break;
                }
            }
            let _ = held.wait_for(|held| !held).await;
            let _ = to.shutdown().await;
        });
    }
    (near, far, holds)
}

#[tokio::test]
async fn whoever_hears_nothing_for_too_long_lets_the_link_go_and_the_session_goes_on() {
    let hub = patient_hub();
    let (ours, theirs, holds) = cable();
    let served = serve(&hub, 7, ours);
    let mut relay = Relay::new();
    relay.connect(theirs).await.unwrap();
    let channel = hub.relay(7).unwrap().channel;
    let stream = channel.open().unwrap();
    let at_relay = relay.channel.accept().await.unwrap();
    // Nothing is carried, as behind a machine that is moved: the server takes the relay for gone. The relay has more to send than the cable
    // holds, so that it waits in the middle of a write.
    holds.send_replace(true);
    at_relay.send(MessageKind::Page, vec![7; 300_000]).await.unwrap();
    until(|| !channel.is_linked()).await;
    // What the server said of it comes late, and is no end of the session.
    holds.send_replace(false);
    let end = relay.driven.take().unwrap().await.unwrap();
    assert!(end.may_resume(), "{end}");
    let (ours, theirs) = tokio::io::duplex(4_096);
    let again = serve(&hub, 7, ours);
    assert!(relay.connect(theirs).await.unwrap().resumed);
    assert_eq!(stream.recv().await.unwrap().bytes, vec![7; 300_000]);
    drop((served, again));
}

#[tokio::test]
async fn a_relay_that_nothing_is_heard_of_for_longer_than_a_session_is_kept_begins_anew() {
    let hub = hub();
    let (ours, theirs, holds) = cable();
    let served = serve(&hub, 7, ours);
    let mut relay = Relay::new();
    relay.connect(theirs).await.unwrap();
    let stream = hub.relay(7).unwrap().channel.open().unwrap();
    holds.send_replace(true);
    assert_eq!(stream.recv().await.unwrap_err().text, "the relay did not come back");
    assert!(served.await.unwrap().unwrap(), "whoever held the task is told, and it is tried anew");
    holds.send_replace(false);
    let end = relay.driven.take().unwrap().await.unwrap();
    assert!(end.may_resume(), "{end}");
    let (ours, theirs) = tokio::io::duplex(4_096);
    let again = serve(&hub, 7, ours);
    assert!(!relay.connect(theirs).await.unwrap().resumed);
    drop(again);
}

#[tokio::test]
async fn a_relay_notices_silence_while_it_waits_in_the_middle_of_a_write() {
    let hub = hub_with(HubSettings { timing: Timing { heartbeat_ms: 60_000, answer_ms: 60_000 }, ..settings() });
    let (ours, theirs, holds) = cable();
    let served = serve(&hub, 7, ours);
    let timing = Timing { heartbeat_ms: 200, answer_ms: 200 };
    let mut relay = Relay { channel: Channel::new(Session::relay(timing)), ..Relay::new() };
    relay.connect(theirs).await.unwrap();
    let stream = hub.relay(7).unwrap().channel.open().unwrap();
    let at_relay = relay.channel.accept().await.unwrap();
    holds.send_replace(true);
    at_relay.send(MessageKind::Page, vec![7; 300_000]).await.unwrap();
    let end = relay.driven.take().unwrap().await.unwrap();
    assert!(matches!(end, LinkEnd::Broken(Broken::Silent)), "{end}");
    drop((stream, served));
}

#[tokio::test]
async fn a_gap_ends_the_link_without_a_goodbye_and_the_session_goes_on() {
    let hub = patient_hub();
    let (ours, mut theirs) = tokio::io::duplex(4_096);
    let served = serve(&hub, 7, ours);
    // By hand, since no relay of ours leaves one out: its first frame is number 1.
    let (mut relay, rng, mut rest) = (Relay::new(), TestRng::seeded(5), BytesMut::new());
    let hello = serde_json::to_vec(&relay.hello()).unwrap();
    channel::write_first(&mut theirs, Side::Client, Body::Hello(&hello), &rng).await.unwrap();
    let first = channel::read_first(&mut theirs, Side::Client, &mut rest).await.unwrap();
    let Body::Welcome(welcome) = Frame::decode(&first).unwrap().body else { panic!() };
    relay.session = Some(serde_json::from_slice::<Welcome>(welcome).unwrap().session);
    let (mut frame, mut out) = (Vec::new(), Vec::new());
    Frame { stream: 1, number: 2, body: Body::Credit(1) }.encode(&mut frame).unwrap();
    gateway::websocket::write_message(Side::Client, &frame, &rng, &mut out);
    theirs.write_all(&out).await.unwrap();
    let end = loop {
        match channel::read_first(&mut theirs, Side::Client, &mut rest).await {
            Ok(frame) => {
                let said = Frame::decode(&frame).unwrap();
                assert!(!matches!(said.body, Body::Goodbye(..)), "{said:?}");
            }
            Err(end) => break end,
        }
    };
    assert!(end.may_resume(), "{end}");
    let (ours, theirs) = tokio::io::duplex(4_096);
    let again = serve(&hub, 7, ours);
    assert!(relay.connect(theirs).await.unwrap().resumed);
    drop((served, again));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_kept_for_its_whole_time_after_each_cut_and_not_after_the_first() {
    let hub = hub();
    let mut relay = Relay::new();
    let mut waiting = Vec::new();
    // Nothing here waits for time but what waits for the relay: it goes by only where it is told to.
    for resumed in [false, true] {
        let (ours, theirs) = tokio::io::duplex(4_096);
        let served = serve(&hub, 7, ours);
        assert_eq!(relay.connect(theirs).await.unwrap().resumed, resumed);
        let channel = hub.relay(7).unwrap().channel;
        until(|| channel.is_linked()).await;
        relay.cut().await;
        until(|| !channel.is_linked()).await;
        // Time goes by itself once nothing else is to be done: it waits by then.
        tokio::time::sleep(Duration::from_millis(1)).await;
        waiting.push(served);
        tokio::time::advance(Duration::from_millis(400)).await;
    }
    // 800 ms after the first cut, and 400 ms after the second.
    let second = waiting.pop().unwrap();
    assert!(!waiting.pop().unwrap().await.unwrap().unwrap(), "the session went on");
    assert!(hub.relay(7).unwrap().channel.ended().is_none());
    let (ours, theirs) = tokio::io::duplex(4_096);
    let served = serve(&hub, 7, ours);
    assert!(relay.connect(theirs).await.unwrap().resumed);
    drop((second, served));
}

#[tokio::test]
async fn a_link_that_gave_way_takes_the_one_after_it_not_down_and_does_not_come_up_after_it() {
    let channel = Channel::new(Session::server(settings().timing));
    let rng = TestRng::seeded(6);
    let drive = |drop: &CancellationToken| {
        let (channel, rng, drop) = (channel.clone(), &rng, drop.clone());
        let (ours, theirs) = tokio::io::duplex(4_096);
        let driven = async move { channel.drive(ours, Side::Server, BytesMut::new(), 0, rng, &drop).await };
        (Box::pin(driven), theirs)
    };
    let (first, second, late) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let ((mut old, _old_peer), (mut new, _new_peer), (never, _never_peer)) =
        (drive(&first), drive(&second), drive(&late));
    assert!(futures::poll!(&mut old).is_pending());
    first.cancel();
    late.cancel();
    // Nobody looked at the old one since; the new one is there already.
    assert!(futures::poll!(&mut new).is_pending());
    assert!(matches!(old.await, LinkEnd::Ours(Reason::Done)));
    assert!(channel.is_linked());
    assert!(matches!(never.await, LinkEnd::Ours(Reason::Done)));
    assert!(channel.is_linked() && futures::poll!(&mut new).is_pending());
}
