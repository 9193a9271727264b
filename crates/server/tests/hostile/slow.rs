//! Peers that are slow, many or silent.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::logs;

use crate::http2::{Frames, get_frame};
use crate::peer::{ATTACKER, OTHER, PATIENCE, Target, answer, read_to_end};
use crate::world::{Engine, World};

fn world() -> World {
    World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false")
}

/// Waits until the peer has closed it.
#[track_caller]
fn ends(mut stream: &TcpStream) {
    let mut part = [0; 4_096];
    let began = Instant::now();
    loop {
        match stream.read(&mut part) {
            Ok(0) => return,
            Ok(_) => assert!(began.elapsed() < PATIENCE, "it does not end"),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it does not end"),
            Err(_) => return,
        }
    }
}

#[test]
fn attack_69_a_peer_that_is_slow_with_its_handshake_head_or_body_is_sent_away() {
    let world = world()
        .with("CAIRN_SERVER_HANDSHAKE_S", "2")
        .with("CAIRN_SERVER_HEADERS_S", "2")
        .with("CAIRN_SERVER_IDLE_S", "2")
        .with("CAIRN_SERVER_REQUEST_S", "2");
    let target = Target::start(&world);

    let silent = target.tcp(ATTACKER).unwrap();
    let mut partial = target.tcp(ATTACKER).unwrap();
    partial.write_all(&[22, 3, 1, 2, 0, 1, 0]).unwrap();
    ends(&silent);
    ends(&partial);

    let quiet = target.tls(ATTACKER);
    let quiet_h2 = target.tls_h2(ATTACKER);
    ends(&quiet.sock);
    ends(&quiet_h2.sock);

    // A byte of the head every now and then does not prolong it.
    let mut dripping = target.tls(ATTACKER);
    dripping.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n").unwrap();
    let began = Instant::now();
    while dripping.write_all(b"x").and_then(|()| dripping.flush()).is_ok() {
        assert!(began.elapsed() < PATIENCE, "the head is still taken");
        std::thread::sleep(Duration::from_millis(50));
    }

    // An HTTP/2 head that is never complete.
    let mut endless = Frames::open(&target, ATTACKER);
    endless.send(0x1, 0, 1, &[0x82, 0x87]);
    ends(&endless.tls.sock);

    // A body that does not come is answered when the time of a request is over.
    let mut slow = target.tls(ATTACKER);
    slow.write_all(
        b"POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
    )
    .unwrap();
    let came = read_to_end(&mut slow);
    let answer = answer(&came).unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("x-request-id").is_some() && answer.header("x-frame-options") == Some("DENY"));
    target.others_are_served();
    target.server.stop();
}

#[test]
fn attack_69_a_peer_that_does_not_read_what_it_asked_for_is_sent_away() {
    let world = world().with("CAIRN_SERVER_STALL_S", "2").with("CAIRN_SERVER_IDLE_S", "600");
    let target = Target::start(&world);
    // HTTP/1.1: it asks and asks, and never reads: the server's buffers fill up, then its patience ends.
    let mut greedy = target.tls(ATTACKER);
    let request = b"GET /api/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    let began = Instant::now();
    while greedy.write_all(&request).and_then(|()| greedy.flush()).is_ok() {
        assert!(began.elapsed() < PATIENCE, "it is still served");
        std::thread::sleep(Duration::from_millis(20));
    }
    // HTTP/2: it opens no window for the answers, and keeps the connection alive.
    let before = target.memory_mib();
    let mut frames = Frames::open_with(&target, ATTACKER, &[(0x4, 0)]);
    for stream in 0..100 {
        frames.send(0x1, 0x5, 2 * stream + 1, &get_frame("/api/openapi.json"));
    }
    ends(&frames.tls.sock);
    assert!(target.memory_mib() < before + 64, "{before} -> {} MiB", target.memory_mib());
    target.others_are_served();
    target.server.stop();
}

#[test]
fn attack_69_one_address_cannot_take_all_connections() {
    let world = world().with("CAIRN_SERVER_HANDSHAKE_S", "600");
    let target = Target::start(&world);
    let before = target.memory_mib();
    let held: Vec<TcpStream> = (0..10_000).filter_map(|_| target.tcp(ATTACKER).ok()).collect();
    // The default is 256: of the others the server keeps nothing.
    let mut open = 0;
    for stream in &held {
        stream.set_nonblocking(true).unwrap();
        let mut byte = [0];
        open += usize::from(matches!((&*stream).read(&mut byte), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock));
    }
    assert!((200..=400).contains(&open), "{open} are open");
    target.others_are_served();
    assert!(target.memory_mib() < before + 64, "{before} -> {} MiB", target.memory_mib());
    drop(held);
    crate::world::until("the address is served again", || {
        let mut stream = target.tcp(ATTACKER).ok()?;
        stream.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
        let error = stream.read(&mut [0]).err()?;
        (error.kind() == std::io::ErrorKind::WouldBlock).then_some(())
    });
    target.server.stop();
}

#[test]
fn attack_69_ten_thousand_silent_connections_are_held_in_bounded_memory() {
    let world = world()
        .with("CAIRN_SERVER_HANDSHAKE_S", "600")
        .with("CAIRN_SERVER_CONNECTIONS_MAX", "11000")
        .with("CAIRN_SERVER_CONNECTIONS_PER_ADDRESS", "0");
    let target = Target::start(&world);
    let before = target.memory_mib();
    let mut held = Vec::new();
    while held.len() < 10_000 {
        held.push(target.tcp(ATTACKER).unwrap());
    }
    target.others_are_served();
    let after = target.memory_mib();
    eprintln!("10,000 connections: {before} -> {after} MiB");
    assert!(after < before + 256, "{before} -> {after} MiB");
    drop(held);
    target.others_are_served();
    target.server.stop();
}

#[test]
fn attack_75_a_process_that_may_open_few_files_keeps_some_for_its_database() {
    let world = world().with("CAIRN_SERVER_HANDSHAKE_S", "600").with("CAIRN_SERVER_CONNECTIONS_PER_ADDRESS", "0");
    let plain = world.command();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 256; exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    limited.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let target = Target::of(world.start_command(limited), &world);
    let held: Vec<TcpStream> = (0..600).filter_map(|_| target.tcp(ATTACKER).ok()).collect();
    drop(held.into_iter().skip(100).collect::<Vec<_>>());
    crate::world::until("a place among the connections", || {
        let mut tls = target.try_tls(OTHER).ok()?;
        let secret = logs::plant("never-a-password-at-all");
        let body = format!(r#"{{"email":"nobody@example.com","password":"{secret}"}}"#);
        let request = format!(
            "POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        tls.write_all(request.as_bytes()).ok()?;
        // The database is asked, and a record of the audit log written.
        (answer(&read_to_end(&mut tls))?.status == 401).then_some(())
    });
    target.server.stop();
}
