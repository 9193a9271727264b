//! MD5 and DES, which AWS-LC does not offer in this build: compiled only with the feature `legacy`, never in a FIPS build.

use des::Des;
use des::cipher::{Array, BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use hmac::{Hmac, Mac as _};
use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

use crate::CryptoError;

const BLOCK: usize = 8;

pub(super) fn md5<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Zeroizing<Vec<u8>> {
    let mut state = Md5::new();
    pieces.for_each(|piece| state.update(piece));
    Zeroizing::new(state.finalize().to_vec())
}

pub(super) fn hmac_md5(key: &[u8], message: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let mut mac = Hmac::<Md5>::new_from_slice(key).map_err(|_| CryptoError::Key)?;
    mac.update(message);
    Ok(mac.finalize().into_bytes().to_vec())
}

/// The cipher of the key's first half, and the initialization vector: the second half, exclusive or the salt (RFC 3414, 8.1.1.1).
fn parts(key: &[u8], salt: [u8; BLOCK]) -> Result<(Des, [u8; BLOCK]), CryptoError> {
    let (key, pre_iv) = key.split_first_chunk::<BLOCK>().ok_or(CryptoError::Key)?;
    let mut iv = *pre_iv.first_chunk::<BLOCK>().ok_or(CryptoError::Key)?;
    iv.iter_mut().zip(salt).for_each(|(byte, salt)| *byte ^= salt);
    Ok((Des::new(&Array(*key)), iv))
}

fn xor(block: &mut [u8; BLOCK], with: [u8; BLOCK]) {
    block.iter_mut().zip(with).for_each(|(byte, other)| *byte ^= other);
}

/// CBC, padded with zeros.
pub(super) fn des_seal(key: &[u8], salt: [u8; BLOCK], data: &mut Vec<u8>) -> Result<(), CryptoError> {
    let (cipher, mut last) = parts(key, salt)?;
    data.resize(data.len().next_multiple_of(BLOCK), 0);
    for block in data.as_chunks_mut::<BLOCK>().0 {
        xor(block, last);
        let mut state = Array(*block);
        cipher.encrypt_block(&mut state);
        *block = state.0;
        last = *block;
    }
    Ok(())
}

/// CBC of whole blocks.
pub(super) fn des_open(key: &[u8], salt: [u8; BLOCK], data: &mut [u8]) -> Result<(), CryptoError> {
    let (cipher, mut last) = parts(key, salt)?;
    let (blocks, rest) = data.as_chunks_mut::<BLOCK>();
    if !rest.is_empty() {
        return Err(CryptoError::Open);
    }
    for block in blocks {
        let sealed = *block;
        let mut state = Array(sealed);
        cipher.decrypt_block(&mut state);
        *block = state.0;
        xor(block, last);
        last = sealed;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_md5_agrees_with_rfc_2104() {
        let code = hmac_md5(b"Jefe", b"what do ya want for nothing?").unwrap();
        assert_eq!(
            code,
            [0x75, 0x0c, 0x78, 0x3e, 0x6a, 0xb0, 0xb5, 0x03, 0xea, 0xa8, 0x6e, 0x31, 0x0a, 0x5d, 0xb7, 0x38]
        );
    }

    #[test]
    fn des_agrees_with_the_known_example() {
        // FIPS 81, table B1 (ECB): one block with a zero vector is the same in CBC.
        let mut key = vec![0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
        key.extend([0; 8]);
        let mut data = b"Now is t".to_vec();
        des_seal(&key, [0; 8], &mut data).unwrap();
        assert_eq!(data, [0x3f, 0xa4, 0x0e, 0x8a, 0x98, 0x4d, 0x48, 0x15]);
    }
}
