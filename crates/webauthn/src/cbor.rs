//! CBOR (RFC 8949) in the canonical form that authenticators must use (CTAP 2.1, section 8): definite lengths, shortest integers, each key
//! of a map once. Tags, floating-point numbers and everything indefinite are refused.

/// Deepest nesting that is read.
const DEPTH_MAX: usize = 6;
/// Most entries of one array or map.
const ENTRIES_MAX: u64 = 64;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// An integer, which fits.
    Integer(i64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Text.
    Text(String),
    /// An array.
    Array(Vec<Value>),
    /// A map in the order of its bytes.
    Map(Vec<(Value, Value)>),
    /// `false`, `true`, `null` by their number.
    Simple(u8),
}

impl Value {
    /// The value of a map's integer key.
    pub(crate) fn at(&self, key: i64) -> Option<&Self> {
        self.find(&Self::Integer(key))
    }

    /// The value of a map's text key.
    pub(crate) fn named(&self, key: &str) -> Option<&Self> {
        self.find(&Self::Text(key.to_owned()))
    }

    fn find(&self, key: &Self) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    pub(crate) fn integer(&self) -> Option<i64> {
        if let Self::Integer(value) = self { Some(*value) } else { None }
    }

    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(value) = self { Some(value) } else { None }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        if let Self::Text(value) = self { Some(value) } else { None }
    }

    /// How many entries a map has; none for what is no map.
    pub(crate) fn entries(&self) -> Option<usize> {
        if let Self::Map(entries) = self { Some(entries.len()) } else { None }
    }
}

/// One value at the beginning of `input`, and what is behind it.
pub(crate) fn read(input: &[u8]) -> Option<(Value, &[u8])> {
    item(input, DEPTH_MAX)
}

/// One value that is all of `input`.
pub(crate) fn read_all(input: &[u8]) -> Option<Value> {
    let (value, rest) = read(input)?;
    rest.is_empty().then_some(value)
}

/// The argument of an initial byte, in its shortest form.
fn argument(additional: u8, rest: &[u8]) -> Option<(u64, &[u8])> {
    let (value, rest, least) = match additional {
        0..=23 => return Some((u64::from(additional), rest)),
        24 => {
            let (bytes, rest) = rest.split_first_chunk::<1>()?;
            (u64::from(u8::from_be_bytes(*bytes)), rest, 24)
        }
        25 => {
            let (bytes, rest) = rest.split_first_chunk::<2>()?;
            (u64::from(u16::from_be_bytes(*bytes)), rest, 1 << 8)
        }
        26 => {
            let (bytes, rest) = rest.split_first_chunk::<4>()?;
            (u64::from(u32::from_be_bytes(*bytes)), rest, 1 << 16)
        }
        27 => {
            let (bytes, rest) = rest.split_first_chunk::<8>()?;
            (u64::from_be_bytes(*bytes), rest, 1 << 32)
        }
        _ => return None,
    };
    (value >= least).then_some((value, rest))
}

fn item(input: &[u8], depth: usize) -> Option<(Value, &[u8])> {
    let depth = depth.checked_sub(1)?;
    let (initial, rest) = input.split_first()?;
    let (number, rest) = argument(initial & 0x1f, rest)?;
    match initial >> 5 {
        0 => Some((Value::Integer(i64::try_from(number).ok()?), rest)),
        1 => Some((Value::Integer(-1 - i64::try_from(number).ok()?), rest)),
        2 => {
            let (bytes, rest) = rest.split_at_checked(usize::try_from(number).ok()?)?;
            Some((Value::Bytes(bytes.to_vec()), rest))
        }
        3 => {
            let (bytes, rest) = rest.split_at_checked(usize::try_from(number).ok()?)?;
            Some((Value::Text(std::str::from_utf8(bytes).ok()?.to_owned()), rest))
        }
        4 if number <= ENTRIES_MAX => {
            let (mut items, mut rest) = (Vec::new(), rest);
            for _ in 0..number {
                let (value, behind) = item(rest, depth)?;
                items.push(value);
                rest = behind;
            }
            Some((Value::Array(items), rest))
        }
        5 if number <= ENTRIES_MAX => {
            let (mut entries, mut rest) = (Vec::<(Value, Value)>::new(), rest);
            for _ in 0..number {
                let (key, behind) = item(rest, depth)?;
                let (value, behind) = item(behind, depth)?;
                if entries.iter().any(|(known, _)| *known == key) {
                    return None;
                }
                entries.push((key, value));
                rest = behind;
            }
            Some((Value::Map(entries), rest))
        }
        7 if (20..=22).contains(&number) && initial & 0x1f < 24 => Some((Value::Simple(initial & 0x1f), rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_examples_of_rfc_8949_that_are_canonical_are_read() {
        for (bytes, value) in [
            ("00", Value::Integer(0)),
            ("17", Value::Integer(23)),
            ("1818", Value::Integer(24)),
            ("1903e8", Value::Integer(1_000)),
            ("1a000f4240", Value::Integer(1_000_000)),
            ("1b000000e8d4a51000", Value::Integer(1_000_000_000_000)),
            ("20", Value::Integer(-1)),
            ("3903e7", Value::Integer(-1_000)),
            ("4401020304", Value::Bytes(vec![1, 2, 3, 4])),
            ("62c3bc", Value::Text("ü".to_owned())),
            ("83010203", Value::Array(vec![Value::Integer(1), Value::Integer(2), Value::Integer(3)])),
            (
                "a201020304",
                Value::Map(vec![(Value::Integer(1), Value::Integer(2)), (Value::Integer(3), Value::Integer(4))]),
            ),
            ("f4", Value::Simple(20)),
            ("f5", Value::Simple(21)),
            ("f6", Value::Simple(22)),
        ] {
            assert_eq!(read_all(&hex(bytes)), Some(value), "{bytes}");
        }
    }

    #[test]
    fn what_is_not_canonical_or_not_complete_is_refused() {
        for (bytes, why) in [
            ("", "empty"),
            ("0000", "behind it"),
            ("1817", "a longer form of 23"),
            ("190018", "a longer form of 24"),
            ("1a00000100", "a longer form of 256"),
            ("1b0000000000010000", "a longer form of 65,536"),
            ("1bffffffffffffffff", "more than fits"),
            ("3bffffffffffffffff", "less than fits"),
            ("5f42010243030405ff", "bytes of indefinite length"),
            ("9fff", "an array of indefinite length"),
            ("bfff", "a map of indefinite length"),
            ("44010203", "bytes that end early"),
            ("5bffffffffffffffff", "bytes longer than memory"),
            ("9bffffffffffffffff", "an array longer than memory"),
            ("bbffffffffffffffff", "a map longer than memory"),
            ("9841", "more entries than are read"),
            ("62ff00", "no UTF-8"),
            ("a2010101ff", "a break"),
            ("a201020103", "a key twice"),
            ("a101", "a key without value"),
            ("c000", "a tag"),
            ("f90000", "a half float"),
            ("fb3ff199999999999a", "a float"),
            ("f7", "undefined"),
            ("f820", "an unassigned simple value"),
            ("f814", "false in a longer form"),
            ("1c", "a reserved length"),
            ("81818181818101", "too deep"),
        ] {
            assert_eq!(read_all(&hex(bytes)), None, "{why}");
        }
        assert!(read_all(&hex("818181818101")).is_some(), "six deep");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            if let Some((_, rest)) = read(&bytes) {
                prop_assert!(rest.len() < bytes.len());
            }
        }
    }
}
