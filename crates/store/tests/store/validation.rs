//! Validations: one of a credential at a time, few in a while, tried once.

use std::time::Duration;

use access::ops;
use domain::{Check, CheckOutcome, Clock as _, CredentialId, Secret, TenantId, ValidationStatus};
use serde_json::{Map, json};
use store::{Claim, NewValidation, ValidationRow, WorkKind};

use crate::job::LEASE_MS;
use crate::pair::{Pair, each_engine};

impl Pair<'_> {
    pub(crate) async fn credential_named(&self, tenant: TenantId, name: &str) -> CredentialId {
        let secret = Secret::new(testkit::logs::plant("a credential").into_bytes());
        let unit = self.write::<ops::CredentialCreate>(tenant).await;
        unit.credential_create("aws", &name.parse().unwrap(), "aws-keys", &secret).await.unwrap().id
    }

    async fn validate(&self, credential: CredentialId) -> domain::Result<ValidationRow> {
        let (plugin, config) = ("aws".to_owned(), Map::new());
        let new = NewValidation { plugin, credential: Some(credential), relay: None, config };
        self.write::<ops::ValidationCreate>(self.a).await.validation_create(new).await
    }

    async fn validation(&self, row: &ValidationRow) -> ValidationRow {
        self.read::<ops::ValidationList>(self.a).await.validation_show(row.id).await.unwrap()
    }

    async fn begin(&self, row: &ValidationRow) -> Claim {
        let claim = self.claim().await;
        assert_eq!((claim.kind, claim.validation()), (WorkKind::Validate, row.id));
        let begun = self.write::<ops::ValidationRun>(self.a).await.validation_started(&claim).await.unwrap();
        assert_eq!(begun.map(|begun| begun.status), Some(ValidationStatus::Running));
        claim
    }

    async fn ended(&self, row: &ValidationRow, checks: &[Check], error: Option<&str>) {
        let claim = self.begin(row).await;
        self.write::<ops::ValidationRun>(self.a).await.validation_finished(&claim, checks, error).await.unwrap();
    }
}

