//! A plugin's process: started in its sandbox, connected to once, ended with everything that belongs to it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::{Error, Result};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tonic::body::Body;

use crate::folder::Folder;
use crate::launch::{SOCKET, Spec};
use crate::observe::clean;
use crate::proto::plugin_client::PluginClient;
use crate::run::MESSAGE_BYTES;

/// What a plugin prints when it listens.
const READY: &str = "cairn-plugin 1";
/// How long a process whose connection broke may take to be gone.
const ENDING: Duration = Duration::from_millis(500);
/// How long a plugin may take until it listens.
const START: Duration = Duration::from_secs(30);
/// How much of what a plugin says on its standard error is kept, in bytes.
const WORDS: usize = 2_048;
/// Most threads of a plugin.
const THREADS: u64 = 128;

/// What plugins need of this installation.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The program that confines itself and becomes the plugin (`plugin-launch` is its first argument): this one, as a rule.
    pub launcher: PathBuf,
    /// Folders besides the system's that plugins may read and run programs of: a Python environment, say.
    pub runtimes: Vec<PathBuf>,
}

impl Surroundings {
    /// Confined by the running program itself.
    pub fn own(runtimes: Vec<PathBuf>) -> Self {
        // The file that runs, also when another version has taken its name meanwhile.
        Self { launcher: PathBuf::from("/proc/self/exe"), runtimes }
    }
}

