//! The HTTP API: routes, documents to domain types and back, errors to statuses, the OpenAPI document.
//!
//! **Not for** deciding (`access`), storing (`store`), listening (`server` brings TLS and the sockets).
//!
//! Invariants:
//! - the one way to an [`access::OpCtx`] that holds a role is the `caller::Caller` extractor, and every handler but the public ones and SCIM's
//!   has one; SCIM's have `scim::Provider`, and those of agents and relays `fleet_caller::FleetCaller`, whose contexts hold no role;
//! - what a cookie brings changes nothing without the proof that our own page asked (`cookie`);
//! - a handler reaches tenant data only with a permit that it asked for by operation; a denial is in the audit log before the answer;
//! - what the caller may not see answers with the same bytes as what does not exist;
//! - every answer carries the security headers and a request id.

mod access_file;
mod access_record;
mod access_request;
mod access_review;
mod admission;
mod api_key;
mod audit;
mod caller;
mod changes;
mod cli_session;
mod condition;
mod console;
mod control;
mod cookie;
mod coverage;
mod credential;
mod data_key;
mod destination;
mod device;
mod enrollment;
mod evidence;
mod factor;
mod finding;
mod finding_change;
mod finding_group;
mod fleet;
mod fleet_caller;
mod fleet_connections;
mod fleet_memory;
mod forward;
mod framework;
mod grant;
mod graph;
mod group;
mod group_role;
mod health;
mod host_set;
mod job;
mod job_detail;
mod layers;
mod log;
mod login;
mod member;
mod node;
mod oidc;
mod page;
mod passkey;
mod password;
mod plugin;
pub mod ports;
mod posture;
mod problem;
mod provider;
mod reach;
mod recording;
mod relay_channel;
mod relay_log;
mod relay_policy;
mod report;
mod role;
mod schedule;
mod scim;
mod second_step;
mod session;
mod ssh_access;
mod ssh_host_key;
mod ssh_session;
mod ssh_tunnel;
mod state;
mod target_policy;
mod tenant;
mod throttle;
mod token_key;
mod tunnel;
mod user;
mod validation;

use axum::Router;
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Ref, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use admission::{Admission, Admitted};
pub use audit::audit_document;
pub use console::{Asset, Console};
pub use finding::finding_document;
pub use fleet_connections::{Askers, Carrier, Connection, Connections};
pub use forward::ForwardSettings;
pub use layers::refusal;
pub use login::recheck;
pub use recording::recording_document;
pub use relay_channel::Relays;
pub use relay_policy::ClientCertificates;
pub use session::{hash_one_time_password, one_time_password};
pub use state::{ApiState, Settings};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Cairn",
        description = "Finds what a company runs, proves with signed evidence whether it is compliant, and gives people brief, audited access to it.\n\nA change that lists `If-Match` is made from the state that it names, or refused with 412. Every other one refuses `If-Match` and `If-None-Match` with 400 and changes nothing.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(wire::problem::Problem)),
    modifiers(&Bearer),
    security(("bearer" = [])),
)]
struct Document;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .bearer_format("a session's JWT, `cs_…` of the command line, or an API key `sk_…`")
                .build(),
        );
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", scheme);
        let proof = ApiKeyValue::with_description(
            "DPoP",
            "a proof of this request by the key of an agent or a relay (shape of RFC 9449), whose credential is in `Authorization: DPoP …`",
        );
        components.add_security_scheme("fleet", SecurityScheme::ApiKey(ApiKey::Header(proof)));
    }
}

fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(health::health_show))
        .routes(routes!(health::ready_show))
        .routes(routes!(health::openapi_show))
        .routes(routes!(token_key::jwks_show))
        .routes(routes!(ssh_access::ssh_ca_show))
        .routes(routes!(session::session_create))
        .routes(routes!(login::login_list))
        .routes(routes!(login::login_begin))
        .routes(routes!(login::login_callback))
        .routes(routes!(session::session_revoke))
        .routes(routes!(second_step::session_confirm))
        .routes(routes!(second_step::passkey_challenge))
        .routes(routes!(second_step::session_create_by_passkey))
        .routes(routes!(second_step::session_prove))
        .routes(routes!(second_step::passkey_ask))
        .routes(routes!(session::session_list))
        .routes(routes!(session::session_end))
        .routes(routes!(session::sessions_end))
        .routes(routes!(factor::factor_list))
        .routes(routes!(factor::totp_create))
        .routes(routes!(factor::totp_confirm))
        .routes(routes!(factor::passkey_begin))
        .routes(routes!(factor::passkey_create))
        .routes(routes!(factor::factor_delete))
        .routes(routes!(factor::recovery_codes_create))
        .routes(routes!(session::me_show))
        .routes(routes!(cli_session::cli_session_create))
        .routes(routes!(device::device_code_create))
        .routes(routes!(device::device_token_create))
        .routes(routes!(device::device_show))
        .routes(routes!(device::device_approve))
        .routes(routes!(device::device_deny))
        .routes(routes!(session::password_change))
        .routes(routes!(tenant::tenant_list, tenant::tenant_create))
        .routes(routes!(tenant::tenant_delete))
        .routes(routes!(user::user_list, user::user_create))
        .routes(routes!(user::user_show, user::user_update))
        .routes(routes!(factor::user_factors_reset))
        .routes(routes!(audit::platform_audit_list))
        .routes(routes!(data_key::data_key_list))
        .routes(routes!(data_key::data_key_rotate))
        .routes(routes!(provider::provider_list, provider::provider_create))
        .routes(routes!(provider::provider_show, provider::provider_update, provider::provider_delete))
        .routes(routes!(provider::scim_token_create, provider::scim_token_delete))
        .routes(routes!(plugin::plugin_list))
        .routes(routes!(control::rule_list))
        .routes(routes!(forward::forward_list))
        .routes(routes!(framework::framework_list))
        .routes(routes!(framework::pack_list))
        .routes(routes!(evidence::evidence_key_show))
        .routes(routes!(member::member_list, member::member_put))
        .routes(routes!(member::name_list))
        .routes(routes!(member::member_show, member::member_delete))
        .routes(routes!(factor::sign_in_policy_show, factor::sign_in_policy_put))
        .routes(routes!(target_policy::target_policy_show, target_policy::target_policy_put))
        .routes(routes!(member::invitation_list))
        .routes(routes!(member::invitation_delete))
        .routes(routes!(role::role_list))
        .routes(routes!(api_key::api_key_list, api_key::api_key_create))
        .routes(routes!(api_key::api_key_show, api_key::api_key_revoke))
        .routes(routes!(api_key::api_key_rotate))
        .routes(routes!(group_role::group_role_list, group_role::group_role_put))
        .routes(routes!(group_role::group_role_show, group_role::group_role_delete))
        .routes(routes!(credential::credential_list, credential::credential_create))
        .routes(routes!(credential::credential_show, credential::credential_delete))
        .routes(routes!(ssh_host_key::ssh_host_key_list, ssh_host_key::ssh_host_key_pin))
        .routes(routes!(ssh_host_key::ssh_host_key_remove))
        .routes(routes!(validation::validation_list, validation::validation_create))
        .routes(routes!(validation::validation_show))
        .routes(routes!(job::job_list, job::job_create))
        .routes(routes!(job::job_show))
        .routes(routes!(job::job_cancel))
        .routes(routes!(job::job_events))
        .routes(routes!(job_detail::job_scopes))
        .routes(routes!(job_detail::job_log))
        .routes(routes!(schedule::schedule_list, schedule::schedule_create))
        .routes(routes!(schedule::schedule_show, schedule::schedule_update, schedule::schedule_delete))
        .routes(routes!(node::node_list))
        .routes(routes!(node::node_show))
        .routes(routes!(node::node_history))
        .routes(routes!(node::node_sources))
        .routes(routes!(node::node_counts))
        .routes(routes!(node::edge_list))
        .routes(routes!(graph::graph_overview))
        .routes(routes!(graph::graph_view))
        .routes(routes!(graph::graph_members))
        .routes(routes!(graph::graph_neighbors))
        .routes(routes!(graph::graph_path))
        .routes(routes!(graph::graph_reach))
        .routes(routes!(graph::graph_moments))
        .routes(routes!(coverage::coverage_list))
        .routes(routes!(finding::finding_list))
        .routes(routes!(finding::finding_counts))
        .routes(routes!(finding_group::finding_groups))
        .routes(routes!(finding_change::finding_selection))
        .routes(routes!(finding_change::finding_change))
        .routes(routes!(finding::finding_show))
        .routes(routes!(finding::finding_accept))
        .routes(routes!(finding::finding_reopen))
        .routes(routes!(finding::finding_resolve))
        .routes(routes!(control::control_list))
        .routes(routes!(control::control_show))
        .routes(routes!(posture::posture_list))
        .routes(routes!(changes::changes_show))
        .routes(routes!(changes::changes_see))
        .routes(routes!(finding::evaluation_run))
        .routes(routes!(evidence::evidence_list))
        .routes(routes!(evidence::evidence_show))
        .routes(routes!(evidence::evidence_export))
        .routes(routes!(audit::audit_list))
        .routes(routes!(relay_channel::relay_connect))
        .merge(log_routes())
        .merge(access_routes())
        .merge(fleet_routes())
}

fn fleet_routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(enrollment::enroll))
        .routes(routes!(enrollment::enrollment_token_list, enrollment::enrollment_token_create))
        .routes(routes!(enrollment::enrollment_token_revoke))
        .routes(routes!(fleet::agent_list))
        .routes(routes!(fleet::agent_show, fleet::agent_revoke))
        .routes(routes!(fleet::agent_label))
        .routes(routes!(fleet::agent_renew))
        .routes(routes!(report::agent_report))
        .routes(routes!(fleet::relay_list))
        .routes(routes!(fleet::relay_show, fleet::relay_revoke))
        .routes(routes!(fleet::relay_label))
        .routes(routes!(relay_log::relay_follow))
        .routes(routes!(relay_policy::relay_policy_show, relay_policy::relay_policy_put))
        .routes(routes!(fleet::relay_renew))
}

