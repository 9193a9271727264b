//! Waiting for a job: its event stream, taken up again when it breaks, shown as a bar or as lines.

use std::time::Duration;

use domain::JobStatus;
use indicatif::{ProgressBar, ProgressStyle};
use wire::job::{Job, JobDetail};

use crate::api::Api;
use crate::clean::clean;
use crate::doc::Doc;
use crate::failure::{Exit, Failure, Result};
use crate::output::{Output, warn};
use crate::sse::Parser;

/// Gaps of a partial job that are told one by one.
const GAPS_SHOWN: usize = 20;
/// The server sends comments in between: a stream that is silent for this long is dead.
const SILENCE: Duration = Duration::from_mins(1);
/// Tries in a row without an event before the server is given up: about two minutes.
const TRIES_MAX: u32 = 28;

/// Follows the job to its end and shows how it ended.
pub(crate) async fn run(api: &Api, job: &str) -> Result {
    let mut progress = Progress::new(api.out);
    let ended = tokio::select! {
        ended = follow(api, job, &mut progress) => ended,
        _ = tokio::signal::ctrl_c() => {
            Err(Failure::new(format!("no longer watching; job {job} goes on"))
                .hint(format!("cairn jobs watch {job}, or cairn jobs cancel {job}"))
                .exit(Exit::Interrupted))
        }
    };
    progress.finish();
    let doc = ended?;
    let detail = parse(&doc)?;
    api.out.row::<Job>(doc)?;
    conclude(api.out, &detail)
}

fn parse(doc: &Doc) -> Result<JobDetail> {
    doc.parse().map_err(|e| Failure::new(format!("the server's job is not as expected: {e}")))
}

async fn follow(api: &Api, job: &str, progress: &mut Progress) -> Result<Doc> {
    let mut tries = 0;
    loop {
        let broke = match once(api, job, progress, &mut tries).await {
            Ok(Some(last)) => return Ok(last),
            Ok(None) => None,
            Err(failure) if failure.transient => Some(failure),
            Err(failure) => return Err(failure),
        };
        tries += 1;
        if tries > TRIES_MAX {
            let failure = broke.unwrap_or_else(|| Failure::new("the server keeps ending the stream of events"));
            return Err(failure.hint(format!("the job may go on: cairn jobs watch {job}")));
        }
        tokio::time::sleep(pause(tries)).await;
    }
}

/// The pause before a try: doubling from a fifth of a second to five.
fn pause(tries: u32) -> Duration {
    Duration::from_millis(200_u64.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(5_000))
}

/// Reads one stream. The job as it ended, or `None` when the stream ended before the job.
async fn once(api: &Api, job: &str, progress: &mut Progress, tries: &mut u32) -> Result<Option<Doc>> {
    let mut stream = api.stream(&["jobs", job, "events"], &[]).await?;
    let mut parser = Parser::default();
    // A stream that fell silent is as good as ended.
    while let Some(bytes) = tokio::time::timeout(SILENCE, stream.chunk()).await.unwrap_or(Ok(None))? {
        for event in parser.push(&bytes)? {
            *tries = 0;
            if event.name == "end" {
                return api.get(&["jobs", job]).await.map(Some);
            }
            if event.name == "job" {
                let detail: JobDetail = serde_json::from_str(&event.data)
                    .map_err(|e| Failure::new(format!("the server's event is not as expected: {e}")))?;
                progress.show(&detail);
            }
        }
    }
    Ok(None)
}

/// Says how the job ended, as an exit code too.
fn conclude(out: Output, detail: &JobDetail) -> Result {
    let id = detail.job.id;
    match detail.job.status.parse() {
        Ok(JobStatus::Completed) => {
            let (nodes, edges) =
                detail.coverage.iter().fold((0, 0), |(n, e), scope| (n + scope.nodes, e + scope.edges));
            out.say(&format!("job {id} completed: {nodes} nodes, {edges} edges"));
            Ok(())
        }
        Ok(JobStatus::Partial) => {
            let gaps: Vec<String> = gaps(detail).collect();
            warn(&format!(
                "job {id} is partial: {} of {} scopes were not read completely and closed nothing",
                gaps.len(),
                detail.coverage.len()
            ));
            gaps.iter().take(GAPS_SHOWN).for_each(|gap| warn(gap));
            if gaps.len() > GAPS_SHOWN {
                warn(&format!("… and {} more: cairn jobs show {id}", gaps.len() - GAPS_SHOWN));
            }
            Ok(())
        }
        Ok(JobStatus::Failed) => {
            let why =
                detail.job.error.as_deref().or_else(|| detail.tasks.iter().find_map(|task| task.error.as_deref()));
            Err(Failure::new(format!("job {id} failed: {}", why.unwrap_or("no reason was given")))
                .hint(format!("cairn jobs show {id}")))
        }
        Ok(JobStatus::Cancelled) => Err(Failure::new(format!("job {id} was cancelled"))),
        _ => Err(Failure::new(format!("job {id} ended as `{}`", detail.job.status))),
    }
}

