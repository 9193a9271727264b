//! `cargo xtask fips`: builds all four programs with the feature `fips`, checks what is linked into them, and runs the cryptographic tests
//! and one server. Not a part of `cargo xtask test`: the module takes minutes to build.
//!
//! Which packages may be linked into that build is also a rule of `cargo xtask tidy`, which needs no build for it.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::workspace::Workspace;
use crate::{run, setup};

/// What the build is made of.
const BUILD: [&str; 10] =
    ["-p", "server", "-p", "cli", "-p", "relay", "-p", "agent", "--no-default-features", "--features"];
const FEATURES: &str = "server/fips,cli/fips,relay/fips,agent/fips";
const PROGRAMS: [&str; 4] = ["cairn-server", "cairn", "cairn-relay", "cairn-agent"];

/// Packages that implement cryptography, hash functions or random generators, or are parts of such.
const CRYPTOGRAPHY: &[&str] = &[
    "aead",
    "aes",
    "aes-gcm",
    "aes-gcm-siv",
    "aes-kw",
    "argon2",
    "aws-lc-sys",
    "bcrypt",
    "bcrypt-pbkdf",
    "blake2",
    "blake3",
    "block-buffer",
    "blowfish",
    "boring",
    "boring-sys",
    "cbc",
    "ccm",
    "chacha20",
    "chacha20poly1305",
    "cipher",
    "cmac",
    "crypto-bigint",
    "crypto-box",
    "crypto-common",
    "crypto_box",
    "ctr",
    "curve25519-dalek",
    "des",
    "digest",
    "dsa",
    "ecdsa",
    "ed25519",
    "ed25519-dalek",
    "ed448-goldilocks",
    "elliptic-curve",
    "fiat-crypto",
    "ghash",
    "graviola",
    "hkdf",
    "hmac",
    "hmac-sha256",
    "hpke",
    "k256",
    "libcrux",
    "libsodium-sys",
    "md-5",
    "md2",
    "md4",
    "md5",
    "mbedtls",
    "ml-dsa",
    "ml-kem",
    "native-tls",
    "openssl",
    "openssl-sys",
    "orion",
    "p224",
    "p256",
    "p384",
    "p521",
    "pbkdf2",
    "picky",
    "pkcs1",
    "pkcs5",
    "poly1305",
    "polyval",
    "primeorder",
    "rand",
    "rand_chacha",
    "rand_core",
    "rand_xoshiro",
    "rc4",
    "ring",
    "ripemd",
    "rsa",
    "rust-crypto",
    "rustls-rustcrypto",
    "salsa20",
    "scrypt",
    "secp256k1",
    "sha-1",
    "sha1",
    "sha1-checked",
    "sha1_smol",
    "sha2",
    "sha256",
    "sha3",
    "signature",
    "sm3",
    "sm4",
    "snow",
    "sodiumoxide",
    "subtle",
    "tiny-keccak",
    "totp-rs",
    "twofish",
    "universal-hash",
    "whirlpool",
    "x25519-dalek",
    "xsalsa20poly1305",
];

/// Packages of that list which are in the build all the same, and why. May only shrink. See docs/fips.md for what follows from each.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("aws-lc-sys", "rustls names it in its feature; compiled and not linked, which the symbols of the programs show"),
    ("block-buffer", "a part of `digest`"),
    ("chacha20", "a part of `rand` 0.10, in sqlx-postgres"),
    ("crypto-common", "a part of `digest`"),
    ("digest", "the traits of `sha2`, `md-5` and `hmac`"),
    ("hkdf", "sqlx-postgres: keys of advisory locks, which Cairn does not use"),
    ("hmac", "sqlx-postgres: password authentication, which a FIPS build refuses to be configured with"),
    ("md-5", "sqlx-postgres: password authentication, which a FIPS build refuses to be configured with"),
    ("rand", "sqlx-postgres: the nonce of password authentication; metrics-util: which samples to keep"),
    ("rand_chacha", "a part of `rand` 0.9, in metrics-util"),
    ("rand_core", "the traits of `rand`"),
    ("rand_xoshiro", "metrics-util: which samples to keep"),
    (
        "sha2",
        "sqlx-core: checksums of its own migrations, which Cairn does not use; sqlx-postgres: password authentication",
    ),
    ("subtle", "rustls: comparison in constant time, no algorithm"),
];

/// The names of the packages that `cargo tree --prefix none` printed.
fn names(tree: &str) -> BTreeSet<&str> {
    tree.lines().filter_map(|line| line.split_whitespace().next()).collect()
}

