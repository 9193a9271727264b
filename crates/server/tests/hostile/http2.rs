//! Floods of HTTP/2, of frames made by hand: the connection ends, what it costs is bounded, and others are served meanwhile.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::peer::{ATTACKER, PATIENCE, Target, Tls};
use crate::world::{Engine, World};

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// A client that sends whatever frames it likes.
pub(crate) struct Frames {
    pub(crate) tls: Tls,
    came: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The header block of a GET over https (RFC 7541): three indexed fields and two literals without indexing.
pub(crate) fn get_frame(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x87, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(b"\x01\x09localhost");
    block
}

fn post_block() -> Vec<u8> {
    let mut block = get_frame("/api/v1/sessions");
    block[0] = 0x83;
    block.extend_from_slice(b"\x0f\x10\x10application/json");
    block
}

impl Frames {
    pub(crate) fn open(target: &Target, from: Ipv4Addr) -> Self {
        Self::open_with(target, from, &[])
    }

    pub(crate) fn open_with(target: &Target, from: Ipv4Addr, settings: &[(u16, u32)]) -> Self {
        let mut tls = target.tls_h2(from);
        let payload: Vec<u8> =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        tls.write_all(&frame(SETTINGS, 0, 0, &payload)).unwrap();
        tls.flush().unwrap();
        Self { tls, came: Vec::new() }
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.tls.write_all(&frame(kind, flags, stream, payload)).unwrap();
        self.tls.flush().unwrap();
    }

    /// Reads what is there; false when the connection has ended.
    fn read(&mut self) -> bool {
        let mut part = [0; 16_384];
        loop {
            match self.tls.read(&mut part) {
                Ok(0) => return false,
                Ok(length) => self.came.extend_from_slice(&part[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return true,
                Err(_) => return false,
            }
        }
    }

    /// The frames that came: type and payload.
    fn frames(&self) -> Vec<(u8, Vec<u8>)> {
        let (mut frames, mut rest) = (Vec::new(), &self.came[..]);
        while let [a, b, c, kind, _, _, _, _, _, after @ ..] = rest {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            let Some(payload) = after.get(..length) else { break };
            frames.push((*kind, payload.to_vec()));
            rest = &after[length..];
        }
        frames
    }

    /// Sends what `more` makes, again and again, until the server ends the connection. How many bytes it took.
    #[track_caller]
    fn flood(&mut self, mut more: impl FnMut(u32) -> Vec<u8>) -> usize {
        self.tls.sock.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        self.tls.sock.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        let (began, mut sent) = (Instant::now(), 0);
        for round in 0.. {
            assert!(
                began.elapsed() < PATIENCE,
                "the connection goes on after {sent} bytes: {:?}",
                self.frames().last()
            );
            let burst: Vec<u8> = (0..100).flat_map(|at| more(round * 100 + at)).collect();
            let mut rest = &burst[..];
            while !rest.is_empty() && began.elapsed() < PATIENCE {
                match self.tls.write(rest) {
                    Ok(length) => rest = &rest[length..],
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                        if !self.read() {
                            return sent;
                        }
                    }
                    Err(_) => return sent,
                }
            }
            sent += burst.len();
            if !self.read() {
                return sent;
            }
        }
        sent
    }

    fn was_told_to_go(&self) -> bool {
        self.frames().iter().any(|(kind, _)| *kind == GOAWAY)
    }
}

fn target() -> Target {
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false").with("CAIRN_LOG_LEVEL", "warn");
    Target::start(&world)
}

/// What a process has used of the processors so far, in hundredths of a second.
fn cpu(target: &Target) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", target.server.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn attack_70_every_flood_of_frames_ends_its_connection_and_nobody_elses() {
    let target = target();
    let request = get_frame("/healthz");
    let odd = |at: u32| 2 * at + 1;
    type Flood<'a> = (&'a str, Vec<(u8, u8, u32, Vec<u8>)>, Box<dyn Fn(u32) -> Vec<u8> + 'a>);
    let floods: Vec<Flood<'_>> = vec![
        (
            "rapid reset",
            vec![],
            Box::new(|at| {
                [
                    frame(HEADERS, END_STREAM | END_HEADERS, odd(at), &request),
                    frame(RST_STREAM, 0, odd(at), &8_u32.to_be_bytes()),
                ]
                .concat()
            }),
        ),
        (
            "made you reset",
            vec![],
            Box::new(|at| {
                [frame(HEADERS, END_STREAM | END_HEADERS, odd(at), &request), frame(WINDOW_UPDATE, 0, odd(at), &[0; 4])]
                    .concat()
            }),
        ),
        (
            "continuation",
            vec![(HEADERS, END_STREAM, 1, request.clone())],
            Box::new(|_| frame(CONTINUATION, 0, 1, b"\x00\x01x\x01y")),
        ),
        (
            "empty continuation",
            vec![(HEADERS, END_STREAM, 1, request.clone())],
            Box::new(|_| frame(CONTINUATION, 0, 1, &[])),
        ),
        ("empty data", vec![(HEADERS, END_HEADERS, 1, post_block())], Box::new(|_| frame(DATA, 0, 1, &[]))),
        ("settings", vec![], Box::new(|_| frame(SETTINGS, 0, 0, &[]))),
        (
            "settings of a table",
            vec![],
            Box::new(|at| frame(SETTINGS, 0, 0, &[&[0, 1][..], &(at % 4_096).to_be_bytes()].concat())),
        ),
        ("ping", vec![], Box::new(|_| frame(PING, 0, 0, &[0; 8]))),
        ("priority", vec![], Box::new(|at| frame(PRIORITY, 0, odd(at), &[0, 0, 0, 0, 1]))),
        ("window update", vec![], Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()))),
        ("unknown frames", vec![], Box::new(|_| frame(0xfa, 0, 0, &[]))),
    ];
    let memory = target.memory_mib();
    for (name, first, more) in floods {
        let mut attacker = Frames::open(&target, ATTACKER);
        for (kind, flags, stream, payload) in first {
            attacker.send(kind, flags, stream, &payload);
        }
        let before = cpu(&target);
        let bytes = std::thread::scope(|scope| {
            let others = scope.spawn(|| target.others_are_served());
            let bytes = attacker.flood(more);
            others.join().unwrap();
            bytes
        });
        let used = cpu(&target) - before;
        eprintln!(
            "{name}: ended after {bytes} bytes, {used} hundredths of a second, told to go: {}",
            attacker.was_told_to_go()
        );
        assert!(bytes < 8 << 20, "{name}: {bytes} bytes were taken");
        assert!(used < 1_500, "{name}: {used} hundredths of a second of processor time");
    }
    assert!(target.memory_mib() < memory + 64, "{memory} -> {} MiB", target.memory_mib());
    target.others_are_served();
    target.server.stop();
}

