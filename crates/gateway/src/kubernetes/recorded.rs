//! Sessions that are recorded: `exec` and `attach`, by the way that every client takes, and what would be the same by another way.

use std::io;
use std::ops::Range;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Mutex;
use wire::recording::RecordingTarget;

use super::headers::Upgrade;
use super::request::{self, Call};
use super::stream::{Channel, Place, Reader, Seen, Unreadable, Way, spdy, websocket};
use crate::recording::{Recording, Unrecorded};

/// How much is passed on at once, in bytes.
const PASS_BYTES: usize = 16 * 1_024;
/// Longest word about how a command ended, in bytes.
const STATUS_BYTES_MAX: usize = 64 * 1_024;
/// Longest word about the size of a terminal, in bytes.
const SIZE_BYTES_MAX: usize = 1_024;

/// What a request begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Session {
    /// One that is recorded.
    Read(RecordingTarget),
    /// The same by way of a kubelet, whose streams are not read.
    Unread(RecordingTarget),
}

/// The session that a call begins, if it is one.
pub(super) fn session(call: &Call, query: Option<&str>, upgrade: Option<Upgrade>) -> Option<Session> {
    let is_core = call.group.is_empty();
    let target = |action: &str| RecordingTarget::Kubernetes {
        action: action.to_owned(),
        namespace: call.namespace.clone(),
        pod: call.name.clone(),
        container: request::parameters(query, "container").into_iter().next().unwrap_or_default(),
        // A kubelet's `run` calls it otherwise.
        command: request::parameters(query, if action == "run" { "cmd" } else { "command" }),
        // A terminal whose output nobody asked for echoes to nobody.
        tty: request::is_set(query, "tty") && request::is_set(query, "stdout"),
    };
    if is_core && call.resource == "pods" && matches!(call.subresource.as_str(), "exec" | "attach") {
        return upgrade.map(|_| Session::Read(target(&call.subresource)));
    }
    // `/api/v1/nodes/NODE/proxy/exec/…`, of old `/api/v1/proxy/nodes/NODE/exec/…`.
    let is_kubelet = is_core && call.resource == "nodes" && (call.subresource == "proxy" || call.verb == "proxy");
    let parts: Vec<&str> = call.path.split('/').skip(1).collect();
    let asked = match parts.as_slice() {
        ["api", _, "nodes", _, "proxy", asked, ..] | ["api", _, "proxy", "nodes", _, asked, ..] => Some(*asked),
        _ => None,
    };
    let runs = asked.filter(|asked| matches!(*asked, "exec" | "attach" | "run" | "cri"));
    runs.filter(|_| is_kubelet).map(|asked| Session::Unread(target(asked)))
}

/// The status of a command that ended, as API servers tell it on the channel for errors.
fn exit_status(told: &[u8]) -> Option<i32> {
    #[derive(Deserialize)]
    struct Status {
        status: String,
        #[serde(default)]
        details: Details,
    }
    #[derive(Default, Deserialize)]
    struct Details {
        #[serde(default)]
        causes: Vec<Cause>,
    }
    #[derive(Deserialize)]
    struct Cause {
        #[serde(default)]
        reason: String,
        #[serde(default)]
        message: String,
    }
    let status: Status = serde_json::from_slice(told).ok()?;
    if status.status == "Success" {
        return Some(0);
    }
    status.details.causes.iter().find(|cause| cause.reason == "ExitCode")?.message.parse().ok()
}

/// Words about the size of a terminal: JSON, one after another.
#[derive(Default)]
struct Sizes(Vec<u8>);

impl Sizes {
    /// The sizes that are told whole.
    fn push(&mut self, bytes: &[u8]) -> Vec<(u16, u16)> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Size {
            width: u16,
            height: u16,
        }
        self.0.extend_from_slice(bytes);
        let mut sizes = Vec::new();
        let mut words = serde_json::Deserializer::from_slice(&self.0).into_iter::<Size>();
        let mut is_broken = false;
        for word in words.by_ref() {
            match word {
                Ok(size) if size.width > 0 && size.height > 0 => sizes.push((size.width, size.height)),
                Ok(_) => {}
                Err(error) => {
                    is_broken = !error.is_eof();
                    break;
                }
            }
        }
        let done = words.byte_offset();
        // What is no size changes no terminal, and no recording.
        if is_broken || self.0.len() - done.min(self.0.len()) > SIZE_BYTES_MAX {
            self.0.clear();
        } else {
            self.0.drain(..done.min(self.0.len()));
        }
        sizes
    }
}

