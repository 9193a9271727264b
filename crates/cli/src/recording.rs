//! Recordings of sessions: listing, replaying and downloading them, and what is recorded.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;
use wire::recording::{Recording, RecordingMode, RecordingPolicy};

use crate::api::{Api, Context, Paging};
use crate::clean::clean;
use crate::client::Stream;
use crate::download::download;
use crate::failure::{Failure, Result};
use crate::output::data;
use crate::screen::{RESET, Screen};
use crate::table::Table;

/// Longest line of a recording, in bytes: the server's pieces are no longer.
const LINE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List recordings, the newest first
    List {
        /// Only of this user: login name or id
        #[arg(long)]
        user: Option<String>,
        /// Only of this destination: name or id
        #[arg(long)]
        destination: Option<String>,
        /// Only of sessions that began at this time or later, such as 2026-01-31T12:00:00Z
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Only of sessions that began before this time
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show what is known of one: who, where, what, and how it ended
    Show {
        /// Its id
        recording: String,
    },
    /// Replay one in this terminal; what could harm the terminal is left out
    Play {
        /// Its id
        recording: String,
        /// How many times as fast
        #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = speed)]
        speed: f64,
        /// Wait no longer than this where nothing happens, in seconds
        #[arg(long, default_value_t = 2.0, value_name = "SECONDS", value_parser = seconds)]
        idle_limit: f64,
    },
    /// Write one to a file: asciicast (version 2), or with --bundle a signed ZIP for an auditor
    Download(Download),
    /// Show what is recorded and how long it is kept, or change it
    Policy(Policy),
}

#[derive(Debug, Args)]
pub(crate) struct Download {
    /// Its id
    recording: String,
    /// Where it goes
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// With its signed statement and keys, for `cairn evidence verify`
    #[arg(long)]
    bundle: bool,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Policy {
    /// kubectl exec and attach: off, best-effort (goes on where it cannot be recorded) or required (does not)
    #[arg(long, value_name = "MODE")]
    kubernetes: Option<RecordingMode>,
    /// Sessions on SSH hosts that are reached through a relay, likewise
    #[arg(long, value_name = "MODE")]
    ssh: Option<RecordingMode>,
    /// Whether what is typed is recorded too; it holds passwords
    #[arg(long, value_name = "true|false")]
    input: Option<bool>,
    /// How long recordings are kept, in days
    #[arg(long, value_name = "DAYS")]
    retention_days: Option<u32>,
}

fn speed(text: &str) -> std::result::Result<f64, String> {
    text.parse().ok().filter(|factor| (0.1..=100.0).contains(factor)).ok_or_else(|| "use 0.1 to 100".to_owned())
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    text.parse().ok().filter(|limit| (0.0..=3_600.0).contains(limit)).ok_or_else(|| "use 0 to 3600".to_owned())
}

impl Table for Recording {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("BEGAN", "began_at"),
        ("USER", "user"),
        ("DESTINATION", "destination_name"),
        ("ROLE", "role"),
        ("STATE", "state"),
        ("ID", "id"),
    ];
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        let api = cx.tenant()?;
        match self {
            Self::List { user, destination, since, until, paging } => {
                let query = [
                    ("user", user.as_deref()),
                    ("destination", destination.as_deref()),
                    ("since", since.as_deref()),
                    ("until", until.as_deref()),
                ];
                api.show_list::<Recording>(&["recordings"], &query, paging).await
            }
            Self::Show { recording } => api.out.one(&api.get(&["recordings", &recording]).await?),
            Self::Play { recording, speed, idle_limit } => {
                let cast = api.stream(&["recordings", &recording, "cast"], &[]).await?;
                play(cast, speed, idle_limit).await
            }
            Self::Download(download) => download.run(&api).await,
            Self::Policy(policy) => policy.run(&api).await,
        }
    }
}

impl Download {
    async fn run(self, api: &Api) -> Result {
        let what = if self.bundle { "bundle" } else { "cast" };
        let to = (self.output.as_path(), self.force);
        download(api, &["recordings", &self.recording, what], &[], to, |_| ()).await?;
        api.out.say(&told(&self.output, self.bundle));
        Ok(())
    }
}

