//! `cairn-server doctor`: looks at everything that a server needs, changes nothing, and says what is wrong and what to do about it. It
//! may run beside a running server.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueEnum;
use domain::Clock;
use secrets::Stores;
use serde::Serialize;

use crate::authority::term_of;
use crate::config::Config;
use crate::{certificate, datadir, keys};

const MIB: u64 = 1 << 20;
/// Less room than this fails, and less than [`ROOM_WARN`] warns.
const ROOM_FAIL: u64 = 128 * MIB;
const ROOM_WARN: u64 = 1_024 * MIB;
const CERTIFICATE_WARN_S: i64 = 14 * 86_400;
/// What holds secrets, beside the database.
const PRIVATE: [&str; 6] = ["master.key", "ca.key", "tls.key", "acme.key", "acme-account.json", "cairn.db"];

/// How the result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people
    Table,
    /// One document for programs
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Warning,
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    #[serde(rename = "check")]
    name: &'static str,
    status: Status,
    detail: String,
}

/// The whole result.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    ok: bool,
    checks: Vec<Check>,
}

impl Report {
    fn new(checks: Vec<Check>) -> Self {
        Self { ok: checks.iter().all(|check| check.status != Status::Failed), checks }
    }

    /// The configuration itself is at fault: nothing else could be looked at.
    pub(crate) fn unreadable(error: &anyhow::Error) -> Self {
        Self::new(vec![failed("configuration", format!("{error:#}"))])
    }

    /// Whether nothing failed.
    pub(crate) fn is_ok(&self) -> bool {
        self.ok
    }

    /// Writes it to the standard output.
    pub(crate) fn write(&self, format: Format) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        match format {
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(self)?)?,
            Format::Table => {
                for Check { name, status, detail } in &self.checks {
                    let status = match status {
                        Status::Ok => "ok",
                        Status::Warning => "warning",
                        Status::Failed => "FAILED",
                    };
                    writeln!(out, "{name:<14} {status:<8} {detail}")?;
                }
            }
        }
        Ok(())
    }
}

fn ok(name: &'static str, detail: impl Into<String>) -> Check {
    Check { name, status: Status::Ok, detail: detail.into() }
}

fn warning(name: &'static str, detail: impl Into<String>) -> Check {
    Check { name, status: Status::Warning, detail: detail.into() }
}

fn failed(name: &'static str, detail: impl Into<String>) -> Check {
    Check { name, status: Status::Failed, detail: detail.into() }
}

/// Looks at everything.
pub(crate) async fn examine(config: &Config, stores: &Stores, clock: &dyn Clock) -> Report {
    let data = &config.server.data_dir;
    let mut checks = vec![ok("configuration", "valid")];
    checks.push(data_dir(data));
    checks.extend(private_files(config));
    checks.push(database(config, stores).await);
    checks.extend(certificates(config, clock));
    checks.push(time(data, clock));
    checks.push(room(data));
    checks.push(open_files(config));
    checks.push(listener(config));
    Report::new(checks)
}

fn data_dir(path: &Path) -> Check {
    const CHECK: &str = "data directory";
    match fs::metadata(path) {
        Err(_) => warning(CHECK, format!("`{}` is not there: the first start makes it", path.display())),
        Ok(found) if !found.is_dir() => failed(CHECK, format!("`{}` is no directory", path.display())),
        Ok(found) => match datadir::check_owner_only(path, &found, "700") {
            Ok(()) => ok(CHECK, format!("`{}`, for its owner only", path.display())),
            Err(error) => failed(CHECK, error.to_string()),
        },
    }
}

fn private_files(config: &Config) -> Vec<Check> {
    let ours = PRIVATE.iter().map(|name| config.server.data_dir.join(name));
    let named = [&config.database.master_key_file, &config.server.certificate_key].into_iter().flatten().cloned();
    let mut looked = 0;
    let mut checks = Vec::new();
    for path in ours.chain(named) {
        let Ok(found) = fs::metadata(&path) else { continue };
        looked += 1;
        if let Err(error) = datadir::check_owner_only(&path, &found, "600") {
            checks.push(failed("secrets", error.to_string()));
        }
    }
    if checks.is_empty() {
        checks.push(ok("secrets", format!("{looked} files, each for its owner only")));
    }
    checks
}

