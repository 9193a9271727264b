//! What identity providers gave and what proves us to them: sealed, in its own place, through rotations.

use std::collections::BTreeSet;

use access::{OpCtx, Role, ops};
use domain::{Secret, TenantId, Timestamp};
use store::{DueIdentity, NewProvider, Proved, ProviderRow, RotationOf, Store, UserRow};
use testkit::logs;

use crate::world::{World, each_engine};

fn platform() -> TenantId {
    TenantId::from_uuid(uuid::Uuid::nil())
}

/// A provider whose group `staff` gives a role in the tenant, and its planted client secret.
pub(crate) async fn provider(world: &World, tenant: TenantId, name: &str) -> (ProviderRow, String) {
    let secret = logs::plant(&format!("client-secret-{name}"));
    let new = NewProvider {
        name: name.parse().unwrap(),
        title: "Provider".parse().unwrap(),
        issuer: format!("https://{name}.example"),
        client_id: "cairn".to_owned(),
        client_secret: Secret::new(secret.as_str()),
        scopes: "openid".to_owned(),
        groups_claim: "groups".to_owned(),
        email_domains: String::new(),
    };
    let made = world.store.provider_create(world.platform(), &new).await.unwrap();
    let unit = world.store.write(world.permit::<ops::GroupRolePut>(tenant)).await.unwrap();
    unit.group_role_put(name, "staff", Role::ReadOnly).await.unwrap();
    (made, secret)
}

/// Signs somebody in with the provider, who leaves a planted refresh token.
pub(crate) async fn sign_in(world: &World, provider: &ProviderRow, subject: &str) -> String {
    sign_in_at(&world.store, world, provider, subject).await.1
}

/// The same at another server; who it is, too.
pub(crate) async fn sign_in_at(
    store: &Store,
    world: &World,
    provider: &ProviderRow,
    subject: &str,
) -> (UserRow, String) {
    let tokens = logs::plant(&format!("refresh-{subject}"));
    let proved = Proved {
        subject: subject.to_owned(),
        email: Some(format!("{subject}@corp.example").parse().unwrap()),
        email_verified: true,
        name: None,
        groups: BTreeSet::from(["staff".to_owned()]),
        second_factor: false,
        tokens: Some(Secret::new(tokens.as_str())),
    };
    let ctx = OpCtx::system_platform("test", world.clock.clone(), world.rng.clone());
    (store.identity_login(&ctx, provider, &proved).await.unwrap().unwrap(), tokens)
}

/// The next identity that its provider is to be asked about.
pub(crate) async fn due(store: &Store) -> Option<DueIdentity> {
    let ever = Timestamp::from_millis(i64::MAX / 2);
    store.identity_due(ever, ever).await.unwrap()
}

fn text(secret: &Secret) -> &str {
    secret.expose_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_providers_secrets_outlive_a_rotation_and_go_with_it() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let (corp, client_secret) = provider(world, a, "corp").await;
        let tokens = sign_in(world, &corp, "ann").await;
        let unit = world.store.write_platform(world.platform::<ops::DataKeyRotate>()).await.unwrap();
        unit.data_key_rotate(RotationOf::All).await.unwrap();
        loop {
            let unit = world.store.write_platform(world.platform::<ops::PlatformKeyReseal>()).await.unwrap();
            if unit.platform_key_reseal().await.unwrap().is_done() {
                break;
            }
        }
        let after = world.another_server().await;
        let (_, secret) = after.login_provider("corp").await.unwrap();
        assert_eq!(text(&secret), client_secret);
        let ann = due(&after).await.unwrap();
        assert_eq!((ann.subject.as_str(), text(&ann.tokens)), ("ann", tokens.as_str()));

        let ctx = OpCtx::system_platform("test", world.clock.clone(), world.rng.clone());
        world.store.identity_lost(&ctx, &ann, "gone", true).await.unwrap();
        assert!(due(&world.store).await.is_none(), "there is nothing left to ask with");
        sign_in(world, &corp, "ann").await;
        let unit = world.store.write_platform(world.platform::<ops::ProviderDelete>()).await.unwrap();
        unit.provider_delete("corp").await.unwrap();
        let sql = "SELECT cell FROM vault_entry WHERE cell LIKE 'identity%'";
        assert_eq!(
            world.raw(platform(), sql).await.unwrap().lines().filter(|line| line.contains("identity")).count(),
            0
        );
        world.store.vault_check().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_were_moved_to_another_identity_or_provider_are_sent_nowhere() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let (corp, evil) = (provider(world, a, "corp").await.0, provider(world, a, "evil").await.0);
        sign_in(world, &corp, "ann").await;
        for change in
            [format!("provider_id = {}", world.literal(evil.id.as_uuid().as_u128())), "subject = 'bob'".to_owned()]
        {
            world.tamper(platform(), &format!("UPDATE identity SET {change}")).await;
            let moved = due(&world.store).await.unwrap();
            assert!(moved.tokens.expose().is_empty(), "{change}");
            world.clock.advance(std::time::Duration::from_secs(1));
            let back = format!("provider_id = {}, subject = 'ann'", world.literal(corp.id.as_uuid().as_u128()));
            world.tamper(platform(), &format!("UPDATE identity SET {back}")).await;
            assert!(!due(&world.store).await.unwrap().tokens.expose().is_empty());
        }
        let issuer = "UPDATE identity_provider SET issuer = 'https://thief.example' WHERE name = 'evil'";
        assert!(world.store.login_provider("evil").await.is_ok());
        world.tamper(platform(), issuer).await;
        assert!(world.store.login_provider("evil").await.is_err());
        let secret = "UPDATE identity_provider SET issuer = 'https://evil.example', client_secret = \
            (SELECT client_secret FROM identity_provider WHERE name = 'corp') WHERE name = 'evil'";
        world.tamper(platform(), secret).await;
        assert!(world.store.login_provider("corp").await.is_ok());
        assert!(world.store.login_provider("evil").await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_a_provider_changes_are_in_the_log_and_noticed_where_access_may_rest_on_them() {
    each_engine(async |world| {
        let a = world.tenant("a").await;
        let (corp, _) = provider(world, a, "corp").await;
        sign_in(world, &corp, "ann").await;
        let (ctx, tenants) =
            (OpCtx::system_platform("test", world.clock.clone(), world.rng.clone()), BTreeSet::from([a]));
        let mut changes = world.another_server().await.access_changes();
        assert_eq!(changes.next(&tenants).await, tenants, "the first look");
        let confirmed = async |groups: &[&str]| {
            let ann = due(&world.store).await.unwrap();
            let groups = groups.iter().map(|group| (*group).to_owned()).collect();
            world.store.identity_confirmed(&ctx, &ann, Some(&groups), None).await.unwrap();
        };
        // The role stays as it is: the log grows by what may feed a group of the tenant.
        confirmed(&["staff", "dev team"]).await;
        let noticed = tokio::time::timeout(std::time::Duration::from_mins(1), changes.next(&tenants)).await;
        assert_eq!(noticed.ok(), Some(tenants.clone()));
        let tenant = world.literal(a.as_uuid().as_u128());
        let sql = &format!("SELECT action FROM audit_record WHERE action = 'identity_groups' AND tenant_id = {tenant}");
        let records = world.raw(a, sql).await.unwrap().matches("identity_groups").count();
        confirmed(&["staff", "dev team"]).await;
        assert_eq!(world.raw(a, sql).await.unwrap().matches("identity_groups").count(), records, "nothing changed");
        assert_eq!(records, 1);
    })
    .await;
}
