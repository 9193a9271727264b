//! `cargo xtask setup`: installs what the tests need and the machine does not have. Quick when nothing is missing.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::run;
use crate::workspace::Workspace;

const CARGO_DENY: &str = "0.20.2";
const REQUIREMENTS: &str = "crates/testkit/peers/requirements.txt";
const OIDC: &str = "crates/testkit/peers/oidc";
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// A Debian package, and how to see that it is there.
struct Package {
    name: &'static str,
    why: &'static str,
    present: fn() -> bool,
}

const PACKAGES: &[Package] = &[
    Package { name: "postgresql", why: "store tests run on a private PostgreSQL", present: has_postgres },
    Package {
        name: "openssl",
        why: "evidence is checked without our code",
        present: || run::which("openssl").is_some(),
    },
    Package {
        name: "unzip",
        why: "evidence bundles are opened without our code",
        present: || run::which("unzip").is_some(),
    },
    Package {
        name: "sslscan",
        why: "TLS is looked at by a scanner that is not ours",
        present: || run::which("sslscan").is_some(),
    },
    Package {
        name: "snmpd",
        why: "SNMP is read from a real agent",
        present: || Path::new("/usr/sbin/snmpd").is_file(),
    },
    Package {
        name: "snmp",
        why: "what we read by SNMP is compared with what snmpbulkwalk reads",
        present: || run::which("snmpbulkwalk").is_some(),
    },
    Package {
        name: "iproute2",
        why: "networks to scan are namespaces with a cable between them",
        present: || run::which("ip").is_some(),
    },
    Package { name: "python3-venv", why: "moto, the AWS double, is a Python program", present: has_venv },
    Package {
        name: "nodejs",
        why: "sign-ins run against a real OpenID provider, a Node program",
        present: || run::which("node").is_some(),
    },
    Package { name: "npm", why: "installs that provider from its lock file", present: || run::which("npm").is_some() },
    Package {
        name: "openssh-server",
        why: "hosts are read over SSH from a real sshd",
        present: || Path::new("/usr/sbin/sshd").is_file(),
    },
    Package {
        name: "sudo",
        why: "its `visudo` judges the rules that are written for hosts",
        present: || run::which("visudo").is_some(),
    },
    Package {
        name: "openssh-client",
        why: "its `ssh-keygen` makes the keys and certificates of those tests",
        present: || run::which("ssh-keygen").is_some(),
    },
    Package {
        name: "rsyslog",
        why: "audit records are forwarded to a real collector",
        present: || Path::new("/usr/sbin/rsyslogd").is_file(),
    },
    Package { name: "rsyslog-openssl", why: "that collector speaks TLS", present: has_rsyslog_tls },
    Package {
        name: "kubernetes-client",
        why: "its `kubectl` goes through the proxy in front of clusters",
        present: || run::which("kubectl").is_some(),
    },
    Package {
        name: "busybox",
        why: "what is sent to hosts has to run in its shell as well",
        present: || run::which("busybox").is_some(),
    },
    Package {
        name: "faketime",
        why: "an agent runs by a clock that is an hour off",
        present: || run::which("faketime").is_some(),
    },
    Package {
        name: "systemd",
        why: "its `systemd-analyze` judges the agent's unit",
        present: || run::which("systemd-analyze").is_some(),
    },
    Package { name: "util-linux", why: "`setpriv` and `flock` run the private PostgreSQL", present: has_util_linux },
];

/// What builds the web console.
const CONSOLE_PACKAGES: &[Package] = &[
    Package { name: "nodejs", why: "the web console is built with it", present: || run::which("node").is_some() },
    Package { name: "npm", why: "installs what the console is made of", present: || run::which("npm").is_some() },
];

/// What its tests run in.
const BROWSER_PACKAGES: &[Package] = &[Package {
    name: "chromium",
    why: "the web console is tested in a real browser",
    present: || run::which("chromium").is_some(),
}];

/// Installs what builds the console and is missing.
pub(crate) fn console() -> anyhow::Result<()> {
    install(CONSOLE_PACKAGES)
}

/// Installs the browser, if it is missing.
pub(crate) fn chromium() -> anyhow::Result<()> {
    install(BROWSER_PACKAGES)
}

/// What the FIPS module's own build asks for; nothing else needs it.
const FIPS_PACKAGES: &[Package] = &[
    Package { name: "cmake", why: "the FIPS module is built with it", present: || run::which("cmake").is_some() },
    Package {
        name: "golang-go",
        why: "the FIPS module's integrity check is made with it",
        present: || run::which("go").is_some(),
    },
    Package { name: "ninja-build", why: "the FIPS module is built with it", present: || run::which("ninja").is_some() },
    Package { name: "clang", why: "the FIPS module is compiled with it", present: || run::which("clang").is_some() },
    Package {
        name: "openssl",
        why: "the server's TLS is looked at without our code",
        present: || run::which("openssl").is_some(),
    },
];

/// Installs what the FIPS build needs and is missing.
pub(crate) fn fips() -> anyhow::Result<()> {
    install(FIPS_PACKAGES)
}

fn has_postgres() -> bool {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions
        .filter(|entry| entry.file_name().to_str().and_then(|v| v.parse::<u32>().ok()).is_some_and(|v| v >= 15))
        .any(|entry| {
            ["initdb", "psql", "pg_ctl"].iter().all(|program| entry.path().join("bin").join(program).is_file())
        })
}

