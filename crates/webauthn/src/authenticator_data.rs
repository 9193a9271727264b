//! Authenticator data (section 6.1): what the authenticator signs beside the browser's data.

use crate::{
    AUTHENTICATOR_BYTES_MAX, CREDENTIAL_ID_BYTES_MAX, PublicKey, Refused, RelyingParty, UserVerification, cbor,
};

const USER_PRESENT: u8 = 1;
const USER_VERIFIED: u8 = 1 << 2;
const BACKUP_ELIGIBLE: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const HAS_CREDENTIAL: u8 = 1 << 6;
const HAS_EXTENSIONS: u8 = 1 << 7;

/// A credential that the authenticator has just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCredential {
    /// Its id.
    pub id: Vec<u8>,
    /// Its public key.
    pub key: PublicKey,
}

/// Authenticator data, read completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticatorData {
    party: [u8; 32],
    flags: u8,
    /// The signature counter; 0 where there is none.
    pub sign_count: u32,
    /// The new credential, in a registration.
    pub credential: Option<NewCredential>,
}

impl AuthenticatorData {
    /// Reads all of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let malformed = Refused::Malformed("authenticator data");
        if bytes.len() > AUTHENTICATOR_BYTES_MAX {
            return Err(malformed);
        }
        let (party, rest) = bytes.split_first_chunk::<32>().ok_or(malformed)?;
        let (flags, rest) = rest.split_first().ok_or(malformed)?;
        let (count, mut rest) = rest.split_first_chunk::<4>().ok_or(malformed)?;
        let mut credential = None;
        if flags & HAS_CREDENTIAL != 0 {
            let (_aaguid, behind) = rest.split_first_chunk::<16>().ok_or(malformed)?;
            let (length, behind) = behind.split_first_chunk::<2>().ok_or(malformed)?;
            let length = usize::from(u16::from_be_bytes(*length));
            if length == 0 || length > CREDENTIAL_ID_BYTES_MAX {
                return Err(malformed);
            }
            let (id, behind) = behind.split_at_checked(length).ok_or(malformed)?;
            let (key, behind) = cbor::read(behind).ok_or(malformed)?;
            credential = Some(NewCredential { id: id.to_vec(), key: PublicKey::from_cose(&key)? });
            rest = behind;
        }
        if flags & HAS_EXTENSIONS != 0 {
            let (extensions, behind) = cbor::read(rest).ok_or(malformed)?;
            extensions.entries().ok_or(malformed)?;
            rest = behind;
        }
        if !rest.is_empty() || (flags & BACKED_UP != 0 && flags & BACKUP_ELIGIBLE == 0) {
            return Err(malformed);
        }
        Ok(Self { party: *party, flags: *flags, sign_count: u32::from_be_bytes(*count), credential })
    }

    /// Whether the authenticator verified the user.
    pub fn user_verified(&self) -> bool {
        self.flags & USER_VERIFIED != 0
    }

    /// Checks for whom it was made, and who was there.
    pub(crate) fn check(&self, party: &RelyingParty, verification: UserVerification) -> Result<(), Refused> {
        if self.party != crypto::sha256(party.id.as_bytes()).0 {
            return Err(Refused::RelyingParty);
        }
        if self.flags & USER_PRESENT == 0 {
            return Err(Refused::NotPresent);
        }
        if verification == UserVerification::Required && !self.user_verified() {
            return Err(Refused::NotVerified);
        }
        Ok(())
    }
}
