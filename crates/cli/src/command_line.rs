//! The commands and their common options.

use std::future::Future;

use clap::builder::EnumValueParser;
use clap::{Arg, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::api::{Context, Global};
use crate::config::Environment;
use crate::failure::{Exit, Failure, Result};
use crate::output::{self, Format, Output};
use crate::{
    api_key, apply, audit, audit_log, changes, coverage, credential, destination, evidence, exec_token, factor,
    finding, fleet, grant, graph, group, import, job, kube, member, node, plugin, posture, provider, recording,
    request, review, role, session, ssh, ssh_host_key, tenant, user,
};

/// Cairn's command line: what do we run, is it compliant, and the proof
#[derive(Debug, Parser)]
#[command(name = "cairn", version, max_term_width = 120, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 verification failed.")]
struct Cairn {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sign in to a server
    Login(session::Login),
    /// Sign out
    Logout,
    /// Show who is signed in, and what they may do in which tenant
    Whoami,
    /// List what you reach: destinations and roles
    List,
    /// Point kubectl to a destination that you reach
    Use(kube::Use),
    /// Sign in to a host that you reach, with a certificate made for the moment
    Ssh(ssh::Ssh),
    /// Destination tokens, for kubectl
    #[command(subcommand)]
    Tokens(exec_token::Command),
    /// Ask for access, and answer who asks
    #[command(subcommand)]
    Requests(request::Command),
    /// Take access in an emergency, without approval and with an alarm
    BreakGlass(request::Ask),
    /// Your sessions: list them, end them
    #[command(subcommand)]
    Sessions(session::Command),
    /// Your second factors: authenticator apps, passkeys, recovery codes
    #[command(subcommand)]
    Factors(factor::Command),
    /// Tenants
    #[command(subcommand)]
    Tenants(tenant::Command),
    /// Users of the installation
    #[command(subcommand)]
    Users(user::Command),
    /// Members of the tenant and their roles
    #[command(subcommand)]
    Members(member::Command),
    /// Roles and what they may do
    #[command(subcommand)]
    Roles(role::Command),
    /// API keys of the tenant, for machines
    #[command(subcommand)]
    Keys(api_key::Command),
    /// Groups of the tenant, and roles that groups of identity providers give in it
    #[command(subcommand)]
    Groups(group::Command),
    /// Clusters and hosts that are reached through Cairn
    #[command(subcommand)]
    Destinations(destination::Command),
    /// Who may reach which destination
    #[command(subcommand)]
    Grants(grant::Command),
    /// Who reaches what now and why, and what the tenant allows besides grants
    #[command(subcommand)]
    Access(destination::AccessCommand),
    /// Reviews of access: does everybody still need what they have
    #[command(subcommand)]
    Reviews(review::Command),
    /// Make groups and grants as a file says, after showing the difference
    Apply(apply::Apply),
    /// Take over users, groups and grants of another product
    #[command(subcommand)]
    Import(import::Command),
    /// Recordings of sessions at destinations
    #[command(subcommand)]
    Recordings(recording::Command),
    /// Identity providers to sign in with
    #[command(subcommand)]
    Providers(provider::Command),
    /// Agents, each of which collects the host that it runs on
    #[command(subcommand)]
    Agents(fleet::Command),
    /// Relays, which reach networks that the server does not
    #[command(subcommand)]
    Relays(fleet::RelayCommand),
    /// Credentials for discovery
    #[command(subcommand)]
    Creds(credential::Command),
    /// Host keys of SSH targets that are remembered for jobs with host_keys=first-use
    #[command(subcommand)]
    HostKeys(ssh_host_key::Command),
    /// Sources that can be discovered
    #[command(subcommand, alias = "plugin")]
    Plugins(plugin::Command),
    /// Discovery jobs
    #[command(subcommand)]
    Jobs(job::Command),
    /// Jobs that repeat
    #[command(subcommand)]
    Schedules(job::ScheduleCommand),
    /// Assets
    #[command(subcommand)]
    Nodes(node::Command),
    /// How assets are connected
    #[command(subcommand)]
    Edges(node::EdgeCommand),
    /// Look at the asset graph as a whole: groups, paths, what a node affects
    #[command(subcommand)]
    Graph(graph::Command),
    /// Show the shortest path between two nodes
    Path(graph::PathCommand),
    /// What was read of which source, how much of it, and what was left out
    Coverage(coverage::Coverage),
    /// Violations of rules
    #[command(subcommand)]
    Findings(finding::Command),
    /// Rules that assets are judged by
    #[command(subcommand)]
    Rules(finding::RuleCommand),
    /// Frameworks whose controls are known, and how much of each the rules support
    #[command(subcommand)]
    Frameworks(finding::FrameworkCommand),
    /// Controls of compliance frameworks and how they stand
    #[command(subcommand)]
    Controls(finding::ControlCommand),
    /// How each framework stands, and stood day by day
    Posture(posture::Posture),
    /// What changed since a moment
    Changes(changes::Changes),
    /// Signed evidence: export it, verify it offline
    #[command(subcommand)]
    Evidence(evidence::Command),
    /// The audit log
    #[command(subcommand)]
    Audit(audit::Command),
    /// Print a script that completes commands in a shell
    Completion {
        /// The shell
        #[arg(value_parser = ["bash", "zsh", "fish"])]
        shell: String,
    },
}

const FORMAT: &str = "format";

/// The whole command line. `--output` is added to each command rather than inherited, because `evidence export` has its own: a file.
fn command() -> clap::Command {
    fn with_format(command: clap::Command) -> clap::Command {
        if command.has_subcommands() {
            return command.mut_subcommands(with_format);
        }
        let own = command.get_arguments().any(|arg| arg.get_short() == Some('o'));
        if own { command } else { command.arg(format_arg()) }
    }
    Cairn::command().disable_help_subcommand(true).mut_subcommands(with_format).arg(format_arg())
}

fn format_arg() -> Arg {
    Arg::new(FORMAT)
        .long("output")
        .short('o')
        .value_name("table|json|yaml")
        .value_parser(EnumValueParser::<Format>::new())
        .hide_possible_values(true)
        .help("How data is written: for people, or as the documents of the API [default: table]")
        .help_heading("Global options")
}

/// Runs the process's command and returns its exit code.
pub(crate) fn main() -> u8 {
    let exit = match command()
        .try_get_matches()
        .and_then(|matches| Ok((format(&matches), Cairn::from_arg_matches(&matches)?)))
    {
        Ok((format, cairn)) => run(format, cairn).map_or_else(|failure| output::report(&failure), |()| Exit::Done),
        Err(error) => {
            // Help and the version are data, a mistake is talk; where either cannot be written, nobody reads it.
            drop(error.print());
            if error.use_stderr() { Exit::Usage } else { Exit::Done }
        }
    };
    exit as u8
}

/// The format: the innermost that was given.
fn format(matches: &clap::ArgMatches) -> Format {
    let (mut matches, mut format) = (Some(matches), Format::Table);
    while let Some(level) = matches {
        if let Ok(Some(given)) = level.try_get_one::<Format>(FORMAT) {
            format = *given;
        }
        matches = level.subcommand().map(|(_, inner)| inner);
    }
    format
}

fn run(format: Format, cairn: Cairn) -> Result {
    let out = Output { format, quiet: cairn.global.quiet };
    let cx = &Context { out, global: cairn.global, environment: Environment::read() };
    match cairn.command {
        Command::Login(login) => wait(login.run(cx)),
        Command::Logout => wait(session::logout(cx)),
        Command::Whoami => wait(session::whoami(cx)),
        Command::List => wait(destination::reach(cx)),
        Command::Use(command) => wait(command.run(cx)),
        Command::Ssh(command) => wait(command.run(cx)),
        Command::Tokens(exec_token::Command::Add(add)) => wait(add.run(cx)),
        Command::Requests(command) => wait(command.run(cx)),
        Command::BreakGlass(ask) => wait(request::break_glass(ask, cx)),
        Command::Destinations(command) => wait(command.run(cx)),
        Command::Grants(command) => wait(command.run(cx)),
        Command::Access(command) => wait(command.run(cx)),
        Command::Reviews(command) => wait(command.run(cx)),
        Command::Apply(apply) => wait(apply.run(cx)),
        Command::Import(command) => wait(command.run(cx)),
        Command::Recordings(command) => wait(command.run(cx)),
        Command::Sessions(command) => wait(command.run(cx)),
        Command::Factors(command) => wait(command.run(cx)),
        Command::Tenants(command) => wait(command.run(cx)),
        Command::Users(command) => wait(command.run(cx)),
        Command::Members(command) => wait(command.run(cx)),
        Command::Roles(command) => wait(command.run(cx)),
        Command::Keys(command) => wait(command.run(cx)),
        Command::Groups(command) => wait(command.run(cx)),
        Command::Providers(command) => wait(command.run(cx)),
        Command::Agents(command) => wait(command.run(cx, domain::FleetKind::Agent)),
        Command::Relays(command) => wait(command.run(cx)),
        Command::Creds(command) => wait(command.run(cx)),
        Command::HostKeys(command) => wait(command.run(cx)),
        Command::Plugins(plugin::Command::Check(check)) => wait(check.run(out)),
        Command::Plugins(plugin::Command::Online(command)) => wait(command.run(cx)),
        Command::Jobs(command) => wait(command.run(cx)),
        Command::Schedules(command) => wait(command.run(cx)),
        Command::Nodes(command) => wait(command.run(cx)),
        Command::Edges(command) => wait(command.run(cx)),
        Command::Graph(command) => wait(command.run(cx)),
        Command::Path(command) => wait(command.run(cx)),
        Command::Coverage(coverage) => wait(coverage.run(cx)),
        Command::Findings(command) => wait(command.run(cx)),
        Command::Rules(command) => wait(command.run(cx)),
        Command::Frameworks(command) => wait(command.run(cx)),
        Command::Controls(command) => wait(command.run(cx)),
        Command::Posture(posture) => wait(posture.run(cx)),
        Command::Changes(changes) => wait(changes.run(cx)),
        Command::Evidence(evidence::Command::Verify { file, key_fingerprint }) => {
            evidence::verify(out, &file, key_fingerprint)
        }
        Command::Evidence(evidence::Command::Online(command)) => wait(command.run(cx)),
        Command::Audit(audit::Command::Verify(audit_log::Verify { file: Some(file), ref told, .. })) => {
            audit_log::verify(out, &cx.environment, told, &file)
        }
        Command::Audit(command) => wait(command.run(cx)),
        Command::Completion { shell } => completion(&shell),
    }
}

/// Runs what needs a server, on this thread.
fn wait(work: impl Future<Output = Result>) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Failure::new(format!("cannot start: {e}")))?.block_on(work)
}

