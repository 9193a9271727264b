//! A private key in the file format of OpenSSH (PROTOCOL.key), without a passphrase.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::{Rng, Secret};
use zeroize::Zeroizing;

use super::{PublicKey, put};
use crate::ed25519::SigningKey;

/// The text of a file that `ssh -i` reads. Whoever writes it keeps it from others.
pub fn private_key(key: &SigningKey, rng: &dyn Rng) -> Secret {
    let public = PublicKey::of_ed25519(&key.public());
    let mut check = [0u8; 4];
    rng.fill(&mut check);
    let mut both = Zeroizing::new([0u8; 64]);
    let (seed, rest) = both.split_at_mut(32);
    seed.copy_from_slice(key.seed());
    rest.copy_from_slice(key.public().as_bytes());
    let mut inner = Zeroizing::new(Vec::with_capacity(256));
    inner.extend_from_slice(&check);
    inner.extend_from_slice(&check);
    put(&mut inner, b"ssh-ed25519");
    put(&mut inner, key.public().as_bytes());
    put(&mut inner, both.as_slice());
    put(&mut inner, b"");
    // Filled up to whole blocks of the cipher that is not there.
    for byte in 1..=(8 - inner.len() % 8) % 8 {
        inner.push(u8::try_from(byte).unwrap_or_default());
    }
    let mut out = Zeroizing::new(Vec::with_capacity(512));
    out.extend_from_slice(b"openssh-key-v1\0");
    for none in [b"none".as_slice(), b"none", b""] {
        put(&mut out, none);
    }
    out.extend_from_slice(&1u32.to_be_bytes());
    put(&mut out, public.as_bytes());
    put(&mut out, &inner);
    let text = Zeroizing::new(STANDARD.encode(out.as_slice()));
    let mut file = Zeroizing::new(String::with_capacity(640));
    file.push_str("-----BEGIN OPENSSH PRIVATE KEY-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(70));
        file.push_str(line);
        file.push('\n');
        rest = after;
    }
    file.push_str("-----END OPENSSH PRIVATE KEY-----\n");
    Secret::new(file.as_bytes().to_vec())
}
