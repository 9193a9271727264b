//! Whether this is a FIPS build, and the self test that such a build makes before it does anything else.
//!
//! The module tests its own integrity and its algorithms when it is loaded, and ends the process when a test fails. What is here makes sure
//! that it is this module that answers.

use crate::CryptoError;

/// Whether this program was built with the feature `fips`.
pub const fn is_fips_build() -> bool {
    cfg!(feature = "fips")
}

/// In a FIPS build: whether the module is loaded and in its approved mode, and whether TLS uses it alone. Otherwise there is nothing to test.
pub fn self_test() -> Result<(), CryptoError> {
    if !is_fips_build() {
        return Ok(());
    }
    let module = aws_lc_rs::try_fips_mode().is_ok();
    if module && crate::tls::provider().fips() { Ok(()) } else { Err(CryptoError::Fips) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_self_test_passes_and_the_module_is_there_where_the_build_says_so() {
        self_test().unwrap();
        assert_eq!(
            is_fips_build(),
            aws_lc_rs::try_fips_mode().is_ok(),
            "the module is there when the build says so, and only then"
        );
    }
}
