//! The two tables that say who may do what, as committed files, and the decision against a naive oracle.
#![allow(clippy::unwrap_used, reason = "test code: where the harness fails, the test fails")]

use std::fmt::Write as _;
use std::sync::Arc;

use access::{
    Actor, Denied, Freshness, Grants, Mode, OpCtx, Operation, OperationInfo, OwnOperation as _, Permission, Proof,
    Role, fleet_operations, fleet_ops, member_operations, member_ops, operations, ops, own, own_operations,
};
use domain::{AgentId, ApiKeyId, Clock as _, FleetKind, RelayId, RequestId, SessionId, TenantId, UserId};
use proptest::prelude::*;
use testkit::{TestClock, TestRng};

/// What a decision is made of, for every operation by its name.
type Decide = fn(&OpCtx, TenantId) -> Result<Option<TenantId>, Denied>;

/// Every operation as a type, with its way to a permit. The names are compared with [`operations`], so none can be left out.
macro_rules! decisions {
    (tenant [$($tenant:ident)*] platform [$($platform:ident)*]) => {
        fn decisions() -> Vec<(&'static str, Decide)> {
            vec![
                $((<ops::$tenant as Operation>::NAME, |ctx, tenant| ctx.authorize::<ops::$tenant>(tenant).map(|permit| Some(permit.tenant()))),)*
                $((<ops::$platform as Operation>::NAME, |ctx, _| ctx.authorize_platform::<ops::$platform>().map(|_| None)),)*
            ]
        }
    };
}

decisions! {
    tenant [
        MemberList MemberPut MemberDelete InvitationDelete SignInPolicyShow SignInPolicyPut TargetPolicyShow TargetPolicyPut ApiKeyList ApiKeyCreate ApiKeyRotate ApiKeyRevoke
        GroupRoleList GroupRolePut GroupRoleDelete
        AgentList AgentLabel AgentRevoke RelayList RelayLabel RelayRevoke RelayFollow RelayPolicyShow RelayPolicyPut EnrollmentTokenList EnrollmentTokenCreate EnrollmentTokenRevoke
        DestinationList DestinationUpdate DestinationDelete SshHostShow SshHostPut SshHostCertificateCreate HostSetShow HostSetPut GroupList GroupCreate GroupDelete GroupMemberAdd GroupMemberRemove
        GrantList GrantCreate GrantDelete AccessWho AccessWhat AccessRequestList AccessRequestApprove AccessRequestDeny
        AccessReviewCreate AccessReviewClose AccessExport AccessPlan AccessApply AccessPolicyShow AccessPolicyPut
        RecordingPolicyShow RecordingPolicyPut RecordingList RecordingRead RecordingExport RecordingClose RecordingDelete
        CredentialList CredentialCreate CredentialDelete CredentialResolve DataKeyReseal CredentialUse
        SshHostKeyList SshHostKeyPin SshHostKeyRemove SshHostKeyMeet JobList JobCreate
        JobCancel JobRun ScheduleList ScheduleCreate ScheduleUpdate ScheduleDelete ValidationList ValidationCreate ValidationRun NodeList EdgeList GraphOverview GraphIngest CoverageList FindingList FindingAccept FindingChange FindingReopen
        FindingResolve ControlList ChangesShow EvaluationRun EvidenceList EvidenceExport EvidenceCollect AuditList AuditExport LogRead LogCosign
    ]
    platform [
        TenantCreate TenantDelete TenantList UserCreate UserList UserUpdate UserFactorsReset PlatformAuditList PlatformAuditExport PlatformLogRead
        PlatformLogCosign ForwardList WitnessList WitnessAdd WitnessRemove BackupCreate BackupRestore RestoreAccept DataKeyList DataKeyRotate
        PlatformKeyReseal MasterKeyRotate SigningKeyRotate
        ProviderList ProviderCreate ProviderUpdate ProviderDelete ScimTokenCreate ScimTokenDelete
    ]
}

