//! Discovery jobs and their schedules.

use clap::{Args, Subcommand};
use serde_json::{Map, Value};
use wire::job::{Job, JobCreate, JobLine, JobScope, Schedule, ScheduleCreate, ScheduleUpdate};

use crate::api::{Context, Paging};
use crate::failure::{Failure, Result};
use crate::table::Table;
use crate::watch;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a job
    Run {
        #[command(flatten)]
        what: What,
        /// Wait until it ends and show how it goes; a job that failed is exit code 1
        #[arg(long)]
        wait: bool,
    },
    /// List jobs, the newest first
    List {
        /// Only with this status
        #[arg(long, value_parser = ["queued", "running", "completed", "partial", "failed", "cancelled"])]
        status: Option<String>,
        /// Only of this plugin
        #[arg(long)]
        plugin: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a job with its tasks and what it saw of each scope
    Show {
        /// Its id
        job: String,
    },
    /// Show the scopes of a job: those that were read, and those that are being read
    Scopes {
        /// Its id
        job: String,
        /// Only in this state
        #[arg(long, value_parser = ["reading", "complete", "unchanged", "partial", "denied", "throttled", "failed", "absent"])]
        state: Option<String>,
        /// Only of this task, such as a region
        #[arg(long)]
        task: Option<String>,
        /// Only of this kind, such as ec2.instances or ec2
        #[arg(long)]
        kind: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show the log of a job, the newest line first
    Log {
        /// Its id
        job: String,
        /// Only lines of this level or above
        #[arg(long, value_parser = ["debug", "info", "warn", "error"], default_value = "info")]
        level: String,
        /// Only of this task, such as a region
        #[arg(long)]
        task: Option<String>,
        /// Only about scopes that begin so
        #[arg(long)]
        scope: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Stop a job
    Cancel {
        /// Its id
        job: String,
    },
    /// Wait until a job ends and show how it goes; a job that failed is exit code 1
    Watch {
        /// Its id
        job: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// List schedules
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Repeat a job
    Create {
        #[command(flatten)]
        what: What,
        /// From one start to the next, 1m or more, e.g. 30m, 6h, 1d
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        every: u64,
    },
    /// Show a schedule
    Show {
        /// The schedule's id
        schedule: String,
    },
    /// Change a schedule; what is not named stays
    Update {
        /// The schedule's id
        schedule: String,
        /// The credential's name or id
        #[arg(long)]
        credential: Option<String>,
        /// The relay that does it, by name or id
        #[arg(long, value_name = "RELAY")]
        relay: Option<String>,
        /// Let a server do it, and no relay
        #[arg(long, conflicts_with = "relay")]
        no_relay: bool,
        /// From one start to the next, 1m or more, e.g. 30m, 6h, 1d
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        every: Option<u64>,
        /// A setting of the plugin; those that are named take the place of all that were there
        #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
        set: Vec<(String, Value)>,
    },
    /// Start nothing until it is resumed
    Pause {
        /// The schedule's id
        schedule: String,
    },
    /// Let a paused schedule go on in its rhythm
    Resume {
        /// The schedule's id
        schedule: String,
    },
    /// Stop repeating a job
    Delete {
        /// The schedule's id
        schedule: String,
    },
}

/// What a job does.
#[derive(Debug, Args)]
pub(crate) struct What {
    /// The plugin
    #[arg(long)]
    plugin: String,
    /// The credential's name or id, where the plugin needs one
    #[arg(long)]
    credential: Option<String>,
    /// The relay that does it, by name or id; without one a server does
    #[arg(long, value_name = "RELAY")]
    relay: Option<String>,
    /// A setting of the plugin; the value is JSON where it can be read as JSON, else text
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, Value)>,
}

impl Table for Job {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("ID", "id"),
        ("PLUGIN", "plugin"),
        ("STATUS", "status"),
        ("CREATED", "created_at"),
        ("FINISHED", "finished_at"),
        ("BY", "requested_by"),
        ("ERROR", "error"),
    ];
}

impl Table for JobScope {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("SCOPE", "scope"),
        ("TASK", "task"),
        ("STATE", "state"),
        ("NODES", "nodes"),
        ("EDGES", "edges"),
        ("STARTED", "started_at"),
        ("FINISHED", "finished_at"),
        ("REASON", "reason"),
    ];
}

impl Table for JobLine {
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("AT", "at"), ("LEVEL", "level"), ("TASK", "task"), ("SCOPE", "scope"), ("TEXT", "text")];
}

impl Table for Schedule {
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("ID", "id"),
        ("PLUGIN", "plugin"),
        ("EVERY (S)", "interval_s"),
        ("NEXT", "next_at"),
        ("PAUSED", "paused"),
        ("CREDENTIAL", "credential"),
        ("SETTINGS", "config"),
    ];
}

pub(crate) fn setting(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            Ok((key.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| Value::from(value))))
        }
        _ => Err("give the setting's key, = and its value".to_owned()),
    }
}

fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "use a number with s, m, h or d, such as 30m".to_owned();
    let unit = match text.bytes().last().ok_or_else(wrong)? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3_600,
        b'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text.get(..text.len() - 1).and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
    let seconds = count.checked_mul(unit).ok_or_else(wrong)?;
    if seconds < 60 { Err("use 1m or more".to_owned()) } else { Ok(seconds) }
}

