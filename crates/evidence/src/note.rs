//! Signed notes (C2SP signed-note): text, and lines of signatures under it, each with a key's name and a short id.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto::ed25519::PublicKey;

/// Largest note, in bytes.
pub const NOTE_BYTES_MAX: usize = 64 * 1_024;
/// Most signatures under one note.
pub const SIGNATURES_MAX: usize = 64;
const LINE_BEGIN: &str = "\u{2014} ";

/// Why a note, a key or a signature is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is not a note.
    #[error("this is no signed note: {0}")]
    Malformed(&'static str),
    /// The text is no verifier key.
    #[error("this is no verifier key (`NAME+ID+KEY`): {0}")]
    Key(&'static str),
    /// No signature under it is by the key that must have signed it.
    #[error("it is not signed by `{0}`")]
    NotSigned(String),
    /// A signature that names the key does not verify.
    #[error("its signature by `{0}` does not verify")]
    Signature(String),
}

/// What a key signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// Ed25519 over the note's text: a log's own signature.
    Ed25519,
    /// Ed25519 over a time and the text (C2SP tlog-cosignature): a witness.
    Cosignature,
}

impl KeyKind {
    const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::Cosignature => 4,
        }
    }
}

/// A named public key: what is trusted to sign notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteKey {
    name: String,
    kind: KeyKind,
    key: PublicKey,
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && !name.chars().any(|c| c.is_whitespace() || c == '+' || c.is_control())
}

impl NoteKey {
    /// A key under a name without spaces, control characters and `+`.
    pub fn new(name: impl Into<String>, kind: KeyKind, key: PublicKey) -> Result<Self, NoteError> {
        let name = name.into();
        if is_name(&name) { Ok(Self { name, kind, key }) } else { Err(NoteError::Key("its name is not usable")) }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs with.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The key itself.
    pub fn public(&self) -> &PublicKey {
        &self.key
    }

    /// The short id: an identifier, not a fingerprint.
    pub fn id(&self) -> [u8; 4] {
        let bytes = [self.name.as_bytes(), b"\n", &[self.kind.byte()], self.key.as_bytes()].concat();
        let [a, b, c, d, ..] = crypto::sha256(&bytes).0;
        [a, b, c, d]
    }
}

impl fmt::Display for NoteKey {
    /// The verifier key: `NAME+hex(ID)+base64(kind || key)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let material = [&[self.kind.byte()], self.key.as_bytes().as_slice()].concat();
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id()), STANDARD.encode(material))
    }
}

impl FromStr for NoteKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(material)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("it has not three parts"));
        };
        let material = STANDARD.decode(material).map_err(|_| NoteError::Key("its key is not base64"))?;
        let (kind, key) = match material.split_first() {
            Some((1, key)) => (KeyKind::Ed25519, key),
            Some((4, key)) => (KeyKind::Cosignature, key),
            _ => return Err(NoteError::Key("its kind of key is not Ed25519 (1) or cosignature/v1 (4)")),
        };
        let key = PublicKey::from_bytes(key).map_err(|_| NoteError::Key("its key is not a strict Ed25519 key"))?;
        let made = Self::new(name, kind, key)?;
        if id == format!("{:08x}", u32::from_be_bytes(made.id())) {
            Ok(made)
        } else {
            Err(NoteError::Key("its id is not that of its name and key"))
        }
    }
}

/// One line of signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The key's name.
    pub name: String,
    /// The key's id.
    pub id: [u8; 4],
    /// What the key's kind makes of it.
    pub payload: Vec<u8>,
}

impl NoteSignature {
    /// A line by a key.
    pub fn by(key: &NoteKey, payload: Vec<u8>) -> Self {
        Self { name: key.name.clone(), id: key.id(), payload }
    }

    fn is_by(&self, key: &NoteKey) -> bool {
        self.name == key.name && self.id == key.id()
    }
}

impl fmt::Display for NoteSignature {
    /// The line without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.id.as_slice(), &self.payload].concat();
        write!(f, "{LINE_BEGIN}{} {}", self.name, STANDARD.encode(bytes))
    }
}

impl FromStr for NoteSignature {
    type Err = NoteError;

    fn from_str(line: &str) -> Result<Self, NoteError> {
        let malformed = NoteError::Malformed("a signature's line is not `\u{2014} NAME BASE64`");
        let (name, encoded) =
            line.strip_prefix(LINE_BEGIN).and_then(|rest| rest.split_once(' ')).ok_or(malformed.clone())?;
        let bytes = STANDARD.decode(encoded).map_err(|_| malformed.clone())?;
        match bytes.split_first_chunk::<4>() {
            Some((id, payload)) if is_name(name) && !payload.is_empty() => {
                Ok(Self { name: name.to_owned(), id: *id, payload: payload.to_vec() })
            }
            _ => Err(malformed),
        }
    }
}