fn info(name: &str) -> &'static OperationInfo {
    operations().iter().find(|operation| operation.name == name).unwrap()
}

fn tenant(at: u8) -> TenantId {
    TenantId::generate(&TestClock::default(), &TestRng::seeded(u64::from(at)))
}

fn context(platform_admin: bool, tenants: Vec<(TenantId, Role)>) -> OpCtx {
    let (clock, rng) = (Arc::new(TestClock::default()), Arc::new(TestRng::seeded(99)));
    let actor = Actor::User {
        id: UserId::generate(&*clock, &*rng),
        email: "someone@example.org".parse().unwrap(),
        session: SessionId::generate(&*clock, &*rng),
    };
    let request = RequestId::generate(&*clock, &*rng);
    OpCtx::user(actor, Grants { platform_admin, tenants }, request, None, clock, rng).with_freshness(Freshness::Fresh)
}

#[test]
fn the_matrix_is_printed_as_the_documentation_shows_it() {
    let mut out = String::from("| permission | name |");
    for role in Role::ALL {
        write!(out, " {role} |").unwrap();
    }
    writeln!(out, "\n|{}", "---|".repeat(2 + Role::ALL.len())).unwrap();
    for permission in Permission::ALL {
        write!(out, "| {} | `{permission}` |", permission.title()).unwrap();
        for role in Role::ALL {
            out.push_str(if role.holds(*permission) { " Y |" } else { " |" });
        }
        out.push('\n');
    }
    testkit::golden::check("tests/golden/matrix.md", &out);
}

#[test]
fn the_operations_and_the_roles_that_may_do_them_are_as_committed() {
    let mode = |mode| if mode == Mode::Read { "read" } else { "write" };
    let proof = |proof| if proof == Proof::Fresh { "fresh" } else { "session" };
    let mut out =
        String::from("| operation | mode | scope | permission | proof | roles |\n|---|---|---|---|---|---|\n");
    for operation in operations() {
        let (scope, roles) = if operation.platform {
            ("platform", "system-admin on the platform".to_owned())
        } else {
            let roles = Role::ALL.into_iter().filter(|role| role.holds(operation.permission)).map(Role::as_str);
            ("tenant", roles.collect::<Vec<_>>().join(", "))
        };
        let (mode, proof) = (mode(operation.mode), proof(operation.proof));
        writeln!(out, "| `{}` | {mode} | {scope} | `{}` | {proof} | {roles} |", operation.name, operation.permission)
            .unwrap();
    }
    for operation in own_operations() {
        let (mode, proof) = (mode(operation.mode), proof(operation.proof));
        writeln!(out, "| `{}` | {mode} | own account | - | {proof} | everybody who is signed in |", operation.name)
            .unwrap();
    }
    for operation in member_operations() {
        let (mode, proof) = (mode(operation.mode), proof(operation.proof));
        writeln!(out, "| `{}` | {mode} | own access | - | {proof} | every member who is a person |", operation.name)
            .unwrap();
    }
    for operation in fleet_operations() {
        let (mode, kind) = (mode(operation.mode), operation.kind);
        let proof = if operation.once { "key, once" } else { "key" };
        writeln!(out, "| `{}` | {mode} | itself | - | {proof} | the {kind} itself |", operation.name).unwrap();
    }
    testkit::golden::check("tests/golden/operations.md", &out);
}

#[test]
fn an_operation_has_one_name_in_lower_snake_case() {
    let mut names: Vec<_> = operations().iter().map(|operation| operation.name).collect();
    let own = own_operations().iter().map(|operation| operation.name);
    let own = own.chain(member_operations().iter().map(|operation| operation.name));
    let own = own.chain(fleet_operations().iter().map(|operation| operation.name));
    assert!(own.clone().all(|name| !names.contains(&name) && name.contains('_')));
    assert!(
        names
            .iter()
            .all(|name| name.contains('_') && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')),
        "{names:?}"
    );
    let listed = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), listed);
    let mut decided: Vec<_> = decisions().into_iter().map(|(name, _)| name).collect();
    decided.sort_unstable();
    assert_eq!(decided, names, "an operation is missing from `decisions!` above");
}