/// Settings by their keys, each given once.
pub(crate) fn config(set: &[(String, Value)]) -> Result<Map<String, Value>> {
    let mut config = Map::new();
    for (key, value) in set {
        if config.insert(key.clone(), value.clone()).is_some() {
            return Err(Failure::usage(format!("the setting `{key}` is given twice"))
                .hint(format!("a list is one value: --set '{key}=[\"a\",\"b\"]'")));
        }
    }
    Ok(config)
}

impl What {
    fn config(&self) -> Result<Map<String, Value>> {
        config(&self.set)
    }
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        match self {
            Self::Run { what, wait } => {
                let config = what.config()?;
                let api = cx.tenant()?;
                let job = api
                    .post(
                        &["jobs"],
                        &JobCreate { plugin: what.plugin, credential: what.credential, relay: what.relay, config },
                    )
                    .await?;
                if wait {
                    return watch::run(&api, job.text("id")).await;
                }
                api.out.say(&format!("watch it: cairn jobs watch {}", job.text("id")));
                api.out.row::<Job>(job)
            }
            Self::List { status, plugin, paging } => {
                let query = [("status", status.as_deref()), ("plugin", plugin.as_deref())];
                cx.tenant()?.show_list::<Job>(&["jobs"], &query, paging).await
            }
            Self::Show { job } => {
                let api = cx.tenant()?;
                api.out.one(&api.get(&["jobs", &job]).await?)
            }
            Self::Scopes { job, state, task, kind, paging } => {
                let query = [("state", state.as_deref()), ("task", task.as_deref()), ("kind", kind.as_deref())];
                cx.tenant()?.show_list::<JobScope>(&["jobs", &job, "scopes"], &query, paging).await
            }
            Self::Log { job, level, task, scope, paging } => {
                let query = [("level", Some(level.as_str())), ("task", task.as_deref()), ("scope", scope.as_deref())];
                cx.tenant()?.show_list::<JobLine>(&["jobs", &job, "log"], &query, paging).await
            }
            Self::Cancel { job } => {
                let api = cx.tenant()?;
                api.out.row::<Job>(api.act(&["jobs", &job, "cancel"]).await?)
            }
            Self::Watch { job } => watch::run(&cx.tenant()?, &job).await,
        }
    }
}

async fn paused(cx: &Context, schedule: &str, paused: bool) -> Result {
    let api = cx.tenant()?;
    let body = ScheduleUpdate { paused: Some(paused), ..ScheduleUpdate::default() };
    api.out.one(&api.patch(&["schedules", schedule], &body).await?)
}

impl ScheduleCommand {
    pub(crate) async fn run(self, cx: &Context) -> Result {
        match self {
            Self::List { paging } => cx.tenant()?.show_list::<Schedule>(&["schedules"], &[], paging).await,
            Self::Create { what, every } => {
                let config = what.config()?;
                let api = cx.tenant()?;
                let body = ScheduleCreate {
                    plugin: what.plugin,
                    credential: what.credential,
                    relay: what.relay,
                    config,
                    interval_s: every,
                };
                api.out.one(&api.post(&["schedules"], &body).await?)
            }
            Self::Show { schedule } => {
                let api = cx.tenant()?;
                api.out.one(&api.get(&["schedules", &schedule]).await?)
            }
            Self::Update { schedule, credential, relay, no_relay, every, set } => {
                let config = if set.is_empty() { None } else { Some(config(&set)?) };
                let relay = if no_relay { Some(String::new()) } else { relay };
                let body = ScheduleUpdate { credential, relay, config, interval_s: every, paused: None };
                let api = cx.tenant()?;
                api.out.one(&api.patch(&["schedules", &schedule], &body).await?)
            }
            Self::Pause { schedule } => paused(cx, &schedule, true).await,
            Self::Resume { schedule } => paused(cx, &schedule, false).await,
            Self::Delete { schedule } => {
                let api = cx.tenant()?;
                api.delete(&["schedules", &schedule]).await?;
                api.out.say(&format!("schedule {schedule} is deleted"));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_json_where_they_can_be() {
        for (input, key, value) in [
            ("regions=[\"a\",\"b\"]", "regions", json!(["a", "b"])),
            ("regions=a,b", "regions", json!("a,b")),
            ("n=5", "n", json!(5)),
            ("n=\"5\"", "n", json!("5")),
            ("on=true", "on", json!(true)),
            ("path=/a=b", "path", json!("/a=b")),
            ("empty=", "empty", json!("")),
        ] {
            assert_eq!(setting(input), Ok((key.to_owned(), value)), "{input}");
        }
        assert!(setting("x").is_err() && setting("=x").is_err());
    }

    #[test]
    fn intervals_have_units() {
        for (input, expect) in [("60s", 60), ("30m", 1_800), ("6h", 21_600), ("1d", 86_400)] {
            assert_eq!(seconds(input), Ok(expect));
        }
        for bad in ["", "m", "5", "59s", "0m", "-1m", "1w", "99999999999999999999d", "é"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_setting_is_given_once() {
        let twice = What {
            plugin: "aws".into(),
            credential: None,
            relay: None,
            set: vec![("a".into(), json!(1)), ("a".into(), json!(2))],
        };
        assert!(twice.config().unwrap_err().message.contains("given twice"));
    }
}
