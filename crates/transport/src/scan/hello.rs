//! A ClientHello of TLS 1.0 to 1.2 (RFC 2246, 4346, 5246) and what comes back in the clear: the version and the certificate. rustls, rightly,
//! cannot speak the old ones.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Most bytes of handshake that are read.
const HANDSHAKE_BYTES: usize = 128 * 1_024;
/// Longest record (RFC 5246, section 6.2.3).
const RECORD_BYTES: usize = (1 << 14) + 2_048;
/// Suites with certificates, strong and weak: RSA, DHE, ECDHE with AES, 3DES and RC4.
const SUITES: &[u16] = &[
    0xc02f, 0xc030, 0xc02b, 0xc02c, 0xc027, 0xc028, 0xc023, 0xc024, 0xc013, 0xc014, 0xc009, 0xc00a, 0xc012, 0xc008,
    0x009e, 0x009f, 0x0067, 0x006b, 0x0033, 0x0039, 0x0016, 0x009c, 0x009d, 0x003c, 0x003d, 0x002f, 0x0035, 0x000a,
    0x0005, 0x0004,
];

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It takes this version.
    Taken {
        version: &'static str,
        /// The leaf of its chain, DER.
        certificate: Option<Vec<u8>>,
    },
    /// An alert, or it hung up.
    Refused,
    /// Something else than TLS.
    NotTls,
}

fn sized(out: &mut Vec<u8>, width: usize, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend(length.iter().skip(4 - width));
    out.extend(bytes);
}

/// A hello of TLS 1.(`minor` - 1) in one record.
fn client_hello(minor: u8) -> Vec<u8> {
    let mut extensions = Vec::new();
    let mut extend = |kind: u16, body: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        sized(&mut extensions, 2, body);
    };
    // Groups x25519, P-256, P-384, P-521; points uncompressed; signatures of every hash, SHA-1 too; renegotiation info.
    extend(10, &[0, 8, 0, 29, 0, 23, 0, 24, 0, 25]);
    extend(11, &[1, 0]);
    if minor == 3 {
        extend(13, &[0, 22, 4, 3, 5, 3, 6, 3, 8, 4, 8, 5, 8, 6, 4, 1, 5, 1, 6, 1, 2, 3, 2, 1]);
    }
    extend(0xff01, &[0]);
    // The random is not: no secret follows from this handshake, which never ends.
    let mut body = vec![3, minor];
    body.extend([0x5a; 32]);
    sized(&mut body, 1, &[]);
    let suites: Vec<u8> = SUITES.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    sized(&mut body, 2, &suites);
    sized(&mut body, 1, &[0]);
    sized(&mut body, 2, &extensions);
    let mut message = vec![1];
    sized(&mut message, 3, &body);
    let mut record = vec![22, 3, 1];
    sized(&mut record, 2, &message);
    record
}

/// What the handshake's bytes say so far; none while more are needed.
fn heard(handshake: &[u8]) -> Option<Heard> {
    let (mut rest, mut version) = (handshake, None);
    while let [kind, a, b, c, behind @ ..] = rest {
        let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).ok()?;
        if length > HANDSHAKE_BYTES {
            return Some(Heard::NotTls);
        }
        let body = behind.get(..length)?;
        rest = behind.get(length..).unwrap_or_default();
        match (kind, version) {
            (2, None) => {
                version = match body {
                    [3, 1, ..] => Some("1.0"),
                    [3, 2, ..] => Some("1.1"),
                    [3, 3, ..] => Some("1.2"),
                    _ => return Some(Heard::NotTls),
                }
            }
            (11, Some(version)) => {
                let sizes =
                    body.get(3..6).map(|three| three.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte)));
                let certificate = sizes.and_then(|size| body.get(6..6 + size)).map(<[u8]>::to_vec);
                return Some(Heard::Taken { version, certificate });
            }
            // Anonymous suites are not offered: without a certificate there is nothing more to see.
            (14, Some(version)) => return Some(Heard::Taken { version, certificate: None }),
            (_, None) => return Some(Heard::NotTls),
            _ => {}
        }
    }
    None
}

/// Reads any bytes as a server's handshake.
pub(super) fn read_any(bytes: &[u8]) {
    let _ = heard(bytes);
}

/// Asks a port for TLS 1.(`minor` - 1). The caller bounds the time.
pub(super) async fn ask(at: SocketAddr, minor: u8) -> std::io::Result<Heard> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(&client_hello(minor)).await?;
    let mut handshake = Vec::new();
    while handshake.len() < HANDSHAKE_BYTES {
        let mut head = [0; 5];
        // A server that hangs up refuses.
        if stream.read_exact(&mut head).await.is_err() {
            return Ok(Heard::Refused);
        }
        let [kind, major, _, high, low] = head;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if major != 3 || length > RECORD_BYTES {
            return Ok(Heard::NotTls);
        }
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() {
            return Ok(Heard::Refused);
        }
        match kind {
            21 => return Ok(Heard::Refused),
            22 => handshake.extend(body),
            _ => return Ok(Heard::NotTls),
        }
        if let Some(heard) = heard(&handshake) {
            return Ok(heard);
        }
    }
    Ok(Heard::NotTls)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_certificate_is_read_out_of_the_messages_of_a_server() {
        let mut bytes = vec![2, 0, 0, 4, 3, 2, 9, 9, 11, 0, 0, 9, 0, 0, 6, 0, 0, 3, 7, 8];
        assert_eq!(heard(&bytes), None, "the last byte is missing");
        bytes.push(9);
        assert_eq!(heard(&bytes), Some(Heard::Taken { version: "1.1", certificate: Some(vec![7, 8, 9]) }));
        assert_eq!(heard(&[5, 0, 0, 0]), Some(Heard::NotTls));
        assert_eq!(heard(&[2, 0, 0, 2, 3, 1, 14, 0, 0, 0]), Some(Heard::Taken { version: "1.0", certificate: None }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = heard(&bytes);
        }
    }
}
