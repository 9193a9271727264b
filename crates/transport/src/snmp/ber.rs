//! The basic encoding rules as SNMP restricts them (X.690; RFC 3417, section 8): definite lengths, primitive strings.
//!
//! Nothing here recurses, and nothing is allocated for a length that the bytes do not have.

use super::value::{Oid, SUBIDS_MAX, SnmpValue};

/// Why bytes are no SNMP message. Small: hostile bytes make many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

type Result<T> = std::result::Result<T, Malformed>;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
const IP_ADDRESS: u8 = 0x40;
const COUNTER32: u8 = 0x41;
const GAUGE32: u8 = 0x42;
const TIME_TICKS: u8 = 0x43;
const OPAQUE: u8 = 0x44;
const COUNTER64: u8 = 0x46;
const NO_SUCH_OBJECT: u8 = 0x80;
const NO_SUCH_INSTANCE: u8 = 0x81;
const END_OF_MIB_VIEW: u8 = 0x82;

/// Reads elements one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// That nothing is left.
    pub(super) fn end(self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { Err(Malformed("bytes are left after the last element")) }
    }

    /// The next element, whatever it is.
    pub(super) fn element(&mut self) -> Result<(u8, &'a [u8])> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk::<2>().ok_or(Malformed("an element is cut off"))?;
        if tag & 0x1f == 0x1f {
            return Err(Malformed("a tag of many bytes"));
        }
        let length = match first {
            0..0x80 => usize::from(first),
            // Longer than needed is usual: agents write the length before they know it.
            0x81..=0x84 => {
                let (bytes, after) =
                    rest.split_at_checked(usize::from(first & 0x7f)).ok_or(Malformed("a length is cut off"))?;
                rest = after;
                bytes.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte))
            }
            0x80 => return Err(Malformed("an indefinite length")),
            _ => return Err(Malformed("a length of more than four bytes")),
        };
        let (content, after) = rest.split_at_checked(length).ok_or(Malformed("an element is cut off"))?;
        self.0 = after;
        Ok((tag, content))
    }

    /// The next element, which has this tag.
    pub(super) fn tagged(&mut self, expected: u8) -> Result<&'a [u8]> {
        match self.element()? {
            (tag, content) if tag == expected => Ok(content),
            _ => Err(Malformed("an element of another type than expected")),
        }
    }

    /// A signed number of at most 32 bits.
    pub(super) fn int32(&mut self) -> Result<i32> {
        i32::try_from(signed(self.tagged(INTEGER)?)?).map_err(|_| Malformed("a number of more than 32 bits"))
    }

    /// A number from 0 to 2^31 - 1.
    pub(super) fn uint31(&mut self) -> Result<u32> {
        u32::try_from(self.int32()?).map_err(|_| Malformed("a negative number"))
    }

    /// An object identifier.
    pub(super) fn oid(&mut self) -> Result<Oid> {
        oid(self.tagged(OID)?)
    }

    /// A value of a variable binding.
    pub(super) fn value(&mut self) -> Result<SnmpValue> {
        let (tag, content) = self.element()?;
        Ok(match tag {
            INTEGER => SnmpValue::Integer(
                i32::try_from(signed(content)?).map_err(|_| Malformed("a number of more than 32 bits"))?,
            ),
            OCTETS => SnmpValue::Octets(content.to_vec()),
            NULL if content.is_empty() => SnmpValue::Null,
            OID => SnmpValue::Oid(oid(content)?),
            IP_ADDRESS => {
                SnmpValue::IpAddress(content.try_into().map_err(|_| Malformed("an IpAddress of other than 4 bytes"))?)
            }
            COUNTER32 => SnmpValue::Counter32(unsigned32(content)?),
            GAUGE32 => SnmpValue::Gauge32(unsigned32(content)?),
            TIME_TICKS => SnmpValue::TimeTicks(unsigned32(content)?),
            OPAQUE => SnmpValue::Opaque(content.to_vec()),
            COUNTER64 => SnmpValue::Counter64(unsigned(content)?),
            NO_SUCH_OBJECT if content.is_empty() => SnmpValue::NoSuchObject,
            NO_SUCH_INSTANCE if content.is_empty() => SnmpValue::NoSuchInstance,
            END_OF_MIB_VIEW if content.is_empty() => SnmpValue::EndOfMibView,
            _ => return Err(Malformed("a value of an unknown type")),
        })
    }
}

