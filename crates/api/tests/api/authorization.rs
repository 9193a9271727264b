//! Every operation of the document, asked by every kind of caller; and what each leaves in the audit logs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use access::{Mode, Role};
use domain::{Clock as _, FleetKind};
use serde_json::{Value, json};

use crate::document::{Operation, operations, parameters};
use crate::fleet::{Machine, enrollment_token};
use crate::log::{cosigned, witness, witness_key};
use crate::world::{
    LEAVER, NEWCOMER, PLATFORM, SESSION_MS, STRANGER, TERMINAL, World, admin, each_engine, holder, planted,
};

/// Operations that need no session.
const PUBLIC: [&str; 12] = [
    "device_code_create",
    "device_token_create",
    "health_show",
    "jwks_show",
    "login_begin",
    "login_callback",
    "login_list",
    "openapi_show",
    "passkey_challenge",
    "ready_show",
    "session_create",
    "ssh_ca_show",
];
/// Of these, the ones that send a browser on, wherever it comes from.
const REDIRECTS: [&str; 2] = ["login_begin", "login_callback"];
/// Operations that need no session but a proof, which nobody has here, and what that is answered with. `second_factor.rs` brings proofs.
/// Agents and relays, in `fleet.rs`, too.
const PROVEN: [(&str, &str); 17] = [
    ("access_check", "401"),
    ("access_record", "401"),
    ("agent_renew", "401"),
    ("agent_report", "401"),
    ("destination_register", "401"),
    ("enroll", "401"),
    ("recording_append", "401"),
    ("recording_begin", "401"),
    ("recording_end", "401"),
    ("relay_connect", "401"),
    ("relay_renew", "401"),
    ("session_confirm", "401"),
    ("session_create_by_passkey", "400"),
    ("ssh_session_begin", "401"),
    ("ssh_session_end", "401"),
    ("ssh_session_forward", "401"),
    ("ssh_session_hold", "401"),
];
/// Operations on one's own account whose object nobody has here, and what that is answered with. `second_factor.rs` and `session.rs` have them.
const OWN_NOTHING: [(&str, &str); 8] = [
    ("device_approve", "404"),
    ("device_deny", "404"),
    ("device_show", "404"),
    ("factor_delete", "404"),
    ("passkey_create", "400"),
    ("recovery_codes_create", "409"),
    ("session_end", "404"),
    ("totp_confirm", "404"),
];
/// Operations of members for themselves whose object nobody has here, and what that is answered with. `access.rs` has them.
const MEMBER_NOTHING: [(&str, &str); 4] = [
    ("access_request_withdraw", "404"),
    ("destination_token_create", "404"),
    ("glass_break", "403"),
    ("ssh_certificate_create", "404"),
];
/// Operations on one's own session: any session is enough, even one with a one-time password. An API key may ask who it is.
const SELF: [&str; 4] = ["cli_session_create", "me_show", "password_change", "session_revoke"];
/// What everybody who is signed in may read: it is about the installation, and no tenant's.
const SIGNED_IN: [&str; 6] =
    ["evidence_key_show", "framework_list", "pack_list", "plugin_list", "role_list", "rule_list"];