fn told(path: &Path, bundle: bool) -> String {
    if bundle {
        format!("wrote {0}; check it: cairn evidence verify {0}", path.display())
    } else {
        format!(
            "wrote {}; what it holds may harm a terminal: `cairn recordings play` leaves that out, and other players may not",
            path.display()
        )
    }
}

impl Policy {
    async fn run(self, api: &Api) -> Result {
        let path = ["recording-policy"];
        let (now, tag) = api.get_tagged(&path).await?;
        let Self { kubernetes, ssh, input, retention_days } = self;
        if kubernetes.is_none() && ssh.is_none() && input.is_none() && retention_days.is_none() {
            return api.out.one(&now);
        }
        let before: RecordingPolicy = now.parse().map_err(|_| crate::client::not_ours())?;
        let policy = RecordingPolicy {
            kubernetes: kubernetes.unwrap_or(before.kubernetes),
            ssh: ssh.unwrap_or(before.ssh),
            input: input.unwrap_or(before.input),
            retention_days: retention_days.unwrap_or(before.retention_days),
        };
        api.out.one(&api.put_over(tag, &path, &policy).await?)
    }
}

/// An event that is shown.
#[derive(Debug, PartialEq)]
struct Event {
    /// Seconds since the beginning.
    at: f64,
    /// What is written to the terminal, before anything was left out.
    text: String,
    /// Whether it is said about the recording, and not in it.
    is_mark: bool,
}

/// Reads a line of a recording; none where it shows nothing.
fn event(line: &str) -> Option<Event> {
    let Value::Array(parts) = serde_json::from_str(line).ok()? else { return None };
    let [at, kind, text] = parts.as_slice() else { return None };
    let (at, kind, text) = (at.as_f64()?, kind.as_str()?, text.as_str()?);
    matches!(kind, "o" | "m").then(|| Event { at, text: text.to_owned(), is_mark: kind == "m" })
}

/// What is written for an event.
fn shown(event: &Event, screen: &mut Screen) -> String {
    if event.is_mark { format!("\r\n[{}]\r\n", clean(&event.text)) } else { screen.pass(&event.text) }
}

/// Replays a recording as it comes. Where nobody looks, nobody waits.
async fn play(mut cast: Stream, speed: f64, idle_limit: f64) -> Result {
    let looks = std::io::stdout().is_terminal();
    let (mut screen, mut line, mut before) = (Screen::default(), Vec::new(), 0.0_f64);
    let played = async {
        while let Some(bytes) = cast.chunk().await? {
            for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(piece);
                if line.len() > LINE_BYTES_MAX {
                    return Err(Failure::new("the server's recording is none: it has a line that is too long"));
                }
                if !line.ends_with(b"\n") {
                    continue;
                }
                let event = std::str::from_utf8(&line).ok().and_then(event);
                line.clear();
                let Some(event) = event else { continue };
                if looks {
                    let wait = ((event.at - before) / speed).clamp(0.0, idle_limit);
                    tokio::time::sleep(Duration::try_from_secs_f64(wait).unwrap_or_default()).await;
                }
                before = event.at;
                data(shown(&event, &mut screen).as_bytes())?;
            }
        }
        Ok(())
    };
    let ended = tokio::select! {
        ended = played => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    if looks {
        data(RESET.as_bytes())?;
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shown_is_shown_and_what_was_typed_is_not() {
        let mut screen = Screen::default();
        let mut show = |line: &str| event(line).map(|event| shown(&event, &mut screen));
        assert_eq!(show(r#"[0.5, "o", "a\u001b]0;title\u0007b"]"#).unwrap(), "ab");
        assert_eq!(
            show(r#"[0.5, "m", "7 bytes are\u001b[2J left out"]"#).unwrap(),
            "\r\n[7 bytes are\u{fffd}[2J left out]\r\n"
        );
        for nothing in [r#"{"version":2}"#, r#"[1, "i", "secret"]"#, r#"[1, "r", "80x24"]"#, "[1, 2]", "nonsense", ""] {
            assert_eq!(show(nothing), None, "{nothing}");
        }
    }
}
