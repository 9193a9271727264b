//! `cairn`: the command line for people and CI, and the offline verifier of evidence.
//!
//! **Not for** decisions: what is allowed, what is compliant and what a finding is, the server says. Nothing here knows the database.
//!
//! Invariants:
//! - nothing secret is taken from an argument, and the session is kept in a file that only its owner reads;
//! - data goes to the standard output and talk to the standard error, and text of others is shown harmlessly;
//! - a command that needs no server starts no runtime and no TLS.

mod accounts;
mod api;
mod api_key;
mod apply;
mod audit;
mod audit_log;
mod changes;
mod clean;
mod client;
mod command_line;
mod config;
mod coverage;
mod credential;
mod destination;
mod device;
mod doc;
mod download;
mod evidence;
mod exec_token;
mod factor;
mod failure;
mod finding;
mod finding_change;
mod fleet;
mod grant;
mod graph;
mod group;
mod import;
mod job;
mod kube;
mod log_memory;
mod member;
mod node;
mod output;
mod pipe;
mod plugin;
mod posture;
mod prompt;
mod provider;
mod recording;
mod relay_log;
mod request;
mod review;
mod role;
mod screen;
mod server;
mod session;
mod sse;
mod ssh;
mod ssh_host;
mod ssh_host_key;
mod ssh_include;
mod ssh_way;
mod table;
mod tenant;
mod trust;
mod user;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    // `plugins check` starts this program once more, to become the plugin in its sandbox.
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == guest::launch::MODE) {
        return guest::launch::main(arguments);
    }
    ExitCode::from(command_line::main())
}
