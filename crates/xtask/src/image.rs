//! Container images of the server and of the relay, as OCI image layouts (OCI Image Format 1.1) that `docker load`, `podman load` and `skopeo`
//! take. Made without a container engine: a program, the libraries that it asks for, the authorities of this machine, one user, nothing else.
//!
//! The same inputs make the same bytes.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::run;
use crate::workspace::Workspace;

const USE: &str = "use `cargo xtask image server|relay [--fips] [PROGRAM]`";
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Who runs the program: a number that no account of a machine has, the same as in the chart.
const USER: u32 = 65532;

/// A program of which there is an image.
#[derive(Clone, Copy)]
struct Image {
    /// Its package here.
    package: &'static str,
    program: &'static str,
    /// What it keeps, and the only folder that its user may write to besides `/tmp`.
    data: &'static str,
    environment: &'static [&'static str],
    ports: &'static [&'static str],
}

const IMAGES: [Image; 2] = [
    Image {
        package: "server",
        program: "cairn-server",
        data: "var/lib/cairn",
        environment: &["CAIRN_SERVER_DATA_DIR=/var/lib/cairn", "CAIRN_SERVER_LISTEN=[::]:8443"],
        ports: &["8443/tcp"],
    },
    Image {
        package: "relay",
        program: "cairn-relay",
        data: "var/lib/cairn-relay",
        environment: &["RELAY_DATA_DIR=/var/lib/cairn-relay"],
        ports: &[],
    },
];

/// The OCI word for this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The shared libraries of a program and its loader, where the loader looks for them.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("`ldd` is in Debian's package `libc-bin`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(missing) = text.lines().find(|line| line.contains("not found")) {
        bail!("`{}` needs a library that is not here: {}", program.display(), missing.trim());
    }
    // `NAME => PATH (ADDRESS)`, `PATH (ADDRESS)`; what the kernel brings has no path, and a static program no line.
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

