//! Devices that mislead: a UDP socket that answers as each test says.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;

use super::*;
use crate::snmp::ber::Reader;
use crate::snmp::message::{V3, id, in_community, in_context, read_v3, response};
use crate::snmp::value::{SnmpValue, VarBind};

const RESPONSE: u8 = 0xa2;
const REPORT: u8 = 0xa8;

/// What the device is asked.
struct Asked {
    datagram: Vec<u8>,
    id: i32,
}

/// A device that answers each datagram with these datagrams; and how many it got.
async fn device(answer: impl Fn(&Asked) -> Vec<Vec<u8>> + Send + 'static) -> (u16, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            counted.fetch_add(1, Ordering::SeqCst);
            let datagram = buffer[..length].to_vec();
            let asked = Asked { id: id(&datagram).unwrap(), datagram };
            for bytes in answer(&asked) {
                socket.send_to(&bytes, from).await.unwrap();
            }
        }
    });
    (port, count)
}

fn quick(limit: impl FnOnce(&mut SnmpConfig)) -> Made {
    let mut config = SnmpConfig { wait_max: Duration::from_millis(300), tries: 2, ..SnmpConfig::default() };
    limit(&mut config);
    made_with("snmp-community", &json!({ "community": "lab" }), config, Guard::loopback(true))
}

fn answer(request_id: i32, varbinds: &[VarBind]) -> Vec<u8> {
    in_community(b"lab", &response(RESPONSE, request_id, (0, 0), varbinds))
}

fn text(oid_: &str, text: &str) -> VarBind {
    (oid(oid_), SnmpValue::Octets(text.as_bytes().to_vec()))
}

#[tokio::test]
async fn an_answer_with_another_request_id_or_community_is_dropped_and_the_right_one_taken() {
    let (port, _) = device(|asked| {
        let forged = [text(NAME, "forged")];
        vec![
            answer(asked.id.wrapping_add(1), &forged),
            in_community(b"other", &response(RESPONSE, asked.id, (0, 0), &forged)),
            // The request itself, sent back.
            asked.datagram.clone(),
            answer(asked.id, &[text(NAME, "true")]),
        ]
    })
    .await;
    assert_eq!(name(&quick(|_| {}), port).await.unwrap(), "true");
}

#[tokio::test]
async fn an_answer_from_another_address_is_dropped() {
    let other = Arc::new(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let right = answer(id(&buffer[..length]).unwrap(), &[text(NAME, "forged")]);
            // Everything is right about it but where it comes from.
            other.send_to(&right, from).unwrap();
        }
    });
    let got = name(&quick(|_| {}), port).await;
    assert!(matches!(got, Err(CallError::Timeout(_))), "{got:?}");
}

#[tokio::test]
async fn lengths_that_the_bytes_do_not_have_are_refused_and_nothing_is_allocated_for_them() {
    let huge: [&[u8]; 4] = [
        &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 2, 1, 1],
        &[0x30, 0x80, 2, 1, 1],
        &[0x30, 0x88, 1, 1, 1, 1, 1, 1, 1, 1],
        &[0x30],
    ];
    for bytes in huge {
        let (port, _) = device(move |_| vec![bytes.to_vec()]).await;
        let got = name(&quick(|_| {}), port).await;
        assert!(matches!(&got, Err(CallError::Malformed(why)) if why.contains("sent")), "{bytes:x?}: {got:?}");
    }
    // Right at its beginning and cut off further in, at every place.
    let (port, _) = device(|asked| {
        let whole = answer(asked.id, &[text(NAME, "a name")]);
        (0..whole.len()).map(|length| whole[..length].to_vec()).collect()
    })
    .await;
    let got = name(&quick(|_| {}), port).await;
    assert!(matches!(got, Err(CallError::Malformed(_) | CallError::Timeout(_))), "{got:?}");
}

#[tokio::test]
async fn an_answer_about_other_objects_than_asked_for_is_none() {
    let (port, _) = device(|asked| vec![answer(asked.id, &[text("1.3.6.1.2.1.1.6.0", "elsewhere")])]).await;
    let got = name(&quick(|_| {}), port).await;
    assert!(matches!(got, Err(CallError::Malformed(_))), "{got:?}");
}

