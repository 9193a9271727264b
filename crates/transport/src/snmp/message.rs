//! Messages of SNMP v1 (RFC 1157), v2c (RFC 1901) and v3 (RFC 3412, RFC 3414), written and read.
//!
//! **Not for** deciding whether a message may be believed: see `usm.rs`.

use super::ber::{Malformed, OCTETS, Reader, SEQUENCE, Writer};
#[cfg(test)]
use super::value::SnmpValue;
use super::value::{Oid, VarBind};

/// The largest message that we say we take: what a UDP datagram over IPv4 can hold.
pub(super) const MESSAGE_BYTES: usize = 65_507;

const GET: u8 = 0xa0;
const GET_NEXT: u8 = 0xa1;
const RESPONSE: u8 = 0xa2;
const GET_BULK: u8 = 0xa5;
const REPORT: u8 = 0xa8;

/// The flags of a v3 message.
pub(super) const FLAG_AUTH: u8 = 1;
pub(super) const FLAG_PRIVACY: u8 = 2;
pub(super) const FLAG_REPORTABLE: u8 = 4;
/// The user-based security model.
const USM: i32 = 3;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Get,
    GetNext,
    GetBulk { repetitions: u32 },
}

/// Version numbers on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2c,
    V3,
}

impl Version {
    const fn number(self) -> i32 {
        match self {
            Self::V1 => 0,
            Self::V2c => 1,
            Self::V3 => 3,
        }
    }
}

/// What a device answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pdu {
    /// A report about the message itself, not an answer (v3).
    pub(super) report: bool,
    pub(super) request_id: i32,
    pub(super) error_status: i32,
    /// From 1; 0: none.
    pub(super) error_index: u32,
    pub(super) varbinds: Vec<VarBind>,
}

type Result<T> = std::result::Result<T, Malformed>;

fn write_request(writer: &mut Writer, ask: Ask, request_id: i32, oids: &[Oid]) {
    let start = writer.mark();
    for oid in oids.iter().rev() {
        let mark = writer.mark();
        writer.null();
        writer.oid(oid);
        writer.wrap(SEQUENCE, mark);
    }
    writer.wrap(SEQUENCE, start);
    let (tag, third) = match ask {
        Ask::Get => (GET, 0),
        Ask::GetNext => (GET_NEXT, 0),
        Ask::GetBulk { repetitions } => (GET_BULK, i32::try_from(repetitions).unwrap_or(i32::MAX)),
    };
    writer.int32(third);
    writer.int32(0);
    writer.int32(request_id);
    writer.wrap(tag, start);
}

/// A request with a community.
pub(super) fn community(version: Version, community: &[u8], ask: Ask, request_id: i32, oids: &[Oid]) -> Vec<u8> {
    let mut writer = Writer::default();
    write_request(&mut writer, ask, request_id, oids);
    writer.octets(OCTETS, community);
    writer.int32(version.number());
    writer.wrap(SEQUENCE, 0);
    writer.finish()
}

/// A request in its context (v3), not encrypted.
pub(super) fn scoped(engine_id: &[u8], context: &[u8], ask: Ask, request_id: i32, oids: &[Oid]) -> Vec<u8> {
    let mut writer = Writer::default();
    write_request(&mut writer, ask, request_id, oids);
    writer.octets(OCTETS, context);
    writer.octets(OCTETS, engine_id);
    writer.wrap(SEQUENCE, 0);
    writer.finish()
}

/// The head and the security parameters of a v3 message.
#[derive(Debug, Clone, Copy)]
pub(super) struct V3<'a> {
    pub(super) id: i32,
    pub(super) flags: u8,
    pub(super) engine_id: &'a [u8],
    pub(super) boots: u32,
    pub(super) time: u32,
    pub(super) user: &'a [u8],
    /// Zeros while the code is not known.
    pub(super) code: &'a [u8],
    pub(super) salt: &'a [u8],
    /// A scoped PDU as an element, or what it was encrypted to.
    pub(super) data: &'a [u8],
}