#[test]
fn every_operation_of_the_platform_needs_a_permission_of_the_platform() {
    for operation in operations() {
        let for_platform = [Permission::TenantsManage, Permission::SystemAdmin].contains(&operation.permission);
        assert_eq!(operation.platform, for_platform, "{}", operation.name);
    }
}

#[test]
fn attack_36_a_role_has_one_spelling() {
    for role in Role::ALL {
        assert_eq!(role.as_str().parse::<Role>().unwrap(), role);
        let text = role.as_str();
        let twins = [
            text.to_uppercase(),
            format!("{}{}", text[..1].to_uppercase(), &text[1..]),
            text.replace('-', "_"),
            format!(" {text}"),
            format!("{text}\0"),
            text.replace('a', "\u{430}"),
            text.replace('-', "\u{2011}"),
        ];
        for twin in twins.iter().filter(|twin| *twin != text) {
            assert!(twin.parse::<Role>().is_err(), "{twin}");
        }
    }
    assert!("".parse::<Role>().is_err() && "owner".parse::<Role>().is_err());
}

#[test]
fn a_role_covers_itself_and_those_that_hold_less() {
    for a in Role::ALL {
        for b in Role::ALL {
            let naive = Permission::ALL
                .iter()
                .filter(|permission| b.holds(**permission))
                .all(|permission| a.holds(*permission));
            assert_eq!(a.covers(b), naive, "{a} over {b}");
        }
        assert!(a.covers(a) && Role::SystemAdmin.covers(a));
    }
    assert!(!Role::TenantAdmin.covers(Role::SystemAdmin));
    assert!(!Role::Auditor.covers(Role::ReadOnly), "an auditor does not read the graph");
}

#[test]
fn the_servers_own_context_works_in_its_tenant_only() {
    let (clock, rng) = (Arc::new(TestClock::default()), Arc::new(TestRng::seeded(1)));
    let runner = OpCtx::system("runner", tenant(1), clock.clone(), rng.clone());
    let starter = OpCtx::system_platform("bootstrap", clock.clone(), rng);
    assert_eq!(runner.clock().now(), clock.now());
    for (name, decide) in decisions() {
        assert_eq!(decide(&runner, tenant(1)).is_ok(), !info(name).platform, "{name}");
        assert!(decide(&runner, tenant(2)).is_err(), "{name}");
        assert_eq!(decide(&starter, tenant(1)).is_ok(), info(name).platform, "{name}");
    }
}

#[test]
fn an_operation_on_secrets_roles_or_keys_needs_a_fresh_proof_of_a_person_and_only_of_a_person() {
    let (fresh, here) = (context(true, vec![(tenant(1), Role::SystemAdmin)]), tenant(1));
    let stale = fresh.clone().with_freshness(Freshness::Stale);
    let exempt = fresh.clone().with_freshness(Freshness::Exempt);
    let mut refused = 0;
    for (name, decide) in decisions() {
        let expected = match info(name).proof {
            Proof::Session => decide(&fresh, here),
            Proof::Fresh => Err(Denied::Stale),
        };
        refused += usize::from(expected.is_err());
        assert_eq!(decide(&stale, here), expected, "{name}");
        assert!(decide(&exempt, here).is_ok(), "{name}");
        // Who may not do it anyway is told that, and is not asked for a password.
        let nobody = context(false, vec![(tenant(1), Role::ReadOnly)]).with_freshness(Freshness::Stale);
        assert_ne!(decide(&nobody, here), Err(Denied::Stale), "{name}");
    }
    assert!(refused >= 8, "{refused}");
    assert!(fresh.authorize_own::<own::FactorDelete>().is_ok());
    assert_eq!(stale.authorize_own::<own::FactorDelete>().unwrap_err(), Denied::Stale);
    assert!(stale.authorize_own::<own::SessionsEnd>().is_ok(), "{}", own::SessionsEnd::NAME);
    let runner = OpCtx::system("runner", here, Arc::new(TestClock::default()), Arc::new(TestRng::seeded(1)));
    assert_eq!(runner.authorize_own::<own::SessionList>().unwrap_err(), Denied::NoPerson);
    // Without a look at the session a person is not fresh.
    let actor = fresh.actor().clone();
    let (clock, rng) = (Arc::new(TestClock::default()), Arc::new(TestRng::seeded(1)));
    let unseen = OpCtx::user(actor, Grants::default(), fresh.request(), None, clock, rng);
    assert_eq!(unseen.freshness(), Freshness::Stale);
}

