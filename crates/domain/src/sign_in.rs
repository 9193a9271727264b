//! How people show who they are.

use std::fmt;
use std::str::FromStr;

use crate::Error;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident $what:literal { $($(#[$variant_doc:meta])* $variant:ident $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// The one spelling.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(Error::invalid($what, format!("`{}` is not one of {}", text.escape_debug(), [$($text),*].join(", ")))),
                }
            }
        }
    };
}

words! {
    /// The first step of a sign-in.
    AuthMethod "method" {
        /// A password of this installation.
        Password "password",
        /// A passkey alone, whose authenticator verified the user.
        Passkey "passkey",
        /// An identity provider said so.
        Oidc "oidc",
        /// Somebody who is signed in elsewhere approved it.
        Device "device",
    }
}

words! {
    /// A kind of second factor.
    FactorKind "kind" {
        /// An authenticator app's codes (RFC 6238).
        Totp "totp",
        /// A passkey (Web Authentication).
        Passkey "passkey",
    }
}