fn put(root: &Path, at: &str, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let path = root.join(at.trim_start_matches('/'));
    folder(path.parent().unwrap_or(root))?;
    fs::write(&path, content).with_context(|| format!("cannot write `{}`", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// Makes a folder as everybody may read it, whatever the mask of whoever runs this.
fn folder(path: &Path) -> anyhow::Result<()> {
    if !path.is_dir() {
        folder(path.parent().context("a folder without a parent")?)?;
        fs::create_dir(path).with_context(|| format!("cannot make `{}`", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Lays out what is in the image.
fn lay_out(image: &Image, program: &Path, root: &Path) -> anyhow::Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read `{}`", path.display()));
    fs::create_dir(root)?;
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    put(root, &format!("usr/bin/{}", image.program), &read(program)?, 0o755)?;
    for library in libraries(program)? {
        let at = library.to_str().context("a library's path is not UTF-8")?;
        put(root, at, &read(&library)?, 0o755)?;
    }
    let authorities = fs::read(AUTHORITIES).context("install `ca-certificates`: whom the image trusts")?;
    put(root, AUTHORITIES, &authorities, 0o644)?;
    let passwd = format!("root:x:0:0::/:/nonexistent\ncairn:x:{USER}:{USER}::/{}:/nonexistent\n", image.data);
    put(root, "etc/passwd", passwd.as_bytes(), 0o644)?;
    put(root, "etc/group", format!("root:x:0:\ncairn:x:{USER}:\n").as_bytes(), 0o644)?;
    put(root, "etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n", 0o644)?;
    folder(&root.join("tmp"))?;
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    folder(&root.join(image.data))?;
    fs::set_permissions(root.join(image.data), fs::Permissions::from_mode(0o700))?;
    Ok(())
}

/// Packs a folder; what is in `data` belongs to the image's user, all else to root.
fn pack(root: &Path, data: &str, tar: &Path) -> anyhow::Result<()> {
    let call = |how: &str, owner: u32, what: &[&str]| {
        let mut command = Command::new("tar");
        command.args(["--sort=name", "--mtime=@0", "--format=gnu", "--numeric-owner"]);
        command.arg(format!("--owner={owner}")).arg(format!("--group={owner}"));
        command.arg(how).arg(tar).arg("-C").arg(root).args(what);
        run::check(&mut command)
    };
    call("-cf", 0, &["--exclude", &format!("./{data}"), "."])?;
    call("-rf", USER, &[&format!("./{data}")])
}

fn sha256(file: &Path) -> anyhow::Result<String> {
    let output =
        Command::new("sha256sum").arg(file).output().context("`sha256sum` is in Debian's package `coreutils`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let digest = text.split_whitespace().next().unwrap_or_default();
    if digest.len() != 64 {
        bail!("`sha256sum` said nothing of `{}`", file.display());
    }
    Ok(digest.to_owned())
}

/// Names a file by its content among the blobs; its descriptor.
fn blob(layout: &Path, file: &Path, media_type: &str) -> anyhow::Result<Value> {
    let (digest, size) = (sha256(file)?, fs::metadata(file)?.size());
    fs::rename(file, layout.join("blobs/sha256").join(&digest))?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size}))
}

fn json_blob(layout: &Path, value: &Value, media_type: &str) -> anyhow::Result<Value> {
    let file = layout.join("value");
    fs::write(&file, serde_json::to_vec(value)?)?;
    blob(layout, &file, media_type)
}

/// Where a descriptor's bytes are within the layout.
fn place(descriptor: &Value) -> anyhow::Result<String> {
    let digest = descriptor.get("digest").and_then(Value::as_str).and_then(|digest| digest.strip_prefix("sha256:"));
    Ok(format!("blobs/sha256/{}", digest.context("a descriptor without a digest")?))
}

/// Makes the image below `out`; the file that it is in.
fn build(image: &Image, program: &Path, tag: &str, out: &Path) -> anyhow::Result<PathBuf> {
    let (root, layout) = (out.join("root"), out.join("layout"));
    if out.exists() {
        fs::remove_dir_all(out)?;
    }
    fs::create_dir_all(layout.join("blobs/sha256"))?;
    lay_out(image, program, &root)?;
    let tar = out.join("layer.tar");
    pack(&root, image.data, &tar)?;
    let content = sha256(&tar)?;
    run::check(Command::new("gzip").args(["-n9", "--force"]).arg(&tar))?;
    let layer = blob(&layout, &out.join("layer.tar.gz"), "application/vnd.oci.image.layer.v1.tar+gzip")?;
    let ports: serde_json::Map<String, Value> =
        image.ports.iter().map(|port| ((*port).to_owned(), json!({}))).collect();
    let environment = [&["PATH=/usr/bin"], image.environment].concat();
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Env": environment,
            "Entrypoint": [format!("/usr/bin/{}", image.program)],
            "WorkingDir": format!("/{}", image.data),
            "Volumes": {format!("/{}", image.data): {}},
            "ExposedPorts": ports,
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{content}")]},
    });
    let config = json_blob(&layout, &config, "application/vnd.oci.image.config.v1+json")?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
    });
    let name = format!("{}:{tag}", image.program);
    // What `docker load` before version 25 reads instead.
    let saved = json!([{"Config": place(&config)?, "RepoTags": [name], "Layers": [place(&layer)?]}]);
    let mut manifest = json_blob(&layout, &manifest, "application/vnd.oci.image.manifest.v1+json")?;
    if let Some(manifest) = manifest.as_object_mut() {
        let names = json!({"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": format!("docker.io/library/{name}")});
        manifest.insert("annotations".to_owned(), names);
    }
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest]});
    fs::write(layout.join("index.json"), serde_json::to_vec(&index)?)?;
    fs::write(layout.join("manifest.json"), serde_json::to_vec(&saved)?)?;
    fs::write(layout.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let file = out.join(format!("{}_{tag}_{}.tar", image.program, architecture()));
    let mut command = Command::new("tar");
    command.args(["--sort=name", "--mtime=@0", "--format=gnu", "--numeric-owner", "--owner=0", "--group=0", "-cf"]);
    run::check(command.arg(&file).arg("-C").arg(&layout).args(["blobs", "index.json", "manifest.json", "oci-layout"]))?;
    Ok(file)
}

