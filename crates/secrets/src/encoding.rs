//! How a value is written where it is kept.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use domain::Secret;

/// `base64`, `base64_url_encoded` and `base64_raw` of a store's settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) base64: bool,
    pub(crate) url: bool,
    pub(crate) raw: bool,
}

impl Encoding {
    /// The value that is written so; none where it is not. The last line end is not part of a text.
    pub(crate) fn decode(self, bytes: &[u8]) -> Option<Secret> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if !self.base64 && !self.url && !self.raw {
            return Some(Secret::new(bytes));
        }
        let engine = match (self.url, self.raw) {
            (false, false) => &STANDARD,
            (false, true) => &STANDARD_NO_PAD,
            (true, false) => &URL_SAFE,
            (true, true) => &URL_SAFE_NO_PAD,
        };
        engine.decode(bytes).ok().map(Secret::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_value_is_read_and_another_one_is_refused() {
        let decode = |encoding: Encoding, text: &str| encoding.decode(text.as_bytes()).map(|s| s.expose().to_vec());
        let plain = Encoding::default();
        assert_eq!(decode(plain, "a:b\r\n").unwrap(), b"a:b");
        assert_eq!(decode(plain, "two\nlines\n\n").unwrap(), b"two\nlines\n", "one line end only");
        let base64 = Encoding { base64: true, ..plain };
        assert_eq!(decode(base64, "+/8=\n").unwrap(), [0xfb, 0xff]);
        assert_eq!(decode(Encoding { url: true, ..plain }, "-_8=").unwrap(), [0xfb, 0xff]);
        assert_eq!(decode(Encoding { raw: true, ..base64 }, "+/8").unwrap(), [0xfb, 0xff]);
        assert_eq!(decode(Encoding { raw: true, url: true, ..plain }, "-_8").unwrap(), [0xfb, 0xff]);
        assert!(decode(base64, "-_8=").is_none() && decode(base64, "no base64!").is_none());
    }
}