impl V3<'_> {
    /// The message, and where its code begins.
    pub(super) fn write(&self) -> (Vec<u8>, usize) {
        let mut writer = Writer::default();
        if self.flags & FLAG_PRIVACY == 0 {
            writer.raw(self.data);
        } else {
            writer.octets(OCTETS, self.data);
        }
        let security = writer.mark();
        writer.octets(OCTETS, self.salt);
        let code = writer.mark();
        writer.octets(OCTETS, self.code);
        writer.octets(OCTETS, self.user);
        writer.int32(i32::try_from(self.time).unwrap_or(i32::MAX));
        writer.int32(i32::try_from(self.boots).unwrap_or(i32::MAX));
        writer.octets(OCTETS, self.engine_id);
        writer.wrap(SEQUENCE, security);
        writer.wrap(OCTETS, security);
        let head = writer.mark();
        writer.int32(USM);
        writer.octets(OCTETS, &[self.flags]);
        writer.int32(i32::try_from(MESSAGE_BYTES).unwrap_or(i32::MAX));
        writer.int32(self.id);
        writer.wrap(SEQUENCE, head);
        writer.int32(Version::V3.number());
        writer.wrap(SEQUENCE, 0);
        let bytes = writer.finish();
        let at = bytes.len() - code - self.code.len();
        (bytes, at)
    }
}

fn body(datagram: &[u8]) -> Result<(i32, Reader<'_>)> {
    let mut outer = Reader(datagram);
    let content = outer.tagged(SEQUENCE)?;
    outer.end()?;
    let mut reader = Reader(content);
    let version = reader.int32()?;
    Ok((version, reader))
}

/// The number by which an answer finds its request: the request id, or with v3 the message id.
pub(super) fn id(datagram: &[u8]) -> Result<i32> {
    let (version, mut reader) = body(datagram)?;
    match version {
        0 | 1 => {
            reader.tagged(OCTETS)?;
            let (_, pdu) = reader.element()?;
            Reader(pdu).int32()
        }
        3 => Reader(reader.tagged(SEQUENCE)?).int32(),
        _ => Err(Malformed("a version other than 1, 2c and 3")),
    }
}

/// The answer to a request with a community.
pub(super) fn read_community(version: Version, expected: &[u8], datagram: &[u8]) -> Result<Pdu> {
    let (number, mut reader) = body(datagram)?;
    if number != version.number() {
        return Err(Malformed("an answer in another version than the request"));
    }
    if reader.tagged(OCTETS)? != expected {
        return Err(Malformed("an answer with another community than the request"));
    }
    let pdu = read_pdu(&mut reader)?;
    reader.end()?;
    if pdu.report { Err(Malformed("a report where there are none")) } else { Ok(pdu) }
}

/// A v3 message, and where its code begins.
pub(super) fn read_v3(datagram: &[u8]) -> Result<(V3<'_>, usize)> {
    let (number, mut reader) = body(datagram)?;
    if number != Version::V3.number() {
        return Err(Malformed("an answer in another version than the request"));
    }
    let mut head = Reader(reader.tagged(SEQUENCE)?);
    let id = head.int32()?;
    head.uint31()?;
    let &[flags] = head.tagged(OCTETS)? else { return Err(Malformed("flags of other than one byte")) };
    if head.int32()? != USM {
        return Err(Malformed("a security model other than the user-based one"));
    }
    head.end()?;
    let mut outer = Reader(reader.tagged(OCTETS)?);
    let mut security = Reader(outer.tagged(SEQUENCE)?);
    outer.end()?;
    let engine_id = security.tagged(OCTETS)?;
    if engine_id.len() > 32 {
        return Err(Malformed("an engine id of more than 32 bytes"));
    }
    let (boots, time) = (security.uint31()?, security.uint31()?);
    let user = security.tagged(OCTETS)?;
    let code = security.tagged(OCTETS)?;
    let salt = security.tagged(OCTETS)?;
    security.end()?;
    // What lies behind the code in the datagram, counted from its end.
    let at = code.as_ptr().addr().saturating_sub(datagram.as_ptr().addr());
    let data = if flags & FLAG_PRIVACY == 0 { reader.0 } else { reader.tagged(OCTETS)? };
    if flags & FLAG_PRIVACY != 0 {
        reader.end()?;
    }
    Ok((V3 { id, flags, engine_id, boots, time, user, code, salt, data }, at))
}