/// The image's program in its own root, as its own user where we may choose that; what it printed.
fn try_out(image: &Image, out: &Path, words: &[&str]) -> anyhow::Result<String> {
    let (root, program) = (out.join("root"), format!("/usr/bin/{}", image.program));
    let mut command = if fs::metadata("/proc/self")?.uid() == 0 {
        let mut command = Command::new("chroot");
        command.arg(format!("--userspec={USER}:{USER}")).arg(&root);
        command
    } else {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--root"]).arg(&root);
        command
    };
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let output = command.arg(program).args(words).output().context("cannot enter the image")?;
    if !output.status.success() {
        bail!("in its image `{}` says: {}", image.program, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// `cargo xtask image server|relay [--fips] [PROGRAM]`: packs a program that was built before, or builds it.
pub(crate) fn run(workspace: &Workspace, options: &[String]) -> anyhow::Result<()> {
    let fips = options.iter().any(|option| option == "--fips");
    let words: Vec<&str> = options.iter().map(String::as_str).filter(|option| *option != "--fips").collect();
    let (package, program) = match words.as_slice() {
        [package] => (*package, None),
        [package, program] => (*package, Some(PathBuf::from(program))),
        _ => bail!("{USE}"),
    };
    let image = IMAGES.iter().find(|image| image.package == package).context(USE)?;
    let program = if let Some(program) = program {
        program
    } else {
        let target = if fips { workspace.target.join("fips") } else { workspace.target.clone() };
        let mut command = run::cargo(workspace, &["build", "--release", "--locked", "-p", package]);
        if fips {
            command.args(["--no-default-features", "--features", &format!("{package}/fips")]);
        }
        run::check(command.env("CARGO_TARGET_DIR", &target))?;
        target.join("release").join(image.program)
    };
    let tag = format!("{}{}", env!("CARGO_PKG_VERSION"), if fips { "-fips" } else { "" });
    let out = workspace.target.join("image").join(package);
    let file = build(image, &program, &tag, &out)?;
    let said = try_out(image, &out, &["--version"])?;
    if fips && !said.contains("FIPS build") {
        bail!("`{}` is no FIPS build: it says `{}`", program.display(), said.trim());
    }
    println!("{}", file.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(layout: &Path, descriptor: &Value) -> Value {
        let bytes = fs::read(layout.join(place(descriptor).unwrap())).unwrap();
        assert_eq!(descriptor["size"], bytes.len());
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn an_image_holds_a_program_that_runs_there_as_its_own_user_and_is_the_same_when_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let image = Image { program: "id", ..IMAGES[1] };
        let out = folder.path().join("image");
        let file = build(&image, Path::new("/usr/bin/id"), "1.2.3", &out).unwrap();
        assert_eq!(file.file_name().unwrap().to_str().unwrap(), format!("id_1.2.3_{}.tar", architecture()));

        // Opened as who loads it does.
        let (loaded, root) = (folder.path().join("loaded"), folder.path().join("root"));
        fs::create_dir(&loaded).unwrap();
        run::check(Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(&loaded)).unwrap();
        let index: Value = serde_json::from_slice(&fs::read(loaded.join("index.json")).unwrap()).unwrap();
        let manifest = read(&loaded, &index["manifests"][0]);
        let config = read(&loaded, &manifest["config"]);
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"], json!(["/usr/bin/id"]));
        let layer = loaded.join(place(&manifest["layers"][0]).unwrap());
        assert_eq!(manifest["layers"][0]["digest"], format!("sha256:{}", sha256(&layer).unwrap()));
        for blob in fs::read_dir(loaded.join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap().path();
            assert_eq!(blob.file_name().unwrap().to_str().unwrap(), sha256(&blob).unwrap());
        }
        fs::create_dir(&root).unwrap();
        run::check(Command::new("tar").arg("-xzpf").arg(&layer).arg("-C").arg(&root)).unwrap();
        let listed = Command::new("tar").args(["--numeric-owner", "-tvzf"]).arg(&layer).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let has = |start: &str, end: &str| listed.lines().any(|line| line.starts_with(start) && line.ends_with(end));
        assert!(
            has("drwx------ 65532/65532", " ./var/lib/cairn-relay/") && has("-rwxr-xr-x 0/0", " ./usr/bin/id"),
            "{listed}"
        );
        assert!(has("drwxrwxrwt 0/0", " ./tmp/") && has("drwxr-xr-x 0/0", " ./"), "{listed}");
        assert!(!listed.contains("bin/sh"), "{listed}");

        let said = try_out(&image, &out, &[]).unwrap();
        assert!(said.contains("uid=65532(cairn)") || said.contains("uid=0(root)"), "{said}");

        let again = build(&image, Path::new("/usr/bin/id"), "1.2.3", &folder.path().join("again")).unwrap();
        assert_eq!(sha256(&file).unwrap(), sha256(&again).unwrap());
    }

    #[test]
    fn what_is_no_image_is_told_how_to_ask_and_a_program_that_does_not_run_makes_none() {
        let workspace = Workspace::find().unwrap();
        for words in [&[][..], &["agent"], &["server", "a", "b"]] {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            assert!(
                run(&workspace, &words).unwrap_err().to_string().contains("cargo xtask image server|relay"),
                "{words:?}"
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let image = Image { program: "false", ..IMAGES[1] };
        let out = folder.path().join("image");
        build(&image, Path::new("/bin/false"), "1", &out).unwrap();
        assert!(try_out(&image, &out, &["--version"]).is_err());
    }
}