/// A running plugin. Dropping it ends it.
pub(crate) struct Running {
    child: Child,
    pid: Option<Pid>,
    sender: http2::SendRequest<Body>,
    tasks: Vec<JoinHandle<()>>,
    words: Arc<Mutex<Vec<u8>>>,
    _run: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        kill(self.pid);
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn kill(pid: Option<Pid>) {
    if let Some(pid) = pid {
        // It is gone already, as a rule.
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

fn cannot(name: &str, what: impl std::fmt::Display) -> Error {
    Error::Invalid { field: None, message: format!("the plugin `{name}` cannot be started: {what}") }
}

/// Keeps the end of what it says, and reads on so that it is never held up.
async fn listen(mut from: impl AsyncRead + Unpin, words: Arc<Mutex<Vec<u8>>>) {
    let mut piece = [0u8; 4_096];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        words.extend_from_slice(piece.get(..length).unwrap_or_default());
        let over = words.len().saturating_sub(WORDS);
        words.drain(..over);
    }
}

impl Running {
    /// Starts the plugin of a folder and waits until it listens.
    pub(crate) async fn start(folder: &Folder, surroundings: &Surroundings) -> Result<Self> {
        let manifest = &folder.manifest;
        let name = manifest.name.as_str();
        let run = tempfile::Builder::new().prefix("cairn-plugin-").tempdir().map_err(|error| Error::Unavailable {
            message: "there is no temporary folder for a plugin: see TMPDIR".to_owned(),
            detail: error.to_string(),
        })?;
        let spec = Spec {
            read: std::iter::once(folder.path.clone()).chain(surroundings.runtimes.iter().cloned()).collect(),
            run: run.path().to_owned(),
            exec: folder.exec(&surroundings.runtimes)?,
            memory_bytes: manifest.limits.memory_mib * 1_024 * 1_024,
            cpu_s: manifest.limits.cpu_s,
            parent: std::process::id(),
        };
        let spec = serde_json::to_string(&spec).map_err(Error::internal)?;
        let mut command = Command::new(&surroundings.launcher);
        command
            .args(["plugin-launch", &spec])
            .env_clear()
            .env("CAIRN_PLUGIN_SOCKET", format!("unix:{SOCKET}"))
            .env("LC_ALL", "C.UTF-8")
            // Many threads of a C library's allocator reserve more than they use.
            .env("MALLOC_ARENA_MAX", "2")
            .current_dir(run.path())
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| cannot(name, error))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let mut guard = Guard(pid);
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Error::internal("a plugin's process has no pipes"));
        };
        let words = Arc::new(Mutex::new(Vec::new()));
        let listening = tokio::spawn(listen(stderr, Arc::clone(&words)));
        let mut stdout = BufReader::new(stdout);
        let mut line = Vec::new();
        let ready = tokio::time::timeout(START, (&mut stdout).take(256).read_until(b'\n', &mut line)).await;
        if line.trim_ascii() != READY.as_bytes() {
            kill(pid);
            let status = child.wait().await.map(|status| status.to_string()).unwrap_or_default();
            let _ = tokio::time::timeout(Duration::from_secs(1), listening).await;
            let words = said(&words);
            let why = match ready {
                Err(_) => format!("it did not print `{READY}` within {} s", START.as_secs()),
                Ok(_) if line.is_empty() => format!("it ended ({status})"),
                Ok(_) => format!("its first line was not `{READY}`"),
            };
            return Err(cannot(name, if words.is_empty() { why } else { format!("{why}; it said: {words}") }));
        }
        let connected = tokio::time::timeout(START, connect(run.path())).await;
        let (sender, connection) = connected
            .map_err(|_| cannot(name, "its socket does not answer"))?
            .map_err(|error| cannot(name, format!("its socket does not speak HTTP/2: {error}")))?;
        let talking = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a plugin's connection ended");
            }
        });
        let reading = tokio::spawn(listen(stdout, Arc::default()));
        guard.0 = None;
        Ok(Self { child, pid, sender, tasks: vec![listening, talking, reading], words, _run: run })
    }

    /// A client on the one connection.
    pub(crate) fn client(
        &self,
    ) -> PluginClient<
        impl tonic::client::GrpcService<Body, ResponseBody = hyper::body::Incoming, Error = hyper::Error, Future: Send>
        + Clone
        + Send
        + use<>,
    > {
        let sender = self.sender.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let mut sender = sender.clone();
            async move {
                sender.ready().await?;
                sender.send_request(request).await
            }
        });
        PluginClient::with_origin(service, http::Uri::from_static("http://plugin"))
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    /// What the process does that it must not, and that no limit of the system stops.
    pub(crate) fn trouble(&self) -> Option<String> {
        let pid = self.pid?.as_raw_nonzero();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let threads: u64 = status.lines().find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok())?;
        (threads > THREADS).then(|| format!("it runs more than {THREADS} threads"))
    }

    /// Ends the process; what it said last on its standard error, and how it ended where that was not our doing. `failed`: it did something
    /// wrong, so it may be about to end, since its socket closes a moment before the process is gone.
    pub(crate) async fn end(&mut self, failed: bool) -> String {
        let by_itself = if failed {
            tokio::time::timeout(ENDING, self.child.wait()).await.ok().and_then(std::result::Result::ok)
        } else {
            self.child.try_wait().ok().flatten()
        };
        kill(self.pid);
        let _ = self.child.wait().await;
        let words = said(&self.words);
        match by_itself {
            Some(status) if !status.success() => {
                let how = format!("its process ended ({status})");
                if words.is_empty() { how } else { format!("{how} and said: {words}") }
            }
            _ if words.is_empty() => String::new(),
            _ => format!("it said: {words}"),
        }
    }
}

/// Ends the process when its start fails.
struct Guard(Option<Pid>);

impl Drop for Guard {
    fn drop(&mut self) {
        kill(self.0);
    }
}

fn said(words: &Mutex<Vec<u8>>) -> String {
    let words = words.lock().unwrap_or_else(PoisonError::into_inner);
    let text = String::from_utf8_lossy(&words);
    // A traceback's last line says most.
    let last: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    clean(&last.iter().rev().take(3).rev().copied().collect::<Vec<_>>().join(" / "), 400)
}

type Connection = http2::Connection<TokioIo<UnixStream>, Body, TokioExecutor>;

async fn connect(run: &Path) -> Result<(http2::SendRequest<Body>, Connection), String> {
    let stream = UnixStream::connect(run.join(SOCKET)).await.map_err(|error| error.to_string())?;
    http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 20)
        .max_header_list_size(16 * 1_024)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())
}