fn gaps(detail: &JobDetail) -> impl Iterator<Item = String> {
    detail.coverage.iter().filter(|scope| !matches!(scope.coverage.as_str(), "complete" | "absent" | "unchanged")).map(
        |scope| {
            let reason = scope.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("{} {}{reason}", scope.scope, scope.coverage)
        },
    )
}

/// A bar on a terminal, a line per change elsewhere, nothing with `--quiet`.
struct Progress {
    out: Output,
    bar: Option<ProgressBar>,
    last: String,
}

impl Progress {
    fn new(out: Output) -> Self {
        Self { out, bar: out.draws().then(ProgressBar::new_spinner), last: String::new() }
    }

    fn show(&mut self, detail: &JobDetail) {
        let Some(bar) = &self.bar else {
            let line = describe(detail);
            if line != self.last {
                self.out.say(&line);
                self.last = line;
            }
            return;
        };
        let template = if detail.job.total > 0 { "{bar:30} {pos}/{len} {wide_msg}" } else { "{spinner} {wide_msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_length(detail.job.total);
        bar.set_position(detail.job.done);
        bar.set_message(clean(&doing(detail)).into_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn describe(detail: &JobDetail) -> String {
    let steps = if detail.job.total > 0 { format!(" {}/{}", detail.job.done, detail.job.total) } else { String::new() };
    format!("job {}{steps} {}", detail.job.id, doing(detail)).trim_end().to_owned()
}

/// What is going on: the job's status, and what its first running task does.
fn doing(detail: &JobDetail) -> String {
    let running: Vec<_> = detail.tasks.iter().filter(|task| task.status == "running").collect();
    let first = running.first().map(|task| format!(": {} {}", task.key, task.message)).unwrap_or_default();
    let more = if running.len() > 1 { format!(" (and {} more)", running.len() - 1) } else { String::new() };
    format!("{}{}{more}", detail.job.status, first.trim_end())
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    fn job(status: &str) -> JobDetail {
        serde_json::from_value(json!({
            "id": format!("job_{}", "0".repeat(26)), "plugin": "aws", "credential": null, "schedule": null, "config": {}, "status": status,
            "requested_by": "ann", "created_at": "2026-11-22T03:00:00.000Z", "started_at": null, "finished_at": null,
            "error": null, "done": 3, "total": 9,
            "tasks": [
                {"id": format!("tsk_{}", "0".repeat(26)), "key": "us-east-1", "status": "running", "attempt": 1, "done": 3, "total": 9, "message": "ec2", "error": null},
                {"id": format!("tsk_{}", "0".repeat(26)), "key": "us-east-2", "status": "running", "attempt": 1, "done": 0, "total": 0, "message": "", "error": "no route"}
            ],
            "coverage": [
                {"scope": "aws:1:us-east-1:ec2", "coverage": "complete", "reason": null, "nodes": 2, "edges": 1},
                {"scope": "aws:1:us-east-1:iam", "coverage": "denied", "reason": "AccessDenied", "nodes": 0, "edges": 0},
                {"scope": "aws:1:us-east-1:efs", "coverage": "absent", "reason": "not offered", "nodes": 0, "edges": 0}
            ]
        }))
        .unwrap()
    }

    #[test]
    fn progress_says_what_is_going_on() {
        let id = job("running").job.id;
        assert_eq!(describe(&job("running")), format!("job {id} 3/9 running: us-east-1 ec2 (and 1 more)"));
    }

    #[test]
    fn a_gap_is_what_was_there_and_not_read() {
        assert_eq!(gaps(&job("partial")).collect::<Vec<_>>(), ["aws:1:us-east-1:iam denied: AccessDenied"]);
    }

    #[test]
    fn how_a_job_ends_is_the_exit_code() {
        let out = Output { format: crate::output::Format::Json, quiet: true };
        assert!(conclude(out, &job("completed")).is_ok());
        assert!(conclude(out, &job("partial")).is_ok());
        for (status, message) in [("failed", "no route"), ("cancelled", "cancelled"), ("running", "ended as `running`")]
        {
            let failure = conclude(out, &job(status)).unwrap_err();
            assert_eq!(failure.exit, Exit::Failed);
            assert!(failure.message.contains(message), "{}", failure.message);
        }
    }

    #[test]
    fn a_server_that_is_away_is_asked_for_two_minutes() {
        let total: Duration = (1..=TRIES_MAX).map(pause).sum();
        assert!((110..130).contains(&total.as_secs()), "{total:?}");
        assert_eq!((pause(1), pause(u32::MAX)), (Duration::from_millis(200), Duration::from_secs(5)));
    }
}
