//! What people do to their own account: no role is needed, but for some of it a fresh proof.

use crate::{Mode, Proof};

/// An operation on the actor's own sessions and factors, as a type.
pub trait OwnOperation: Send + Sync + 'static {
    /// `noun_verb`.
    const NAME: &'static str;
    /// Whether a session alone is enough.
    const PROOF: Proof;
}

/// Such an operation as a row of the golden table.
#[derive(Debug, Clone, Copy)]
pub struct OwnOperationInfo {
    /// `noun_verb`.
    pub name: &'static str,
    /// Read or write.
    pub mode: Mode,
    /// Whether a session alone is enough.
    pub proof: Proof,
}

macro_rules! own_operations {
    (@proof) => { Proof::Session };
    (@proof fresh) => { Proof::Fresh };
    ($($op:ident $name:literal $mode:ident $($proof:ident)?;)*) => {
        /// The operations on one's own account, one type each.
        pub mod own {
            $(
                #[doc = concat!("`", $name, "`.")]
                #[derive(Debug)]
                pub struct $op;
            )*
        }

        $(
            impl OwnOperation for own::$op {
                const NAME: &'static str = $name;
                const PROOF: Proof = own_operations!(@proof $($proof)?);
            }
        )*

        /// Every operation on one's own account.
        pub fn own_operations() -> &'static [OwnOperationInfo] {
            &[$(OwnOperationInfo {
                name: $name,
                mode: Mode::$mode,
                proof: own_operations!(@proof $($proof)?),
            },)*]
        }
    };
}

own_operations! {
    SessionList "session_list" Read;
    SessionEnd "session_end" Write;
    SessionsEnd "sessions_end" Write;
    SessionProve "session_prove" Write;
    PasskeyAsk "passkey_ask" Read;
    DeviceShow "device_show" Read;
    DeviceApprove "device_approve" Write fresh;
    DeviceDeny "device_deny" Write;
    FactorList "factor_list" Read;
    TotpCreate "totp_create" Write fresh;
    TotpConfirm "totp_confirm" Write fresh;
    PasskeyBegin "passkey_begin" Read fresh;
    PasskeyCreate "passkey_create" Write fresh;
    FactorDelete "factor_delete" Write fresh;
    RecoveryCodesCreate "recovery_codes_create" Write fresh;
}