/// Operations that are another one's view of the same things, with its permission.
const VIEWS: [(&str, &str); 52] = [
    ("access_request_show", "access_request_list"),
    ("agent_show", "agent_list"),
    ("api_key_show", "api_key_list"),
    ("credential_show", "credential_list"),
    ("destination_show", "destination_list"),
    ("eligible_what", "access_what"),
    ("eligible_who", "access_who"),
    ("evidence_show", "evidence_list"),
    ("control_show", "control_list"),
    ("finding_counts", "finding_list"),
    ("finding_groups", "finding_list"),
    ("finding_selection", "finding_list"),
    ("finding_show", "finding_list"),
    ("grant_show", "grant_list"),
    ("graph_members", "graph_overview"),
    ("graph_moments", "graph_overview"),
    ("graph_neighbors", "graph_overview"),
    ("graph_path", "graph_overview"),
    ("graph_reach", "graph_overview"),
    ("graph_view", "graph_overview"),
    ("group_role_show", "group_role_list"),
    ("group_show", "group_list"),
    ("host_set_hosts", "host_set_show"),
    ("invitation_list", "member_list"),
    ("job_events", "job_list"),
    ("job_log", "job_list"),
    ("job_scopes", "job_list"),
    ("job_show", "job_list"),
    ("log_checkpoint", "log_read"),
    ("log_checkpoints", "log_read"),
    ("log_consistency", "log_read"),
    ("log_proof", "log_read"),
    ("log_tile", "log_read"),
    ("log_verify", "log_read"),
    ("member_show", "member_list"),
    ("node_counts", "node_list"),
    ("node_history", "node_list"),
    ("node_show", "node_list"),
    ("node_sources", "node_list"),
    ("platform_log_checkpoint", "platform_log_read"),
    ("platform_log_checkpoints", "platform_log_read"),
    ("platform_log_consistency", "platform_log_read"),
    ("platform_log_proof", "platform_log_read"),
    ("platform_log_tile", "platform_log_read"),
    ("platform_log_verify", "platform_log_read"),
    ("posture_list", "control_list"),
    ("provider_show", "provider_list"),
    ("recording_show", "recording_list"),
    ("relay_show", "relay_list"),
    ("schedule_show", "schedule_list"),
    ("user_show", "user_list"),
    ("validation_show", "validation_list"),
];
/// Operations of `access` that are the server's own work and have no route.
const WITHOUT_ROUTE: &[&str] = &[
    "credential_resolve",
    "credential_use",
    "data_key_reseal",
    "evidence_collect",
    "graph_ingest",
    "job_run",
    "recording_close",
    "recording_delete",
    "ssh_host_key_meet",
    "validation_run",
    "platform_key_reseal",
    // Commands of `cairn-server`: who has the machine does them, over no network.
    "backup_create",
    "backup_restore",
    "master_key_rotate",
    "restore_accept",
    "signing_key_rotate",
];

/// The row of `access` that decides about an operation of the document.
fn decided_by(id: &str) -> Option<&'static access::OperationInfo> {
    let name = VIEWS.iter().find(|(view, _)| *view == id).map_or(id, |(_, of)| of);
    access::operations().iter().find(|operation| operation.name == name)
}

/// Whether an operation is on the caller's own account.
fn is_own(id: &str) -> bool {
    access::own_operations().iter().any(|operation| operation.name == id)
}

/// Whether an operation is a member's for themselves.
fn is_member(id: &str) -> bool {
    access::member_operations().iter().any(|operation| operation.name == id)
}

#[test]
fn every_route_is_an_operation_and_every_operation_has_a_route_or_is_listed() {
    let routes = operations();
    for route in &routes {
        let proven = PROVEN.map(|(name, _)| name);
        let listed = [&PUBLIC[..], &proven[..], &SELF[..], &SIGNED_IN[..]]
            .iter()
            .filter(|list| list.contains(&route.id.as_str()))
            .count();
        assert_eq!(
            usize::from(decided_by(&route.id).is_some())
                + usize::from(is_own(&route.id))
                + usize::from(is_member(&route.id))
                + listed,
            1,
            "{}: put it into `access` or one list",
            route.id
        );
        if let Some(operation) = decided_by(&route.id) {
            let in_tenant = route.path.starts_with("/api/v1/tenants/{tenant}/");
            assert_eq!(in_tenant, !operation.platform, "{}", route.id);
            if operation.mode == Mode::Write
                && !route.id.ends_with("_export")
                && !["recording_read", "relay_follow"].contains(&route.id.as_str())
            {
                assert_ne!(route.method, "GET", "{}", route.id);
            }
        }
    }
    let named: BTreeSet<&str> = routes.iter().map(|route| route.id.as_str()).collect();
    for operation in access::operations() {
        assert_eq!(named.contains(operation.name), !WITHOUT_ROUTE.contains(&operation.name), "{}", operation.name);
    }
    let own = access::own_operations().iter().map(|operation| operation.name);
    for name in own.chain(access::member_operations().iter().map(|operation| operation.name)) {
        assert!(named.contains(name), "{name}");
    }
    let listed = [&PUBLIC[..], &PROVEN.map(|(name, _)| name), &SELF[..], &SIGNED_IN[..]].concat();
    for name in listed.iter().chain(VIEWS.iter().map(|(view, _)| view)) {
        assert!(named.contains(name), "`{name}` is listed and has no route");
    }
}

