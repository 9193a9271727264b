//! Two ends over a link that a test cuts, and ends that break rules.

use std::task::Waker;

use proptest::prelude::*;

use super::*;

fn timing() -> Timing {
    Timing { heartbeat_ms: 100, answer_ms: 50 }
}

/// A server and a relay, and the frames between them.
struct Pair {
    server: Session,
    relay: Session,
    now: u64,
    /// The link that is there, at each end.
    links: (u64, u64),
}

impl Pair {
    fn new() -> Self {
        let mut pair =
            Self { server: Session::server(timing()), relay: Session::relay(timing()), now: 0, links: (0, 0) };
        pair.link();
        pair
    }

    /// A new link, after a handshake that says what came.
    fn link(&mut self) {
        let server = self.server.link_up(self.now, self.relay.received()).unwrap();
        self.links = (server, self.relay.link_up(self.now, self.server.received()).unwrap());
    }

    /// Cuts the link: what is on its way is lost.
    fn cut(&mut self) {
        self.server.link_down(self.links.0);
        self.relay.link_down(self.links.1);
    }

    /// What a middlebox does with the next frames of one end: the first of them twice, or the second before the first. Whoever sees a gap ends
    /// the link, and both go on over another one.
    fn carry(&mut self, up: bool, swapped: bool) {
        let (from, to) = if up { (&mut self.relay, &mut self.server) } else { (&mut self.server, &mut self.relay) };
        let Some(first) = from.transmit() else { return };
        let second = if swapped { from.transmit() } else { Some(first.clone()) };
        for frame in second.iter().chain([&first]) {
            match to.receive(self.now, frame) {
                Ok(()) => {}
                Err(Broken::Gap { .. }) => {
                    self.cut();
                    self.link();
                    return;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// Carries frames both ways until none is left.
    fn settle(&mut self) {
        loop {
            let (down, up) = (self.server.transmit(), self.relay.transmit());
            if down.is_none() && up.is_none() {
                return;
            }
            if let Some(frame) = down {
                self.relay.receive(self.now, &frame).unwrap();
            }
            if let Some(frame) = up {
                self.server.receive(self.now, &frame).unwrap();
            }
        }
    }

    fn opened(&mut self) -> u32 {
        let id = self.server.open().unwrap();
        self.settle();
        assert_eq!(self.relay.accept(), Some(id));
        id
    }
}

fn taken(session: &mut Session, id: u32) -> Vec<u8> {
    match session.take(id) {
        Some(Incoming::Message(_, bytes)) => bytes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_longer_than_the_window_comes_whole_and_a_slow_reader_stops_the_sender() {
    let mut pair = Pair::new();
    let id = pair.opened();
    let long = Bytes::from(vec![7; 3 * WINDOW as usize]);
    assert!(pair.relay.send(id, MessageKind::Page, &long).unwrap());
    pair.settle();
    assert_eq!(taken(&mut pair.server, id), long);
    // Nobody takes these: what is held stays within a window and the message before it.
    let piece = Bytes::from(vec![7; 100_000]);
    let mut queued = 0;
    while pair.relay.send(id, MessageKind::Page, &piece).unwrap() {
        queued += 1;
        pair.settle();
        assert!(queued < 100, "nothing stops the sender");
    }
    assert!(pair.server.held <= WINDOW as usize + piece.len());
    for _ in 0..queued {
        assert_eq!(taken(&mut pair.server, id), piece);
        pair.settle();
    }
    assert_eq!(pair.server.take(id), None);
}

#[test]
fn streams_take_turns() {
    let mut pair = Pair::new();
    let (a, b) = (pair.opened(), pair.opened());
    let long = Bytes::from(vec![1; 40 * PIECE_BYTES_MAX]);
    pair.relay.send(a, MessageKind::Artifact, &long).unwrap();
    pair.relay.send(b, MessageKind::Progress, &Bytes::from_static(b"{}")).unwrap();
    for _ in 0..4 {
        let frame = pair.relay.transmit().unwrap();
        pair.server.receive(0, &frame).unwrap();
    }
    assert_eq!(taken(&mut pair.server, b), b"{}");
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[test]
fn many_tunnels_wait_for_their_own_readers_and_take_no_place_of_work() {
    let mut pair = Pair::new();
    let work: Vec<u32> = (0..STREAMS_MAX).map(|_| pair.server.open().unwrap()).collect();
    let tunnels: Vec<u32> = (0..TUNNELS_MAX).map(|_| pair.server.open_tunnel().unwrap()).collect();
    assert!(pair.server.open().is_err() && pair.server.open_tunnel().is_err());
    pair.settle();

    // One frame wakes who waits for it, and nobody else.
    let (first, second) = (std::sync::Arc::<Woken>::default(), std::sync::Arc::<Woken>::default());
    let count = |woken: &Woken| woken.0.load(std::sync::atomic::Ordering::SeqCst);
    for (id, woken) in [(tunnels[0], &first), (tunnels[1], &second)] {
        let waker = Waker::from(std::sync::Arc::clone(woken));
        assert!(pair.server.poll_take(&Context::from_waker(&waker), id).is_pending());
    }
    pair.relay.send(tunnels[0], MessageKind::Outward, &Bytes::from_static(b"x")).unwrap();
    pair.settle();
    assert_eq!((count(&first), count(&second)), (1, 0));
    assert_eq!(taken(&mut pair.server, tunnels[0]), b"x");

    // Nobody reads: each is stopped by its own window, and says when there is room again.
    let piece = Bytes::from(vec![7; PIECE_BYTES_MAX]);
    let some = &tunnels[..40];
    for id in some {
        while pair.relay.send(*id, MessageKind::Outward, &piece).unwrap() {
            pair.settle();
        }
    }
    let most = some.len() * TUNNEL_WINDOW as usize;
    assert!(pair.server.held <= most && pair.server.held > most / 2, "{}", pair.server.held);
    let waiting = std::sync::Arc::<Woken>::default();
    let waker = Waker::from(std::sync::Arc::clone(&waiting));
    let cx = Context::from_waker(&waker);
    assert!(pair.relay.poll_send(&cx, tunnels[0], MessageKind::Outward, &piece).is_pending());
    assert!(pair.relay.poll_sent(&cx, tunnels[0]).is_pending());
    // Work goes on meanwhile.
    pair.relay.send(work[0], MessageKind::Progress, &Bytes::from_static(b"{}")).unwrap();
    pair.settle();
    assert_eq!(taken(&mut pair.server, work[0]), b"{}");
    assert_eq!(count(&waiting), 0);
    while pair.server.take(tunnels[0]).is_some() {
        pair.settle();
    }
    assert_eq!(count(&waiting), 1);
    assert!(pair.relay.poll_send(&cx, tunnels[0], MessageKind::Outward, &piece).is_ready());
    // What ends makes room, and takes with it what it held.
    for id in &tunnels {
        pair.server.close(*id, Reason::Done, "");
    }
    assert_eq!(pair.server.held, 0);
    pair.settle();
    assert!(matches!(pair.relay.take(tunnels[1]), Some(Incoming::Closed(Reason::Done, _))));
    assert!(pair.server.open_tunnel().is_ok());
}

#[test]
fn a_duplicate_is_dropped_and_counted_and_a_gap_ends_the_link() {
    let mut pair = Pair::new();
    let id = pair.opened();
    for text in ["one", "two"] {
        pair.relay.send(id, MessageKind::Log, &Bytes::from_static(text.as_bytes())).unwrap();
    }
    pair.settle();
    pair.relay.send(id, MessageKind::Log, &Bytes::from_static(b"three")).unwrap();
    let three = pair.relay.transmit().unwrap();
    pair.server.receive(0, &three).unwrap();
    pair.server.receive(0, &three).unwrap();
    assert_eq!(pair.server.duplicates(), 1);
    for text in ["one", "two", "three"] {
        assert_eq!(taken(&mut pair.server, id), text.as_bytes());
    }
    assert_eq!(pair.server.take(id), None, "the duplicate is not delivered");
    pair.relay.send(id, MessageKind::Log, &Bytes::from_static(b"four")).unwrap();
    pair.relay.send(id, MessageKind::Log, &Bytes::from_static(b"five")).unwrap();
    let (_four, five) = (pair.relay.transmit().unwrap(), pair.relay.transmit().unwrap());
    let expected = pair.server.received() + 1;
    assert_eq!(pair.server.receive(0, &five), Err(Broken::Gap { expected, came: expected + 1 }));
    assert_eq!(pair.server.take(id), None);
}

#[test]
fn silence_is_asked_about_and_then_ends_the_link() {
    let mut pair = Pair::new();
    assert_eq!(pair.server.tick(0), Ok(100));
    assert_eq!(pair.server.tick(100), Ok(50));
    pair.now = 120;
    pair.settle();
    assert_eq!(pair.server.tick(130), Ok(90), "it answered");
    assert_eq!(pair.server.tick(220), Ok(50));
    assert_eq!(pair.server.tick(271), Err(Broken::Silent));
}

#[test]
fn a_probe_is_answered_by_the_living_only() {
    let mut pair = Pair::new();
    let question = pair.server.probe(0);
    assert!(!pair.server.has_answered(question));
    pair.settle();
    assert!(pair.server.has_answered(question));
    let later = pair.server.probe(1);
    assert!(!pair.server.has_answered(later));
    pair.cut();
    assert!(!pair.server.has_answered(question), "a link that is gone answers nothing");
}

#[test]
fn both_ends_see_a_stream_close_and_late_frames_are_dropped() {
    let mut pair = Pair::new();
    let id = pair.opened();
    pair.relay.send(id, MessageKind::Log, &Bytes::from_static(b"late")).unwrap();
    let late = pair.relay.transmit().unwrap();
    pair.server.close(id, Reason::Cancelled, "the job was cancelled");
    pair.server.receive(0, &late).unwrap();
    pair.settle();
    let closed = Incoming::Closed(Reason::Cancelled, "the job was cancelled".to_owned());
    assert_eq!(pair.relay.take(id), Some(closed));
    assert!(pair.relay.send(id, MessageKind::Log, &Bytes::new()).is_err());
    assert_eq!((pair.server.streams(), pair.relay.streams()), (0, 0));
}

/// A frame as a peer that keeps no rules would send it.
fn raw(stream: u32, number: u64, body: Body<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame { stream, number, body }.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_peer_that_breaks_a_rule_is_told_which() {
    let piece = |message, bytes| Body::Piece { message, last: false, bytes };
    let page = MessageKind::Page;
    let whole = |bytes| Body::Piece { message: page, last: true, bytes };
    let big = vec![0; PIECE_BYTES_MAX];
    // To a server on which one stream is open; the first number that a relay may use there is 2, after its credit.
    let cases: Vec<(Vec<Vec<u8>>, &str)> = vec![
        (vec![raw(2, 2, Body::Open(1))], "opens no streams"),
        (vec![raw(2, 2, piece(page, b"x"))], "never opened"),
        (vec![raw(1, 2, piece(MessageKind::Start, b"x"))], "other direction"),
        (vec![raw(1, 2, piece(page, b"x")), raw(1, 3, piece(MessageKind::Log, b"x"))], "changes its kind"),
        (vec![raw(1, 2, Body::Credit(wire::frame::CREDIT_MAX))], "more credit"),
        ((0..33).map(|n| raw(1, 2 + n, whole(&big))).collect(), "more was sent than was granted"),
        (vec![raw(1, 2, piece(MessageKind::Progress, &big))], "longer than its kind"),
        (vec![raw(0, 0, Body::Ack(900))], "not sent"),
        (vec![raw(0, 0, Body::Pong(900))], "no question"),
        (vec![raw(0, 0, Body::Hello(b"{}"))], "second handshake"),
        ((0..70).map(|n| raw(0, 0, Body::Ping(n))).collect(), "pings faster"),
        (vec![b"GET / HTTP/1.1\r\n".to_vec()], "version 71"),
    ];
    for (frames, expect) in cases {
        let mut pair = Pair::new();
        pair.opened();
        let broken = frames.iter().find_map(|frame| pair.server.receive(0, frame).err());
        let said = broken.map(|broken| broken.to_string()).unwrap_or_default();
        assert!(said.contains(expect), "{expect}: {said}");
    }
    let mut pair = Pair::new();
    for id in 1..=u32::try_from(STREAMS_MAX).unwrap() {
        pair.relay.receive(0, &raw(id, u64::from(id), Body::Open(WINDOW))).unwrap();
    }
    let next = u32::try_from(STREAMS_MAX).unwrap() + 1;
    assert!(pair.relay.receive(0, &raw(next, u64::from(next), Body::Open(WINDOW))).is_err());
}

#[test]
fn whoever_takes_and_never_acknowledges_does_not_fill_the_memory_of_the_other_end() {
    // A relay that sends on a tunnel, has all of it taken, and acknowledges none of the credit that it is given.
    let mut server = Session::server(timing());
    server.link_up(0, 0).unwrap();
    let id = server.open_tunnel().unwrap();
    server.receive(0, &raw(id, 1, Body::Credit(TUNNEL_WINDOW))).unwrap();
    let bytes = vec![0; 16 * 1_024];
    let sent = |number: u64| raw(id, number, Body::Piece { message: MessageKind::Outward, last: true, bytes: &bytes });
    let ended = (2..1_000_000_u64).find_map(|number| {
        let broken = server.receive(0, &sent(number)).err();
        while server.take(id).is_some() {}
        while server.transmit().is_some() {}
        assert!(server.kept.len() < 100_000 && server.kept_bytes <= KEPT_BROKEN + 1_024);
        broken
    });
    assert!(matches!(ended, Some(Broken::Rule(why)) if why.contains("never acknowledged")), "{ended:?}");

    // Streams that are opened and closed while nothing comes back.
    let mut server = Session::server(timing());
    server.link_up(0, 0).unwrap();
    let refused = (0..1_000_000_u64).find_map(|_| match server.open_tunnel() {
        Ok(id) => {
            server.close(id, Reason::Done, "");
            while server.transmit().is_some() {}
            None
        }
        Err(broken) => Some(broken),
    });
    assert!(matches!(refused, Some(Broken::Rule(why)) if why.contains("acknowledges nothing")), "{refused:?}");
    assert!(server.kept_bytes <= KEPT_MAX + 1_024);
    // And it goes on once they are acknowledged.
    let all = server.sent;
    let mut ack = Vec::new();
    Frame::channel(Body::Ack(all)).encode(&mut ack).unwrap();
    server.receive(0, &ack).unwrap();
    assert!(server.kept_bytes == 0 && server.open_tunnel().is_ok());
}

#[test]
fn a_session_that_the_two_ends_remember_differently_is_not_resumed() {
    let mut pair = Pair::new();
    pair.opened();
    pair.cut();
    assert_eq!(pair.server.link_up(0, 99), Err(Broken::Lost("the peer has frames that were never sent")));
    let mut pair = Pair::new();
    pair.opened();
    pair.cut();
    let link = pair.server.link_up(0, 0).expect("nothing is kept that a new peer would need");
    pair.server.open().unwrap();
    pair.server.link_down(link);
    assert!(matches!(pair.server.link_up(0, 0), Err(Broken::Lost(_))));
}

#[test]
fn a_link_that_is_over_late_takes_none_down_but_itself() {
    let mut pair = Pair::new();
    let id = pair.opened();
    let before = pair.links;
    pair.link();
    pair.server.link_down(before.0);
    pair.relay.link_down(before.1);
    assert!(pair.server.is_on(pair.links.0) && !pair.server.is_on(before.0));
    pair.relay.send(id, MessageKind::Log, &Bytes::from_static(b"on")).unwrap();
    pair.settle();
    assert_eq!(taken(&mut pair.server, id), b"on");
    pair.cut();
    assert!(!pair.server.is_linked() && !pair.relay.is_linked());
}

/// What a step of the simulation does.
#[derive(Debug, Clone)]
enum Step {
    Send(usize),
    Down,
    Up,
    Take,
    Tick,
    Cut,
    /// The next frame comes twice; up or down.
    Duplicate(bool),
    /// The next two frames come the other way round; up or down.
    Swap(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0usize..200_000).prop_map(Step::Send),
        6 => Just(Step::Down),
        6 => Just(Step::Up),
        2 => Just(Step::Take),
        1 => Just(Step::Tick),
        1 => Just(Step::Cut),
        1 => any::<bool>().prop_map(Step::Duplicate),
        1 => any::<bool>().prop_map(Step::Swap),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// Whatever is cut, doubled or swapped, and whenever: every message comes once, whole and in order.
    #[test]
    fn messages_come_once_and_in_order_over_links_that_break(steps in steps()) {
        let mut pair = Pair::new();
        let id = pair.opened();
        let (mut sent, mut came, mut doubled) = (Vec::new(), Vec::new(), false);
        for step in steps {
            pair.now += 1;
            match step {
                Step::Send(length) => {
                    let message = Bytes::from(vec![u8::try_from(sent.len() % 251).unwrap(); length]);
                    if pair.relay.send(id, MessageKind::Page, &message).unwrap() {
                        sent.push(message.to_vec());
                    }
                }
                Step::Down => {
                    if let Some(frame) = pair.server.transmit() {
                        pair.relay.receive(pair.now, &frame).unwrap();
                    }
                }
                Step::Up => {
                    if let Some(frame) = pair.relay.transmit() {
                        pair.server.receive(pair.now, &frame).unwrap();
                    }
                }
                Step::Take => {
                    if let Some(Incoming::Message(_, bytes)) = pair.server.take(id) {
                        came.push(bytes);
                    }
                }
                Step::Tick => {
                    // Time alone ends nothing here: whoever is silent is only asked.
                    pair.server.tick(0).unwrap();
                    pair.relay.tick(0).unwrap();
                }
                Step::Cut => {
                    // What was on its way is lost, in both directions.
                    for _ in 0..3 {
                        pair.server.transmit();
                        pair.relay.transmit();
                    }
                    pair.cut();
                    pair.link();
                }
                Step::Duplicate(up) => {
                    doubled = true;
                    pair.carry(up, false);
                }
                Step::Swap(up) => pair.carry(up, true),
            }
        }
        while came.len() < sent.len() {
            pair.settle();
            match pair.server.take(id) {
                Some(Incoming::Message(_, bytes)) => came.push(bytes),
                other => prop_assert!(false, "{:?} after {} of {}", other, came.len(), sent.len()),
            }
        }
        prop_assert!(came == sent);
        prop_assert!(doubled || (pair.server.duplicates(), pair.relay.duplicates()) == (0, 0));
    }

    #[test]
    fn no_bytes_make_a_session_panic(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
        let mut pair = Pair::new();
        pair.opened();
        for frame in frames {
            let _ = pair.server.receive(0, &frame);
        }
    }
}
