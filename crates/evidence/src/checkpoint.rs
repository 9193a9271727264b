//! Checkpoints (C2SP tlog-checkpoint): the signed size and root of a log, and the proofs that rest on one (C2SP tlog-proof).

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto::ed25519::{PublicKey, SigningKey};
use domain::{Digest, TenantId};

use crate::note::{KeyKind, Note, NoteError, NoteKey, NoteSignature, cosigned};
use crate::tree::{self, TreeError};

/// What a log is: `<installation>/t/<tenant uuid>`, or `<installation>/platform` for the installation's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin(String);

impl Origin {
    /// The origin of a tenant's log; of the platform's own without one.
    pub fn new(installation: &str, tenant: Option<TenantId>) -> Self {
        match tenant {
            Some(tenant) => Self(format!("{installation}/t/{}", tenant.as_uuid().hyphenated())),
            None => Self(format!("{installation}/platform")),
        }
    }

    /// The one spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the log of this tenant, in whatever installation.
    pub fn is_of(&self, tenant: TenantId) -> bool {
        self.0.ends_with(&format!("/t/{}", tenant.as_uuid().hyphenated()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a checkpoint or a proof is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note is not as it must be.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note's text is no checkpoint.
    #[error("this is no checkpoint: {0}")]
    Malformed(&'static str),
    /// The text is no proof.
    #[error("this is no proof (c2sp.org/tlog-proof@v1): {0}")]
    Proof(&'static str),
    /// The hashes do not lead to the checkpoint's root.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// A log's size and root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: Origin,
    /// Leaves.
    pub size: u64,
    /// The RFC 6962 root over them.
    pub root: Digest,
}

impl Checkpoint {
    /// The three lines that are signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }

    /// The key under which a log of this origin signs.
    pub fn key(origin: &Origin, key: PublicKey) -> Result<NoteKey, NoteError> {
        NoteKey::new(origin.as_str(), KeyKind::Ed25519, key)
    }

    /// Signs it as the log. The caller has made sure that no checkpoint it signed before is inconsistent with this one.
    pub fn sign(&self, key: &SigningKey) -> Result<Note, NoteError> {
        let (text, name) = (self.text(), Self::key(&self.origin, key.public())?);
        let signature = NoteSignature::by(&name, key.sign(text.as_bytes()).to_vec());
        Ok(Note::new(text, vec![signature]))
    }

    /// Reads the text of a note whose signatures nobody has checked yet. Extension lines are refused: this log writes none.
    pub fn of(note: &Note) -> Result<Self, CheckpointError> {
        let refuse = CheckpointError::Malformed;
        let mut lines = note.text().split('\n');
        let (Some(origin), Some(size), Some(root), Some(""), None) =
            (lines.next(), lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(refuse("it has not exactly three lines"));
        };
        if origin.is_empty() {
            return Err(refuse("its origin is empty"));
        }
        let number = size.parse::<u64>().ok().filter(|number| *number <= tree::SIZE_MAX && number.to_string() == size);
        let root = STANDARD.decode(root).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        Ok(Self {
            origin: Origin(origin.to_owned()),
            size: number.ok_or(refuse("its size is no plain number"))?,
            root: Digest(root.ok_or(refuse("its root is no base64 of 32 bytes"))?),
        })
    }

    /// Reads a note once the log's signature was checked.
    pub fn open(note: &Note, log: &PublicKey) -> Result<Self, CheckpointError> {
        let checkpoint = Self::of(note)?;
        note.verify(&Self::key(&checkpoint.origin, *log)?)?;
        Ok(checkpoint)
    }
}

/// A witness's line over a checkpoint (type 0x04, `cosignature/v1`); `time` in seconds.
pub fn cosign(note: &Note, witness: &str, key: &SigningKey, time: u64) -> Result<NoteSignature, NoteError> {
    let name = NoteKey::new(witness, KeyKind::Cosignature, key.public())?;
    let signature = key.sign(cosigned(time, note.text()).as_bytes());
    Ok(NoteSignature::by(&name, [time.to_be_bytes().as_slice(), &signature].concat()))
}

const PROOF_HEAD: &str = "c2sp.org/tlog-proof@v1";

/// That an entry is in a log at one place, against one checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogProof {
    /// The entry's place.
    pub index: u64,
    /// From the leaf's sibling to the root's child.
    pub hashes: Vec<Digest>,
    /// The signed checkpoint, with the cosignatures that there are.
    pub checkpoint: Note,
}

impl LogProof {
    /// Checks that `entry` is in the log that `key` signs.
    pub fn verify(&self, entry: &[u8], key: &PublicKey) -> Result<Checkpoint, CheckpointError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key)?;
        let leaf = crate::merkle::leaf_hash(entry);
        tree::verify_inclusion(&leaf, self.index, checkpoint.size, &self.hashes, &checkpoint.root)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for LogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{PROOF_HEAD}\nindex {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash.0)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for LogProof {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let refuse = CheckpointError::Proof;
        let (head, note) = text.split_once("\n\n").ok_or(refuse("it has no checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(PROOF_HEAD) {
            return Err(refuse("its first line is another"));
        }
        if let Some(extra) = lines.next_if(|line| line.starts_with("extra ")) {
            let encoded = extra.strip_prefix("extra ").unwrap_or_default();
            STANDARD.decode(encoded).map_err(|_| refuse("its extra data is not base64"))?;
        }
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(refuse("it has no index"))?;
        let number = index.parse::<u64>().ok().filter(|number| number.to_string() == index);
        let mut hashes = Vec::new();
        for line in lines {
            let hash = STANDARD.decode(line).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            hashes.push(Digest(hash.ok_or(refuse("a hash is no base64 of 32 bytes"))?));
            if hashes.len() > 63 {
                return Err(refuse("it has more hashes than any tree needs"));
            }
        }
        Ok(Self { index: number.ok_or(refuse("its index is no plain number"))?, hashes, checkpoint: note.parse()? })
    }
}

/// The log entry of a signed statement, in canonical JSON: its id, and the SHA-256 of the bytes that were signed.
pub fn statement_entry(id: domain::EvidenceId, pae: &Digest) -> Vec<u8> {
    format!(r#"{{"ev":"{id}","pae":"sha256:{pae}"}}"#).into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::merkle;

    fn key(seed: u8) -> SigningKey {
        let prefix = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        SigningKey::from_pkcs8(&[prefix.as_slice(), &[seed; 32]].concat()).unwrap()
    }

    fn sample(size: u64) -> (Vec<Vec<u8>>, Checkpoint) {
        let entries: Vec<Vec<u8>> = (0..size).map(|i| format!("{{\"seq\":{i}}}").into_bytes()).collect();
        let leaves: Vec<Digest> = entries.iter().map(|entry| merkle::leaf_hash(entry)).collect();
        let origin = Origin::new("example.com", None);
        (entries, Checkpoint { origin, size, root: merkle::root(&leaves) })
    }

    #[test]
    fn the_example_of_the_specification_is_read() {
        let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
            \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
            \u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
        let note: Note = text.parse().unwrap();
        let checkpoint = Checkpoint::of(&note).unwrap();
        assert_eq!((checkpoint.origin.as_str(), checkpoint.size), ("example.com/behind-the-sofa", 20_852_163));
        assert_eq!(checkpoint.text(), note.text());
        let time = u64::from_be_bytes(note.signatures[1].payload[..8].try_into().unwrap());
        assert_eq!(time, 1_679_315_147, "the time of the specification's example");
        assert_eq!(cosigned(time, note.text()), format!("cosignature/v1\ntime 1679315147\n{}", note.text()));
    }

    #[test]
    fn attack_62_a_checkpoint_of_another_key_origin_size_or_root_is_refused() {
        let (_, checkpoint) = sample(5);
        let note = checkpoint.sign(&key(1)).unwrap();
        assert_eq!(Checkpoint::open(&note, &key(1).public()), Ok(checkpoint.clone()));
        assert!(Checkpoint::open(&note, &key(2).public()).is_err());
        let other = Checkpoint { origin: Origin::new("example.com", Some(tenant())), ..checkpoint.clone() };
        for changed in [
            Checkpoint { size: 6, ..checkpoint.clone() }.text(),
            Checkpoint { root: Digest([0; 32]), ..checkpoint.clone() }.text(),
            other.text(),
        ] {
            let forged = Note::new(changed, note.signatures.clone());
            assert!(Checkpoint::open(&forged, &key(1).public()).is_err());
        }
        let extended = Note::new(format!("{}extra\n", checkpoint.text()), note.signatures);
        assert!(matches!(Checkpoint::of(&extended), Err(CheckpointError::Malformed(_))));
    }

    fn tenant() -> TenantId {
        "ten_00000000000000000000000007".parse().unwrap()
    }

    #[test]
    fn an_origin_names_its_tenant() {
        let tenant = tenant();
        let origin = Origin::new("example.com", Some(tenant));
        assert_eq!(origin.as_str(), "example.com/t/00000000-0000-0000-0000-000000000007");
        assert!(origin.is_of(tenant) && !Origin::new("example.com", None).is_of(tenant));
    }

    #[test]
    fn a_witness_signs_the_time_with_the_checkpoint() {
        let (_, checkpoint) = sample(5);
        let mut note = checkpoint.sign(&key(1)).unwrap();
        let line = cosign(&note, "witness.example/w", &key(3), 1_700_000_000).unwrap();
        note.signatures.push(line.to_string().parse().unwrap());
        let again: Note = note.to_string().parse().unwrap();
        let witness = NoteKey::new("witness.example/w", KeyKind::Cosignature, key(3).public()).unwrap();
        assert_eq!(again.verify(&witness), Ok(1_700_000_000));
        assert!(Checkpoint::open(&again, &key(1).public()).is_ok());
        let mut later = again;
        later.signatures[1].payload[7] ^= 1;
        assert!(later.verify(&witness).is_err(), "another time is another signature");
    }

    #[test]
    fn proofs_come_back_from_their_text_and_hold_for_their_entry_only() {
        let (entries, checkpoint) = sample(300);
        let mut tiles = crate::tile::Tiles::default();
        let leaves: Vec<Digest> = entries.iter().map(|entry| merkle::leaf_hash(entry)).collect();
        tiles.insert(0, 0, leaves[..256].to_vec());
        tiles.insert(0, 1, leaves[256..].to_vec());
        tiles.insert(1, 0, vec![merkle::root(&leaves[..256])]);
        let hashes = tree::inclusion(17, 300, &mut tiles).unwrap();
        let proof = LogProof { index: 17, hashes, checkpoint: checkpoint.sign(&key(1)).unwrap() };
        let again: LogProof = proof.to_string().parse().unwrap();
        assert_eq!(again, proof);
        assert_eq!(again.verify(&entries[17], &key(1).public()), Ok(checkpoint));
        assert!(again.verify(&entries[18], &key(1).public()).is_err());
        assert!(LogProof { index: 18, ..again.clone() }.verify(&entries[17], &key(1).public()).is_err());
        let with_extra = proof.to_string().replacen("index", "extra AAAA\nindex", 1);
        assert_eq!(with_extra.parse::<LogProof>().unwrap(), proof);
        for bad in [
            proof.to_string().replacen("@v1", "@v2", 1),
            proof.to_string().replacen("index 17", "index 017", 1),
            proof.to_string().replacen("index 17\n", "index 17\nAAAA\n", 1),
            String::new(),
        ] {
            assert!(bad.parse::<LogProof>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_statements_entry_is_canonical_json() {
        let id = "evd_00000000000000000000000007".parse().unwrap();
        let entry = statement_entry(id, &crypto::sha256(b"x"));
        let value = serde_json::from_slice(&entry).unwrap();
        assert_eq!(crate::jcs::canonical(&value).unwrap(), entry);
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_a_proof_panic(text in "(c2sp.org/tlog-proof@v1\n)?(?s).{0,200}") {
            let _ = text.parse::<LogProof>();
        }
    }
}