fn signed(content: &[u8]) -> Result<i64> {
    if content.is_empty() || content.len() > 8 {
        return Err(Malformed("a number of no or too many bytes"));
    }
    let start = if content.first().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
    Ok(content.iter().fold(start, |number, byte| number << 8 | i64::from(*byte)))
}

/// Some agents leave out the zero before a number whose first bit is set: eight bytes are taken as they are.
fn unsigned(content: &[u8]) -> Result<u64> {
    let content = match content {
        [0, rest @ ..] if rest.len() == 8 => rest,
        _ => content,
    };
    if content.is_empty() || content.len() > 8 {
        return Err(Malformed("a number of no or too many bytes"));
    }
    Ok(content.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn unsigned32(content: &[u8]) -> Result<u32> {
    u32::try_from(unsigned(content)?).map_err(|_| Malformed("a number of more than 32 bits"))
}

fn oid(content: &[u8]) -> Result<Oid> {
    let mut subids: Vec<u32> = Vec::with_capacity(content.len().min(SUBIDS_MAX) + 1);
    let (mut number, mut open) = (0u32, false);
    for byte in content {
        if number > u32::MAX >> 7 {
            return Err(Malformed("an OID's part of more than 32 bits"));
        }
        number = number << 7 | u32::from(byte & 0x7f);
        open = byte & 0x80 != 0;
        if open {
            continue;
        }
        if subids.is_empty() {
            // Two parts in one number (X.690, 8.19.4).
            let first = (number / 40).min(2);
            subids.extend([first, number - first * 40]);
        } else {
            subids.push(number);
        }
        if subids.len() > SUBIDS_MAX {
            return Err(Malformed("an OID of more than 128 parts"));
        }
        number = 0;
    }
    if open {
        return Err(Malformed("an OID is cut off"));
    }
    Ok(Oid::new(subids))
}

/// Writes elements. Back to front, so that each length is known when it is written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// Reversed.
    bytes: Vec<u8>,
}

impl Writer {
    /// The bytes in their order.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.reverse();
        self.bytes
    }

    /// How much was written: what a later [`Self::wrap`] goes around.
    pub(super) fn mark(&self) -> usize {
        self.bytes.len()
    }

    /// Puts everything since `mark` into one element.
    pub(super) fn wrap(&mut self, tag: u8, mark: usize) {
        let length = self.bytes.len() - mark;
        if length < 0x80 {
            self.bytes.push(u8::try_from(length).unwrap_or_default());
        } else {
            let bytes = length.to_be_bytes();
            let used = bytes.iter().skip_while(|byte| **byte == 0).count();
            self.bytes.extend(bytes.iter().rev().take(used));
            self.bytes.push(0x80 | u8::try_from(used).unwrap_or_default());
        }
        self.bytes.push(tag);
    }

    pub(super) fn octets(&mut self, tag: u8, content: &[u8]) {
        let mark = self.mark();
        self.raw(content);
        self.wrap(tag, mark);
    }

    /// Bytes that are elements already.
    pub(super) fn raw(&mut self, content: &[u8]) {
        self.bytes.extend(content.iter().rev());
    }

    pub(super) fn int32(&mut self, number: i32) {
        let mark = self.mark();
        let bytes = number.to_be_bytes();
        let sign = if number < 0 { 0xff } else { 0 };
        let skipped = bytes
            .windows(2)
            .take_while(|pair| matches!(pair, [first, next] if *first == sign && (next ^ sign) & 0x80 == 0))
            .count();
        self.bytes.extend(bytes.iter().skip(skipped).rev());
        self.wrap(INTEGER, mark);
    }

    pub(super) fn oid(&mut self, oid: &Oid) {
        let mark = self.mark();
        let subids = oid.parts();
        let (first, second) = (subids.first().copied().unwrap_or_default(), subids.get(1).copied().unwrap_or_default());
        for subid in subids.iter().skip(2).rev() {
            self.base128(*subid);
        }
        self.base128(second.saturating_add(first.min(2) * 40));
        self.wrap(OID, mark);
    }

    fn base128(&mut self, mut number: u32) {
        self.bytes.push(u8::try_from(number & 0x7f).unwrap_or_default());
        number >>= 7;
        while number > 0 {
            self.bytes.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
            number >>= 7;
        }
    }

    pub(super) fn null(&mut self) {
        self.octets(NULL, &[]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::default();
        write(&mut writer);
        writer.finish()
    }

    #[test]
    fn numbers_are_written_as_short_as_can_be() {
        for (number, bytes) in [
            (0, &[2, 1, 0][..]),
            (127, &[2, 1, 127]),
            (128, &[2, 2, 0, 128]),
            (-1, &[2, 1, 255]),
            (-129, &[2, 2, 255, 127]),
            (i32::MIN, &[2, 4, 128, 0, 0, 0]),
        ] {
            assert_eq!(written(|w| w.int32(number)), bytes, "{number}");
        }
    }

    #[test]
    fn what_agents_get_wrong_about_unsigned_numbers_is_read_as_they_mean_it() {
        for (bytes, expect) in [
            (&[0x42, 5, 0, 255, 255, 255, 255][..], SnmpValue::Gauge32(u32::MAX)),
            (&[0x42, 4, 255, 255, 255, 255], SnmpValue::Gauge32(u32::MAX)),
            (&[0x46, 9, 0, 255, 0, 0, 0, 0, 0, 0, 0], SnmpValue::Counter64(255 << 56)),
            (&[0x41, 1, 7], SnmpValue::Counter32(7)),
        ] {
            assert_eq!(Reader(bytes).value().unwrap(), expect);
        }
    }

    #[test]
    fn malformed_elements_are_refused() {
        for bad in [
            &[][..],
            &[2],
            &[2, 1],
            &[2, 0],
            &[2, 0x80, 0, 0],
            &[2, 0x85, 0, 0, 0, 0, 1, 0],
            &[2, 0x84, 255, 255, 255, 255, 0],
            &[2, 0x81],
            &[0x1f, 1, 0],
            &[2, 5, 1, 0, 0, 0, 0],
            &[0x42, 5, 1, 0, 0, 0, 0],
            &[5, 1, 0],
            &[0x40, 3, 1, 2, 3],
            &[6, 1, 0x80],
            &[6, 6, 1, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0x99, 0],
        ] {
            assert!(Reader(bad).value().is_err(), "{bad:?}");
        }
        let long = [&[6, 0x81, 130][..], &[1; 130]].concat();
        assert_eq!(Reader(&long).value(), Err(Malformed("an OID of more than 128 parts")));
    }

    proptest! {
        #[test]
        fn oids_and_numbers_come_back(
            first in 0u32..=2, second in 0u32..40, rest in proptest::collection::vec(any::<u32>(), 0..120), number: i32,
            octets in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let oid = Oid::new([vec![first, second], rest].concat());
            let bytes = written(|w| {
                w.octets(OCTETS, &octets);
                w.int32(number);
                w.oid(&oid);
            });
            let mut reader = Reader(&bytes);
            prop_assert_eq!(reader.oid().unwrap(), oid);
            prop_assert_eq!(reader.int32().unwrap(), number);
            prop_assert_eq!(reader.value().unwrap(), SnmpValue::Octets(octets));
            prop_assert!(reader.end().is_ok());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader(&bytes);
            while !reader.is_empty() && reader.value().is_ok() {}
        }
    }
}
