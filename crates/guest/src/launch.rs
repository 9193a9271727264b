//! The mode `plugin-launch` of our programs: confines its own process, then becomes the plugin.
//!
//! In this order: limits, no new privileges, no capabilities, the file system (Landlock), system calls (seccomp), `execve`. What cannot
//! be put in place ends the process before anything of the plugin ran.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use crate::syscalls;

/// The first argument that stands for this mode.
pub const MODE: &str = "plugin-launch";
/// The socket's name in the plugin's working folder, the only thing that it can make.
pub(crate) const SOCKET: &str = "plugin.sock";
/// Most open files.
const FILES: u64 = 128;
/// What every program of the system needs to run: programs, libraries and their data. Nothing here is secret.
const SYSTEM: &[&str] = &[
    "/usr/bin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/bin",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/localtime",
    "/dev/urandom",
    "/dev/zero",
];

/// What the launcher is told, as JSON in its second argument: nothing secret.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    /// Folders to read and to run programs of, besides the system's.
    pub(crate) read: Vec<PathBuf>,
    /// The working folder, where a socket may be made.
    pub(crate) run: PathBuf,
    /// The program and its arguments.
    pub(crate) exec: Vec<String>,
    pub(crate) memory_bytes: u64,
    pub(crate) cpu_s: u64,
    /// The process that started this one: when it ends, so does the plugin.
    pub(crate) parent: u32,
}

/// What stopped a launch.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("this mode is for the server, which starts plugins with it: {0}")]
    Spec(String),
    #[error("sandbox: {what}: {why}")]
    Sandbox { what: &'static str, why: String },
    #[error(
        "`{program}` cannot be run: {why} (it, what it links to and its interpreter have to lie in a runtime's folder)"
    )]
    Exec { program: String, why: String },
}

fn sandbox<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> LaunchError {
    move |error| LaunchError::Sandbox { what, why: error.to_string() }
}

/// What `plugin-launch SPEC` does: it comes back only where something failed.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    confined(arguments, ABI::V6)
}

/// The same with no more of Landlock than Linux 6.1 has (no ports, no devices, no scopes of sockets and signals): for the tests of what holds
/// on such a kernel, whatever they run on.
#[doc(hidden)]
pub fn main_of_an_older_kernel(arguments: impl Iterator<Item = String>) -> ExitCode {
    confined(arguments, ABI::V2)
}

fn confined(mut arguments: impl Iterator<Item = String>, newest: ABI) -> ExitCode {
    // The mode's own name comes first.
    let spec = arguments.nth(1).unwrap_or_default();
    let error = launch(&spec, newest);
    #[expect(clippy::print_stderr, reason = "the server reads the plugin's standard error")]
    {
        eprintln!("{error}");
    }
    ExitCode::from(70)
}

fn launch(spec: &str, newest: ABI) -> LaunchError {
    let spec: Spec = match serde_json::from_str(spec) {
        Ok(spec) => spec,
        Err(error) => return LaunchError::Spec(error.to_string()),
    };
    let Some((program, arguments)) = spec.exec.split_first() else {
        return LaunchError::Spec("there is nothing to run".to_owned());
    };
    if let Err(error) = confine(&spec, newest) {
        return error;
    }
    let why = Command::new(program).args(arguments).exec();
    LaunchError::Exec { program: program.clone(), why: why.to_string() }
}

fn limit(resource: Resource, most: u64) -> Result<(), LaunchError> {
    let limit = Rlimit { current: Some(most), maximum: Some(most) };
    rustix::process::setrlimit(resource, limit).map_err(sandbox("a limit"))
}

fn confine(spec: &Spec, newest: ABI) -> Result<(), LaunchError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(sandbox("its parent's end"))?;
    // The parent may have ended before that.
    let parent = rustix::process::getppid().map(Pid::as_raw_nonzero);
    if parent.and_then(|pid| u32::try_from(pid.get()).ok()) != Some(spec.parent) {
        return Err(LaunchError::Spec("its parent is gone".to_owned()));
    }
    // Anonymous memory that can be written; what is shared between processes, system calls refuse.
    limit(Resource::Data, spec.memory_bytes)?;
    limit(Resource::Stack, 8 * 1_024 * 1_024)?;
    limit(Resource::Cpu, spec.cpu_s)?;
    limit(Resource::Nofile, FILES)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Memlock, 0)?;
    limit(Resource::Msgqueue, 0)?;
    // What whoever started the server left open for it is not for the plugin.
    close_fds::set_fds_cloexec(3, &[]);
    rustix::thread::set_no_new_privs(true).map_err(sandbox("no new privileges"))?;
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, none).map_err(sandbox("no capabilities"))?;
    files(spec, newest).map_err(sandbox("Landlock"))?;
    syscalls::restrict().map_err(sandbox("seccomp"))
}

/// Opens nothing but what is listed. Fails where the kernel has no Landlock (before 5.13, or switched off).
fn files(spec: &Spec, newest: ABI) -> Result<(), String> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .map_err(|error| error.to_string())?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(newest))
        .and_then(|rules| match AccessNet::from_all(newest) {
            ports if ports.is_empty() => Ok(rules),
            ports => rules.handle_access(ports),
        })
        .and_then(|rules| match Scope::from_all(newest) {
            scopes if scopes.is_empty() => Ok(rules),
            scopes => rules.scope(scopes),
        })
        .and_then(landlock::Ruleset::create)
        .map_err(|error| error.to_string())?;
    let read = AccessFs::from_read(newest);
    let system = SYSTEM.iter().map(|path| (PathBuf::from(path), read, false));
    let own = spec.read.iter().map(|path| (path.clone(), read, true));
    let rest = [
        (PathBuf::from("/dev/null"), AccessFs::ReadFile | AccessFs::WriteFile, true),
        (spec.run.clone(), AccessFs::MakeSock | AccessFs::RemoveFile | AccessFs::ReadDir, true),
    ];
    for (path, access, needed) in system.chain(own).chain(rest) {
        let Some(rule) = rule(&path, access, needed)? else { continue };
        rules = rules.add_rule(rule).map_err(|error| format!("`{}`: {error}", path.display()))?;
    }
    let status = rules.restrict_self().map_err(|error| error.to_string())?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("this kernel does not enforce it: boot with `lsm=landlock,...`".to_owned()),
        RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
    }
}

fn rule(path: &Path, access: BitFlags<AccessFs>, needed: bool) -> Result<Option<PathBeneath<PathFd>>, String> {
    let (Ok(fd), Ok(found)) = (PathFd::new(path), std::fs::metadata(path)) else {
        return if needed { Err(format!("`{}` cannot be opened", path.display())) } else { Ok(None) };
    };
    // Rights about folders mean nothing for a file, and are refused there.
    let access = if found.is_dir() { access } else { access & AccessFs::from_file(ABI::V6) };
    Ok(Some(PathBeneath::new(fd, access)))
}