/// What every test that goes through all operations needs: fitting ids for a path, a fitting query, a fitting body.
pub(crate) struct Ask {
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
}

/// Things that a call does not use up.
pub(crate) struct Standing {
    node: String,
    evidence: String,
    recording: String,
}

impl Standing {
    pub(crate) async fn new(world: &World, tenant: domain::TenantId) -> Self {
        world.provider_at("standing", "https://127.0.0.1:1/standing").await;
        world.destination_of(tenant, "standing").await;
        world.group_of(tenant, "standing").await;
        let recording = crate::recording::recorded(world, tenant).await;
        Self { node: world.node(tenant).await, evidence: world.evidence(tenant).await, recording }
    }
}

/// An id of a thing of the kind in this tenant that the operation can be done to once.
pub(crate) async fn object(
    world: &World,
    standing: &Standing,
    tenant: domain::TenantId,
    operation: &str,
    kind: &str,
) -> String {
    match kind {
        "tenant" if operation == "tenant_delete" => world.tenant(&format!("t{}", world.fresh())).await.to_string(),
        "tenant" => tenant.to_string(),
        "user" => world.member(tenant).await,
        "factor" => domain::FactorId::generate(&*world.clock, &*world.rng).to_string(),
        "device_login" => domain::DeviceLoginId::generate(&*world.clock, &*world.rng).to_string(),
        "session" => domain::SessionId::generate(&*world.clock, &*world.rng).to_string(),
        "api_key" => world.api_key(tenant, Role::ReadOnly, json!({})).await.0,
        "invitation" => world.invitation(tenant).await,
        "agent" => Machine::enrolled(world, tenant, FleetKind::Agent).await.id,
        "relay" => Machine::enrolled(world, tenant, FleetKind::Relay).await.id,
        "enrollment_token" => enrollment_token(world, tenant, FleetKind::Agent).await.0,
        "destination" if operation.starts_with("ssh_host") => world.ssh_host_of(tenant).await,
        "destination" if operation.starts_with("host_set") => world.host_set_of(tenant).await,
        "destination" => world.destination_of(tenant, &format!("d{}", world.fresh())).await,
        "group" => world.group_of(tenant, &format!("g{}", world.fresh())).await,
        "grant" => world.grant_of(tenant).await,
        "access_request" => world.access_request_of(tenant).await,
        "access_review" => world.access_review_of(tenant).await,
        "credential" => world.credential(tenant).await,
        "ssh_host_key" => world.ssh_host_key(tenant).await,
        "provider" => world.provider().await,
        "group_role" => world.group_role(tenant).await,
        "job" => world.job(tenant).await,
        "schedule" => world.schedule(tenant).await,
        "validation" => world.validation(tenant).await,
        "node" => standing.node.clone(),
        "evidence" => standing.evidence.clone(),
        "recording" => standing.recording.clone(),
        "number" => "1".to_owned(),
        "control" => world.control(tenant).await,
        "finding" => {
            let id = world.finding(tenant).await;
            if operation == "finding_reopen" {
                world
                    .by(
                        &holder(Role::SystemAdmin, 'a'),
                        "POST",
                        &format!("/api/v1/tenants/{tenant}/findings/{id}/resolve"),
                        None,
                    )
                    .await;
            }
            id
        }
        "witness" => witness(world).await,
        "connection" => crate::things::nobodys(world, kind),
        other => panic!("there is no kind of id `{other}`: add it"),
    }
}

