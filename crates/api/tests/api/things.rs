//! Things of a tenant, made in its store: what tests of other tenants, of lists and of permissions ask for.

use access::{Role, ops};
use bytes::Bytes;
use compliance::FindingChange;
use domain::{
    Clock as _, CollectionId, Coverage, Digest, Email, EvidenceId, FindingId, NodeObservation, Page, Secret, SessionId,
    Severity, TenantId, UserId,
};
use serde_json::{Map, json};
use store::{
    Collection, FindingFilter, NewArtifact, NewSchedule, NewStatement, NewTask, NewUser, TaskOutcome, WorkKind,
};

use crate::ports::evaluation;
use crate::world::{NODE, World, planted};

/// A host key, made for tests.
pub(crate) const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

/// Whether a file below a folder shows these bytes to whoever reads it.
fn holds(folder: &std::path::Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return holds(&path, bytes);
        }
        // As they are, or only packed: a zlib stream begins like this.
        let kept = std::fs::read(path).unwrap();
        kept.first() == Some(&0x78) || kept.windows(bytes.len()).any(|window| window == bytes)
    })
}

impl World {
    /// Whether what is kept shows these bytes to whoever reads the disk.
    pub(crate) fn blobs_hold(&self, bytes: &[u8]) -> bool {
        let blobs = self.dir.path().join("blobs");
        assert!(blobs.is_dir(), "something is kept");
        holds(&blobs, bytes)
    }

    /// An SSH host with the account `deploy`; its destination.
    pub(crate) async fn ssh_host_of(&self, tenant: TenantId) -> String {
        let new = store::NewSshHost {
            address: "10.0.0.7:22".parse().unwrap(),
            host_key: HOST_KEY.parse().unwrap(),
            roles: vec!["deploy".parse().unwrap()],
            labels: None,
            source_networks: Vec::new(),
            way: store::Way::Same,
            extensions: [domain::SshExtension::Pty].into(),
        };
        let unit = self.store.write(self.permit::<ops::SshHostPut>(tenant)).await.unwrap();
        unit.ssh_host_put(&format!("h{}", self.fresh()), &new).await.unwrap().0.destination.id.to_string()
    }

    /// A set of SSH hosts; its destination.
    pub(crate) async fn host_set_of(&self, tenant: TenantId) -> String {
        let selector = domain::Labels::new([("role".to_owned(), "web".to_owned())].into()).unwrap();
        let unit = self.store.write(self.permit::<ops::HostSetPut>(tenant)).await.unwrap();
        unit.host_set_put(&format!("s{}", self.fresh()), &selector).await.unwrap().destination.id.to_string()
    }

    pub(crate) async fn ssh_host_key(&self, tenant: TenantId) -> String {
        let target: domain::HostPort = format!("h{}.example", self.fresh()).parse().unwrap();
        let unit = self.store.write(self.permit::<ops::SshHostKeyPin>(tenant)).await.unwrap();
        let of = store::SshTarget { relay: None, target: &target };
        unit.ssh_host_key_pin(of, &HOST_KEY.parse().unwrap(), None).await.unwrap().id.to_string()
    }

    pub(crate) async fn credential(&self, tenant: TenantId) -> String {
        let name = format!("c{}", self.fresh()).parse().unwrap();
        let secret = Secret::new(json!({"access_key_id": "AKIA", "secret_access_key": planted().aws}).to_string());
        let unit = self.store.write(self.permit::<ops::CredentialCreate>(tenant)).await.unwrap();
        unit.credential_create("aws", &name, "aws-keys", &secret).await.unwrap().id.to_string()
    }

    pub(crate) async fn job(&self, tenant: TenantId) -> String {
        let new = store::NewJob {
            relay: None,
            plugin: "host".to_owned(),
            credential: None,
            config: Map::new(),
            schedule: None,
        };
        self.store
            .write(self.permit::<ops::JobCreate>(tenant))
            .await
            .unwrap()
            .job_create(new)
            .await
            .unwrap()
            .id
            .to_string()
    }

    pub(crate) async fn schedule(&self, tenant: TenantId) -> String {
        let new = NewSchedule {
            relay: None,
            plugin: "host".to_owned(),
            credential: None,
            config: Map::new(),
            interval_s: 3_600,
        };
        self.store
            .write(self.permit::<ops::ScheduleCreate>(tenant))
            .await
            .unwrap()
            .schedule_create(new)
            .await
            .unwrap()
            .id
            .to_string()
    }