fn completion(shell: &str) -> Result {
    let shell: Shell = shell.parse().map_err(Failure::usage)?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "cairn", &mut script);
    output::data(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command with its full name, in order.
    fn all() -> Vec<(String, clap::Command)> {
        fn walk(name: String, command: &clap::Command, out: &mut Vec<(String, clap::Command)>) {
            out.push((name.clone(), command.clone()));
            for inner in command.get_subcommands() {
                walk(format!("{name} {}", inner.get_name()), inner, out);
            }
        }
        let mut root = command().term_width(110);
        root.build();
        let mut out = Vec::new();
        walk("cairn".to_owned(), &root, &mut out);
        out
    }

    #[test]
    fn help_of_every_command_is_the_committed_one() {
        let mut text = String::new();
        for (name, mut command) in all() {
            text.extend([&format!("$ {name} --help\n"), &command.render_long_help().to_string(), "\n"]);
        }
        testkit::golden::check("tests/golden/help.txt", &text);
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn no_secret_can_be_given_as_an_argument() {
        for (name, command) in all() {
            for arg in command.get_arguments() {
                let long = arg.get_long().unwrap_or_else(|| arg.get_id().as_str()).to_lowercase();
                let secret = ["password", "secret", "token", "private", "passphrase", "key"]
                    .iter()
                    .any(|word| long.contains(word));
                let harmless = ["-file", "-stdin", "-fingerprint"].iter().any(|end| long.ends_with(end));
                assert!(!secret || harmless, "{name} takes --{long} as an argument");
            }
        }
    }

    #[test]
    fn every_command_takes_the_format_and_the_common_options() {
        for (name, command) in all() {
            if command.has_subcommands() && name != "cairn" {
                continue;
            }
            let longs: Vec<&str> = command.get_arguments().filter_map(Arg::get_long).collect();
            for long in ["output", "tenant", "server", "quiet"] {
                assert!(longs.contains(&long), "{name} lacks --{long}");
            }
        }
    }

    #[test]
    fn the_innermost_format_counts() {
        let parse = |line: &str| format(&command().try_get_matches_from(line.split(' ')).unwrap());
        assert_eq!(parse("cairn whoami"), Format::Table);
        assert_eq!(parse("cairn -o json whoami"), Format::Json);
        assert_eq!(parse("cairn -o json nodes list -o yaml"), Format::Yaml);
        assert_eq!(parse("cairn evidence export --control AC-6 -o file.zip"), Format::Table);
    }

    #[test]
    fn columns_are_fields_of_the_wire_types() {
        fn check<T: crate::table::Table + utoipa::PartialSchema>() {
            let schema = serde_json::to_value(T::schema()).unwrap();
            for (_, field) in T::COLUMNS {
                assert!(schema.pointer(&format!("/properties/{field}")).is_some(), "{field} in {schema}");
            }
        }
        check::<wire::tenant::Tenant>();
        check::<wire::session::MyTenant>();
        check::<wire::session::Session>();
        check::<wire::factor::Factor>();
        check::<wire::user::User>();
        check::<wire::member::Member>();
        check::<wire::member::Invitation>();
        check::<wire::api_key::ApiKey>();
        check::<wire::provider::Provider>();
        check::<wire::provider::GroupRole>();
        check::<wire::grant::Group>();
        check::<wire::grant::Grant>();
        check::<wire::grant::AccessRequest>();
        check::<wire::access_review::AccessReview>();
        check::<wire::access_review::AccessReviewItem>();
        check::<wire::destination::Destination>();
        check::<wire::destination::Reach>();
        check::<wire::destination::Reacher>();
        check::<wire::recording::Recording>();
        check::<wire::fleet::FleetUnit>();
        check::<wire::fleet::EnrollmentToken>();
        check::<wire::credential::Credential>();
        check::<wire::credential::Plugin>();
        check::<wire::job::Job>();
        check::<wire::job::Schedule>();
        check::<wire::job::JobScope>();
        check::<wire::job::JobLine>();
        check::<wire::validation::Check>();
        check::<wire::node::Node>();
        check::<wire::node::NodeVersion>();
        check::<wire::node::NodeCount>();
        check::<wire::node::NodeSource>();
        check::<wire::coverage::CoverageEntry>();
        check::<wire::node::Edge>();
        check::<wire::graph::GraphElement>();
        check::<wire::graph::GraphNode>();
        check::<wire::graph::GraphMoment>();
        check::<wire::finding::Finding>();
        check::<wire::finding::FindingCount>();
        check::<wire::control::Rule>();
        check::<wire::control::Pack>();
        check::<wire::control::Framework>();
        check::<wire::control::Control>();
        check::<wire::posture::Posture>();
        check::<wire::evidence::Evidence>();
        check::<wire::audit::AuditRecord>();
        check::<wire::forward::Forward>();
    }
}
