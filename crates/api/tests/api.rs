//! The API through its real router, on a real store of each engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: where the harness fails, the test fails"
)]

#[path = "api/access_data.rs"]
mod access_data;
#[path = "api/access_file.rs"]
mod access_file;
#[path = "api/access_review.rs"]
mod access_review;
#[path = "api/access.rs"]
mod access_to_destinations;
#[path = "api/answer.rs"]
mod answer;
#[path = "api/api_key.rs"]
mod api_key;
#[path = "api/arrange.rs"]
mod arrange;
#[path = "api/authorization.rs"]
mod authorization;
#[path = "api/cli_session.rs"]
mod cli_session;
#[path = "api/condition.rs"]
mod condition;
#[path = "api/console.rs"]
mod console;
#[path = "api/cookie.rs"]
mod cookie;
#[path = "api/document.rs"]
mod document;
#[path = "api/eligible.rs"]
mod eligible;
#[path = "api/fed_access.rs"]
mod fed_access;
#[path = "api/finding.rs"]
mod finding;
#[path = "api/fleet.rs"]
mod fleet;
#[path = "api/glass.rs"]
mod glass;
#[path = "api/graph.rs"]
mod graph;
#[path = "api/home.rs"]
mod home;
#[path = "api/host_set.rs"]
mod host_set;
#[path = "api/http.rs"]
mod http_edge;
#[path = "api/idp.rs"]
mod idp;
#[path = "api/log.rs"]
mod log;
#[path = "api/login.rs"]
mod login;
#[path = "api/login_quirks.rs"]
mod login_quirks;
#[path = "api/member.rs"]
mod member;
#[path = "api/methods.rs"]
mod methods;
#[path = "api/other_tenant.rs"]
mod other_tenant;
#[path = "api/passkey.rs"]
mod passkey;
#[path = "api/ports.rs"]
mod ports;
#[path = "api/recording.rs"]
mod recording;
#[path = "api/report.rs"]
mod report;
#[path = "api/schedule.rs"]
mod schedule;
#[path = "api/scim.rs"]
mod scim;
#[path = "api/second_factor.rs"]
mod second_factor;
#[path = "api/session.rs"]
mod session;
#[path = "api/ssh_access.rs"]
mod ssh_access;
#[path = "api/ssh_session.rs"]
mod ssh_session;
#[path = "api/target_policy.rs"]
mod target_policy;
#[path = "api/tenants_apart.rs"]
mod tenants_apart;
#[path = "api/things.rs"]
mod things;
#[path = "api/throttle.rs"]
mod throttle;
#[path = "api/tunnel.rs"]
mod tunnel;
#[path = "api/world.rs"]
mod world;
