//! The command line of `cairn-server`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{backup, doctor};

/// The version, and in a FIPS build the module that does the cryptography.
const VERSION: &str = if crypto::fips::is_fips_build() {
    concat!(env!("CARGO_PKG_VERSION"), " (FIPS build: AWS-LC-FIPS)")
} else {
    env!("CARGO_PKG_VERSION")
};

/// Finds what a company runs and proves with signed evidence whether it is compliant.
#[derive(Debug, Parser)]
#[command(name = "cairn-server", version = VERSION)]
pub(crate) struct Arguments {
    /// Configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where everything that is kept lies [default: data].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:8443]; port 0 picks a free one.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<std::net::SocketAddr>,
    /// Write the port that is listened on to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) port_file: Option<PathBuf>,
    /// Take a database that is older than this data directory has seen, as after restoring a backup on purpose; the audit log says so.
    #[arg(long)]
    pub(crate) accept_vault_rollback: bool,
    /// On the first start, take the first administrator's password from this file (0600) instead of printing one.
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_password_file: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// About the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Write everything but the master key into one encrypted file, while the server works.
    Backup(backup::BackupArguments),
    /// Make an empty data directory and an empty database what a backup says.
    Restore(backup::RestoreArguments),
    /// Look at everything that a server needs, and change nothing. Exit code 1 when something failed.
    Doctor {
        /// How the result is written.
        #[arg(short, long, value_enum, default_value = "table")]
        output: doctor::Format,
    },
    /// About the keys that seal and sign, while the server is stopped.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Replace keys: the data keys unless an option names others.
    Rotate(Rotate),
}

#[derive(Debug, clap::Args)]
#[group(multiple = true)]
#[command(group(clap::ArgGroup::new("withdrawn").args(["tokens", "ssh_ca"]).multiple(true)))]
pub(crate) struct Rotate {
    /// The installation's master key.
    #[arg(long)]
    pub(crate) master: bool,
    /// With `--master`, where the new master key is read from (a secret reference), when `keys.master` is one.
    #[arg(long, value_name = "REFERENCE", requires = "master")]
    pub(crate) to: Option<String>,
    /// The data keys of the platform and of every tenant.
    #[arg(long)]
    pub(crate) data: bool,
    /// The data key of one tenant.
    #[arg(long, value_name = "TENANT-ID", conflicts_with = "data")]
    pub(crate) tenant: Option<domain::TenantId>,
    /// The key that signs evidence.
    #[arg(long)]
    pub(crate) evidence: bool,
    /// The key that signs destination tokens. The new one signs ten minutes later, when everybody knows it.
    #[arg(long)]
    pub(crate) tokens: bool,
    /// The key that signs SSH certificates. The new one signs a week later, when every host knows it.
    #[arg(long)]
    pub(crate) ssh_ca: bool,
    /// With `--tokens` or `--ssh-ca`, when somebody else may have the key: the new one signs at once, and what was signed before is refused.
    #[arg(long, requires = "withdrawn")]
    pub(crate) withdraw: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the configuration and the rule packs without starting.
    Check,
    /// Print the JSON Schema of the configuration file.
    Schema,
}