async fn database(config: &Config, stores: &Stores) -> Check {
    const CHECK: &str = "database";
    let file = config.server.data_dir.join("cairn.db");
    let (url, kind) = match &config.database.url {
        Some(url) => (url.clone(), "PostgreSQL"),
        None if !file.exists() => return warning(CHECK, "there is none yet: the first start makes it"),
        None => (format!("sqlite:{}", file.display()), "SQLite"),
    };
    let examined = async {
        let master = [keys::Source::of(config, &config.server.data_dir, stores)?.existing(stores).await?];
        anyhow::Ok(store::Store::master_in_force(&url, &master).await?)
    };
    let examined = tokio::time::timeout(std::time::Duration::from_secs(20), examined).await;
    match examined.context("no answer in 20 seconds").and_then(|examined| examined) {
        Ok(_) => ok(CHECK, format!("{kind} answers, and the master key is its own")),
        Err(error) => failed(CHECK, format!("{kind}: {error:#}")),
    }
}

fn certificates(config: &Config, clock: &dyn Clock) -> Vec<Check> {
    let data = &config.server.data_dir;
    let (base, renewed) = match (&config.server.certificate, &config.server.certificate_key) {
        (Some(certificate), Some(key)) => ((certificate.clone(), key.clone()), false),
        _ => ((data.join("tls.crt"), data.join("tls.key")), true),
    };
    let mut checks = vec![certificate(&base, renewed, clock)];
    if config.acme.directory.is_some() {
        checks.push(certificate(&(data.join("acme.crt"), data.join("acme.key")), true, clock));
    }
    checks
}

/// `renewed`: whether a running server does that by itself.
fn certificate((certificate, key): &(PathBuf, PathBuf), renewed: bool, clock: &dyn Clock) -> Check {
    const CHECK: &str = "certificate";
    if renewed && !certificate.exists() {
        return warning(CHECK, format!("`{}` is not there yet: a running server gets it", certificate.display()));
    }
    let looked = certificate::read_pair(certificate, key).and_then(|pair| {
        let leaf = pair.cert.first().context("the file is empty")?;
        Ok((term_of(leaf)?, crate::authority::names_of(leaf).unwrap_or_default()))
    });
    let ((from, until), names) = match looked {
        Ok(looked) => looked,
        Err(error) => return failed(CHECK, format!("{error:#}")),
    };
    let now = clock.now().as_seconds();
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    let days = (until - now) / 86_400;
    match () {
        () if now < from => failed(CHECK, format!("`{}` is not good yet: check the clock", certificate.display())),
        () if now >= until => failed(CHECK, format!("`{}` is over: replace it", certificate.display())),
        () if until - now < CERTIFICATE_WARN_S => {
            warning(CHECK, format!("`{}` is good for {days} days only: {names}", certificate.display()))
        }
        () => ok(CHECK, format!("good for {days} days: {names}")),
    }
}

/// A clock that was set back is told by files that are newer than now.
fn time(data: &Path, clock: &dyn Clock) -> Check {
    const CHECK: &str = "clock";
    const TOLERANCE_S: i64 = 60;
    let newest = fs::read_dir(data).into_iter().flatten().flatten();
    let newest = newest.filter_map(|entry| Some(entry.metadata().ok()?.mtime())).max().unwrap_or_default();
    let now = clock.now();
    if now.as_seconds() + TOLERANCE_S < newest {
        let behind = newest - now.as_seconds();
        return failed(CHECK, format!("it shows {now}, {behind} seconds before the newest file was written: set it"));
    }
    ok(CHECK, now.to_string())
}

fn room(data: &Path) -> Check {
    const CHECK: &str = "disk";
    let there = data.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let found = match rustix::fs::statvfs(there) {
        Ok(found) => found,
        Err(error) => return failed(CHECK, format!("`{}`: {error}", there.display())),
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let detail = format!("{} MiB are free for `{}`", free / MIB, data.display());
    match free {
        _ if free < ROOM_FAIL => failed(CHECK, format!("{detail}: make room")),
        _ if free < ROOM_WARN => warning(CHECK, format!("{detail}: make room soon")),
        _ => ok(CHECK, detail),
    }
}

fn open_files(config: &Config) -> Check {
    const CHECK: &str = "open files";
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let wanted = config.server.connections_max as u64 + 128;
    match most {
        Some(most) if most < wanted => warning(
            CHECK,
            format!("the process may open {most}, for {} connections it needs {wanted}", config.server.connections_max),
        ),
        Some(most) => ok(CHECK, format!("the process may open {most}")),
        None => ok(CHECK, "the process may open as many as it needs"),
    }
}

fn listener(config: &Config) -> Check {
    const CHECK: &str = "listener";
    let address = config.server.listen;
    match TcpListener::bind(address) {
        Ok(_) => ok(CHECK, format!("`{address}` is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            warning(CHECK, format!("`{address}` is taken: by this server, if it runs"))
        }
        Err(error) => failed(CHECK, format!("`{address}`: {error}")),
    }
}
