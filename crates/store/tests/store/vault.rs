//! The vault: a sealed value opens in its own place, under its own master key, and nowhere else.

use access::ops;
use domain::{CredentialId, DisplayName, JobId, Secret, TenantId};
use serde_json::Value;
use store::Store;
use testkit::logs;
use uuid::Uuid;

use crate::world::{World, each_engine};

fn any_job() -> JobId {
    JobId::from_uuid(Uuid::nil())
}

pub(crate) async fn add(world: &World, tenant: TenantId, name: &str, secret: &str) -> CredentialId {
    let name: DisplayName = name.parse().unwrap();
    let unit = world.store.write(world.permit::<ops::CredentialCreate>(tenant)).await.unwrap();
    unit.credential_create("aws", &name, "aws-keys", &Secret::new(secret)).await.unwrap().id
}

pub(crate) async fn open(world: &World, tenant: TenantId, id: CredentialId) -> domain::Result<Secret> {
    open_at(&world.store, world, tenant, id).await
}

/// The same by another server.
pub(crate) async fn open_at(
    store: &Store,
    world: &World,
    tenant: TenantId,
    id: CredentialId,
) -> domain::Result<Secret> {
    let unit = store.write(world.permit::<ops::CredentialUse>(tenant)).await.unwrap();
    unit.credential_use(id, any_job()).await.map(|(_, secret)| secret)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_55_a_sealed_credential_does_not_open_in_another_row_or_tenant() {
    each_engine(async |world| {
        let (a, b) = (world.tenant("a").await, world.tenant("b").await);
        let planted = logs::plant("vault-secret");
        let (first, second) = (add(world, a, "first", &planted).await, add(world, a, "second", "another value").await);
        let foreign = add(world, b, "foreign", "of another tenant").await;
        assert_eq!(open(world, a, first).await.unwrap().expose_str(), Some(planted.as_str()));

        // What somebody with the database in hand would do: copy one row's ciphertext over another's.
        let literal = |id: CredentialId| world.literal(id.as_uuid().as_u128());
        let column = if world.postgres.is_some() { "encode(sealed, 'hex')" } else { "hex(sealed)" };
        let take = format!("SELECT {column} FROM credential WHERE id = {}", literal(first));
        let sealed = world.raw(a, &take).await.unwrap();
        let value =
            if world.postgres.is_some() { format!("decode('{sealed}', 'hex')") } else { format!("x'{sealed}'") };
        for (tenant, target) in [(a, second), (b, foreign)] {
            let copy = format!("UPDATE credential SET sealed = {value} WHERE id = {} RETURNING name", literal(target));
            assert!(!world.raw(tenant, &copy).await.unwrap().is_empty());
            let error = open(world, tenant, target).await.unwrap_err();
            assert_eq!(error.code(), "internal", "{error}");
        }
        assert!(open(world, a, first).await.is_ok());
        assert!(!sealed.is_empty() && logs::scan(&sealed).is_empty(), "the value is not in the database in the clear");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_use_of_a_credential_is_recorded_before_its_secret_is_handed_out() {
    each_engine(async |world| {
        let (a, b) = (world.tenant("a").await, world.tenant("b").await);
        let id = add(world, a, "first", "value").await;
        assert_eq!(
            open(world, b, id).await.unwrap_err().code(),
            "not_found",
            "another tenant's credential does not exist"
        );
        open(world, a, id).await.unwrap();
        let filter = store::AuditFilter { category: Some("credential".to_owned()), limit: 10, ..Default::default() };
        let mut read = world.store.read(world.permit::<ops::AuditList>(a)).await.unwrap();
        let records = read.audit_list(&filter).await.unwrap().items;
        let actions: Vec<_> = records.iter().map(|record| record.action.as_str()).collect();
        assert_eq!(actions, ["credential_use", "credential_create"]);
        assert_eq!(records[0].detail["job"], Value::String(any_job().to_string()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_58_another_master_key_is_refused_before_anything_changes() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        add(world, a, "first", "value").await;
        let before = world.rows_of(a, "data_key").await;
        let error = world.server_with_master([9; 32]).await.unwrap_err();
        assert!(error.to_string().contains("not the master key"), "{error}");
        assert_eq!(world.rows_of(a, "data_key").await, before);
        assert!(world.server_with_master([7; 32]).await.is_ok());
    })
    .await;
}
