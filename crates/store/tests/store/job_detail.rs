//! A job from near: its log, its scopes while they are read and afterwards; schedules that are paused.

use std::time::Duration;

use access::ops;
use domain::{Clock as _, Coverage, JobId, JobStatus, LineLevel, TenantId};
use serde_json::{Map, json};
use store::{
    JobFilter, LineFilter, NewSchedule, Reading, ScheduleChange, ScopeFilter, TaskOutcome, TaskProgress, WorkKind,
};

use crate::evidence::collect;
use crate::job::LEASE_MS;
use crate::pair::{Pair, each_engine};

pub(crate) fn progress<'a>(
    done: u64,
    total: u64,
    message: &'a str,
    reading: Option<&'a [Reading]>,
) -> TaskProgress<'a> {
    TaskProgress { done, total, message, is_told: true, reading }
}

impl Pair<'_> {
    async fn lines(&self, job: JobId, filter: LineFilter) -> Vec<(LineLevel, String)> {
        let (mut lines, mut after) = (Vec::new(), None);
        loop {
            let page = self.read::<ops::JobList>(self.a).await.job_lines(job, &filter, after, 2).await.unwrap();
            lines.extend(page.items.into_iter().map(|line| {
                let about = line.task.into_iter().chain(line.scope).collect::<Vec<_>>().join(" ");
                (line.level, format!("{about}: {}", line.text))
            }));
            match page.next {
                Some(next) => after = Some(next),
                None => return lines.into_iter().rev().collect(),
            }
        }
    }

    async fn scopes(&self, job: JobId, filter: ScopeFilter) -> Vec<(String, String, u64)> {
        let (mut scopes, mut after) = (Vec::new(), None);
        loop {
            let page = self.read::<ops::JobList>(self.a).await.job_scopes(job, &filter, after, 1).await.unwrap();
            scopes.extend(page.items.into_iter().map(|row| (row.scope, row.state, row.nodes)));
            match page.next {
                Some(next) => after = Some(next),
                None => return scopes,
            }
        }
    }

    async fn schedule(&self, tenant: TenantId) -> store::ScheduleRow {
        let (plugin, config) = ("host".to_owned(), Map::new());
        let new = NewSchedule { plugin, credential: None, relay: None, config, interval_s: 3_600 };
        self.write::<ops::ScheduleCreate>(tenant).await.schedule_create(new).await.unwrap()
    }

    async fn change(
        &self,
        schedule: &store::ScheduleRow,
        change: ScheduleChange,
    ) -> domain::Result<store::ScheduleRow> {
        self.write::<ops::ScheduleUpdate>(self.a).await.schedule_update(schedule.id, change).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_job_says_in_order_what_began_what_was_read_and_how_it_ended() {
    each_engine(async |world| {
        // Lines of one millisecond have no order.
        let later = || world.clock.advance(Duration::from_millis(1));
        let (job, claims) = world.running(world.a, &["eu-west-1"]).await;
        later();
        let hostile = progress(1, 9, "ec2.instances\u{1b}[2J\r\nGET /\u{202e}", None);
        world.write::<ops::JobRun>(world.a).await.task_progress(&claims[0], &hostile).await.unwrap();
        later();
        let denied = Coverage::Denied { reason: "AccessDenied: no".to_owned() };
        collect(world, &claims[0], "aws:1:eu-west-1:ec2.vpcs", denied, &[]).await.unwrap();
        later();
        collect(world, &claims[0], "aws:1:eu-west-1:s3.buckets", Coverage::Complete, &[]).await.unwrap();
        later();
        let again = TaskOutcome::Retry("the database is away".to_owned());
        world.write::<ops::JobRun>(world.a).await.task_finished(&claims[0], again).await.unwrap();
        world.clock.advance(Duration::from_secs(5));
        let second = world.claim().await;
        world.write::<ops::JobRun>(world.a).await.task_started(&second).await.unwrap();
        later();
        assert_eq!(world.finish(&second, TaskOutcome::Completed).await, JobStatus::Partial);

        let all = world.lines(job.id, LineFilter::default()).await;
        let texts: Vec<&str> = all.iter().map(|(_, text)| text.as_str()).collect();
        for (at, begins) in [
            (3, "eu-west-1: ec2.instances [2J  GET /"),
            (4, "eu-west-1 aws:1:eu-west-1:ec2.vpcs: denied: AccessDenied: no"),
            (5, "eu-west-1 aws:1:eu-west-1:s3.buckets: complete: nodes "),
            (6, "eu-west-1: again in 5 s, since try 1 ended: the database is away"),
            (7, "eu-west-1: the task begins, try 2"),
        ] {
            assert!(texts[at].starts_with(begins), "{at}: {texts:#?}");
        }
        // The last ones are of one millisecond.
        assert_eq!(texts.len(), 11, "{texts:#?}");
        assert!(texts[8..].contains(&": the job is partial"), "{texts:#?}");
        let levels = |level| LineFilter { level: Some(level), ..LineFilter::default() };
        let warned = world.lines(job.id, levels(LineLevel::Warn)).await;
        assert_eq!(warned.len(), 3, "{warned:?}");
        assert!(world.lines(job.id, levels(LineLevel::Error)).await.is_empty());
        let about = LineFilter { scope: Some("aws:1:eu-west-1:ec2".to_owned()), ..LineFilter::default() };
        assert_eq!(world.lines(job.id, about).await.len(), 1);
        let of = |task: &str| LineFilter { task: Some(task.to_owned()), ..LineFilter::default() };
        assert!(world.lines(job.id, of("eu-west-2")).await.is_empty());

        // Old lines go, when some job ends.
        world.clock.advance(Duration::from_hours(31 * 24));
        let (_, claims) = world.running(world.a, &["t"]).await;
        world.finish(&claims[0], TaskOutcome::Failed("no".to_owned())).await;
        assert!(world.lines(job.id, LineFilter::default()).await.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scope_is_shown_while_it_is_read_and_as_it_was_read() {
    each_engine(async |world| {
        let (job, claims) = world.running(world.a, &["t1", "t2"]).await;
        let reading =
            |scope: &str, nodes| Reading { scope: scope.parse().unwrap(), nodes, edges: 0, started: world.clock.now() };
        let now = [reading("host:1:packages", 7), reading("host:1:ports", 0)];
        for claim in &claims {
            let news = progress(1, 2, "packages", Some(&now));
            world.write::<ops::JobRun>(world.a).await.task_progress(claim, &news).await.unwrap();
        }
        let all = world.scopes(job.id, ScopeFilter::default()).await;
        assert_eq!(all.len(), 4);
        assert_eq!(all[0], ("host:1:packages".to_owned(), "reading".to_owned(), 7));

        collect(world, &claims[0], "host:1:packages", Coverage::Complete, &[]).await.unwrap();
        let tasks = world.read::<ops::JobList>(world.a).await.job_show(job.id).await.unwrap().tasks;
        let key = tasks.into_iter().find(|task| task.id == claims[0].task()).unwrap().key;
        let of_one = ScopeFilter { task: Some(key), ..ScopeFilter::default() };
        let states: Vec<_> =
            world.scopes(job.id, of_one.clone()).await.into_iter().map(|(_, state, _)| state).collect();
        assert_eq!(states, ["complete", "reading"]);
        let kind = ScopeFilter { kind: Some("ports".to_owned()), ..ScopeFilter::default() };
        assert_eq!(world.scopes(job.id, kind).await.len(), 2);
        let complete = ScopeFilter { state: Some("complete".to_owned()), ..ScopeFilter::default() };
        assert_eq!(world.scopes(job.id, complete).await.len(), 1);

        // Nothing of a task that has ended is being read, and nothing of another tenant's is to be seen.
        world.finish(&claims[0], TaskOutcome::Completed).await;
        assert_eq!(world.scopes(job.id, of_one).await.len(), 1);
        let theirs =
            world.read::<ops::JobList>(world.b).await.job_scopes(job.id, &ScopeFilter::default(), None, 9).await;
        assert_eq!(theirs.unwrap_err().code(), "not_found");
        let theirs = world.read::<ops::JobList>(world.b).await.job_lines(job.id, &LineFilter::default(), None, 9).await;
        assert_eq!(theirs.unwrap_err().code(), "not_found");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_schedule_starts_nothing_and_goes_on_in_its_rhythm() {
    each_engine(async |world| {
        let schedule = world.schedule(world.a).await;
        let paused =
            world.change(&schedule, ScheduleChange { paused: Some(true), ..ScheduleChange::default() }).await.unwrap();
        assert!(paused.paused);
        world.clock.advance(Duration::from_mins(3 * 60 + 1));
        assert!(world.store.work_claim("w1", LEASE_MS).await.unwrap().is_none(), "it is paused");
        let resumed =
            world.change(&schedule, ScheduleChange { paused: Some(false), ..ScheduleChange::default() }).await.unwrap();
        assert_eq!(
            resumed.next_at,
            schedule.next_at.plus_millis(4 * 3_600_000),
            "what fell into the pause is left out"
        );
        assert!(world.store.work_claim("w1", LEASE_MS).await.unwrap().is_none(), "it is not due yet");

        let often = ScheduleChange { interval_s: Some(60), ..ScheduleChange::default() };
        let often = world.change(&schedule, often).await.unwrap();
        assert_eq!(often.next_at, world.clock.now().plus_millis(60_000));
        world.clock.advance(Duration::from_mins(1));
        let claim = world.claim().await;
        assert_eq!(claim.kind, WorkKind::Schedule);
        // Somebody pauses it while a worker makes its next job: that worker has lost.
        world.change(&schedule, ScheduleChange { paused: Some(true), ..ScheduleChange::default() }).await.unwrap();
        let made = world.write::<ops::JobRun>(world.a).await.schedule_due(&claim).await;
        assert_eq!(made.unwrap_err().code(), "conflict");
        let jobs = world.read::<ops::JobList>(world.a).await.job_list(&JobFilter::default(), None, 9).await.unwrap();
        assert!(jobs.items.is_empty());

        for (change, field) in [
            (ScheduleChange { interval_s: Some(59), ..ScheduleChange::default() }, "interval"),
            (
                ScheduleChange {
                    credential: Some(world.credential_named(world.a, "c").await),
                    ..ScheduleChange::default()
                },
                "plugin",
            ),
        ] {
            let error = world.change(&schedule, change).await.unwrap_err();
            assert!(error.code() == "invalid" && error.to_string().contains(field), "{error}");
        }
        let (action, _, detail) =
            world.audit(world.a).await.into_iter().rfind(|(action, ..)| action == "schedule_update").unwrap();
        assert_eq!(
            (action.as_str(), &detail["paused"], &detail["before"]["paused"]),
            ("schedule_update", &json!(true), &json!(false))
        );
    })
    .await;
}