/// A text and the signatures under it. Nothing is known of the text before [`Note::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    /// The signatures, in order.
    pub signatures: Vec<NoteSignature>,
}

impl Note {
    /// A note over a text that ends in a newline.
    pub fn new(text: String, signatures: Vec<NoteSignature>) -> Self {
        Self { text, signatures }
    }

    /// The text with its last newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature by a key, once it was checked, with the time that a cosignature carries (seconds; 0 for a log's own).
    pub fn verify(&self, key: &NoteKey) -> Result<u64, NoteError> {
        let refused = || NoteError::Signature(key.name.clone());
        let mut found = Err(NoteError::NotSigned(key.name.clone()));
        for signature in self.signatures.iter().filter(|signature| signature.is_by(key)) {
            let time = match key.kind {
                KeyKind::Ed25519 => {
                    key.key.verify(self.text.as_bytes(), &signature.payload).map_err(|_| refused())?;
                    0
                }
                KeyKind::Cosignature => {
                    let (time, bytes) = signature.payload.split_first_chunk().ok_or_else(refused)?;
                    let time = u64::from_be_bytes(*time);
                    let message = cosigned(time, &self.text);
                    if time > i64::MAX.unsigned_abs() || key.key.verify(message.as_bytes(), bytes).is_err() {
                        return Err(refused());
                    }
                    time
                }
            };
            found = Ok(time);
        }
        found
    }
}

/// The message that a witness signs.
pub fn cosigned(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Malformed("it is too large"));
        }
        if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(NoteError::Malformed("it has control characters"));
        }
        let (text, lines) =
            note.rsplit_once("\n\n").ok_or(NoteError::Malformed("no empty line before the signatures"))?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Malformed("its last line has no end"))?;
        let signatures: Vec<NoteSignature> = lines.split('\n').map(str::parse).collect::<Result<_, _>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(NoteError::Malformed("it has too many signatures"));
        }
        Ok(Self { text: format!("{text}\n"), signatures })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of the specification.
    const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n\
        \u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    #[test]
    fn the_example_of_the_specification_verifies() {
        let key: NoteKey = VKEY.parse().unwrap();
        assert_eq!((key.name(), key.to_string().as_str()), ("example.com/foo", VKEY));
        let note: Note = NOTE.parse().unwrap();
        assert_eq!(note.text(), "This is an example message.\n");
        assert_eq!(note.verify(&key), Ok(0));
        assert_eq!(note.to_string(), NOTE);
    }

    /// The key of the Go checksum database.
    #[test]
    fn a_verifier_key_that_is_in_use_is_read_and_written() {
        let text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
        assert_eq!(text.parse::<NoteKey>().unwrap().to_string(), text);
    }

    #[test]
    fn attack_62_a_changed_text_or_signature_and_another_key_are_refused() {
        let key: NoteKey = VKEY.parse().unwrap();
        let changed: Note = NOTE.replace("example message", "example massage").parse().unwrap();
        assert_eq!(changed.verify(&key), Err(NoteError::Signature("example.com/foo".to_owned())));
        let mut note: Note = NOTE.parse().unwrap();
        note.signatures[0].payload[63] ^= 0x10;
        assert_eq!(note.verify(&key), Err(NoteError::Signature("example.com/foo".to_owned())));
        let other = NoteKey::new("example.com/foo", KeyKind::Cosignature, *key.public()).unwrap();
        assert_eq!(
            NOTE.parse::<Note>().unwrap().verify(&other),
            Err(NoteError::NotSigned("example.com/foo".to_owned())),
            "a log's signature is no cosignature by the same key"
        );
        // One good line does not make up for a bad one by the same key.
        let mut two: Note = NOTE.parse().unwrap();
        let mut bad = two.signatures[0].clone();
        bad.payload[0] ^= 1;
        two.signatures.push(bad);
        assert!(two.verify(&key).is_err());
    }

    #[test]
    fn what_is_no_note_or_key_is_refused() {
        for bad in [
            "",
            "text\n",
            "text\n\n",
            "text\n\n\u{2014} name\n",
            "text\n\n\u{2014} name AAAA\n",
            "text\n\n\u{2014} na+me AAAAAAAA\n",
            "text\n\n- name AAAAAAAA\n",
            "text\r\n\n\u{2014} name AAAAAAAA\n",
            "text\n\n\u{2014} name AAAAAAAA",
            "text\n\n\u{2014} name AAAAAAA=\n\n",
        ] {
            assert!(bad.parse::<Note>().is_err(), "{bad:?}");
        }
        for bad in ["", "a+b", "a+00000000+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", &VKEY.replace("530d", "530D")]
        {
            assert!(bad.parse::<NoteKey>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_parsing_panic_and_what_is_read_is_written_alike(text in "(?s).{0,300}") {
            if let Ok(note) = text.parse::<Note>() {
                prop_assert_eq!(note.to_string(), text);
            }
        }
    }
}