/// A scoped PDU; `padded`: what follows it is the padding of a cipher.
pub(super) fn read_scoped(data: &[u8], padded: bool) -> Result<Pdu> {
    let mut outer = Reader(data);
    let mut reader = Reader(outer.tagged(SEQUENCE)?);
    if !padded {
        outer.end()?;
    }
    reader.tagged(OCTETS)?;
    reader.tagged(OCTETS)?;
    let pdu = read_pdu(&mut reader)?;
    reader.end()?;
    Ok(pdu)
}

fn read_pdu(reader: &mut Reader<'_>) -> Result<Pdu> {
    let (tag, content) = reader.element()?;
    let report = match tag {
        RESPONSE => false,
        REPORT => true,
        _ => return Err(Malformed("neither a response nor a report")),
    };
    let mut reader = Reader(content);
    let request_id = reader.int32()?;
    let error_status = reader.int32()?;
    let error_index = u32::try_from(reader.int32()?).unwrap_or_default();
    let mut list = Reader(reader.tagged(SEQUENCE)?);
    reader.end()?;
    let mut varbinds = Vec::new();
    while !list.is_empty() {
        let mut pair = Reader(list.tagged(SEQUENCE)?);
        let oid = pair.oid()?;
        let value = pair.value()?;
        pair.end()?;
        varbinds.push((oid, value));
    }
    Ok(Pdu { report, request_id, error_status, error_index, varbinds })
}

/// For tests: an answer to what was asked.
#[cfg(test)]
pub(super) fn response(tag: u8, request_id: i32, error: (i32, i32), varbinds: &[VarBind]) -> Vec<u8> {
    let mut writer = Writer::default();
    write_response(&mut writer, tag, request_id, error, varbinds);
    writer.finish()
}

#[cfg(test)]
fn write_response(writer: &mut Writer, tag: u8, request_id: i32, error: (i32, i32), varbinds: &[VarBind]) {
    let start = writer.mark();
    for (oid, value) in varbinds.iter().rev() {
        let mark = writer.mark();
        match value {
            SnmpValue::Integer(number) => writer.int32(*number),
            SnmpValue::Octets(bytes) => writer.octets(OCTETS, bytes),
            SnmpValue::Oid(oid) => writer.oid(oid),
            SnmpValue::Counter32(number) => {
                writer.octets(0x41, &[&[0], number.to_be_bytes().as_slice()].concat());
            }
            SnmpValue::NoSuchObject => writer.octets(0x80, &[]),
            SnmpValue::NoSuchInstance => writer.octets(0x81, &[]),
            SnmpValue::EndOfMibView => writer.octets(0x82, &[]),
            _ => writer.null(),
        }
        writer.oid(oid);
        writer.wrap(SEQUENCE, mark);
    }
    writer.wrap(SEQUENCE, start);
    writer.int32(error.1);
    writer.int32(error.0);
    writer.int32(request_id);
    writer.wrap(tag, start);
}

/// For tests: a whole v2c message around an answer.
#[cfg(test)]
pub(super) fn in_community(name: &[u8], pdu: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.raw(pdu);
    writer.octets(OCTETS, name);
    writer.int32(Version::V2c.number());
    writer.wrap(SEQUENCE, 0);
    writer.finish()
}