fn has_rsyslog_tls() -> bool {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders.into_iter().any(|entry| entry.path().join("rsyslog/lmnsd_ossl.so").is_file())
}

fn has_venv() -> bool {
    run::succeeds(Command::new("python3").args(["-c", "import venv, ensurepip"]))
}

fn has_util_linux() -> bool {
    run::which("setpriv").is_some() && run::which("flock").is_some()
}

/// Installs what is missing.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> anyhow::Result<()> {
    if let Some(arg) = args.first() {
        bail!("`setup` takes no option `{arg}`");
    }
    install(PACKAGES)?;
    chromium()?;
    python(workspace)?;
    node(workspace)?;
    cargo_deny(workspace)
}

fn install(packages: &[Package]) -> anyhow::Result<()> {
    let missing: Vec<&Package> = packages.iter().filter(|package| !(package.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        println!("missing: {} ({})", package.name, package.why);
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let is_root = fs::metadata("/proc/self").context("/proc/self")?.uid() == 0;
    if !is_root || run::which("apt-get").is_none() {
        bail!("as root, run `apt-get install -y --no-install-recommends {}`, then this command again", names.join(" "));
    }
    let _policy = NoServices::begin(Path::new(POLICY))?;
    let apt = |args: &[&str]| {
        println!("running: apt-get {}", args.join(" "));
        run::check(Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update", "-q"])?;
    apt(&[&["install", "-y", "-q", "--no-install-recommends"], names.as_slice()].concat())?;
    match missing.iter().find(|package| !(package.present)()) {
        Some(package) => bail!("{} was installed but is still not found", package.name),
        None => Ok(()),
    }
}

/// While it lives, Debian packages do not start the servers that they install. A policy that is already there stays.
struct NoServices {
    ours: Option<PathBuf>,
}

impl NoServices {
    fn begin(path: &Path) -> anyhow::Result<Self> {
        let file = fs::File::options().write(true).create_new(true).mode(0o755).open(path);
        match file {
            Ok(mut file) => {
                std::io::Write::write_all(&mut file, b"#!/bin/sh\nexit 101\n")?;
                Ok(Self { ours: Some(path.to_path_buf()) })
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(Self { ours: None }),
            Err(e) => Err(e).with_context(|| path.display().to_string()),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(Err(e)) = self.ours.take().map(fs::remove_file) {
            eprintln!("cannot remove {POLICY}, remove it by hand: {e}");
        }
    }
}

/// The workspace's `.venv` holds exactly the requirements; a copy of them inside says so.
fn python(workspace: &Workspace) -> anyhow::Result<()> {
    let requirements = workspace.root.join(REQUIREMENTS);
    let wanted = fs::read_to_string(&requirements).with_context(|| REQUIREMENTS.to_owned())?;
    let venv = workspace.root.join(".venv");
    let stamp = venv.join("cairn-requirements.txt");
    // `is_file` follows links: a venv whose Python was removed is made anew.
    let works = venv.join("bin/python").is_file() && venv.join("bin/moto_server").is_file();
    if works && fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    println!("making .venv with moto, boto3 and scim2-tester from PyPI (about 1 minute)");
    run::check(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    run::check(
        Command::new(venv.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "-r"])
            .arg(&requirements),
    )?;
    fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())
}

/// The OpenID provider of the login tests, exactly as its lock file says; a copy of that file inside says so.
fn node(workspace: &Workspace) -> anyhow::Result<()> {
    let folder = workspace.root.join(OIDC);
    let wanted = fs::read_to_string(folder.join("package-lock.json")).with_context(|| OIDC.to_owned())?;
    let stamp = folder.join("node_modules/cairn-lock.json");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    println!("installing oidc-provider from npm (a few seconds)");
    run::check(Command::new("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&folder))?;
    fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())
}

fn cargo_deny(workspace: &Workspace) -> anyhow::Result<()> {
    if run::which("cargo-deny").is_some() {
        return Ok(());
    }
    println!("installing cargo-deny {CARGO_DENY} (about 5 minutes on two cores)");
    // Its own folder, so that its build does not sit in, or wait for, the workspace's.
    let build = workspace.target.join("tools");
    run::check(
        run::cargo(workspace, &["install", "cargo-deny", "--locked", "--version", CARGO_DENY])
            .env("CARGO_TARGET_DIR", &build),
    )?;
    let _ = fs::remove_dir_all(build);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_file_is_ours_only_while_it_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy-rc.d");
        drop(NoServices::begin(&path).unwrap());
        assert!(!path.exists());
        let guard = NoServices::begin(&path).unwrap();
        assert_eq!(Command::new(&path).status().unwrap().code(), Some(101));
        drop(guard);
        fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
        drop(NoServices::begin(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "#!/bin/sh\nexit 0\n", "the administrator's own stays");
    }

    #[test]
    fn every_requirement_is_pinned() {
        let text = fs::read_to_string(Workspace::find().unwrap().root.join(REQUIREMENTS)).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            assert!(line.contains("=="), "`{line}` names no exact version");
        }
        assert!(text.contains("moto==5.2.") && text.contains("boto3=="));
    }
}
