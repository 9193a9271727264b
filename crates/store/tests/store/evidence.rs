//! Collections, artifacts, statements, material for bundles.

use access::ops;
use bytes::Bytes;
use compliance::{ControlOutcome, ControlResult};
use domain::{CollectionId, Coverage, Digest, EvidenceId, Result, TenantId};
use store::{
    Claim, Collection, EvaluationRow, EvidenceFilter, FindingCounts, MaterialOf, NewArtifact, NewAssessment,
    NewStatement, TaskOutcome,
};

use crate::pair::{Pair, each_engine};

pub(crate) const RULESET: Digest = Digest([3; 32]);

fn statement(world: &Pair<'_>, kind: &'static str, text: &str) -> NewStatement {
    let id = EvidenceId::generate(&*world.clock, &*world.rng);
    NewStatement {
        id,
        kind,
        pae: format!("DSSEv1 {text} {id}").into_bytes(),
        signature: [1; 64],
        key_id: Digest([2; 32]),
    }
}

/// Bytes with what the call asked about.
fn artifact(bytes: &[u8], about: &str) -> NewArtifact {
    let bytes = Bytes::copy_from_slice(bytes);
    NewArtifact {
        digest: crypto::sha256(&bytes),
        bytes,
        signature: [4; 64],
        key_id: Digest([2; 32]),
        about: about.to_owned(),
    }
}

fn collection(world: &Pair<'_>, scope: &str, coverage: Coverage, artifacts: Vec<NewArtifact>) -> Collection {
    let now = domain::Clock::now(&*world.clock);
    Collection {
        id: CollectionId::generate(&*world.clock, &*world.rng),
        source: "aws".parse().unwrap(),
        scope: scope.parse().unwrap(),
        coverage,
        nodes: 1,
        edges: 2,
        calls: 1,
        artifacts,
        statement: statement(world, "api-response", scope),
        since: None,
        started: now,
        finished: now,
    }
}

async fn add(world: &Pair<'_>, claim: &Claim, collection: Collection) -> Result<EvidenceId> {
    let id = collection.statement.id;
    world.store.collection_add(world.permit(claim.tenant), claim, collection).await.map(|()| id)
}

/// Adds a collection of one call and these artifacts.
pub(crate) async fn collect(
    world: &Pair<'_>,
    claim: &Claim,
    scope: &str,
    coverage: Coverage,
    bytes: &[Vec<u8>],
) -> Result<EvidenceId> {
    let artifacts = bytes.iter().map(|bytes| artifact(bytes, "")).collect();
    add(world, claim, collection(world, scope, coverage, artifacts)).await
}

async fn statements(world: &Pair<'_>, tenant: TenantId, filter: EvidenceFilter) -> Vec<EvidenceId> {
    let page = world.read::<ops::EvidenceList>(tenant).await.evidence_list(&filter, None, 100).await.unwrap();
    page.items.into_iter().map(|row| row.id).collect()
}

fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_is_kept_whole_and_read_back() {
    each_engine(async |world| {
        let (_, claims) = world.running(world.a, &["t"]).await;
        let new = collection(
            world,
            "aws:1:r:s3.buckets",
            Coverage::Complete,
            vec![artifact(b"list", ""), artifact(b"acl", "b1")],
        );
        let id = add(world, &claims[0], new).await.unwrap();
        let shown = world.read::<ops::EvidenceList>(world.a).await.evidence_show(id).await.unwrap();
        assert_eq!((shown.row.scope.as_deref(), shown.row.kind.as_str()), (Some("aws:1:r:s3.buckets"), "api-response"));
        assert!(shown.pae.starts_with(b"DSSEv1 "));
        assert_eq!(shown.artifacts.len(), 2);
        let acl = shown.artifacts.iter().find(|artifact| artifact.about == "b1").unwrap();
        assert_eq!((acl.size, acl.signature.as_slice()), (3, &[4u8; 64][..]));
        let read = world.read::<ops::EvidenceList>(world.a).await.artifact_read(acl.digest).await.unwrap();
        assert_eq!(read, b"acl");
        let log = world.audit(world.a).await;
        let (action, outcome, detail) = log.last().unwrap();
        assert_eq!(
            (action.as_str(), outcome.as_str(), detail["artifacts"].as_u64()),
            ("evidence_collect", "success", Some(2))
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_bytes_are_kept_once_and_statements_are_only_added() {
    each_engine(async |world| {
        let bytes = [b"one".to_vec(), b"two".to_vec(), b"one".to_vec()];
        let mut made = Vec::new();
        for _ in 0..2 {
            let (_, claims) = world.running(world.a, &["t"]).await;
            // The second time in one task stands for a try that was cut short and run again.
            for _ in 0..2 {
                world.clock.advance(std::time::Duration::from_millis(1));
                made.insert(0, collect(world, &claims[0], "s:1", Coverage::Complete, &bytes).await.unwrap());
            }
            world.finish(&claims[0], TaskOutcome::Completed).await;
        }
        assert_eq!(files(&world.blobs(world.a)).len(), 2);
        assert_eq!(world.count("artifact").await, 2);
        assert_eq!(world.count("collection").await, 2);
        let filter = EvidenceFilter { scope: Some("s:1".parse().unwrap()), ..EvidenceFilter::default() };
        assert_eq!(statements(world, world.a, filter).await, made);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reading_of_differences_rests_on_all_that_it_takes_to_know_the_scope() {
    each_engine(async |world| {
        let (_, claims) = world.running(world.a, &["a", "b", "c", "d"]).await;
        let (mut rests_on, mut since) = (Vec::new(), None);
        for (claim, coverage) in
            claims.iter().zip([Coverage::Complete, Coverage::Complete, Coverage::Unchanged, Coverage::Complete])
        {
            world.clock.advance(std::time::Duration::from_millis(1));
            let new = Collection { since, ..collection(world, "s:1", coverage.clone(), Vec::new()) };
            let id = add(world, claim, new).await.unwrap();
            let shown = world.read::<ops::EvidenceList>(world.a).await.evidence_show(id).await.unwrap();
            assert_eq!(shown.basis, rests_on, "{coverage:?}");
            // Nothing has to rest on a reading that showed nothing.
            if coverage != Coverage::Unchanged {
                (since, rests_on) = (Some(id), [rests_on, vec![id]].concat());
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_and_missing_bytes_are_noticed_and_named() {
    each_engine(async |world| {
        let (_, claims) = world.running(world.a, &["t"]).await;
        collect(world, &claims[0], "s", Coverage::Complete, &[b"what was seen".to_vec()]).await.unwrap();
        let digest = crypto::sha256(b"what was seen");
        let [path] = files(&world.blobs(world.a)).try_into().unwrap();
        std::fs::write(&path, b"what was sean").unwrap();
        let error = world.read::<ops::EvidenceList>(world.a).await.artifact_read(digest).await.unwrap_err();
        let domain::Error::Internal { detail } = &error else { panic!("{error:?}") };
        assert!(detail.contains(&digest.to_hex()) && detail.contains("was changed"), "{detail}");
        std::fs::remove_file(&path).unwrap();
        let error = world.read::<ops::EvidenceList>(world.a).await.artifact_read(digest).await.unwrap_err();
        assert!(error.to_string().contains(&digest.to_hex()) && error.to_string().contains("restore"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evidence_store_that_cannot_be_written_keeps_no_row() {
    each_engine(async |world| {
        let (_, claims) = world.running(world.a, &["t"]).await;
        let before = world.audit(world.a).await.len();
        let blobs = world.blobs(world.a);
        std::fs::create_dir_all(blobs.parent().unwrap()).unwrap();
        std::fs::write(&blobs, "a file where a folder should be").unwrap();
        let error = collect(world, &claims[0], "s", Coverage::Complete, &[b"x".to_vec()]).await.unwrap_err();
        assert_eq!(error.code(), "unavailable");
        assert!(error.to_string().contains("check the disk"), "{error}");
        assert_eq!(
            (world.count("artifact").await, world.count("evidence").await, world.count("collection").await),
            (0, 0, 0)
        );
        assert_eq!(world.audit(world.a).await.len(), before);
        // Bytes that are not what their digest says are refused too.
        std::fs::remove_file(&blobs).unwrap();
        let wrong = NewArtifact { bytes: Bytes::from_static(b"y"), ..artifact(b"x", "") };
        let wrong = collection(world, "s", Coverage::Complete, vec![wrong]);
        assert_eq!(add(world, &claims[0], wrong).await.unwrap_err().code(), "internal");
        assert!(files(&blobs).is_empty());
        assert_eq!(world.count("artifact").await, 0);
    })
    .await;
}

fn judged(control: &str, result: ControlResult) -> ControlOutcome {
    let (framework, control) = ("nist".to_owned(), control.to_owned());
    ControlOutcome { framework, control, result, rules: vec![], passed: 1, failed: 0, errors: 0 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn material_holds_what_bears_on_its_subject_and_nothing_else() {
    each_engine(async |world| {
        let node =
            world.nodes(world.a, "aws:1:r:s3.buckets", &["aws:r:aws.s3.bucket:b1", "aws:r:aws.s3.bucket:b2"]).await;
        let (_, claims) = world.running(world.a, &["t"]).await;
        let artifacts = || vec![artifact(b"list", ""), artifact(b"acl of b1", "b1"), artifact(b"acl of b2", "b2")];
        let new = collection(world, "aws:1:r:s3.buckets", Coverage::Complete, artifacts());
        let old = add(world, &claims[0], new).await.unwrap();
        let other = add(
            world,
            &claims[0],
            collection(world, "aws:1:r:other", Coverage::Complete, vec![artifact(b"other", "")]),
        )
        .await;
        let other = other.unwrap();
        world.finish(&claims[0], TaskOutcome::Completed).await;
        world.clock.advance(std::time::Duration::from_mins(1));
        let (_, claims) = world.running(world.a, &["t"]).await;
        let new = add(world, &claims[0], collection(world, "aws:1:r:s3.buckets", Coverage::Complete, artifacts()))
            .await
            .unwrap();
        world.finish(&claims[0], TaskOutcome::Completed).await;
        world.clock.advance(std::time::Duration::from_mins(1));
        // The newest try was refused: it shows nothing, so it is no evidence about a bucket.
        let denied = Coverage::Denied { reason: "AccessDenied".to_owned() };
        let (_, later) = world.running(world.a, &["t"]).await;
        add(world, &later[0], collection(world, "aws:1:r:s3.buckets", denied, vec![])).await.unwrap();

        let findings = world.findings(world.a, &[("r1", node[0].as_str(), 50)]).await;
        let mut unit = world.write::<ops::EvaluationRun>(world.a).await;
        let scopes = unit.scope_statements().await.unwrap();
        let by_scope: Vec<_> = scopes.iter().map(|scope| (scope.scope.as_str(), scope.evidence)).collect();
        assert_eq!(by_scope, [("aws:1:r:other", other), ("aws:1:r:s3.buckets", new)]);
        let control = |control: &str, basis: Vec<EvidenceId>| NewAssessment {
            statement: statement(world, "assessment", control),
            control: Some(("nist".to_owned(), control.to_owned())),
            finding: None,
            basis,
        };
        let (first, second) = (control("AC-3", vec![new]), control("AC-4", vec![new, other]));
        unit.assessment_add(&first).await.unwrap();
        unit.assessment_add(&second).await.unwrap();
        let results = [
            (judged("AC-3", ControlResult::Fail), Some(first.statement.id)),
            (judged("AC-4", ControlResult::Pass), Some(second.statement.id)),
            (judged("AC-5", ControlResult::NotAssessed), None),
        ];
        let now = domain::Clock::now(&*world.clock);
        unit.control_results_put(now, &results).await.unwrap();
        let evaluation =
            EvaluationRow { at: now, ruleset: RULESET, rules: 1, nodes: 2, passed: 1, failed: 1, errors: 0 };
        unit.evaluation_finish(&evaluation, FindingCounts::default()).await.unwrap();

        let take = |of: MaterialOf| async move {
            let material = world.write::<ops::EvidenceExport>(world.a).await.evidence_material(&of).await.unwrap();
            let mut ids: Vec<_> = material.statements.iter().map(|statement| statement.row.id).collect();
            ids.sort_unstable();
            let mut bytes = Vec::new();
            for artifact in material.artifacts() {
                bytes.push(String::from_utf8(material.bytes(artifact).await.unwrap()).unwrap());
            }
            bytes.sort_unstable();
            (ids, bytes)
        };
        let sorted = |mut ids: Vec<EvidenceId>| {
            ids.sort_unstable();
            ids
        };
        let (ids, bytes) = take(MaterialOf::Finding(findings[0], vec![("nist".to_owned(), "AC-3".to_owned())])).await;
        assert_eq!(ids, sorted(vec![new, first.statement.id]));
        assert_eq!(bytes, ["acl of b1", "acl of b2", "list"]);
        let (ids, bytes) = take(MaterialOf::Control("nist".to_owned(), "AC-4".to_owned())).await;
        assert_eq!(ids, sorted(vec![new, other, second.statement.id]));
        assert_eq!(bytes, ["acl of b1", "acl of b2", "list", "other"]);
        // One statement comes with what it rests on, also when it is not the newest of its scope.
        let (ids, bytes) = take(MaterialOf::Statement(old)).await;
        assert_eq!((ids, bytes), (vec![old], vec!["acl of b1".to_owned(), "acl of b2".to_owned(), "list".to_owned()]));
        let (ids, _) = take(MaterialOf::Statement(second.statement.id)).await;
        assert_eq!(ids, sorted(vec![new, other, second.statement.id]));
        let (ids, _) = take(MaterialOf::Framework("nist".to_owned())).await;
        assert_eq!(ids, sorted(vec![new, other, first.statement.id, second.statement.id]));
        assert!(!ids.contains(&old));
        let (action, _, detail) = world.audit(world.a).await.pop().unwrap();
        assert_eq!((action.as_str(), detail["statements"].as_u64()), ("evidence_export", Some(4)));

        let about = EvidenceFilter { finding: Some(findings[0]), ..EvidenceFilter::default() };
        assert!(statements(world, world.a, about).await.contains(&old));
        let of_control = EvidenceFilter { control: Some("AC-4".to_owned()), ..EvidenceFilter::default() };
        assert_eq!(statements(world, world.a, of_control).await, [second.statement.id]);

        for of in [
            MaterialOf::Finding(findings[0], vec![]),
            MaterialOf::Control("nist".to_owned(), "AC-4".to_owned()),
            MaterialOf::Framework("nist".to_owned()),
            MaterialOf::Statement(new),
        ] {
            let refused = world.write::<ops::EvidenceExport>(world.b).await.evidence_material(&of).await;
            assert_eq!(refused.unwrap_err().code(), "not_found");
        }
        assert!(
            world
                .read::<ops::ControlList>(world.b)
                .await
                .control_list(&store::ControlFilter::default(), None, 9)
                .await
                .unwrap()
                .items
                .is_empty()
        );
        assert!(world.read::<ops::ControlList>(world.b).await.evaluation_last().await.unwrap().is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenant_sees_no_statement_and_no_artifact() {
    each_engine(async |world| {
        let (_, claims) = world.running(world.a, &["t"]).await;
        let id = collect(world, &claims[0], "s", Coverage::Complete, &[b"x".to_vec()]).await.unwrap();
        assert!(statements(world, world.b, EvidenceFilter::default()).await.is_empty());
        let refused = [
            world.read::<ops::EvidenceList>(world.b).await.evidence_show(id).await.map(drop),
            world.read::<ops::EvidenceList>(world.b).await.artifact_read(crypto::sha256(b"x")).await.map(drop),
            world
                .store
                .collection_add(world.permit(world.b), &claims[0], collection(world, "s", Coverage::Complete, vec![]))
                .await,
        ];
        for result in refused {
            assert_eq!(result.unwrap_err().code(), "not_found");
        }
    })
    .await;
}