fn check(outcome: CheckOutcome) -> Check {
    Check::new("ec2:DescribeVpcs", outcome, Some("why"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validation_ends_as_well_as_what_it_tried() {
    use CheckOutcome::{Denied, Good};
    each_engine(async |world| {
        let credential = world.credential_named(world.a, "prod").await;
        for (checks, error, expect) in [
            (vec![check(Good)], None, ValidationStatus::Passed),
            (vec![check(Good), check(Denied)], None, ValidationStatus::Incomplete),
            (vec![check(Good)], Some("it took longer than 60 s"), ValidationStatus::Incomplete),
            (vec![check(Denied)], None, ValidationStatus::Failed),
            (vec![], Some("the relay is not connected"), ValidationStatus::Failed),
        ] {
            let row = world.validate(credential).await.unwrap();
            world.ended(&row, &checks, error).await;
            let ended = world.validation(&row).await;
            assert_eq!((ended.status, ended.error.as_deref(), ended.checks), (expect, error, checks));
            assert!(ended.started_at.is_some() && ended.finished_at.is_some());
            let (action, outcome, detail) = world.audit(world.a).await.pop().unwrap();
            let told = if expect == ValidationStatus::Failed { "fail" } else { "success" };
            assert_eq!(
                (action.as_str(), outcome.as_str(), &detail["status"]),
                ("validation_run", told, &json!(expect))
            );
        }
        assert!(world.store.work_claim("w1", LEASE_MS).await.unwrap().is_none(), "nothing is left to do");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_is_validated_once_at_a_time_and_not_often() {
    each_engine(async |world| {
        let [one, other] = [world.credential_named(world.a, "1").await, world.credential_named(world.a, "2").await];
        let first = world.validate(one).await.unwrap();
        assert_eq!(world.validate(one).await.unwrap_err().code(), "conflict");
        // What is due in one millisecond is claimed in no order.
        world.clock.advance(Duration::from_millis(1));
        let second = world.validate(other).await.unwrap();
        world.ended(&first, &[], None).await;
        world.ended(&second, &[], None).await;
        // Each wrong password counts at the target.
        for _ in 1..10 {
            world.clock.advance(Duration::from_secs(1));
            let row = world.validate(one).await.unwrap();
            world.ended(&row, &[], None).await;
        }
        assert_eq!(world.validate(one).await.unwrap_err().code(), "throttled");
        world.validate(other).await.unwrap();
        world.clock.advance(Duration::from_mins(10));
        let row = world.validate(one).await.unwrap();
        let listed =
            world.read::<ops::ValidationList>(world.a).await.validation_list(Some(one), None, 500).await.unwrap();
        assert_eq!((listed.items.len(), listed.items[0].id), (11, row.id));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_tells_its_own_newest_validation_however_many_others_there_are() {
    use CheckOutcome::{Denied, Good};
    each_engine(async |world| {
        let mut ids = Vec::new();
        for name in ["tried-long-ago", "tried-often", "never-tried", "at-work"] {
            ids.push(world.credential_named(world.a, name).await);
            world.clock.advance(Duration::from_millis(1));
        }
        let elsewhere = world.credential_named(world.b, "tried-long-ago").await;
        let old = world.validate(ids[0]).await.unwrap();
        world.ended(&old, &[check(Good)], None).await;
        // More than are kept of one, each of them newer than the only one of the first.
        let mut newest = old.id;
        for _ in 0..25 {
            world.clock.advance(Duration::from_mins(2));
            let row = world.validate(ids[1]).await.unwrap();
            world.ended(&row, &[check(Denied)], None).await;
            newest = row.id;
        }
        let waits = world.validate(ids[3]).await.unwrap();
        let seen = async || {
            let mut seen = Vec::new();
            let mut after = None;
            loop {
                // A page ends between any two.
                let page = world.read::<ops::CredentialList>(world.a).await.credential_list(after, 1).await.unwrap();
                for it in page.items {
                    let mut read = world.read::<ops::CredentialList>(world.a).await;
                    let shown = read.credential_show(it.credential.id).await.unwrap().validation.map(|one| one.id);
                    assert_eq!(shown, it.validation.as_ref().map(|one| one.id));
                    seen.push((it.credential.id, it.validation.map(|one| (one.id, one.status))));
                }
                match page.next {
                    Some(next) => after = Some(next),
                    None => return seen,
                }
            }
        };
        let expect = |last| {
            vec![
                (ids[0], Some((old.id, ValidationStatus::Passed))),
                (ids[1], Some((newest, ValidationStatus::Failed))),
                (ids[2], None),
                (ids[3], Some((waits.id, last))),
            ]
        };
        assert_eq!(seen().await, expect(ValidationStatus::Queued));
        // Nobody takes it up: it says that it failed, as the validation itself does.
        world.clock.advance(Duration::from_mins(3));
        assert_eq!(seen().await, expect(ValidationStatus::Failed));
        let other = world.read::<ops::CredentialList>(world.b).await.credential_show(elsewhere).await.unwrap();
        assert!(other.validation.is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_nobody_takes_up_ends_and_makes_room() {
    each_engine(async |world| {
        let credential = world.credential_named(world.a, "prod").await;
        let row = world.validate(credential).await.unwrap();
        world.clock.advance(Duration::from_mins(3));
        let late = world.validation(&row).await;
        assert_eq!(late.status, ValidationStatus::Failed);
        assert!(late.error.unwrap().contains("relay is not connected"));
        let next = world.validate(credential).await.unwrap();
        let claim = world.begin(&next).await;
        assert!(world.store.work_claim("w2", LEASE_MS).await.unwrap().is_none(), "the late one is not done any more");

        // Its server is killed: it is not tried a second time.
        world.clock.advance(Duration::from_secs(31));
        let again = world.claim().await;
        assert_eq!((again.validation(), again.attempt), (next.id, 2));
        let begun = world.write::<ops::ValidationRun>(world.a).await.validation_started(&again).await.unwrap();
        assert!(begun.is_none());
        assert!(world.validation(&next).await.error.unwrap().contains("ask again"));
        let stale = world.write::<ops::ValidationRun>(world.a).await.validation_finished(&claim, &[], None).await;
        assert_eq!(stale.unwrap_err().code(), "conflict");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_taken_up_late_has_its_time_and_none_beside_it() {
    each_engine(async |world| {
        let credential = world.credential_named(world.a, "prod").await;
        let row = world.validate(credential).await.unwrap();
        world.clock.advance(Duration::from_secs(170));
        let claim = world.begin(&row).await;
        world.clock.advance(Duration::from_mins(1));
        assert_eq!(world.validation(&row).await.status, ValidationStatus::Running);
        assert_eq!(world.validate(credential).await.unwrap_err().code(), "conflict", "two tries at one time");
        let good = [check(CheckOutcome::Good)];
        world.write::<ops::ValidationRun>(world.a).await.validation_finished(&claim, &good, None).await.unwrap();
        assert_eq!(world.validation(&row).await.status, ValidationStatus::Passed);

        // One whose server is gone for good makes room.
        let row = world.validate(credential).await.unwrap();
        world.begin(&row).await;
        world.clock.advance(Duration::from_secs(90));
        let lost = world.validation(&row).await;
        assert_eq!((lost.status, lost.finished_at), (ValidationStatus::Failed, Some(world.clock.now())));
        assert!(lost.error.unwrap().contains("ask again"));
        let next = world.validate(credential).await.unwrap();
        assert!(world.validation(&row).await.error.unwrap().contains("ask again"), "as it is written down");
        world.ended(&next, &[], None).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_a_stopping_server_gives_back_is_not_tried_again() {
    each_engine(async |world| {
        let credential = world.credential_named(world.a, "prod").await;
        let row = world.validate(credential).await.unwrap();
        let claim = world.begin(&row).await;
        world.store.work_release(&claim).await.unwrap();
        let again = world.claim().await;
        assert_eq!((again.validation(), again.attempt), (row.id, 1));
        let begun = world.write::<ops::ValidationRun>(world.a).await.validation_started(&again).await.unwrap();
        assert!(begun.is_none(), "a wrong password would count twice");
        assert!(world.validation(&row).await.error.unwrap().contains("ask again"));

        // One that was not begun is as good as new.
        let row = world.validate(credential).await.unwrap();
        let claim = world.claim().await;
        world.store.work_release(&claim).await.unwrap();
        world.ended(&row, &[check(CheckOutcome::Good)], None).await;
        assert_eq!(world.validation(&row).await.status, ValidationStatus::Passed);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_a_tenant_go_before_the_jobs_that_wait_and_no_more() {
    each_engine(async |world| {
        world.job(world.b).await;
        world.clock.advance(Duration::from_secs(1));
        for name in ["1", "2", "3"] {
            let credential = world.credential_named(world.a, name).await;
            world.validate(credential).await.unwrap();
            world.clock.advance(Duration::from_millis(1));
        }
        let mut kinds = Vec::new();
        while let Some(claim) = world.store.work_claim("w1", LEASE_MS).await.unwrap() {
            kinds.push(claim.kind);
        }
        assert_eq!(kinds, [WorkKind::Validate, WorkKind::Validate, WorkKind::Plan, WorkKind::Validate]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_is_deleted_takes_its_validations_along() {
    each_engine(async |world| {
        let credential = world.credential_named(world.a, "prod").await;
        let row = world.validate(credential).await.unwrap();
        world.write::<ops::CredentialDelete>(world.a).await.credential_delete(credential).await.unwrap();
        let gone = world.read::<ops::ValidationList>(world.a).await.validation_show(row.id).await;
        assert_eq!(gone.unwrap_err().code(), "not_found");
        assert!(world.store.work_claim("w1", LEASE_MS).await.unwrap().is_none());
    })
    .await;
}
