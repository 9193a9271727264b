//! The Debian package of the agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::run;
use crate::workspace::Workspace;

/// Debian's word for this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn put(root: &Path, at: &str, content: &[u8], mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = root.join(at);
    fs::create_dir_all(path.parent().unwrap_or(root))?;
    fs::write(&path, content).with_context(|| format!("cannot write `{}`", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// Lays the package out in `root`, and packs it beside; where it is.
fn package(workspace: &Workspace, program: &Path, version: &str, out: &Path) -> anyhow::Result<PathBuf> {
    let (root, from) = (out.join("cairn-agent"), workspace.root.join("crates/agent/package"));
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    let file = |name: &str| fs::read(from.join(name)).with_context(|| format!("cannot read `{name}`"));
    put(&root, "usr/bin/cairn-agent", &fs::read(program)?, 0o755)?;
    put(&root, "usr/lib/systemd/system/cairn-agent.service", &file("cairn-agent.service")?, 0o644)?;
    put(&root, "etc/cairn-agent/agent.toml", &file("agent.toml")?, 0o644)?;
    put(&root, "usr/share/doc/cairn-agent/copyright", &fs::read(workspace.root.join("LICENSE"))?, 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        put(&root, &format!("DEBIAN/{script}"), &file(script)?, 0o755)?;
    }
    put(&root, "DEBIAN/conffiles", b"/etc/cairn-agent/agent.toml\n", 0o644)?;
    let control = format!(
        "Package: cairn-agent\nVersion: {version}\nArchitecture: {}\nMaintainer: The Cairn project\nSection: admin\nPriority: optional\n\
         Depends: libc6, libgcc-s1, passwd\nRecommends: ca-certificates\n\
         Description: Cairn host agent\n Collects this host and reports what changed to a Cairn server.\n",
        architecture()
    );
    put(&root, "DEBIAN/control", control.as_bytes(), 0o644)?;
    let deb = out.join(format!("cairn-agent_{version}_{}.deb", architecture()));
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "--build"]).arg(&root).arg(&deb);
    run::check(&mut build).context("`dpkg-deb` is in Debian's package `dpkg`")?;
    Ok(deb)
}

/// `cargo xtask deb [PROGRAM]`: packs a program that was built before, or builds it.
pub(crate) fn run(workspace: &Workspace, options: &[String]) -> anyhow::Result<()> {
    let program = match options {
        [] => {
            run::check(&mut run::cargo(workspace, &["build", "--release", "--locked", "-p", "agent"]))?;
            workspace.root.join("target/release/cairn-agent")
        }
        [program] => PathBuf::from(program),
        _ => bail!("use `cargo xtask deb [PROGRAM]`"),
    };
    let out = workspace.root.join("target/deb");
    let deb = package(workspace, &program, env!("CARGO_PKG_VERSION"), &out)?;
    println!("{}", deb.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(program: &str, args: &[&str], on: &Path) -> String {
        let output = Command::new(program).args(args).arg(on).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn the_package_holds_the_agent_its_unit_and_its_configuration_and_no_path_of_this_machine() {
        let workspace = Workspace::find().unwrap();
        let out = std::env::temp_dir().join(format!("cairn-deb-{}", std::process::id()));
        fs::create_dir_all(&out).unwrap();
        let program = out.join("program");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        let deb = package(&workspace, &program, "1.2.3", &out).unwrap();
        let info = said("dpkg-deb", &["--info"], &deb);
        assert!(info.contains("Version: 1.2.3") && info.contains("conffiles") && info.contains("postinst"), "{info}");
        let contents = said("dpkg-deb", &["--contents"], &deb);
        for (mode, path) in [
            ("-rwxr-xr-x root/root", "./usr/bin/cairn-agent"),
            ("-rw-r--r-- root/root", "./usr/lib/systemd/system/cairn-agent.service"),
            ("-rw-r--r-- root/root", "./etc/cairn-agent/agent.toml"),
        ] {
            assert!(contents.lines().any(|line| line.starts_with(mode) && line.ends_with(path)), "{path}: {contents}");
        }
        let root = out.join("root");
        let extract = Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(&root).status().unwrap();
        assert!(extract.success() && root.join("usr/bin/cairn-agent").exists());
        let here = workspace.root.display().to_string();
        for name in ["cairn-agent/DEBIAN/postinst", "cairn-agent/DEBIAN/control", "root/etc/cairn-agent/agent.toml"] {
            assert!(!fs::read_to_string(out.join(name)).unwrap().contains(&here), "{name}");
        }
        fs::remove_dir_all(&out).unwrap();
    }

    #[test]
    fn the_unit_grants_one_capability_and_no_more() {
        let workspace = Workspace::find().unwrap();
        let unit = fs::read_to_string(workspace.root.join("crates/agent/package/cairn-agent.service")).unwrap();
        for line in [
            "User=cairn-agent",
            "AmbientCapabilities=CAP_DAC_READ_SEARCH",
            "CapabilityBoundingSet=CAP_DAC_READ_SEARCH",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
        ] {
            assert!(unit.lines().any(|it| it == line), "{line}");
        }
    }

    #[test]
    fn systemd_finds_the_unit_hardened_and_has_nothing_to_say_against_it() {
        let workspace = Workspace::find().unwrap();
        let unit = workspace.root.join("crates/agent/package/cairn-agent.service");
        let asked = |words: &[&str]| {
            let output = Command::new("systemd-analyze").args(words).arg(&unit).output();
            output.expect("install `systemd` for its `systemd-analyze`: `cargo xtask setup`")
        };
        // Of 100, where 0 is best and what has no hardening has 96.
        let judged = asked(&["security", "--offline=true", "--no-pager", "--threshold=22"]);
        assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
        // The program is not installed here; nothing else is said about the unit.
        let verified = asked(&["verify", "--man=no"]);
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        let about = said.lines().filter(|line| line.contains("cairn-agent.service"));
        let about: Vec<&str> = about.filter(|line| !line.contains("/usr/bin/cairn-agent is not executable")).collect();
        assert!(about.is_empty(), "{about:?}");
    }
}