/// A body that the operation takes.
pub(crate) async fn body(world: &World, operation: &str) -> Option<Value> {
    let n = world.fresh();
    let email = format!("u{n}@example.org");
    Some(match operation {
        "session_create" => json!({"email": STRANGER, "password": planted().password}),
        "session_confirm" => json!({"token": "no token", "code": "000000"}),
        "session_create_by_passkey" => {
            let response = json!({"clientDataJSON": "", "authenticatorData": "", "signature": ""});
            json!({"state": "no state", "credential": {"id": "", "response": response}})
        }
        "passkey_create" => {
            let response = json!({"clientDataJSON": "", "attestationObject": ""});
            json!({"name": "Key", "state": "no state", "credential": {"id": "", "response": response}})
        }
        "session_prove" => json!({"password": planted().password}),
        "access_request_approve"
        | "access_request_deny"
        | "agent_report"
        | "api_key_rotate"
        | "data_key_rotate"
        | "destination_token_create"
        | "graph_view"
        | "passkey_challenge"
        | "recording_append"
        | "recording_begin"
        | "recording_end"
        | "sessions_end"
        | "ssh_session_begin"
        | "ssh_session_end"
        | "ssh_session_forward"
        | "ssh_session_hold" => json!({}),
        "recording_policy_put" => {
            json!({"kubernetes": "required", "ssh": "off", "input": false, "retention_days": 400})
        }
        "totp_create" => json!({"name": "Phone"}),
        "totp_confirm" => json!({"code": "000000"}),
        "sign_in_policy_put" => json!({"second_factor_required": false}),
        "password_change" => json!({"old": planted().password, "new": planted().new_password}),
        "tenant_create" => json!({"slug": format!("t{n}"), "name": "T"}),
        "user_create" => json!({"email": email, "name": "U"}),
        "user_update" => json!({"platform_admin": false}),
        "member_put" => json!({"email": email, "role": "read-only"}),
        "api_key_create" => json!({"name": format!("k{n}"), "role": "read-only"}),
        "enrollment_token_create" => json!({"kind": "agent"}),
        "enroll" => Machine::new(world).enroll_body("et_none", FleetKind::Agent, "web-01"),
        "agent_renew" | "relay_renew" => json!({"version": "1.0.0"}),
        "agent_label" | "relay_label" => json!({"labels": {"site": "berlin"}}),
        "target_policy_put" => json!({"special_networks": ["127.0.0.1"]}),
        "relay_policy_put" => json!({"authorities": "", "certificate_required": false}),
        "cli_session_create" | "device_code_create" => json!({"client": "test"}),
        "device_show" => json!({"user_code": "WDJB-MJHT"}),
        "device_token_create" => json!({"device_code": "a".repeat(43)}),
        "credential_create" => {
            let secret = json!({"access_key_id": "AKIA", "secret_access_key": planted().aws});
            json!({"plugin": "aws", "name": format!("n{n}"), "type": "aws-keys", "secret": secret})
        }
        "provider_create" => json!({
            "name": format!("p{n}"),
            "issuer": format!("https://p{n}.example.org"),
            "client_id": "cairn",
            "client_secret": planted().client,
        }),
        "ssh_host_key_pin" => json!({"target": format!("h{n}.example"), "key": crate::things::HOST_KEY}),
        "provider_update" => json!({"title": "Renamed"}),
        "group_role_put" => json!({"provider": "standing", "group": format!("g{n}"), "role": "read-only"}),
        "job_create" => json!({"plugin": "host"}),
        "schedule_create" => json!({"plugin": "host", "interval_s": 3_600}),
        "schedule_update" => json!({"paused": true}),
        "validation_create" => json!({"plugin": "aws", "credential": world.credential(world.a).await}),
        "log_cosign" => {
            json!({"checkpoint": cosigned(world, &format!("/api/v1/tenants/{}/log/checkpoint", world.a), &admin()).await})
        }
        "platform_log_cosign" => json!({"checkpoint": cosigned(world, "/api/v1/log/checkpoint", PLATFORM).await}),
        "witness_add" => json!({"vkey": witness_key(&format!("w{n}.example")).to_string()}),
        "ssh_certificate_create" => json!({"public_key": crate::things::HOST_KEY}),
        "host_set_put" => json!({"selector": {"role": "web"}}),
        "ssh_host_put" => json!({"address": "10.0.0.7", "host_key": crate::things::HOST_KEY, "roles": ["deploy"]}),
        "destination_update" => json!({"labels": {"env": "prod"}}),
        "group_create" => json!({"name": format!("g{n}")}),
        "grant_create" => json!({"group": "standing", "role": format!("role{n}"), "destination": "standing"}),
        "access_request_create" | "glass_break" => {
            json!({"destination": "standing", "role": "view", "duration_s": 600, "reason": "a pod hangs"})
        }
        "access_policy_put" => json!({"request_s_max": 3_600}),
        "access_review_create" => {
            world.grant_of(world.a).await;
            json!({"name": "All", "reviewers": [NEWCOMER], "undecided": "keep", "ends_at": world.clock.now().plus_millis(3_600_000)})
        }
        "access_review_decide" => json!({"items": [1], "decision": "keep", "reason": "it is needed"}),
        "changes_see" => json!({"until": world.clock.now()}),
        "access_plan" => json!({"file": {"version": 1, "name": "team"}}),
        "access_apply" => world.applied(json!({"version": 1, "name": "team"})).await,
        "destination_register" => json!({"name": "d", "kind": "kubernetes", "authority": "", "version": "1.0.0"}),
        "access_check" => json!({"standings": []}),
        "access_record" => {
            json!({"destination": format!("dst_{}", "0".repeat(26)), "run": "0".repeat(32), "number": 1, "calls": []})
        }
        "finding_change" => json!({"change": "resolve", "findings": [world.finding(world.a).await]}),
        "finding_accept" => json!({"reason": "it is behind a wall", "until": "2026-06-01T00:00:00Z"}),
        _ => return None,
    })
}