#[test]
fn attack_70_a_small_header_block_that_unpacks_to_a_large_one_is_refused() {
    let target = target();
    let memory = target.memory_mib();
    let mut attacker = Frames::open(&target, ATTACKER);
    // One entry of nearly the table's size, then a byte for each of its repetitions: 4 kB each.
    let mut block = get_frame("/healthz");
    block.extend_from_slice(b"\x40\x01x\x7f\xa1\x1e");
    block.extend(std::iter::repeat_n(b'y', 4_000));
    block.extend(std::iter::repeat_n(0xbe, 12_000));
    attacker.send(HEADERS, END_STREAM | END_HEADERS, 1, &block[..16_000]);
    let mut seen = Vec::new();
    let began = Instant::now();
    attacker.tls.sock.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    while seen.is_empty() && began.elapsed() < PATIENCE {
        let open = attacker.read();
        seen = attacker.frames().into_iter().filter(|(kind, _)| [HEADERS, RST_STREAM, GOAWAY].contains(kind)).collect();
        assert!(open || !seen.is_empty(), "it ended without a word");
    }
    // 431 is a literal status; a 200 would be the one byte 0x88.
    assert!(!seen.iter().any(|(kind, payload)| *kind == HEADERS && payload.first() == Some(&0x88)), "{seen:?}");
    assert!(target.memory_mib() < memory + 32);
    target.others_are_served();
    target.server.stop();
}

#[test]
fn a_client_that_behaves_is_served_as_long_as_it_likes() {
    let target = target();
    let mut client = Frames::open(&target, ATTACKER);
    client.tls.sock.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let answered = |client: &Frames| {
        client.frames().iter().filter(|(kind, payload)| *kind == HEADERS && payload.first() == Some(&0x88)).count()
    };
    for at in 0..300 {
        client.send(HEADERS, END_STREAM | END_HEADERS, 2 * at + 1, &get_frame("/healthz"));
        client.send(PING, 0, 0, &[0; 8]);
        let began = Instant::now();
        while answered(&client) <= at as usize {
            assert!(client.read() && began.elapsed() < PATIENCE, "request {at}: {:?}", client.frames().last());
        }
    }
    assert!(!client.was_told_to_go());
    target.server.stop();
}

#[test]
fn attack_69_one_address_cannot_take_all_requests() {
    let target = target();
    // Bodies that never come, on two connections: more than one address may have at work, and fewer than all.
    let mut held: Vec<Frames> = (0..2).map(|_| Frames::open(&target, ATTACKER)).collect();
    for frames in &mut held {
        frames.tls.sock.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        for stream in 0..100 {
            frames.send(HEADERS, END_HEADERS, 2 * stream + 1, &post_block());
        }
    }
    let refused = |frames: &Frames| {
        let answers = frames.frames().into_iter().filter(|(kind, _)| *kind == DATA);
        answers.filter(|(_, body)| String::from_utf8_lossy(body).contains("too many requests are at work")).count()
    };
    crate::world::until("the refusal of what is too much", || {
        assert!(held.iter_mut().all(Frames::read), "a connection ended");
        (held.iter().map(refused).sum::<usize>() == 200 - 128).then_some(())
    });
    target.others_are_served();
    target.server.stop();
}
