//! Signed statements as they are stored: deflated (RFC 1950), since one spells out every call that was made and shrinks to a fifth.
//!
//! What was signed is what comes back, byte by byte. A statement that was stored before this, or that would not shrink, stands as it is:
//! it begins with `DSSEv1`, which no zlib stream does.

use std::io::{Read as _, Write as _};

use domain::{Error, Result};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

/// How every signed statement begins (DSSE pre-authentication encoding).
const PLAIN: &[u8] = b"DSSEv1 ";
/// No statement is larger: the database may have been written to by somebody else.
const BYTES_MAX: u64 = 256 * 1_024 * 1_024;

/// Bytes, deflated, whatever becomes of them.
pub(crate) fn deflate(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).map_err(Error::internal)?;
    encoder.finish().map_err(Error::internal)
}

/// What [`deflate`] made.
pub(crate) fn inflate(packed: &[u8]) -> Result<Vec<u8>> {
    let unreadable = |why: String| Error::internal(format!("what is stored cannot be read: {why}"));
    let (mut bytes, mut decoder) = (Vec::new(), ZlibDecoder::new(packed));
    (&mut decoder).take(BYTES_MAX).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if decoder.total_in() != packed.len() as u64 {
        return Err(unreadable("it goes on after its end".to_owned()));
    }
    Ok(bytes)
}

/// A statement to store.
pub(crate) fn pack(statement: &[u8]) -> Result<Vec<u8>> {
    let packed = deflate(statement)?;
    Ok(if packed.len() < statement.len() { packed } else { statement.to_vec() })
}

/// The statement that was stored.
pub(crate) fn unpack(stored: Vec<u8>) -> Result<Vec<u8>> {
    if stored.starts_with(PLAIN) {
        return Ok(stored);
    }
    inflate(&stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_comes_back_byte_by_byte() {
        let long = [PLAIN, "28 application/vnd.in-toto ".repeat(400).as_bytes()].concat();
        let packed = pack(&long).unwrap();
        assert!(packed.len() * 5 < long.len(), "{} of {}", packed.len(), long.len());
        for statement in [long, PLAIN.to_vec(), b"DSSEv1 4 type 3 abc".to_vec()] {
            assert_eq!(unpack(pack(&statement).unwrap()).unwrap(), statement);
            assert_eq!(unpack(statement.clone()).unwrap(), statement, "stored before statements were packed");
        }
    }

    #[test]
    fn damaged_bytes_are_an_error_and_no_panic() {
        let packed = pack(&[PLAIN, &[b'x'; 4_000]].concat()).unwrap();
        for at in 0..packed.len() {
            let mut damaged = packed.clone();
            damaged[at] ^= 0x40;
            if let Ok(read) = unpack(damaged) {
                assert!(read.len() < 5_000);
            }
        }
        assert!(unpack(packed[..packed.len() / 2].to_vec()).is_err());
        assert!(unpack(Vec::new()).is_err());
    }
}
