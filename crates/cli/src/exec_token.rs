//! `cairn tokens add`: what `kubectl` runs for every command (the exec plugin of `client.authentication.k8s.io/v1`).
//!
//! Invariants:
//! - a token is kept in a private file until shortly before it ends, and while it is good no server is asked for another one, however many
//!   commands run at the same time: they wait for the one that asks;
//! - a program that comes again for the token that it was given was refused with it: `client-go` does so after a 401 and at no other time. It gets
//!   another one, so that who may still reach a cluster after a change of grants does not wait for the end of a token that was cut;
//! - what is kept belongs to one session: who signs in anew gets another token, and signing out of its server forgets it.

use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use domain::{Clock as _, DestinationRole, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use wire::destination::{DestinationTokenCreate, DestinationTokenCreated};

use crate::api::Context;
use crate::client::not_ours;
use crate::config::replace;
use crate::failure::{Failure, Result};
use crate::output;
use crate::server::Server;

/// How long before its end a token is not given out any more, in milliseconds: the request still has to arrive.
const MARGIN_MS: i64 = 15_000;
/// Where tokens are kept, within `~/.cairn`.
const FOLDER: &str = "tokens";
/// How old a token is before the program that was given it gets another one: some load their configuration many times.
const REFUSED_AFTER: Duration = Duration::from_secs(30);
/// How much is remembered of who was given a token, in bytes: thousands of programs.
const GIVEN_BYTES: u64 = 64 * 1_024;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print a credential for `kubectl`, which runs this by itself (see `cairn use`)
    Add(Add),
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The destination's name or id
    destination: String,
    /// As what; may be left out where you hold one role
    #[arg(long)]
    role: Option<DestinationRole>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    token: String,
    expires_at: Timestamp,
    /// Of which server; those before 1.0 said nothing.
    #[serde(default)]
    server: Option<Server>,
}

impl Kept {
    fn read(path: &Path, now: Timestamp) -> Option<Self> {
        let mut text = String::new();
        std::fs::File::open(path).ok()?.read_to_string(&mut text).ok()?;
        let kept: Self = serde_json::from_str(&text).ok()?;
        (kept.expires_at.millis_since(now) > MARGIN_MS).then_some(kept)
    }
}

/// Who was given the token that is kept, a line for each.
struct Given {
    file: PathBuf,
    /// The program that runs this one: its number, and when it started, where the kernel tells.
    asker: String,
}

impl Given {
    fn new(file: PathBuf) -> Self {
        let parent = rustix::process::getppid().map_or(0, |id| id.as_raw_nonzero().get());
        let stat = std::fs::read_to_string(format!("/proc/{parent}/stat")).unwrap_or_default();
        // Field 22 of proc(5); the first two are before the bracket.
        let started = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19)).unwrap_or_default();
        Self { file, asker: format!("{parent}:{started}") }
    }

    /// Whether whoever asks was given what is at `kept`, a while ago.
    fn again(&self, kept: &Path) -> bool {
        let old = std::fs::metadata(kept).and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
        let read = || {
            let mut text = String::new();
            std::fs::File::open(&self.file)?.take(GIVEN_BYTES).read_to_string(&mut text).map(|_| text)
        };
        old.is_some_and(|old| old >= REFUSED_AFTER)
            && read().is_ok_and(|text| text.lines().any(|line| line == self.asker))
    }

    /// Notes that whoever asks is given what is kept; `new`: nobody else was. Where that fails, a token that is refused lasts until its end.
    fn note(&self, new: bool) {
        let mut options = std::fs::OpenOptions::new();
        options.create(true).write(true).append(!new).truncate(new).mode(0o600);
        let _ = options.open(&self.file).and_then(|mut file| {
            if file.metadata()?.len() < GIVEN_BYTES {
                file.write_all(format!("{}\n", self.asker).as_bytes())
            } else {
                Ok(())
            }
        });
    }
}

/// The lock of one token, held until it is dropped: of those who want the same one at once, one asks.
pub(crate) struct Lock(#[expect(dead_code, reason = "the lock ends with the file")] std::fs::File);

impl Lock {
    pub(crate) fn take(path: &Path) -> Result<Self> {
        let open = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        let file = open.map_err(|e| Failure::file("open", path, e))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|e| Failure::file("lock", path, e))?;
        Ok(Self(file))
    }
}

impl Add {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        let folder = cx.home()?.join(FOLDER);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|e| Failure::file("make", &folder, e))?;
        let role = self.role.as_ref().map_or("", DestinationRole::as_str);
        let key = crypto::sha256(json!([api.identity(), self.destination, role]).to_string().as_bytes()).to_hex();
        let path = folder.join(format!("{key}.json"));
        let now = || crypto::system::SystemClock.now();
        let given = Given::new(folder.join(format!("{key}.given")));
        let good = || Kept::read(&path, now()).filter(|_| !given.again(&path));
        if let Some(kept) = good() {
            given.note(false);
            return print(&kept);
        }
        let _lock = Lock::take(&folder.join(format!("{key}.lock")))?;
        if let Some(kept) = good() {
            given.note(false);
            return print(&kept);
        }
        let body = DestinationTokenCreate { role: self.role };
        let made = api.post(&["destinations", &self.destination, "tokens"], &body).await;
        let made: DestinationTokenCreated = match made {
            Ok(doc) => doc.parse().map_err(|_| not_ours())?,
            Err(failure) => {
                // Whatever is there is not good any more, or soon not.
                drop(std::fs::remove_file(&path));
                return Err(failure);
            }
        };
        let kept = Kept { token: made.token, expires_at: made.expires_at, server: Some(api.client.server().clone()) };
        let text = serde_json::to_vec(&kept).map_err(|e| Failure::file("write", &path, e))?;
        replace(&path, |file| file.write_all(&text), true).map_err(|e| Failure::file("write", &path, e))?;
        given.note(true);
        forget_old(&folder, now());
        print(&kept)
    }
}

fn print(kept: &Kept) -> Result {
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": kept.token, "expirationTimestamp": kept.expires_at},
    });
    output::data(format!("{credential}\n").as_bytes())
}

/// Removes tokens that have ended. Locks, and who was given what, stay: who waits for one has it open.
fn forget_old(folder: &Path, now: Timestamp) {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let tokens = files.filter(|path: &PathBuf| path.extension().is_some_and(|end| end == "json"));
    for path in tokens.filter(|path| Kept::read(path, now).is_none()) {
        drop(std::fs::remove_file(path));
    }
}

/// Forgets every token of a server, since the session that they came from ends.
pub(crate) fn forget(home: &Path, server: &Server) {
    let folder = home.join(FOLDER);
    for path in std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let kept = || serde_json::from_slice::<Kept>(&std::fs::read(&path).ok()?).ok();
        let is_token = path.extension().is_some_and(|end| end == "json");
        if is_token && kept().and_then(|kept| kept.server).is_none_or(|of| of == *server) {
            drop(std::fs::remove_file(&path));
        }
    }
}
