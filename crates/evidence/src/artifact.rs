//! Artifacts: raw bytes under the name of their SHA-256, each with an Ed25519 signature over that digest's 32 bytes.
//!
//! Why signing 32 bare bytes is safe here: the only other messages that the `evidence` key signs are DSSE pre-authentication encodings,
//! which begin with `DSSEv1 ` and are longer than 32 bytes, so a signature of one kind never verifies as one of the other; and the key
//! has no other role (checkpoints, tokens and certificates have keys of their own). An artifact's raw bytes are never signed: whoever
//! shapes an API reply could make them the text of a message of another protocol. A digest they can only hit by inverting SHA-256.

use crypto::ed25519::{PublicKey, SigningKey};
use domain::Digest;

/// Signs an artifact by its digest.
pub fn sign_artifact_digest(digest: &Digest, key: &SigningKey) -> [u8; 64] {
    key.sign(digest.as_bytes())
}

/// Checks what [`sign_artifact_digest`] made.
pub fn verify_artifact_digest(digest: &Digest, signature: &[u8], key: &PublicKey) -> Result<(), crypto::CryptoError> {
    key.verify(digest.as_bytes(), signature)
}

/// Where an artifact lies in a bundle and in a blob store: `blobs/sha256/ab/cd/<64 hex digits>`.
pub fn blob_path(digest: &Digest) -> String {
    let hex = digest.to_hex();
    let (first, rest) = hex.split_at(2);
    let (second, _) = rest.split_at(2);
    format!("blobs/sha256/{first}/{second}/{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_signature_is_no_statement_signature_and_the_other_way_round() {
        let key = SigningKey::generate().unwrap();
        let signed = crate::sign(b"{}", &key);
        let digest = crypto::sha256(&signed.pae);
        let signature = sign_artifact_digest(&digest, &key);
        verify_artifact_digest(&digest, &signature, &key.public()).unwrap();
        assert!(key.public().verify(&signed.pae, &signature).is_err());
        assert!(verify_artifact_digest(&digest, &signed.sig, &key.public()).is_err());
        assert!(crate::pae("", b"").len() < 32, "length alone does not part them: the payload type does");
        assert!(crate::pae(crate::dsse::PAYLOAD_TYPE, b"").len() > 32);
    }

    #[test]
    fn blobs_lie_under_their_first_four_digits() {
        let path = blob_path(&crypto::sha256(b"abc"));
        assert_eq!(path, "blobs/sha256/ba/78/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