pub(crate) async fn ask(world: &World, standing: &Standing, operation: &Operation) -> Ask {
    let mut path = operation.path.clone();
    for parameter in parameters(&operation.path) {
        let id = object(world, standing, world.a, &operation.id, parameter).await;
        path = path.replace(&format!("{{{parameter}}}"), &id);
    }
    if operation.id == "evidence_export" {
        write!(path, "?finding={}", object(world, standing, world.a, &operation.id, "finding").await).unwrap();
    }
    match operation.id.trim_start_matches("platform_") {
        "name_list" => write!(path, "?users={}", world.user_id(&admin())).unwrap(),
        "log_proof" => path.push_str("?seq=0"),
        "log_consistency" => path.push_str("?from=0&to=1"),
        "graph_path" => write!(path, "?to={}", standing.node).unwrap(),
        // An API key has to say it.
        "changes_show" => write!(path, "?since={}", world.clock.now()).unwrap(),
        _ => {}
    }
    Ask { path, body: body(world, &operation.id).await }
}

/// Everybody who may come, with the token that they bring.
async fn callers(world: &World) -> Vec<(String, Option<String>)> {
    let mut callers = vec![("nobody".to_owned(), None), ("garbage".to_owned(), Some("garbage".to_owned()))];
    let expired = world.sign_in(&admin()).await;
    world.clock.advance(Duration::from_millis(SESSION_MS.unsigned_abs() + 1));
    // Whoever arranged something before has expired too.
    world.tokens.lock().await.clear();
    callers.push(("expired".to_owned(), Some(expired)));
    let revoked = world.sign_in(&admin()).await;
    world.call("DELETE", "/api/v1/sessions/current", Some(&revoked), None).await.is(204);
    callers.push(("revoked".to_owned(), Some(revoked)));
    let disabled = world.sign_in(LEAVER).await;
    let leaver = format!("/api/v1/users/{}", world.user_id(LEAVER));
    world.by(PLATFORM, "PATCH", &leaver, Some(json!({"disabled": true}))).await.is(200);
    callers.push(("disabled".to_owned(), Some(disabled)));
    for role in Role::ALL {
        callers.push((role.to_string(), Some(world.sign_in(&holder(role, 'a')).await)));
    }
    for (name, email) in [
        ("other", holder(Role::TenantAdmin, 'b')),
        ("platform", PLATFORM.to_owned()),
        ("newcomer", NEWCOMER.to_owned()),
    ] {
        callers.push((name.to_owned(), Some(world.sign_in(&email).await)));
    }
    callers.push(("terminal".to_owned(), Some(world.cli_session(TERMINAL).await)));
    callers.push(("platform terminal".to_owned(), Some(world.cli_session(PLATFORM).await)));
    for role in Role::ALL {
        callers.push((format!("key {role}"), Some(world.api_key(world.a, role, json!({})).await.1)));
    }
    callers.push(("key of other".to_owned(), Some(world.api_key(world.b, Role::TenantAdmin, json!({})).await.1)));
    let (id, revoked) = world.api_key(world.a, Role::TenantAdmin, json!({})).await;
    let path = format!("/api/v1/tenants/acme/api-keys/{id}");
    world.by(&admin(), "DELETE", &path, None).await.is(204);
    callers.push(("key revoked".to_owned(), Some(revoked)));
    for (_, token) in callers.iter().filter(|(name, _)| name.starts_with("key")) {
        // The first use of each, and its first refusal, are in the log; what follows is compared without them.
        world.call("GET", "/api/v1/me", token.as_deref(), None).await;
    }
    callers
}