#[test]
fn attack_17_a_key_holds_its_role_in_its_tenant_but_nothing_that_is_for_people() {
    let (clock, rng) = (Arc::new(TestClock::default()), Arc::new(TestRng::seeded(99)));
    for role in Role::ALL {
        let actor =
            Actor::ApiKey { id: ApiKeyId::generate(&*clock, &*rng), name: "ci".parse().unwrap(), tenant: tenant(1) };
        // Also where whoever made the context gave it more than a key can have.
        let grants = Grants { platform_admin: true, tenants: vec![(tenant(1), role), (tenant(2), Role::SystemAdmin)] };
        let request = RequestId::generate(&*clock, &*rng);
        let ctx = OpCtx::user(actor, grants, request, None, clock.clone(), rng.clone());
        for (name, decide) in decisions() {
            let needed = info(name).permission;
            let people =
                [Permission::TenantsManage, Permission::UsersManage, Permission::SystemAdmin].contains(&needed);
            assert_eq!(decide(&ctx, tenant(1)).is_ok(), role.holds(needed) && !people, "{name} by a key with {role}");
            if !info(name).platform {
                assert_eq!(decide(&ctx, tenant(2)), Err(Denied::NoSuchTenant), "{name}");
            }
        }
    }
}

#[test]
fn attack_22_an_agent_or_a_relay_gets_permits_for_itself_and_no_role_whoever_made_its_context() {
    let (clock, rng) = (Arc::new(TestClock::default()), Arc::new(TestRng::seeded(99)));
    let (agent, relay) = (AgentId::generate(&*clock, &*rng), RelayId::generate(&*clock, &*rng));
    let name = || "web-01".parse().unwrap();
    let of = |actor| {
        let grants = Grants { platform_admin: true, tenants: vec![(tenant(1), Role::SystemAdmin)] };
        OpCtx::user(actor, grants, RequestId::generate(&*clock, &*rng), None, clock.clone(), rng.clone())
    };
    let agent_ctx = of(Actor::Agent { id: agent, name: name(), tenant: tenant(1) });
    let relay_ctx = of(Actor::Relay { id: relay, name: name(), tenant: tenant(2) });
    for ctx in [&agent_ctx, &relay_ctx] {
        for (name, decide) in decisions() {
            let expected =
                if info(name).platform { Denied::Missing(info(name).permission) } else { Denied::NoSuchTenant };
            assert_eq!(decide(ctx, tenant(1)), Err(expected), "{name}");
        }
        assert_eq!(ctx.authorize_own::<own::SessionList>().unwrap_err(), Denied::NoPerson);
    }
    let permit = agent_ctx.authorize_fleet::<fleet_ops::AgentReport>().unwrap();
    assert_eq!((permit.id(), permit.tenant()), (agent.into(), tenant(1)));
    assert_eq!((permit.ingest().tenant(), permit.collect().tenant()), (tenant(1), tenant(1)));
    assert_eq!(permit.ingest().ctx().actor(), agent_ctx.actor());
    let connect = relay_ctx.authorize_fleet::<fleet_ops::RelayConnect>().unwrap();
    assert_eq!((connect.id(), connect.tenant()), (relay.into(), tenant(2)));
    let not_agent = Denied::NotByThem(FleetKind::Agent);
    assert_eq!(relay_ctx.authorize_fleet::<fleet_ops::AgentReport>().unwrap_err(), not_agent);
    let not_relay = Denied::NotByThem(FleetKind::Relay);
    assert_eq!(agent_ctx.authorize_fleet::<fleet_ops::RelayConnect>().unwrap_err(), not_relay);
    // Nobody else has them, whatever they hold.
    let person = context(true, vec![(tenant(1), Role::SystemAdmin)]);
    assert_eq!(person.authorize_fleet::<fleet_ops::AgentRenew>().unwrap_err(), not_agent);
    let runner = OpCtx::system("runner", tenant(1), clock.clone(), rng.clone());
    assert_eq!(runner.authorize_fleet::<fleet_ops::RelayRenew>().unwrap_err(), not_relay);
}