    pub(crate) async fn validation(&self, tenant: TenantId) -> String {
        let credential = self.credential(tenant).await.parse().unwrap();
        let (plugin, config) = ("aws".to_owned(), Map::new());
        let new = store::NewValidation { plugin, credential: Some(credential), relay: None, config };
        let unit = self.store.write(self.permit::<ops::ValidationCreate>(tenant)).await.unwrap();
        unit.validation_create(new).await.unwrap().id.to_string()
    }

    pub(crate) async fn node(&self, tenant: TenantId) -> String {
        let mut ingest = self.store.ingest(self.permit(tenant), "aws".parse().unwrap()).await.unwrap();
        let scope: domain::ScopeId = "aws:1:eu-west-1:s3.buckets".parse().unwrap();
        let id = |text: &str| text.parse::<domain::NodeId>().unwrap();
        let nodes = [NODE, "aws:eu-west-1:aws.s3.bucket:b2"].map(|text| NodeObservation {
            id: id(text),
            name: format!("bucket of {tenant}"),
            properties: Map::new(),
            tags: domain::Tags::default(),
        });
        let edge = json!({"source": NODE, "target": "aws:eu-west-1:aws.s3.bucket:b2", "type": "logs_to"});
        let edges = vec![serde_json::from_value(edge).unwrap()];
        ingest.page(&Page { scope: scope.clone(), nodes: nodes.to_vec(), edges }).await.unwrap();
        let collection = CollectionId::generate(&*self.clock, &*self.rng);
        ingest.finish(&scope, &Coverage::Complete, collection).await.unwrap();
        NODE.to_owned()
    }

    /// An open finding on [`NODE`], which has to be there.
    pub(crate) async fn finding(&self, tenant: TenantId) -> String {
        let rule = format!("rule-{}", self.fresh());
        self.finding_of(tenant, &rule, NODE, Severity::High).await
    }

    /// An open finding of a rule on a node.
    pub(crate) async fn finding_of(&self, tenant: TenantId, rule: &str, node: &str, severity: Severity) -> String {
        let facts = compliance::Facts {
            severity,
            risk_score: if severity == Severity::High { 70 } else { 30 },
            message: "it is open".to_owned(),
            values: json!({"public": true, "id": "db'; reboot #"}),
        };
        let change = FindingChange::Open { rule_id: rule.to_owned(), node_id: node.to_owned(), facts };
        let mut unit = self.store.write(self.permit::<ops::EvaluationRun>(tenant)).await.unwrap();
        let counts = unit.findings_apply(&[change]).await.unwrap();
        unit.evaluation_finish(&evaluation(self.clock.now()), counts).await.unwrap();
        let filter = FindingFilter {
            rule: Some(rule.to_owned()),
            node: Some(node.parse().unwrap()),
            ..FindingFilter::default()
        };
        let mut read = self.store.read(self.permit::<ops::FindingList>(tenant)).await.unwrap();
        read.finding_list(&filter, None, 2).await.unwrap().items[0].id.to_string()
    }

    /// A control that was judged, without anything signed.
    pub(crate) async fn control(&self, tenant: TenantId) -> String {
        let outcome = compliance::ControlOutcome {
            framework: "nist-800-53-r5".to_owned(),
            control: "AC-6".to_owned(),
            result: compliance::ControlResult::Fail,
            rules: vec!["aws-root-no-access-keys".to_owned()],
            passed: 1,
            failed: 2,
            errors: 3,
        };
        let at = self.clock.now();
        let mut unit = self.store.write(self.permit::<ops::EvaluationRun>(tenant)).await.unwrap();
        unit.control_results_put(at, &[(outcome, None)]).await.unwrap();
        unit.evaluation_finish(&evaluation(at), store::FindingCounts::default()).await.unwrap();
        "nist-800-53-r5:AC-6".to_owned()
    }