/// The status that follows from `access`, thought of apart from the code.
fn expected(operation: &str, caller: &str) -> &'static str {
    let ok = "2xx";
    if operation == "device_token_create" {
        // Nobody approved that code, whoever asks.
        return "400";
    }
    if REDIRECTS.contains(&operation) {
        return "303";
    }
    if PUBLIC.contains(&operation) {
        return ok;
    }
    if let Some((_, status)) = PROVEN.iter().find(|(name, _)| *name == operation) {
        return status;
    }
    if ["nobody", "garbage", "expired", "revoked", "disabled", "key revoked"].contains(&caller) {
        return "401";
    }
    if ["device_show", "device_approve", "device_deny"].contains(&operation) && caller.ends_with("terminal") {
        // Else a stolen session of the command line would renew itself for ever.
        return "403";
    }
    let key = caller.strip_prefix("key ");
    if SELF.contains(&operation) {
        return match (operation, caller) {
            ("me_show", _) => ok,
            _ if key.is_some() => "403",
            // It is for whoever has just signed in otherwise, and chose a password.
            ("cli_session_create", "terminal" | "platform terminal" | "newcomer") => "403",
            _ => ok,
        };
    }
    // An API key has no account.
    if caller == "newcomer" || (key.is_some() && is_own(operation)) {
        return "403";
    }
    if let Some((_, status)) = OWN_NOTHING.iter().find(|(name, _)| *name == operation) {
        return status;
    }
    if is_own(operation) {
        return ok;
    }
    if SIGNED_IN.contains(&operation) {
        return ok;
    }
    if is_member(operation) {
        if operation.starts_with("access_review_") && operation != "access_review_list" {
            // Who was not asked to decide sees one only if they manage access.
            let manages = ["system-admin", "tenant-admin", "terminal"].contains(&caller);
            return match (operation, caller) {
                (_, "other" | "platform" | "platform terminal" | "key of other") => "404",
                _ if key.is_some() => "403",
                ("access_review_decide", _) if manages => "403",
                _ if manages => ok,
                _ => "404",
            };
        }
        let nothing = MEMBER_NOTHING.iter().find(|(name, _)| *name == operation).map_or(ok, |(_, status)| status);
        return match caller {
            "other" | "platform" | "platform terminal" | "key of other" => "404",
            // A machine reaches nothing.
            _ if key.is_some() => "403",
            _ => nothing,
        };
    }
    if operation == "access_request_approve" && key.is_some_and(|key| key != "of other") {
        return "403";
    }
    let decided = decided_by(operation).unwrap();
    let caller = match caller {
        "terminal" => "tenant-admin",
        "platform terminal" => "platform",
        other => key.unwrap_or(other),
    };
    if key.is_some() && (decided.platform || (decided.permission.is_for_people() && caller != "of other")) {
        return "403";
    }
    match (decided.platform, caller, caller.parse::<Role>()) {
        (true, "platform", _) => ok,
        (false, _, Ok(role)) if role.holds(decided.permission) => ok,
        (true, ..) | (false, _, Ok(_)) => "403",
        (false, ..) => "404",
    }
}

