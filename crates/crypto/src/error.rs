//! The crate's one error.

/// Why a cryptographic operation refused. No variant carries key, plaintext or token bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The sealed bytes were altered, belong elsewhere (other associated data) or were sealed under another key.
    #[error("the sealed value cannot be opened with this key in this place")]
    Open,
    /// The sealed bytes are of a version that this program does not know.
    #[error("the sealed value has an unknown version: use the program version that wrote it or a newer one")]
    SealedVersion,
    /// Sealing failed inside the library.
    #[error("the value cannot be sealed")]
    Seal,
    /// The bytes are not a key of the expected form, or the key is weak.
    #[error("this is not a usable key of the expected kind")]
    Key,
    /// The signature does not belong to this message and key.
    #[error("the signature does not verify")]
    Signature,
    /// The token is malformed, or its header asks for something else than HS256.
    #[error("the token is malformed")]
    Token,
    /// The token is outside its time: expired, not yet valid, or without the claims that say so.
    #[error("the token has expired or is not valid yet")]
    TokenTime,
    /// A MAC key under 32 bytes.
    #[error("a signing secret needs at least 32 bytes")]
    ShortKey,
    /// A password-hashing cost outside 4 to 14.
    #[error("the password-hashing cost must be 4 to 14")]
    Cost,
    /// An algorithm that this build leaves out: MD5 and DES of SNMPv3.
    #[error("this build does not have that algorithm: use SHA-1 or better and AES")]
    Unavailable,
    /// A FIPS build whose module is not there or not in its approved mode.
    #[error("the FIPS module is not in its approved mode: this build may not do cryptography")]
    Fips,
}
