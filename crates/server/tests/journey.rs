//! The way of a new user through the real programs: `cairn-server` over real TLS, `cairn` beside it, both databases, real peers.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: where it fails, the test fails"
)]

#[path = "journey/access.rs"]
mod access;
#[path = "journey/account.rs"]
mod account;
#[path = "journey/agent.rs"]
mod agent;
#[path = "journey/agent_relay.rs"]
mod agent_relay;
#[path = "journey/audit_log.rs"]
mod audit_log;
#[path = "journey/backup.rs"]
mod backup;
#[path = "journey/console.rs"]
mod console;
#[path = "journey/fips.rs"]
mod fips;
#[path = "journey/first_minute.rs"]
mod first_minute;
#[path = "journey/fleet.rs"]
mod fleet;
#[path = "journey/granting.rs"]
mod granting;
#[path = "journey/guest.rs"]
mod guest;
#[path = "journey/hostile.rs"]
mod hostile;
#[path = "journey/key_provider.rs"]
mod key_provider;
#[path = "journey/keys.rs"]
mod keys;
#[path = "journey/kube_answers.rs"]
mod kube_answers;
#[path = "journey/kube_apiserver.rs"]
mod kube_apiserver;
#[path = "journey/kube_authorizer.rs"]
mod kube_authorizer;
#[path = "journey/kubectl.rs"]
mod kubectl;
#[path = "journey/kubernetes.rs"]
mod kubernetes;
#[path = "journey/relay.rs"]
mod relay;
#[path = "journey/relay_certificate.rs"]
mod relay_certificate;
#[path = "journey/relay_clock.rs"]
mod relay_clock;
#[path = "journey/relay_log.rs"]
mod relay_log;
#[path = "journey/relay_proxy.rs"]
mod relay_proxy;
#[path = "journey/relay_world.rs"]
mod relay_world;
#[path = "journey/scan.rs"]
mod scan;
#[path = "journey/scarce.rs"]
mod scarce;
#[path = "journey/second_factor.rs"]
mod second_factor;
#[path = "journey/simulated.rs"]
mod simulated;
#[path = "journey/snmp.rs"]
mod snmp;
#[path = "journey/ssh.rs"]
mod ssh;
#[path = "journey/ssh_access.rs"]
mod ssh_access;
#[path = "journey/ssh_accounts.rs"]
mod ssh_accounts;
#[path = "journey/ssh_direct.rs"]
mod ssh_direct;
#[path = "journey/ssh_group.rs"]
mod ssh_group;
#[path = "journey/ssh_host.rs"]
mod ssh_host;
#[path = "journey/ssh_relay.rs"]
mod ssh_relay;
#[path = "journey/storm.rs"]
mod storm;
#[path = "journey/target_policy.rs"]
mod target_policy;
#[path = "journey/validate.rs"]
mod validate;
#[path = "journey/world.rs"]
mod world;
#[path = "journey/wrong_turns.rs"]
mod wrong_turns;