#[test]
fn every_operation_answers_every_caller_as_committed_and_leaves_its_audit_record() {
    each_engine(|world| async move {
        let standing = Standing::new(&world, world.a).await;
        let mut callers = callers(&world).await;
        let names: Vec<String> = callers.iter().map(|(name, _)| name.clone()).collect();
        let mut table = format!("{:22}", "");
        for name in &names {
            write!(table, " {name:20}").unwrap();
        }
        table = format!("{}\n", table.trim_end());
        let mut audit = BTreeMap::new();
        // A newcomer who changed the password is none any more: last.
        let (last, all): (Vec<_>, Vec<_>) =
            operations().into_iter().partition(|operation| operation.id == "password_change");
        for operation in all.into_iter().chain(last) {
            let mut row = format!("{:22}", operation.id);
            let mut left: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
            for (name, token) in &mut callers {
                if ["sessions_end", "password_change"].contains(&operation.id.as_str()) && name == "platform terminal" {
                    // Whoever came before ended it.
                    *token = Some(world.cli_session(PLATFORM).await);
                }
                let Ask { path, body } = ask(&world, &standing, &operation).await;
                world.later();
                let before = places(&world).await;
                let answer = world.call(&operation.method, &path, token.as_deref(), body).await;
                let records = records(&world, before).await;
                let expect = expected(&operation.id, name);
                let class = if answer.status < 300 { "2xx".to_owned() } else { answer.status.to_string() };
                assert_eq!(class, expect, "{} by {name}: {}", operation.id, answer.text);
                write!(row, " {:20}", answer.status).unwrap();
                let asked = match class.as_str() {
                    "2xx" if name.starts_with("key") => "done by key",
                    "2xx" => "done",
                    _ if PROVEN.iter().any(|(proven, _)| *proven == operation.id) => "no proof",
                    _ if name == "newcomer" && class != "2xx" => "one-time password",
                    "401" => "nobody is there",
                    _ if MEMBER_NOTHING.iter().any(|(nothing, _)| *nothing == operation.id)
                        && (name == "terminal" || name.parse::<Role>().is_ok()) =>
                    {
                        "nothing is there"
                    }
                    "404" if !is_own(&operation.id) => "not a member",
                    "400" if operation.id == "device_token_create" => "not approved",
                    "303" => "sent on",
                    status if is_own(&operation.id) && status != "403" => "nothing is there",
                    _ if name.starts_with("key") => "key too low",
                    _ => "role too low",
                };
                left.entry(asked).or_default().insert(records);
                if answer.status < 300 && operation.id == "password_change" {
                    let back = json!({"old": planted().new_password, "new": planted().password});
                    world.call("POST", &path, token.as_deref(), Some(back)).await.is(204);
                }
                if answer.status < 300 && operation.id == "session_revoke" {
                    let email = match name.as_str() {
                        "other" => holder(Role::TenantAdmin, 'b'),
                        "platform" | "platform terminal" => PLATFORM.to_owned(),
                        "newcomer" => NEWCOMER.to_owned(),
                        "terminal" => TERMINAL.to_owned(),
                        role => holder(role.parse().unwrap(), 'a'),
                    };
                    *token = Some(match name.as_str() {
                        "terminal" | "platform terminal" => world.cli_session(&email).await,
                        _ => world.sign_in(&email).await,
                    });
                }
            }
            if operation.id == "sessions_end"
                && let Some((_, token)) = callers.iter_mut().find(|(name, _)| name == "platform")
            {
                *token = Some(world.sign_in(PLATFORM).await);
            }
            writeln!(table, "{}", row.trim_end()).unwrap();
            audit.insert(operation.id.clone(), left);
        }
        testkit::golden::check("tests/golden/authorization.txt", &table);
        check_audit(&audit);
    });
}