/// How many rows a bulk request asks for, and where from: the last but one number of the head.
fn bulk(datagram: &[u8]) -> (i32, Oid) {
    let mut outer = Reader(datagram);
    let mut message = Reader(outer.tagged(0x30).unwrap());
    message.int32().unwrap();
    message.tagged(4).unwrap();
    let (_, pdu) = message.element().unwrap();
    let mut pdu = Reader(pdu);
    pdu.int32().unwrap();
    pdu.int32().unwrap();
    let rows = pdu.int32().unwrap();
    let mut list = Reader(pdu.tagged(0x30).unwrap());
    let mut pair = Reader(list.tagged(0x30).unwrap());
    (rows, pair.oid().unwrap())
}

const COLUMN: &str = "1.3.6.1.2.1.2.2.1.2";

/// A column of so many rows.
fn rows(asked: &Asked, total: u32) -> Vec<VarBind> {
    let (count, from) = bulk(&asked.datagram);
    let next = from.below(&oid(COLUMN)).map_or(1, |rest| rest[0] + 1);
    (next..next + u32::try_from(count).unwrap())
        .map(|row| match row {
            row if row <= total => text(&format!("{COLUMN}.{row}"), "eth"),
            _ => (oid(&format!("1.3.6.1.2.1.2.2.1.3.{row}")), SnmpValue::Integer(1)),
        })
        .collect()
}

#[tokio::test]
async fn a_device_whose_answers_would_be_too_big_is_asked_for_fewer_until_it_answers() {
    let (port, _) = device(|asked| {
        let varbinds = rows(asked, 40);
        if varbinds.len() > 3 {
            return vec![in_community(b"lab", &response(RESPONSE, asked.id, (1, 0), &[]))];
        }
        vec![answer(asked.id, &varbinds)]
    })
    .await;
    let walked = quick(|_| {}).client.walk(at(port), &[oid(COLUMN)], &tag()).await;
    assert_eq!((walked.failed, walked.columns[0].len()), (None, 40));
    // And one that answers nothing but that ends.
    let (port, count) = device(|asked| vec![in_community(b"lab", &response(RESPONSE, asked.id, (1, 0), &[]))]).await;
    let walked = quick(|_| {}).client.walk(at(port), &[oid(COLUMN)], &tag()).await;
    assert!(matches!(&walked.failed, Some(CallError::Unreachable(why)) if why.contains("tooBig")), "{walked:?}");
    assert!(count.load(Ordering::SeqCst) < 10);
}

#[tokio::test]
async fn a_device_that_drops_large_answers_is_asked_for_fewer() {
    let (port, _) = device(|asked| {
        let varbinds = rows(asked, 40);
        if varbinds.len() > 3 { Vec::new() } else { vec![answer(asked.id, &varbinds)] }
    })
    .await;
    let walked = quick(|_| {}).client.walk(at(port), &[oid(COLUMN)], &tag()).await;
    assert_eq!((walked.failed, walked.columns[0].len()), (None, 40));
}

#[tokio::test]
async fn a_device_that_goes_in_circles_ends_the_walk_with_an_error_and_what_came_before() {
    // The same object for ever; one step forward and one back; behind the column, then back into it.
    let loops: [fn(u32) -> u32; 2] = [|_| 7, |row| if row < 9 { row } else { 2 }];
    for step in loops {
        let (port, count) = device(move |asked| {
            let varbinds: Vec<VarBind> = rows(asked, 10_000)
                .iter()
                .map(|(name, value)| {
                    let row = step(name.below(&oid(COLUMN)).map_or(0, |rest| rest[0]));
                    (oid(&format!("{COLUMN}.{row}")), value.clone())
                })
                .collect();
            vec![answer(asked.id, &varbinds)]
        })
        .await;
        let walked = quick(|_| {}).client.walk(at(port), &[oid(COLUMN)], &tag()).await;
        assert!(matches!(&walked.failed, Some(CallError::Malformed(why)) if why.contains("a loop")), "{walked:?}");
        assert!(!walked.columns[0].is_empty() && walked.columns[0].len() < 10, "{}", walked.columns[0].len());
        assert!(count.load(Ordering::SeqCst) < 3);
    }
}

