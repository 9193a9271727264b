//! Jobs, tasks, leases, schedules.

use std::collections::HashSet;
use std::time::Duration;

use access::ops;
use domain::{Coverage, JobStatus, TaskStatus, TenantId};
use serde_json::{Map, json};
use store::{
    ATTEMPTS_MAX, Begun, Claim, JobFilter, JobRow, Lease, NewJob, NewSchedule, NewTask, Store, TaskOutcome, WorkKind,
};

use crate::evidence::collect;
use crate::job_detail::progress;
use crate::pair::{Pair, each_engine};

pub(crate) const LEASE_MS: i64 = 30_000;

pub(crate) fn new_job() -> NewJob {
    NewJob { relay: None, plugin: "host".to_owned(), credential: None, config: Map::new(), schedule: None }
}

pub(crate) fn tasks(keys: &[&str]) -> Vec<NewTask> {
    keys.iter()
        .map(|key| NewTask { key: (*key).to_owned(), params: json!({"k": key}).as_object().unwrap().clone() })
        .collect()
}

impl Pair<'_> {
    pub(crate) async fn job(&self, tenant: TenantId) -> JobRow {
        self.write::<ops::JobCreate>(tenant).await.job_create(new_job()).await.unwrap()
    }

    pub(crate) async fn claim(&self) -> Claim {
        self.store.work_claim("w1", LEASE_MS).await.unwrap().expect("there is work")
    }

    /// Makes a job and plans it; its id and a claim on each task, started.
    pub(crate) async fn running(&self, tenant: TenantId, keys: &[&str]) -> (JobRow, Vec<Claim>) {
        let job = self.job(tenant).await;
        let plan = self.claim().await;
        assert_eq!((plan.kind, plan.job(), plan.tenant, plan.attempt), (WorkKind::Plan, job.id, tenant, 1));
        assert!(matches!(self.write::<ops::JobRun>(tenant).await.job_started(&plan).await.unwrap(), Begun::Run(_)));
        self.write::<ops::JobRun>(tenant).await.job_planned(&plan, tasks(keys)).await.unwrap();
        let mut claims = Vec::new();
        for _ in keys {
            let claim = self.claim().await;
            assert!(matches!(self.start(&claim).await, Begun::Run(_)));
            claims.push(claim);
        }
        (job, claims)
    }

    async fn start(&self, claim: &Claim) -> Begun<store::TaskRun> {
        self.write::<ops::JobRun>(claim.tenant).await.task_started(claim).await.unwrap()
    }

    pub(crate) async fn finish(&self, claim: &Claim, outcome: TaskOutcome) -> JobStatus {
        let status = self.write::<ops::JobRun>(claim.tenant).await.task_finished(claim, outcome).await.unwrap();
        if status.is_final() { status } else { self.judge(None).await.unwrap_or(status) }
    }

    /// Judges the job whose tasks have all ended, if there is one, as the server's runner does.
    async fn judge(&self, failed: Option<&str>) -> Option<JobStatus> {
        let claim = self.store.work_claim("judge", LEASE_MS).await.unwrap()?;
        if claim.kind != WorkKind::Judge {
            self.store.work_release(&claim).await.unwrap();
            return None;
        }
        Some(self.write::<ops::JobRun>(claim.tenant).await.job_judged(&claim, failed).await.unwrap())
    }

    async fn show(&self, job: &JobRow, tenant: TenantId) -> store::JobDetail {
        self.read::<ops::JobList>(tenant).await.job_show(job.id).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_from_queue_to_completed_and_the_audit_log_says_so() {
    each_engine(async |world| {
        let (job, claims) = world.running(world.a, &["t1", "t2"]).await;
        world
            .write::<ops::JobRun>(world.a)
            .await
            .task_progress(&claims[0], &progress(3, 9, "reading", None))
            .await
            .unwrap();
        let shown = world.show(&job, world.a).await;
        assert_eq!((shown.job.status, shown.job.tasks, shown.job.tasks_ended), (JobStatus::Running, 2, 0));
        let busy = shown.tasks.iter().find(|task| task.id == claims[0].task()).unwrap();
        assert_eq!((busy.done, busy.total, busy.message.as_str(), busy.attempt), (3, 9, "reading", 1));

        for (claim, scope) in claims.iter().zip(["host:1:os", "host:1:users"]) {
            collect(world, claim, scope, Coverage::Complete, &[]).await.unwrap();
        }
        assert_eq!(world.finish(&claims[0], TaskOutcome::Completed).await, JobStatus::Running);
        assert_eq!(world.finish(&claims[1], TaskOutcome::Completed).await, JobStatus::Completed);
        let shown = world.show(&job, world.a).await;
        assert_eq!(shown.coverage.len(), 2);
        assert!(shown.job.finished_at.is_some() && shown.job.error.is_none());
        assert!(world.store.work_claim("w1", LEASE_MS).await.unwrap().is_none());

        let log = world.audit(world.a).await;
        let told: Vec<_> = log
            .iter()
            .filter(|(action, ..)| action.starts_with("job_"))
            .map(|(a, _, d)| (a.as_str(), &d["status"]))
            .collect();
        assert_eq!(
            told,
            [("job_create", &json!(null)), ("job_run", &json!("running")), ("job_run", &json!("completed"))]
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_ends_as_well_as_its_scopes_were_read() {
    let reason = || "AccessDenied".to_owned();
    let cases = [
        (vec![Coverage::Complete, Coverage::Absent { reason: reason() }], JobStatus::Completed),
        (vec![Coverage::Complete, Coverage::Denied { reason: reason() }], JobStatus::Partial),
        (vec![Coverage::Partial { reason: reason() }], JobStatus::Partial),
        (vec![Coverage::Denied { reason: reason() }, Coverage::Throttled { reason: reason() }], JobStatus::Failed),
        (vec![], JobStatus::Failed),
    ];
    each_engine(async |world| {
        for (coverages, expected) in cases.clone() {
            let (job, claims) = world.running(world.a, &["t"]).await;
            for (at, coverage) in coverages.into_iter().enumerate() {
                collect(world, &claims[0], &format!("s:{at}"), coverage, &[]).await.unwrap();
            }
            assert_eq!(world.finish(&claims[0], TaskOutcome::Completed).await, expected);
            let job = world.show(&job, world.a).await.job;
            assert_eq!(job.error.is_some(), expected == JobStatus::Failed, "{:?}", job.error);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_task_makes_the_job_partial_and_a_failed_plan_makes_it_failed() {
    each_engine(async |world| {
        let (job, claims) = world.running(world.a, &["t1", "t2"]).await;
        collect(world, &claims[0], "s", Coverage::Complete, &[]).await.unwrap();
        world.finish(&claims[0], TaskOutcome::Completed).await;
        assert_eq!(world.finish(&claims[1], TaskOutcome::Failed("no".to_owned())).await, JobStatus::Partial);
        assert_eq!(world.show(&job, world.a).await.job.error.as_deref(), Some("no"));

        let job = world.job(world.a).await;
        let plan = world.claim().await;
        world.write::<ops::JobRun>(world.a).await.job_started(&plan).await.unwrap();
        world.write::<ops::JobRun>(world.a).await.job_unplanned(&plan, "the credential has expired").await.unwrap();
        let shown = world.show(&job, world.a).await.job;
        assert_eq!((shown.status, shown.error.as_deref()), (JobStatus::Failed, Some("the credential has expired")));
        let (action, outcome, detail) = world.audit(world.a).await.pop().unwrap();
        assert_eq!(
            (action.as_str(), outcome.as_str(), &detail["error"]),
            ("job_run", "fail", &json!("the credential has expired"))
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_of_64_workers_hold_one_claim() {
    each_engine(async |world| {
        let job = world.job(world.a).await;
        let plan = world.claim().await;
        world.write::<ops::JobRun>(world.a).await.job_started(&plan).await.unwrap();
        let keys: Vec<String> = (0..40).map(|at| format!("t{at}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        world.write::<ops::JobRun>(world.a).await.job_planned(&plan, tasks(&keys)).await.unwrap();
        let servers = [world.store.clone(), world.with_another_server().await.store];
        let workers = (0..64).map(|at: usize| {
            let store: Store = servers[at % 2].clone();
            tokio::spawn(async move { store.work_claim(&format!("w{at}"), LEASE_MS).await.unwrap() })
        });
        let claims = futures::future::join_all(workers.collect::<Vec<_>>()).await;
        let held: Vec<_> = claims.into_iter().filter_map(|claim| claim.unwrap().map(|claim| claim.task())).collect();
        let distinct: HashSet<_> = held.iter().copied().collect();
        assert_eq!((held.len(), distinct.len()), (40, 40));
        let planned: HashSet<_> = world.show(&job, world.a).await.tasks.iter().map(|task| task.id).collect();
        assert_eq!(distinct, planned);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_end_at_the_same_time_end_the_job_once() {
    each_engine(async |world| {
        let keys: Vec<String> = (0..16).map(|at| format!("t{at}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let (job, claims) = world.running(world.a, &keys).await;
        collect(world, &claims[0], "s", Coverage::Complete, &[]).await.unwrap();
        let ends = claims.iter().map(|claim| world.finish(claim, TaskOutcome::Completed));
        let ends = futures::future::join_all(ends).await;
        assert_eq!(ends.iter().filter(|status| **status == JobStatus::Completed).count(), 1);
        assert_eq!(world.show(&job, world.a).await.job.status, JobStatus::Completed);
        let log = world.audit(world.a).await;
        assert_eq!(log.iter().filter(|(_, _, detail)| detail["status"] == "completed").count(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_lost_its_lease_changes_nothing() {
    each_engine(async |world| {
        let (job, claims) = world.running(world.a, &["t"]).await;
        let old = &claims[0];
        assert_eq!(world.store.work_renew(old, LEASE_MS).await.unwrap(), Lease::Held);
        assert!(world.store.work_claim("w2", LEASE_MS).await.unwrap().is_none(), "the lease still runs");
        world.clock.advance(Duration::from_secs(30));
        let new = world.store.work_claim("w2", LEASE_MS).await.unwrap().expect("an ended lease can be claimed");
        assert_eq!((new.task(), new.attempt), (old.task(), 2));

        assert_eq!(world.store.work_renew(old, LEASE_MS).await.unwrap(), Lease::Lost);
        let run = |tenant| world.write::<ops::JobRun>(tenant);
        let refused = [
            run(world.a).await.task_finished(old, TaskOutcome::Completed).await.map(drop),
            run(world.a).await.task_progress(old, &progress(1, 1, "x", None)).await,
            run(world.a).await.task_started(old).await.map(drop),
            collect(world, old, "s", Coverage::Complete, &[b"late".to_vec()]).await.map(drop),
        ];
        for result in refused {
            assert_eq!(result.unwrap_err().code(), "conflict");
        }
        // A claim is good in its own tenant only.
        assert_eq!(run(world.b).await.task_started(&new).await.unwrap_err().code(), "not_found");
        let shown = world.show(&job, world.a).await;
        assert_eq!((shown.tasks[0].status, shown.coverage.len()), (TaskStatus::Running, 0));
        // Giving back a lost claim does not take the new one away either.
        world.store.work_release(old).await.unwrap();
        collect(world, &new, "s", Coverage::Complete, &[]).await.unwrap();
        assert_eq!(world.finish(&new, TaskOutcome::Completed).await, JobStatus::Completed);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_s_task_is_run_again_by_another_one() {
    each_engine(async |world| {
        let (job, claims) = world.running(world.a, &["t1", "t2"]).await;
        collect(world, &claims[0], "s:1", Coverage::Complete, &[b"x".to_vec()]).await.unwrap();
        world.finish(&claims[0], TaskOutcome::Completed).await;
        collect(world, &claims[1], "s:2", Coverage::Complete, &[b"y".to_vec()]).await.unwrap();
        // Here the server is killed. Another one starts on the same database.
        let world = &world.with_another_server().await;
        assert!(world.store.work_claim("w2", LEASE_MS).await.unwrap().is_none());
        world.clock.advance(Duration::from_mins(1));
        let again = world.claim().await;
        assert_eq!((again.task(), again.attempt), (claims[1].task(), 2));
        let Begun::Run(run) = world.start(&again).await else { panic!("it is to be run again") };
        assert_eq!(
            (run.job.id, run.task.attempt, run.task.params["k"].as_str()),
            (job.id, 2, Some(run.task.key.as_str()))
        );
        collect(world, &again, "s:2", Coverage::Complete, &[b"y".to_vec()]).await.unwrap();
        assert_eq!(world.finish(&again, TaskOutcome::Completed).await, JobStatus::Completed);
        assert_eq!(world.show(&job, world.a).await.coverage.len(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_never_ends_is_given_up_after_five_tries_and_says_so() {
    each_engine(async |world| {
        let (job, _) = world.running(world.a, &["t"]).await;
        for attempt in 2..=ATTEMPTS_MAX {
            world.clock.advance(Duration::from_mins(1));
            let claim = world.claim().await;
            assert_eq!(claim.attempt, attempt);
            assert!(matches!(world.start(&claim).await, Begun::Run(_)));
        }
        world.clock.advance(Duration::from_mins(1));
        assert!(matches!(world.start(&world.claim().await).await, Begun::Over));
        let shown = world.show(&job, world.a).await;
        assert_eq!((shown.job.status, shown.tasks[0].status), (JobStatus::Failed, TaskStatus::Failed));
        assert!(shown.tasks[0].error.as_deref().unwrap().starts_with("given up after 5 tries"));
        assert_eq!(shown.job.error, shown.tasks[0].error);
        world.clock.advance(Duration::from_mins(1));
        assert!(world.store.work_claim("w1", LEASE_MS).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_could_not_be_done_now_is_tried_later_and_a_released_one_at_once() {
    each_engine(async |world| {
        let (job, claims) = world.running(world.a, &["t"]).await;
        world.store.work_release(&claims[0]).await.unwrap();
        let claim = world.claim().await;
        assert_eq!(claim.attempt, 1, "a clean stop is no try");
        let mut claim = claim;
        for _ in 1..ATTEMPTS_MAX {
            world.start(&claim).await;
            assert_eq!(world.finish(&claim, TaskOutcome::Retry("away".to_owned())).await, JobStatus::Running);
            assert_eq!(world.show(&job, world.a).await.tasks[0].error.as_deref(), Some("away"));
            assert!(world.store.work_claim("w1", LEASE_MS).await.unwrap().is_none(), "not at once");
            world.clock.advance(Duration::from_mins(1));
            claim = world.claim().await;
        }
        assert_eq!(world.finish(&claim, TaskOutcome::Retry("away".to_owned())).await, JobStatus::Failed);
        assert_eq!(world.show(&job, world.a).await.job.error.as_deref(), Some("given up after 5 tries: away"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_stops_what_waits_at_once_and_what_runs_at_its_next_renewal() {
    each_engine(async |world| {
        let cancel =
            |job: domain::JobId| async move { world.write::<ops::JobCancel>(world.a).await.job_cancel(job).await };
        // Before it began.
        let job = world.job(world.a).await;
        assert_eq!(cancel(job.id).await.unwrap().status, JobStatus::Cancelled);
        assert_eq!(cancel(job.id).await.unwrap().status, JobStatus::Cancelled, "twice is no error");
        assert!(world.store.work_claim("w1", LEASE_MS).await.unwrap().is_none());
        // While it is planned.
        let job = world.job(world.a).await;
        let plan = world.claim().await;
        world.write::<ops::JobRun>(world.a).await.job_started(&plan).await.unwrap();
        assert_eq!(cancel(job.id).await.unwrap().status, JobStatus::Running);
        assert_eq!(world.store.work_renew(&plan, LEASE_MS).await.unwrap(), Lease::Cancelled);
        world.write::<ops::JobRun>(world.a).await.job_planned(&plan, tasks(&["t"])).await.unwrap();
        assert_eq!(world.show(&job, world.a).await.job.status, JobStatus::Cancelled);
        // With one task at work and one waiting.
        let job = world.job(world.a).await;
        let plan = world.claim().await;
        world.write::<ops::JobRun>(world.a).await.job_started(&plan).await.unwrap();
        world.write::<ops::JobRun>(world.a).await.job_planned(&plan, tasks(&["t1", "t2"])).await.unwrap();
        let claim = world.claim().await;
        world.start(&claim).await;
        let after = cancel(job.id).await.unwrap();
        assert_eq!((after.status, after.tasks_ended, after.cancel_requested), (JobStatus::Running, 1, true));
        assert!(world.store.work_claim("w1", LEASE_MS).await.unwrap().is_none(), "what waited is gone");
        assert_eq!(world.store.work_renew(&claim, LEASE_MS).await.unwrap(), Lease::Cancelled);
        assert_eq!(world.finish(&claim, TaskOutcome::Cancelled).await, JobStatus::Cancelled);
        // With a dead worker: whoever claims it next ends it.
        let (job, _) = world.running(world.a, &["t"]).await;
        cancel(job.id).await.unwrap();
        world.clock.advance(Duration::from_mins(1));
        assert!(matches!(world.start(&world.claim().await).await, Begun::Over));
        assert_eq!(world.show(&job, world.a).await.job.status, JobStatus::Cancelled);
        // Too late.
        let (job, claims) = world.running(world.a, &["t"]).await;
        world.finish(&claims[0], TaskOutcome::Failed("no".to_owned())).await;
        assert_eq!(cancel(job.id).await.unwrap_err().code(), "conflict");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_makes_one_job_at_a_time_and_leaves_missed_runs_out() {
    each_engine(async |world| {
        let new = |interval_s| NewSchedule {
            relay: None,
            plugin: "host".to_owned(),
            credential: None,
            config: Map::new(),
            interval_s,
        };
        let refused = world.write::<ops::ScheduleCreate>(world.a).await.schedule_create(new(59)).await.unwrap_err();
        assert!(refused.to_string().contains("60 seconds"), "{refused}");
        let schedule = world.write::<ops::ScheduleCreate>(world.a).await.schedule_create(new(60)).await.unwrap();

        let due = |claim: Claim| async move {
            assert_eq!(claim.kind, WorkKind::Schedule);
            world.write::<ops::JobRun>(world.a).await.schedule_due(&claim).await.unwrap()
        };
        let job = due(world.claim().await).await.expect("the first run is at once");
        assert_eq!(job.schedule, Some(schedule.id));
        let plan = world.claim().await;
        assert_eq!(plan.job(), job.id);
        assert!(world.store.work_claim("w1", LEASE_MS).await.unwrap().is_none(), "not due again");

        // Ten minutes in which no server ran, and the first job is still not done.
        world.clock.advance(Duration::from_secs(605));
        world.store.work_renew(&plan, 3_600_000).await.unwrap();
        assert!(due(world.claim().await).await.is_none(), "its last job still runs");
        assert!(world.store.work_claim("w1", LEASE_MS).await.unwrap().is_none());
        world.write::<ops::JobRun>(world.a).await.job_unplanned(&plan, "no").await.unwrap();
        world.clock.advance(Duration::from_secs(54));
        assert!(world.store.work_claim("w1", LEASE_MS).await.unwrap().is_none());
        world.clock.advance(Duration::from_secs(1));
        assert!(due(world.claim().await).await.is_some());

        let listed = world.read::<ops::ScheduleList>(world.a).await.schedule_list(None, 10).await.unwrap().items;
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].next_at, world.clock.advance(Duration::ZERO).plus_millis(60_000));
        let filter = JobFilter { schedule: Some(schedule.id), ..JobFilter::default() };
        assert_eq!(world.read::<ops::JobList>(world.a).await.job_list(&filter, None, 10).await.unwrap().items.len(), 2);
        world.write::<ops::ScheduleDelete>(world.a).await.schedule_delete(schedule.id).await.unwrap();
        let again = world.write::<ops::ScheduleDelete>(world.a).await.schedule_delete(schedule.id).await;
        assert_eq!(again.unwrap_err().code(), "not_found");
        assert_eq!(world.claim().await.kind, WorkKind::Plan);
        world.clock.advance(Duration::from_mins(10));
        assert_eq!(world.claim().await.kind, WorkKind::Plan);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_cut_into_pages_and_filtered() {
    each_engine(async |world| {
        let mut made = Vec::new();
        for _ in 0..5 {
            world.clock.advance(Duration::from_millis(1));
            made.insert(0, world.job(world.a).await.id);
        }
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page =
                world.read::<ops::JobList>(world.a).await.job_list(&JobFilter::default(), after, 2).await.unwrap();
            listed.extend(page.items.iter().map(|job| job.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(listed, made);
        let filter = JobFilter { status: Some(JobStatus::Running), ..JobFilter::default() };
        assert!(world.read::<ops::JobList>(world.a).await.job_list(&filter, None, 9).await.unwrap().items.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_of_another_plugin_or_tenant_is_refused() {
    each_engine(async |world| {
        let secret = domain::Secret::new(b"s3cret".to_vec());
        let credential = world
            .write::<ops::CredentialCreate>(world.a)
            .await
            .credential_create("aws", &"prod".parse().unwrap(), "aws-keys", &secret)
            .await
            .unwrap();
        let with = |plugin: &str| NewJob { plugin: plugin.to_owned(), credential: Some(credential.id), ..new_job() };
        let (other_plugin, other_tenant, right) = (with("host"), with("aws"), with("aws"));
        let (a, b) = (world.a, world.b);
        let create = |tenant, new| async move { world.write::<ops::JobCreate>(tenant).await.job_create(new).await };
        assert_eq!(create(a, other_plugin).await.unwrap_err().code(), "invalid");
        assert_eq!(create(b, other_tenant).await.unwrap_err().code(), "not_found");
        assert_eq!(create(a, right).await.unwrap().credential, Some(credential.id));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenant_sees_and_touches_no_job_and_no_schedule() {
    each_engine(async |world| {
        let job = world.job(world.a).await;
        let new = NewSchedule {
            relay: None,
            plugin: "host".to_owned(),
            credential: None,
            config: Map::new(),
            interval_s: 60,
        };
        let schedule = world.write::<ops::ScheduleCreate>(world.a).await.schedule_create(new).await.unwrap();
        assert!(
            world
                .read::<ops::JobList>(world.b)
                .await
                .job_list(&JobFilter::default(), None, 9)
                .await
                .unwrap()
                .items
                .is_empty()
        );
        assert!(world.read::<ops::ScheduleList>(world.b).await.schedule_list(None, 9).await.unwrap().items.is_empty());
        let refused = [
            world.read::<ops::JobList>(world.b).await.job_show(job.id).await.map(drop),
            world.write::<ops::JobCancel>(world.b).await.job_cancel(job.id).await.map(drop),
            world.write::<ops::ScheduleDelete>(world.b).await.schedule_delete(schedule.id).await,
            world
                .write::<ops::JobCreate>(world.b)
                .await
                .job_create(NewJob { schedule: Some(schedule.id), ..new_job() })
                .await
                .map(drop),
        ];
        for result in refused {
            assert_eq!(result.unwrap_err().code(), "not_found");
        }
        assert_eq!(world.claim().await.tenant, world.a, "the work is still there");
        assert_eq!(world.read::<ops::ScheduleList>(world.a).await.schedule_list(None, 9).await.unwrap().items.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_and_idle_workers_are_woken() {
    each_engine(async |world| {
        let mut changes = world.store.job_changes();
        let store = world.store.clone();
        let idle = tokio::spawn(async move { store.work_wait(Duration::from_hours(1)).await });
        let job = world.job(world.a).await;
        // Without a sign this would take an hour.
        idle.await.unwrap();
        changes.changed(world.a, job.id).await;
        assert!(world.store.work_claim("w1", LEASE_MS).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_ends_only_when_the_graph_was_judged_and_says_so_when_it_could_not_be() {
    each_engine(async |world| {
        let (job, claims) = world.running(world.a, &["t"]).await;
        collect(world, &claims[0], "s", Coverage::Complete, &[]).await.unwrap();
        let ended =
            world.write::<ops::JobRun>(world.a).await.task_finished(&claims[0], TaskOutcome::Completed).await.unwrap();
        assert_eq!(ended, JobStatus::Running, "the findings are not up to date yet");
        for _ in 1..store::ATTEMPTS_MAX {
            assert_eq!(world.judge(Some("the database is busy")).await, Some(JobStatus::Running));
            assert!(
                world.store.work_claim("early", LEASE_MS).await.unwrap().is_none(),
                "it waits before it is tried again"
            );
            world.clock.advance(Duration::from_mins(10));
        }
        assert_eq!(world.judge(Some("the database is busy")).await, Some(JobStatus::Completed));
        let error = world.show(&job, world.a).await.job.error.unwrap();
        assert!(error.contains("findings are not up to date") && error.contains("busy"), "{error}");
    })
    .await;
}