/// What is linked and may not be, and which exceptions are needed no more.
fn judge(linked: &BTreeSet<&str>) -> Vec<String> {
    let excepted = |name: &str| EXCEPTIONS.iter().any(|(known, _)| *known == name);
    let forbidden = CRYPTOGRAPHY.iter().filter(|name| linked.contains(**name) && !excepted(name));
    let stale = EXCEPTIONS.iter().filter(|(name, _)| !linked.contains(name));
    forbidden
        .map(|name| {
            format!("`{name}` implements cryptography and would be linked into a FIPS build: use the crate `crypto`")
        })
        .chain(
            stale.map(|(name, _)| {
                format!("`{name}` is not linked any more: remove it from EXCEPTIONS in xtask's fips.rs")
            }),
        )
        .collect()
}

/// What is wrong with the packages of the FIPS build.
pub(crate) fn linked(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let mut command = run::cargo(workspace, &["tree", "--locked", "-e", "normal,no-proc-macro", "--prefix", "none"]);
    let output = command.args(BUILD).arg(FEATURES).output().context("cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(judge(&names(&String::from_utf8_lossy(&output.stdout))))
}

/// What is wrong with a program's symbols: the module has to be in it, and nothing that does its work beside it.
fn judge_symbols(symbols: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if !symbols.contains("aws_lc_fips_") {
        wrong.push("holds no symbol of the AWS-LC-FIPS module".to_owned());
    }
    // The other build of AWS-LC has its version in the prefix of all its symbols: `aws_lc_0_47_0_SHA256_Update`.
    if symbols.lines().any(|line| line.contains(" aws_lc_0_")) {
        wrong.push("holds symbols of AWS-LC without the validated boundary".to_owned());
    }
    for package in ["bcrypt", "blowfish", "ring"] {
        // Rust's mangling: the length of a crate's name and the name.
        let mangled = format!("{}{package}", package.len());
        if symbols.lines().any(|line| line.contains(&format!("_ZN{mangled}")) || line.contains(&format!("_{mangled}")))
        {
            wrong.push(format!("holds symbols of `{package}`"));
        }
    }
    wrong
}

/// Does all of it.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> anyhow::Result<()> {
    if let Some(arg) = args.first() {
        bail!("`fips` takes no option `{arg}`");
    }
    setup::fips()?;
    let wrong = linked(workspace)?;
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    println!("linked packages: as listed");
    let target = workspace.target.join("fips");
    let cargo = |args: &[&str]| {
        let mut command = run::cargo(workspace, args);
        command.args(["--locked"]).env("CARGO_TARGET_DIR", &target);
        run::check(&mut command)
    };
    cargo(&["test", "-p", "crypto", "--no-default-features", "--features", "fips", "--lib"])?;
    cargo(&[&["build"], &BUILD[..], &[FEATURES]].concat())?;
    for program in PROGRAMS {
        let path = target.join("debug").join(program);
        let nm = Command::new("nm").arg("--defined-only").arg(&path).output().context("nm (binutils)")?;
        let wrong = judge_symbols(&String::from_utf8_lossy(&nm.stdout));
        if !wrong.is_empty() {
            bail!("{program} {}", wrong.join(", and "));
        }
        println!("{program}: the module is linked, nothing in its place");
    }
    // One real server over TLS, with a client that offers what a FIPS build must refuse.
    cargo(&["test", "-p", "server", "--no-default-features", "--features", "fips", "--test", "journey", "fips"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_be_linked_and_what_is_excepted_in_vain_is_found() {
        let mut tree = "server v0.1.0 (/x)\nserde v1.0.0\naws-lc-fips-sys v0.14.4\n".to_owned();
        for (name, _) in EXCEPTIONS {
            tree.push_str(name);
            tree.push_str(" v1.0.0 (*)\n");
        }
        assert!(judge(&names(&tree)).is_empty());
        let more = format!("{tree}bcrypt v0.19.3\nring v0.17.0\n");
        let found = judge(&names(&more)).join("\n");
        assert!(found.contains("`bcrypt` implements") && found.contains("`ring` implements"), "{found}");
        let less = tree.replace("md-5 v1.0.0", "mio v1.0.0");
        assert!(judge(&names(&less)).join("\n").contains("`md-5` is not linked any more"));
        assert!(EXCEPTIONS.iter().all(|(name, _)| CRYPTOGRAPHY.contains(name)));
    }

    #[test]
    fn symbols_tell_which_library_does_the_work() {
        let good = "0000 T aws_lc_fips_0_14_4_SHA256_Update\n0001 t _ZN6crypto4hash6sha25617h0E\n";
        assert!(judge_symbols(good).is_empty(), "{:?}", judge_symbols(good));
        for bad in [
            "0000 T aws_lc_0_47_0_SHA256_Update",
            "0001 t _ZN8blowfish8Blowfish17h0E",
            "0001 t _RNvCs1_8blowfish3new",
            "0001 t _ZN4ring6digest17h0E",
        ] {
            assert_eq!(judge_symbols(&format!("{good}{bad}\n")).len(), 1, "{bad}");
        }
        assert_eq!(judge_symbols("").len(), 1);
    }
}