#[tokio::test]
async fn a_device_without_end_stops_at_each_limit() {
    type Limit = fn(&mut SnmpConfig);
    let limits: [(Limit, &str); 4] = [
        (|config| config.walk_objects_max = 500, "more than 500 objects"),
        (|config| config.device_objects_max = 700, "more than 700 objects"),
        (|config| config.device_bytes_max = 9_000, "larger than 9000 bytes"),
        (|config| config.device_time_max = Duration::from_millis(1), "no answer within 0 s"),
    ];
    for (limit, part) in limits {
        let (port, _) = device(|asked| vec![answer(asked.id, &rows(asked, u32::MAX - 1_000))]).await;
        let made = quick(limit);
        let walked = made.client.walk(at(port), &[oid(COLUMN)], &tag()).await;
        let error = walked.failed.unwrap().to_string();
        assert!(error.contains(part), "{error}");
        let again = made.client.walk(at(port), &[oid(COLUMN)], &tag()).await;
        assert!(again.failed.is_some());
        let records = made.recorder.take(&tag().scope);
        assert_eq!(records.len(), 2);
        // What came before the end is evidence, and told as not all.
        if let Ok(first) = &records[0].outcome {
            assert_eq!(first.status, 206);
        }
    }
}

#[tokio::test]
async fn devices_that_send_much_take_turns_in_the_memory_of_their_task_and_one_that_sends_too_much_fails_alone() {
    // 256 bytes for each object: 8,000 of them are 2 MB, of the 4 MiB that there are for all.
    let client = quick(|config| config.wait_max = Duration::from_secs(20)).client;
    let client = client.drawing_on(&crate::Budget::new(4 << 20, std::num::NonZero::<usize>::MIN));
    let mut ports = Vec::new();
    for last in [8_000, 8_000, u32::MAX - 1_000, 8_000, 8_000, 8_000] {
        ports.push((device(move |asked| vec![answer(asked.id, &rows(asked, last))]).await.0, last));
    }
    let read = async |(port, last): (u16, u32)| {
        let walked = client.walk(at(port), &[oid(COLUMN)], &tag()).await;
        assert!(client.memory.used() <= 4 << 20);
        client.forget(at(port));
        (last, walked)
    };
    for (last, walked) in futures::future::join_all(ports.into_iter().map(read)).await {
        match walked.failed {
            None => assert_eq!((last, walked.columns[0].len()), (8_000, 8_000)),
            Some(error) => assert!(last != 8_000 && error.to_string().contains("`discovery.targets_mib`"), "{error}"),
        }
    }
    assert_eq!(client.memory.used(), 0);
}

#[tokio::test]
async fn a_device_that_waited_for_its_turn_still_has_its_time() {
    let (port, _) = device(|asked| vec![answer(asked.id, &[text(NAME, "patient")])]).await;
    let made = quick(|config| config.device_time_max = Duration::from_secs(30));
    assert_eq!(name(&made, port).await.unwrap(), "patient");
    tokio::time::pause();
    tokio::time::advance(Duration::from_hours(1)).await;
    tokio::time::resume();
    assert_eq!(name(&made, port).await.unwrap(), "patient");
}

#[tokio::test]
async fn more_objects_than_asked_for_are_refused() {
    let (port, _) = device(|asked| {
        let mut varbinds = rows(asked, 10_000);
        let last = u32::try_from(varbinds.len()).unwrap() + 1;
        varbinds.push(text(&format!("{COLUMN}.{last}"), "one more"));
        vec![answer(asked.id, &varbinds)]
    })
    .await;
    let walked = quick(|_| {}).client.walk(at(port), &[oid(COLUMN)], &tag()).await;
    assert!(matches!(&walked.failed, Some(CallError::Malformed(why)) if why.contains("were asked for")), "{walked:?}");
}