async fn places(world: &World) -> [i64; 2] {
    let mut places = [-1, -1];
    for (place, log) in places.iter_mut().zip([Some(world.a), None]) {
        *place = world.audit(log, -1).await.last().map_or(-1, |(seq, ..)| *seq);
    }
    places
}

/// The records that a call left in tenant A's log and in the platform's.
async fn records(world: &World, before: [i64; 2]) -> String {
    let mut out = Vec::new();
    for (name, log, before) in [("tenant", Some(world.a), before[0]), ("platform", None, before[1])] {
        out.extend(
            world.audit(log, before).await.into_iter().map(|(_, action, outcome)| format!("{name}:{action}:{outcome}")),
        );
    }
    if out.is_empty() { "-".to_owned() } else { out.join(" ") }
}

fn check_audit(audit: &BTreeMap<String, BTreeMap<&str, BTreeSet<String>>>) {
    let mut table = String::new();
    for (operation, left) in audit {
        for (asked, records) in left {
            let records: Vec<&str> = records.iter().map(String::as_str).collect();
            writeln!(table, "{operation:22} {asked:18} {}", records.join(" | ")).unwrap();
            let Some(decided) = decided_by(operation) else { continue };
            // A view is denied in the name of the operation whose permission it needs.
            let log = if decided.platform { "platform" } else { "tenant" };
            let wanted = match *asked {
                "done" | "done by key" if decided.mode == Mode::Read => "-".to_owned(),
                // The platform's administrator acts on every tenant, and each tenant's own log says so.
                "done" | "done by key" if operation == "data_key_rotate" => {
                    format!("tenant:{operation}:success platform:{operation}:success")
                }
                // Each finding's record says what was done to it, by the word for one of them.
                "done" | "done by key" if operation == "finding_change" => format!("{log}:finding_resolve:success"),
                // What it ends in is signed, and kept as evidence.
                "done" | "done by key" if operation == "access_review_close" => {
                    let signed =
                        "tenant:evidence_sign:success tenant:evidence_sign:success tenant:evidence_collect:success";
                    format!("{log}:{operation}:success {signed}")
                }
                "done" | "done by key" => format!("{log}:{operation}:success"),
                "role too low" | "key too low" => format!("{log}:{}:deny", decided.name),
                "not a member" => format!("platform:{}:deny", decided.name),
                _ => "-".to_owned(),
            };
            assert_eq!(records, [wanted.as_str()], "{operation} {asked}");
        }
    }
    testkit::golden::check("tests/golden/audit.txt", &table);
}