/// How long it may take to tell a user why a session is closed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What both directions of a session share.
struct Shared<'a> {
    recording: &'a Recording,
    status: Mutex<Vec<u8>>,
}

/// One direction of a session.
struct Half<R, W> {
    from: R,
    to: W,
    /// None: it is not understood any more.
    reader: Option<Box<dyn Reader>>,
    buffer: Vec<u8>,
    /// What of the buffer is recorded and still to be written.
    pending: Range<usize>,
    /// Where the other side stands when it has that.
    place: Place,
    seen: Seen,
    sizes: Sizes,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Half<R, W> {
    fn new(from: R, to: W, reader: Box<dyn Reader>) -> Self {
        let place = reader.place();
        let (buffer, reader) = (vec![0; PASS_BYTES], Some(reader));
        Self { from, to, reader, buffer, pending: 0..0, place, seen: Seen::new(), sizes: Sizes::default() }
    }

    /// Passes bytes on, each after it was recorded. What was written is known also when this is dropped on the way.
    async fn pass(&mut self, shared: &Shared<'_>) -> io::Result<()> {
        loop {
            self.write().await?;
            let length = self.from.read(&mut self.buffer).await?;
            if length == 0 {
                return self.to.shutdown().await;
            }
            let bytes = self.buffer.get(..length).unwrap_or_default();
            if let Some(Err(why)) = self.reader.as_mut().map(|reader| reader.push(bytes, &mut self.seen)) {
                // What was understood up to here is recorded; from here on nothing is.
                self.reader = None;
                record(&mut self.seen, &mut self.sizes, shared).await.map_err(io::Error::other)?;
                shared.recording.fail(&format!("its stream is not understood: {why}")).map_err(io::Error::other)?;
            }
            record(&mut self.seen, &mut self.sizes, shared).await.map_err(io::Error::other)?;
            self.place = self.reader.as_ref().map_or(Place::Elsewhere, |reader| reader.place());
            self.pending = 0..length;
        }
    }

    async fn write(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let bytes = self.buffer.get(self.pending.clone()).unwrap_or_default();
            let written = self.to.write(bytes).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.pending.start += written;
        }
        self.to.flush().await
    }

    /// Tells the user why the session is closed, where that can be told.
    async fn say(&mut self, why: &str) -> io::Result<()> {
        let words = self.reader.as_ref().and_then(|reader| reader.last_words(why));
        if let (Some(filling), Some(words)) = (self.place.filling(), words) {
            self.write().await?;
            self.to.write_all(&[filling, words].concat()).await?;
        }
        self.to.shutdown().await
    }
}

async fn record(seen: &mut Seen, sizes: &mut Sizes, shared: &Shared<'_>) -> Result<(), Unrecorded> {
    for (channel, bytes) in seen.drain(..) {
        match channel {
            Channel::Output => shared.recording.output(&bytes).await?,
            Channel::Input => shared.recording.input(&bytes).await?,
            Channel::Size => {
                for (columns, rows) in sizes.push(&bytes) {
                    shared.recording.resize(columns, rows).await?;
                }
            }
            Channel::Status => {
                let mut status = shared.status.lock().await;
                let room = STATUS_BYTES_MAX.saturating_sub(status.len()).min(bytes.len());
                status.extend_from_slice(bytes.get(..room).unwrap_or_default());
            }
        }
    }
    Ok(())
}

/// What reads a connection: from the user, and to the user.
pub(super) type Readers = (Box<dyn Reader>, Box<dyn Reader>);

/// What reads a connection that switched to this, with this protocol inside: from the user, and to the user.
pub(super) fn readers(upgrade: Upgrade, protocol: &str) -> Result<Readers, Unreadable> {
    Ok(match upgrade {
        Upgrade::Spdy => {
            let (up, down) = spdy::both(protocol);
            (Box::new(up), Box::new(down))
        }
        Upgrade::WebSocket => (
            Box::new(websocket::WebSocket::new(Way::Up, protocol)?),
            Box::new(websocket::WebSocket::new(Way::Down, protocol)?),
        ),
    })
}