    /// A collection with an artifact, made by a job that runs.
    pub(crate) async fn evidence(&self, tenant: TenantId) -> String {
        let job = self.job(tenant).await;
        let claim = async |kind: WorkKind| loop {
            let claim = self.store.work_claim("test", 30_000).await.unwrap().expect("there is work");
            if claim.kind == kind && (kind == WorkKind::Task || claim.job().to_string() == job) {
                return claim;
            }
        };
        let plan = claim(WorkKind::Plan).await;
        let run = || async { self.store.write(self.permit::<ops::JobRun>(tenant)).await.unwrap() };
        run().await.job_started(&plan).await.unwrap();
        run().await.job_planned(&plan, vec![NewTask { key: "t".to_owned(), params: Map::new() }]).await.unwrap();
        let claim = claim(WorkKind::Task).await;
        run().await.task_started(&claim).await.unwrap();
        let id = EvidenceId::generate(&*self.clock, &*self.rng);
        let (bytes, key_id, now) = (Bytes::from_static(b"what was seen"), Digest([2; 32]), self.clock.now());
        let artifact =
            NewArtifact { digest: crypto::sha256(&bytes), bytes, signature: [4; 64], key_id, about: String::new() };
        let statement = NewStatement {
            id,
            kind: "api-response",
            pae: format!("DSSEv1 {id}").into_bytes(),
            signature: [1; 64],
            key_id,
        };
        let collection = Collection {
            id: CollectionId::generate(&*self.clock, &*self.rng),
            source: "aws".parse().unwrap(),
            scope: "aws:1:eu-west-1:s3.buckets".parse().unwrap(),
            coverage: Coverage::Complete,
            nodes: 1,
            edges: 1,
            calls: 0,
            artifacts: vec![artifact],
            statement,
            since: None,
            started: now,
            finished: now,
        };
        self.store.collection_add(self.permit(tenant), &claim, collection).await.unwrap();
        run().await.task_finished(&claim, TaskOutcome::Completed).await.unwrap();
        id.to_string()
    }

    /// A new user who is a read-only member.
    pub(crate) async fn member(&self, tenant: TenantId) -> String {
        self.member_named(tenant, &format!("member{}@example.org", self.fresh())).await
    }

    /// The same with this login name.
    pub(crate) async fn member_named(&self, tenant: TenantId, email: &str) -> String {
        let email: Email = email.parse().unwrap();
        let password_hash = api::hash_one_time_password(&planted().password, 4, &*self.rng).unwrap();
        let new = NewUser { name: "New".parse().unwrap(), password_hash, platform_admin: false };
        let unit = self.store.write_platform(self.platform_permit::<ops::UserCreate>()).await.unwrap();
        let id = unit.user_create(&email, &new).await.unwrap();
        self.invite(tenant, &email, Role::ReadOnly).await;
        self.sign_in(email.as_str()).await;
        id.to_string()
    }
}

/// An id of a kind that nobody has.
pub(crate) fn nobodys(world: &World, kind: &str) -> String {
    let (clock, rng) = (&*world.clock, &*world.rng);
    match kind {
        "tenant" => TenantId::generate(clock, rng).to_string(),
        "user" => UserId::generate(clock, rng).to_string(),
        "api_key" => domain::ApiKeyId::generate(clock, rng).to_string(),
        "invitation" => domain::InvitationId::generate(clock, rng).to_string(),
        "connection" => domain::SshSessionId::generate(clock, rng).to_string(),
        "ssh_host_key" => domain::SshHostKeyId::generate(clock, rng).to_string(),
        "credential" => domain::CredentialId::generate(clock, rng).to_string(),
        "destination" => domain::DestinationId::generate(clock, rng).to_string(),
        "group" => domain::GroupId::generate(clock, rng).to_string(),
        "grant" => domain::GrantId::generate(clock, rng).to_string(),
        "access_request" => domain::AccessRequestId::generate(clock, rng).to_string(),
        "access_review" => domain::AccessReviewId::generate(clock, rng).to_string(),
        "group_role" => domain::GroupRoleId::generate(clock, rng).to_string(),
        "provider" => domain::ProviderId::generate(clock, rng).to_string(),
        "agent" => domain::AgentId::generate(clock, rng).to_string(),
        "relay" => domain::RelayId::generate(clock, rng).to_string(),
        "enrollment_token" => domain::EnrollmentTokenId::generate(clock, rng).to_string(),
        "job" => domain::JobId::generate(clock, rng).to_string(),
        "schedule" => domain::ScheduleId::generate(clock, rng).to_string(),
        "validation" => domain::ValidationId::generate(clock, rng).to_string(),
        "factor" => domain::FactorId::generate(clock, rng).to_string(),
        "session" => SessionId::generate(clock, rng).to_string(),
        "control" => "nist-800-53-r5:AC-7".to_owned(),
        "finding" => FindingId::generate(clock, rng).to_string(),
        "recording" => domain::RecordingId::generate(clock, rng).to_string(),
        "evidence" => EvidenceId::generate(clock, rng).to_string(),
        "node" => format!("aws:eu-west-1:aws.s3.bucket:n{}", world.fresh()),
        other => panic!("there is no kind of id `{other}`: add it"),
    }
}