#[test]
fn what_members_do_for_themselves_needs_a_person_with_a_role_in_that_tenant_and_no_particular_one() {
    let (clock, rng) = (Arc::new(TestClock::default()), Arc::new(TestRng::seeded(99)));
    for role in Role::ALL {
        let member = context(false, vec![(tenant(1), role)]);
        let permit = member.authorize_member::<member_ops::DestinationTokenCreate>(tenant(1)).unwrap();
        let Actor::User { id, session, .. } = member.actor() else { panic!("a person") };
        assert_eq!((permit.user(), permit.session(), permit.tenant()), (*id, *session, tenant(1)));
        let elsewhere = member.authorize_member::<member_ops::DestinationTokenCreate>(tenant(2));
        assert_eq!(elsewhere.unwrap_err(), Denied::NoSuchTenant);
        let stale = member.clone().with_freshness(Freshness::Stale);
        assert!(stale.authorize_member::<member_ops::DestinationTokenCreate>(tenant(1)).is_ok());
        assert_eq!(stale.authorize_member::<member_ops::GlassBreak>(tenant(1)).unwrap_err(), Denied::Stale);
        // A machine with a key of that role, and the server itself.
        let key =
            Actor::ApiKey { id: ApiKeyId::generate(&*clock, &*rng), name: "ci".parse().unwrap(), tenant: tenant(1) };
        let grants = Grants { platform_admin: true, tenants: vec![(tenant(1), role)] };
        let key = OpCtx::user(key, grants, RequestId::generate(&*clock, &*rng), None, clock.clone(), rng.clone());
        assert_eq!(key.authorize_member::<member_ops::ReachList>(tenant(1)).unwrap_err(), Denied::NoPerson);
    }
    let platform = context(true, Vec::new());
    assert_eq!(platform.authorize_member::<member_ops::GlassBreak>(tenant(1)).unwrap_err(), Denied::NoSuchTenant);
    let runner = OpCtx::system("runner", tenant(1), clock, rng);
    assert_eq!(runner.authorize_member::<member_ops::ReachList>(tenant(1)).unwrap_err(), Denied::NoPerson);
}

proptest! {
    #[test]
    fn a_permit_comes_only_from_a_role_that_is_held_in_that_tenant(
        platform_admin: bool,
        held in proptest::collection::btree_map(0u8..6, 0usize..Role::ALL.len(), 0..6),
        asked in 0u8..6,
    ) {
        let held: Vec<_> = held.into_iter().map(|(at, role)| (at, Role::ALL[role])).collect();
        let ctx = context(platform_admin, held.iter().map(|(at, role)| (tenant(*at), *role)).collect());
        let role = held.iter().find(|(at, _)| *at == asked).map(|(_, role)| *role);
        for (name, decide) in decisions() {
            let operation = info(name);
            let expected = match (operation.platform, role) {
                (true, _) if platform_admin => Ok(None),
                (false, None) => Err(Denied::NoSuchTenant),
                (false, Some(role)) if role.holds(operation.permission) => Ok(Some(tenant(asked))),
                (true, _) | (false, Some(_)) => Err(Denied::Missing(operation.permission)),
            };
            prop_assert_eq!(decide(&ctx, tenant(asked)), expected, "{}", name);
        }
    }
}