/// For tests: an answer in its context (v3).
#[cfg(test)]
pub(super) fn in_context(engine_id: &[u8], pdu: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.raw(pdu);
    writer.octets(OCTETS, &[]);
    writer.octets(OCTETS, engine_id);
    writer.wrap(SEQUENCE, 0);
    writer.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn oid(text: &str) -> Oid {
        text.parse().unwrap()
    }

    #[test]
    fn a_request_is_the_bytes_that_net_snmp_sends() {
        // `snmpget -v2c -c public -Ir host 1.3.6.1.2.1.1.5.0` with request id 1.
        let bytes = community(Version::V2c, b"public", Ask::Get, 1, &[oid("1.3.6.1.2.1.1.5.0")]);
        let expect = [
            &[0x30, 0x26, 2, 1, 1, 4, 6][..],
            b"public",
            &[0xa0, 0x19, 2, 1, 1, 2, 1, 0, 2, 1, 0, 0x30, 0x0e, 0x30, 0x0c, 6, 8, 0x2b, 6, 1, 2, 1, 1, 5, 0, 5, 0],
        ]
        .concat();
        assert_eq!(bytes, expect);
        assert_eq!(id(&bytes).unwrap(), 1);
    }

    #[test]
    fn an_answer_is_read_whatever_it_holds_and_a_request_is_none() {
        let varbinds = vec![
            (oid("1.3.6.1.2.1.1.1.0"), SnmpValue::Octets(b"\x1b[31m<b>".to_vec())),
            (oid("1.3.6.1.2.1.2.2.1.8.4294967295"), SnmpValue::Integer(-1)),
            (oid("2.999.1"), SnmpValue::EndOfMibView),
        ];
        let bytes = in_community(b"public", &response(RESPONSE, 77, (0, 0), &varbinds));
        let pdu = read_community(Version::V2c, b"public", &bytes).unwrap();
        assert_eq!(pdu, Pdu { report: false, request_id: 77, error_status: 0, error_index: 0, varbinds });
        assert!(read_community(Version::V1, b"public", &bytes).is_err());
        assert!(read_community(Version::V2c, b"private", &bytes).is_err());
        assert!(read_community(Version::V2c, b"public", &[&bytes[..], b"\0"].concat()).is_err(), "bytes are left");
        let request = community(Version::V2c, b"public", Ask::GetBulk { repetitions: 9 }, 1, &[oid("1.3")]);
        assert!(read_community(Version::V2c, b"public", &request).is_err());
    }

    #[test]
    fn a_v3_message_comes_back_and_its_code_is_found() {
        let data = scoped(b"engine", b"", Ask::GetNext, 5, &[oid("1.3.6")]);
        for (flags, data) in [(FLAG_AUTH, data.as_slice()), (FLAG_AUTH | FLAG_PRIVACY, b"cipher text of any length")] {
            let message = V3 {
                id: i32::MAX,
                flags,
                engine_id: b"engine",
                boots: 3,
                time: 0x7fff_ffff,
                user: b"reader",
                code: &[0xcc; 24],
                salt: &[7; 8],
                data,
            };
            let (bytes, at) = message.write();
            assert_eq!(bytes[at..at + 24], [0xcc; 24]);
            let (back, found) = read_v3(&bytes).unwrap();
            assert_eq!((found, back.id, back.boots, back.time), (at, i32::MAX, 3, 0x7fff_ffff));
            assert_eq!((back.user, back.salt, back.data), (&b"reader"[..], &[7; 8][..], data));
            assert_eq!(id(&bytes).unwrap(), i32::MAX);
        }
    }

    proptest! {
        #[test]
        fn no_datagram_makes_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (id(&bytes), read_community(Version::V2c, b"public", &bytes), read_v3(&bytes).is_ok(), read_scoped(&bytes, true));
        }

        #[test]
        fn no_damaged_answer_makes_a_reader_panic(at in 0usize..200, with: u8, cut in 0usize..200) {
            let varbinds = vec![(oid("1.3.6.1.2.1.1.1.0"), SnmpValue::Octets(vec![0x30; 100])); 2];
            let mut bytes = in_community(b"public", &response(RESPONSE, 77, (0, 0), &varbinds));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = with;
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            let _ = (id(&bytes), read_community(Version::V2c, b"public", &bytes));
            let mut message = V3 {
                id: 1, flags: 0, engine_id: b"engine", boots: 3, time: 9, user: b"u", code: &[1; 12], salt: &[7; 8], data: &bytes,
            };
            for flags in [FLAG_AUTH, FLAG_AUTH | FLAG_PRIVACY] {
                message.flags = flags;
                let mut whole = message.write().0;
                if let Some(byte) = whole.get_mut(at) {
                    *byte = with;
                }
                if let Ok((read, at)) = read_v3(&whole) {
                    prop_assert_eq!(whole.get(at..at + read.code.len()), Some(read.code));
                    let _ = read_scoped(read.data, true);
                }
            }
        }
    }
}
