//! The store's tests: every one on SQLite and on PostgreSQL, each in a world of its own.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code: where it fails, the test fails"
)]

#[path = "store/api_key.rs"]
mod api_key;
#[path = "store/audit.rs"]
mod audit;
#[path = "store/backup.rs"]
mod backup;
#[path = "store/changes.rs"]
mod changes;
#[path = "store/checkpoint.rs"]
mod checkpoint;
#[path = "store/coverage.rs"]
mod coverage;
#[path = "store/evidence.rs"]
mod evidence;
#[path = "store/factor.rs"]
mod factor;
#[path = "store/finding.rs"]
mod finding;
#[path = "store/finding_change.rs"]
mod finding_change;
#[path = "store/finding_group.rs"]
mod finding_group;
#[path = "store/finding_text.rs"]
mod finding_text;
#[path = "store/forward.rs"]
mod forward;
#[path = "store/graph.rs"]
mod graph;
#[path = "store/graph_map.rs"]
mod graph_map;
#[path = "store/identity.rs"]
mod identity;
#[path = "store/job.rs"]
mod job;
#[path = "store/job_detail.rs"]
mod job_detail;
#[path = "store/log.rs"]
mod log;
#[path = "store/pair.rs"]
mod pair;
#[path = "store/placed.rs"]
mod placed;
#[path = "store/posture.rs"]
mod posture;
#[path = "store/reach.rs"]
mod reach;
#[path = "store/reach_estate.rs"]
mod reach_estate;
#[path = "store/remembered.rs"]
mod remembered;
#[path = "store/report.rs"]
mod report;
#[path = "store/rollback.rs"]
mod rollback;
#[path = "store/rotation.rs"]
mod rotation;
#[path = "store/sealed_columns.rs"]
mod sealed_columns;
#[path = "store/server_peer.rs"]
mod server_peer;
#[path = "store/ssh_host_key.rs"]
mod ssh_host_key;
#[path = "store/tenancy.rs"]
mod tenancy;
#[path = "store/trouble.rs"]
mod trouble;
#[path = "store/validation.rs"]
mod validation;
#[path = "store/vault.rs"]
mod vault;
#[path = "store/walls.rs"]
mod walls;
#[path = "store/world.rs"]
mod world;