fn access_routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(destination::destination_list))
        .routes(routes!(
            destination::destination_show,
            destination::destination_update,
            destination::destination_delete
        ))
        .routes(routes!(destination::destination_token_create))
        .routes(routes!(ssh_access::ssh_host_show, ssh_access::ssh_host_put))
        .routes(routes!(ssh_access::ssh_host_certificate_create))
        .routes(routes!(host_set::host_set_show, host_set::host_set_put))
        .routes(routes!(host_set::host_set_hosts))
        .routes(routes!(ssh_access::ssh_certificate_create))
        .routes(routes!(destination::destination_register))
        .routes(routes!(destination::access_check))
        .routes(routes!(access_record::access_record))
        .routes(routes!(ssh_session::ssh_session_begin))
        .routes(routes!(ssh_session::ssh_session_end))
        .routes(routes!(ssh_session::ssh_session_forward))
        .routes(routes!(ssh_session::ssh_session_hold))
        .routes(routes!(recording::recording_begin))
        .routes(routes!(recording::recording_append))
        .routes(routes!(recording::recording_end))
        .routes(routes!(recording::recording_list))
        .routes(routes!(recording::recording_show))
        .routes(routes!(recording::recording_read))
        .routes(routes!(recording::recording_export))
        .routes(routes!(recording::recording_policy_show, recording::recording_policy_put))
        .routes(routes!(destination::access_who))
        .routes(routes!(destination::access_what))
        .routes(routes!(destination::reach_list))
        .routes(routes!(group::group_list, group::group_create))
        .routes(routes!(group::group_show, group::group_delete))
        .routes(routes!(group::group_member_add, group::group_member_remove))
        .routes(routes!(grant::grant_list, grant::grant_create))
        .routes(routes!(grant::grant_show, grant::grant_delete))
        .routes(routes!(access_request::access_request_list, access_request::access_request_create))
        .routes(routes!(access_request::access_request_mine))
        .routes(routes!(access_request::access_request_show))
        .routes(routes!(access_request::access_request_approve))
        .routes(routes!(access_request::access_request_deny))
        .routes(routes!(access_request::access_request_withdraw))
        .routes(routes!(access_request::glass_show, access_request::glass_break))
        .routes(routes!(grant::eligible_list))
        .routes(routes!(grant::eligible_what))
        .routes(routes!(grant::eligible_who))
        .routes(routes!(access_request::access_policy_show, access_request::access_policy_put))
        .routes(routes!(access_review::access_review_list, access_review::access_review_create))
        .routes(routes!(access_review::access_review_show))
        .routes(routes!(access_review::access_review_items))
        .routes(routes!(access_review::access_review_decide))
        .routes(routes!(access_review::access_review_close))
        .routes(routes!(access_file::access_export))
        .routes(routes!(access_file::access_plan))
        .routes(routes!(access_file::access_apply))
}

fn log_routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(log::log_read))
        .routes(routes!(log::log_checkpoint))
        .routes(routes!(log::log_checkpoints))
        .routes(routes!(log::log_tile))
        .routes(routes!(log::log_proof))
        .routes(routes!(log::log_consistency))
        .routes(routes!(log::log_verify))
        .routes(routes!(log::log_cosign))
        .routes(routes!(log::platform_log_read))
        .routes(routes!(log::platform_log_checkpoint))
        .routes(routes!(log::platform_log_checkpoints))
        .routes(routes!(log::platform_log_tile))
        .routes(routes!(log::platform_log_proof))
        .routes(routes!(log::platform_log_consistency))
        .routes(routes!(log::platform_log_verify))
        .routes(routes!(log::platform_log_cosign))
        .routes(routes!(audit::audit_export))
        .routes(routes!(audit::platform_audit_export))
        .routes(routes!(log::witness_list, log::witness_add))
        .routes(routes!(log::witness_remove))
}

/// The OpenAPI 3.1 document, as committed in `openapi/v1.json`. Whatever is not the success that an operation names is a `Problem`.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = routes().into_openapi();
    // A parameter that takes the rest of a path has a star for the router only.
    document.paths.paths = std::mem::take(&mut document.paths.paths)
        .into_iter()
        .map(|(path, item)| (path.replace("{*", "{"), item))
        .collect();
    let problem = Content::new(Some(Ref::from_schema_name("Problem")));
    let problem = ResponseBuilder::new().description("an error").content("application/json", problem).build();
    for item in document.paths.paths.values_mut() {
        for operation in
            [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
        {
            operation.responses.responses.insert("default".to_owned(), problem.clone().into());
        }
    }
    document
}

/// The whole API with its layers.
pub fn router(state: ApiState) -> Router {
    let (router, document) = routes().split_for_parts();
    let conditional = condition::Conditional::of(&document);
    let router =
        console::pages(device::pages(router)).merge(scim::routes()).merge(tunnel::routes()).merge(ssh_tunnel::routes());
    layers::apply(
        router.fallback(problem::no_route).method_not_allowed_fallback(problem::no_method),
        conditional,
        state,
    )
}