/// A v3 answer without any security.
fn v3(message_id: i32, engine: &[u8], tag: u8, request_id: i32, varbinds: &[VarBind]) -> Vec<u8> {
    let pdu = response(tag, request_id, (0, 0), varbinds);
    let data = in_context(engine, &pdu);
    let message = V3 {
        id: message_id,
        flags: 0,
        engine_id: engine,
        boots: 3,
        time: 500,
        user: b"reader",
        code: &[],
        salt: &[],
        data: &data,
    };
    message.write().0
}

#[tokio::test]
async fn an_answer_with_less_security_than_the_request_is_dropped_and_reports_end_nothing_but_this_device() {
    let engine = b"\x80\0\x1f\x88\x04lab";
    let (port, _) = device(move |asked| {
        let (message, _) = read_v3(&asked.datagram).unwrap();
        if message.engine_id.is_empty() {
            return vec![v3(asked.id, engine, REPORT, 0, &[(oid("1.3.6.1.6.3.15.1.1.4.0"), SnmpValue::Integer(1))])];
        }
        // The request id is encrypted: a downgrader on the way does not know it, but guesses well here.
        (0..3).map(|guess| v3(asked.id, engine, RESPONSE, guess, &[text(NAME, "forged")])).collect()
    })
    .await;
    let config = SnmpConfig { wait_max: Duration::from_millis(300), tries: 2, ..SnmpConfig::default() };
    let secret = json!({ "username": "reader", "auth_protocol": "SHA-256", "auth_password": PASSWORD,
        "privacy_protocol": "AES", "privacy_password": OTHER });
    let made = made_with("snmp-v3", &secret, config.clone(), Guard::loopback(true));
    let got = name(&made, port).await;
    assert!(matches!(&got, Err(CallError::Malformed(why)) if why.contains("less security")), "{got:?}");

    let (port, count) = device(move |asked| {
        let (message, _) = read_v3(&asked.datagram).unwrap();
        let what = if message.engine_id.is_empty() { 4 } else { 2 };
        let what = oid(&format!("1.3.6.1.6.3.15.1.1.{what}.0"));
        vec![v3(asked.id, engine, REPORT, 0, &[(what, SnmpValue::Integer(1))])]
    })
    .await;
    let made = made_with("snmp-v3", &secret, config.clone(), Guard::loopback(true));
    let got = name(&made, port).await;
    assert!(matches!(&got, Err(CallError::Malformed(why)) if why.contains("is not authenticated")), "{got:?}");
    assert!(count.load(Ordering::SeqCst) < 6, "a clock that nobody proved was not taken");

    // A device that keeps saying that it is another engine.
    let (port, count) = device(move |asked| {
        vec![v3(asked.id, engine, REPORT, 0, &[(oid("1.3.6.1.6.3.15.1.1.4.0"), SnmpValue::Integer(1))])]
    })
    .await;
    let made = made_with("snmp-v3", &secret, config, Guard::loopback(true));
    assert!(matches!(name(&made, port).await, Err(CallError::Malformed(_))));
    assert!(count.load(Ordering::SeqCst) <= 10);
}

#[tokio::test]
async fn many_requests_at_once_find_their_own_answers() {
    let (port, _) = device(|asked| {
        let (_, from) = bulk(&asked.datagram);
        vec![answer(asked.id, &[(from.clone(), SnmpValue::Octets(from.to_string().into_bytes()))])]
    })
    .await;
    let made = quick(|config| config.wait_max = Duration::from_secs(10));
    let (tag, client) = (tag(), &made.client);
    let asked = (1..=200).map(|row| {
        let one = oid(&format!("{COLUMN}.{row}"));
        let tag = &tag;
        async move { (one.clone(), client.get(at(port), &[one], tag).await.unwrap()) }
    });
    for (asked, got) in futures::future::join_all(asked).await {
        assert_eq!(got[0].1.octets(), Some(asked.to_string().as_bytes()));
    }
}