/// Carries a session and records it, until it ends.
pub(super) async fn carry(
    client: hyper::upgrade::Upgraded,
    server: hyper::upgrade::Upgraded,
    (up, down): Readers,
    recording: &Recording,
) -> io::Result<()> {
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_server, to_server) = tokio::io::split(TokioIo::new(server));
    let shared = Shared { recording, status: Mutex::default() };
    let (mut up, mut down) = (Half::new(from_client, to_server, up), Half::new(from_server, to_client, down));
    let carried = tokio::try_join!(up.pass(&shared), down.pass(&shared));
    let unrecorded = carried.as_ref().err().and_then(|error| error.get_ref()?.downcast_ref::<Unrecorded>());
    if let Some(why) = unrecorded {
        let told = async {
            down.say(&why.to_string()).await?;
            // Who closes on what it has not read takes back what it has written.
            tokio::io::copy(&mut up.from, &mut tokio::io::sink()).await
        };
        let _ = tokio::time::timeout(LAST_WORDS, told).await;
    }
    if let Some(status) = exit_status(&shared.status.into_inner()) {
        recording.exit(status);
    }
    carried.map(drop)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn check(request: &str, upgrade: Option<Upgrade>) -> Option<Session> {
        let (path, query) = request.split_once('?').map_or((request, None), |(path, query)| (path, Some(query)));
        session(&request::resolve(&Method::POST, path, query).unwrap(), query, upgrade)
    }

    #[test]
    fn a_session_is_known_by_every_way_that_leads_to_a_command() {
        let pods = "/api/v1/namespaces/a/pods/web";
        let query = "command=sh&command=-c&command=echo+%22hi%22&container=app&stdin=true&stdout=1&tty=1";
        let Some(Session::Read(target)) = check(&format!("{pods}/exec?{query}"), Some(Upgrade::Spdy)) else {
            panic!("it is a session")
        };
        let command = ["sh", "-c", "echo \"hi\""].map(str::to_owned).to_vec();
        let expect = RecordingTarget::Kubernetes {
            action: "exec".to_owned(),
            namespace: "a".to_owned(),
            pod: "web".to_owned(),
            container: "app".to_owned(),
            command,
            tty: true,
        };
        assert_eq!(target, expect);
        assert!(matches!(check(&format!("{pods}/attach"), Some(Upgrade::WebSocket)), Some(Session::Read(_))));
        for unseen in
            ["stdin=1&tty=1", "stdin=1&tty=1&stdout=0", "stdin=1&tty=1&stdout=false&stdout=1", "stdout=1&tty=0"]
        {
            let Some(Session::Read(target)) = check(&format!("{pods}/exec?{unseen}"), Some(Upgrade::Spdy)) else {
                panic!("{unseen}")
            };
            assert!(!target.is_tty(), "what is typed is shown to nobody: {unseen}");
        }
        for by_kubelet in [
            "/api/v1/nodes/n1/proxy/exec/a/web/app?command=sh",
            "/api/v1/nodes/n1:10250/proxy/run/a/web/app?cmd=sh",
            "/api/v1/nodes/n1/proxy/%65xec/a/web/app",
            "/api/v1/proxy/nodes/n1/attach/a/web/app",
            "/api/v1/nodes/n1/proxy/cri/exec/token",
        ] {
            let Some(Session::Unread(RecordingTarget::Kubernetes { command, .. })) = check(by_kubelet, None) else {
                panic!("{by_kubelet}")
            };
            // The alarm says what was to be run.
            assert_eq!(command.is_empty(), !by_kubelet.contains("=sh"), "{by_kubelet}: {command:?}");
        }
        for none in [
            format!("{pods}/log"),
            format!("{pods}/portforward"),
            format!("{pods}/proxy/exec"),
            "/api/v1/nodes/n1/proxy/metrics".to_owned(),
            "/apis/metrics.k8s.io/v1/namespaces/a/pods/web/exec".to_owned(),
        ] {
            assert_eq!(check(&none, Some(Upgrade::Spdy)), None, "{none}");
        }
    }

    #[test]
    fn sizes_and_statuses_are_read_as_kubernetes_writes_them() {
        let mut sizes = Sizes::default();
        assert_eq!(sizes.push(b"{\"Width\":120,\"Hei"), []);
        assert_eq!(
            sizes.push(b"ght\":40}\n{\"Width\":0,\"Height\":0}{\"Width\":90,\"Height\":30}"),
            [(120, 40), (90, 30)]
        );
        assert_eq!(sizes.push(b"nonsense"), []);
        assert_eq!(sizes.push(b"{\"Width\":1,\"Height\":2}"), [(1, 2)]);
        for (told, expect) in [
            ("{\"metadata\":{},\"status\":\"Success\"}", Some(0)),
            (
                "{\"status\":\"Failure\",\"details\":{\"causes\":[{\"reason\":\"ExitCode\",\"message\":\"7\"}]}}",
                Some(7),
            ),
            ("{\"status\":\"Failure\",\"message\":\"no such command\"}", None),
            ("command terminated", None),
            ("", None),
        ] {
            assert_eq!(exit_status(told.as_bytes()), expect, "{told}");
        }
    }
}
