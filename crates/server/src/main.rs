//! `cairn-server`: the HTTPS API, the job runner and the compliance engine in one process.
//!
//! **Not for** anything but configuration, wiring and shutdown: the work is in the crates below.
//!
//! Invariants:
//! - a start that cannot be completed changes nothing that exists;
//! - a stop loses nothing: requests drain, and tasks that are cut off are taken up again by the next start.

mod acme;
mod allocator;
mod arguments;
mod authority;
mod backup;
mod bootstrap;
mod catalog;
mod certificate;
mod config;
mod datadir;
mod doctor;
mod evaluate;
mod fips;
mod forward;
mod host_keys;
mod identity;
mod keys;
mod listen;
mod log_signer;
mod logs;
mod metrics;
mod names;
mod own_services;
mod peers;
mod posture;
mod reach;
mod recordings;
mod relays;
mod remote;
mod report;
mod reviews;
mod runner;
mod serve;
mod sign;
mod sink;
mod tls;

use std::path::Path;
use std::sync::Arc;

use clap::Parser as _;
use crypto::system::SystemClock;
use domain::{Clock, Rng};
use secrets::Stores;
use store::{OpenOptions, Store, VaultOptions};

use crate::arguments::{Arguments, Command, ConfigCommand, KeysCommand};
use crate::config::{Config, process_environment};
use crate::datadir::DataDir;

fn main() -> std::process::ExitCode {
    // Before anything else is done: this process becomes a plugin, in its sandbox.
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == guest::launch::MODE) {
        return guest::launch::main(arguments);
    }
    allocator::tune(&process_environment);
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            std::process::ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "what an operator must see at the terminal, also when logs go elsewhere")]
fn say(text: &str) {
    eprintln!("{text}");
}

#[expect(clippy::print_stdout, reason = "what was asked for")]
fn print_schema() -> anyhow::Result<()> {
    println!("{:#}", config::schema()?);
    Ok(())
}

fn configure(arguments: &Arguments) -> anyhow::Result<Config> {
    let mut config = config::load(arguments.config.as_deref(), &process_environment)?;
    if let Some(listen) = arguments.listen {
        config.server.listen = listen;
    }
    if let Some(data_dir) = &arguments.data_dir {
        config.server.data_dir.clone_from(data_dir);
    }
    Ok(config)
}

/// Resolves what the configuration refers to, and refuses what would be unsafe.
async fn settle(config: &mut Config, file: Option<&Path>) -> anyhow::Result<Stores> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stores = Stores::declare(std::mem::take(&mut config.secrets), &config::surroundings(&clock))?;
    let jwt_secret = config::jwt_secret(&process_environment, &stores).await?;
    posture::check(config, file, jwt_secret.as_ref())?;
    config.database.resolve(&stores).await?;
    Ok(stores)
}

/// False: what was asked about is not as it should be, and has been told.
fn run(arguments: Arguments) -> anyhow::Result<bool> {
    crypto::system::keep_memory_private()?;
    // Before any key is made or used; libraries that ask for a default get the same provider.
    crypto::fips::self_test()?;
    crypto::tls::install();
    // Everything that the server makes is for its owner only, also what libraries make (the database's files).
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let file = arguments.config.as_deref();
    if let Some(Command::Config { command: ConfigCommand::Schema }) = arguments.command {
        print_schema()?;
        return Ok(true);
    }
    // Two threads serve; collecting and hashing run on the blocking pool.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let settled = configure(&arguments).and_then(|mut config| {
        let stores = runtime.block_on(settle(&mut config, file))?;
        Ok((config, stores))
    });
    if let Some(Command::Doctor { output }) = arguments.command {
        let report = match &settled {
            Ok((config, stores)) => runtime.block_on(doctor::examine(config, stores, &SystemClock)),
            Err(error) => doctor::Report::unreadable(error),
        };
        report.write(output)?;
        return Ok(report.is_ok());
    }
    let (config, stores) = settled?;
    if let Some(Command::Config { command: ConfigCommand::Check }) = arguments.command {
        secrets::KeyProvider::of(&config.keys, &stores)?;
        catalog::Installed::load(runner::plugins(&config.discovery)?, config.discovery.packs.clone())?;
        for section in &config.audit.forward {
            forward::Forward::open(section, "localhost")?;
        }
        say("the configuration is valid");
        return Ok(true);
    }
    match &arguments.command {
        Some(Command::Backup(backup)) => {
            return runtime.block_on(backup::create(&config, &stores, file, backup)).map(|()| true);
        }
        Some(Command::Restore(restore)) => {
            return runtime.block_on(backup::restore(&config, &stores, restore)).map(|()| true);
        }
        _ => {}
    }
    logs::start(&config.log)?;
    match arguments.command {
        Some(Command::Keys { command: KeysCommand::Rotate(what) }) => {
            runtime.block_on(keys::rotate(&config, &stores, what))
        }
        _ => runtime.block_on(serve::serve(config, stores, arguments)),
    }
    .map(|()| true)
}

/// The store and where its master key comes from.
async fn open_store(
    config: &Config,
    data: &DataDir,
    stores: &Stores,
    accept_rollback: bool,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
) -> anyhow::Result<(Store, keys::Source)> {
    let file = data.join(datadir::DATABASE);
    let (url, exists) = match &config.database.url {
        Some(url) => (url.clone(), true),
        None => (format!("sqlite:{}", file.display()), file.exists()),
    };
    for url in [Some(&url), config.database.owner_url.as_ref()].into_iter().flatten() {
        fips::check_database(crypto::fips::is_fips_build(), url, process_environment("PGPASSWORD").is_some())?;
    }
    let source = keys::Source::of(config, data.path(), stores)?;
    let master = source.open(stores, &url, exists, &**rng).await?;
    let vault = VaultOptions { witness: Some(data.join(datadir::WITNESS)), accept_rollback, ..VaultOptions::default() };
    let options = OpenOptions {
        url,
        owner_url: config.database.owner_url.clone(),
        master,
        vault,
        blobs: data.join(datadir::BLOBS),
        clock: Arc::clone(clock),
        rng: Arc::clone(rng),
    };
    let store = Store::open(options).await?;
    if config.database.url.is_none() {
        // Its folder is locked.
        store.only_writer();
    }
    Ok((store, source))
}
