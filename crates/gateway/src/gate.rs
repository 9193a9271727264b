//! HTTP/1.1 before the HTTP library sees it: a request whose framing two readers could understand differently is refused (RFC 9112
//! section 11.2), and whatever is refused gets a whole answer with a reason, headers and a request id, which the library's own would lack.
//!
//! **Not for** what a request means: it passes on the bytes as they are, or not at all.
//!
//! Invariants:
//! - a head is passed on when it is complete and every byte of it was checked;
//! - the next head begins where the length or the chunks of the body before it say, and there is only one way to read those;
//! - after a refusal nothing more is read.
//!
//! A connection that switches protocols (the relay channel) leaves the gate when the switch is answered.

use http::StatusCode;

/// Longest request line and headers together, in bytes.
const HEAD_BYTES: usize = 32 * 1_024;
/// Longest target of a request, in bytes.
const TARGET_BYTES: usize = 8 * 1_024;
/// Most headers.
const HEADERS: usize = 100;
/// Longest line that says a chunk's size, in bytes; 8 digits are 4 GiB.
const CHUNK_LINE_BYTES: usize = 10;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The answer's status.
    pub status: StatusCode,
    /// What to say.
    pub message: &'static str,
    /// Whether the head was at fault. Otherwise the request is at work already, and answers for itself.
    pub before_request: bool,
}

/// Where in the stream of requests we are.
#[derive(Debug)]
enum State {
    Head(Vec<u8>),
    Body {
        left: u64,
    },
    ChunkLine(Vec<u8>),
    ChunkData {
        left: u64,
    },
    /// The line ends that must follow a chunk's data, or the last chunk: how many bytes of them are seen.
    LineEnd {
        seen: u8,
        last: bool,
    },
}

/// Follows one connection's requests.
#[derive(Debug)]
pub struct Gate(State);

fn refuse(status: StatusCode, message: &'static str) -> Refusal {
    Refusal { status, message, before_request: true }
}

fn bad(message: &'static str) -> Refusal {
    refuse(StatusCode::BAD_REQUEST, message)
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// At the beginning of a connection.
    pub fn new() -> Self {
        Self(State::Head(Vec::new()))
    }

    /// Whether no request has begun that is not complete.
    pub fn is_between_requests(&self) -> bool {
        matches!(&self.0, State::Head(head) if head.is_empty())
    }

    /// Takes what came, and appends to `passed` what may go on.
    pub fn pass(&mut self, mut input: &[u8], passed: &mut Vec<u8>) -> Result<(), Refusal> {
        while !input.is_empty() {
            let before = input.len();
            input = match &mut self.0 {
                State::Head(head) => {
                    let rest = take_head(head, input)?;
                    if head.ends_with(b"\r\n\r\n") {
                        let next = read_head(head)?;
                        passed.append(head);
                        self.0 = next;
                    }
                    rest
                }
                State::Body { left } | State::ChunkData { left } => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    let (now, rest) = input.split_at(length);
                    passed.extend_from_slice(now);
                    *left -= now.len() as u64;
                    if *left == 0 {
                        self.0 = match self.0 {
                            State::ChunkData { .. } => State::LineEnd { seen: 0, last: false },
                            _ => State::Head(Vec::new()),
                        };
                    }
                    rest
                }
                State::ChunkLine(line) => {
                    let (byte, rest) = first(input);
                    line.push(byte);
                    if let Some(left) = chunk_size(line)? {
                        passed.append(line);
                        self.0 =
                            if left == 0 { State::LineEnd { seen: 0, last: true } } else { State::ChunkData { left } };
                    }
                    rest
                }
                State::LineEnd { seen, last } => {
                    let (byte, rest) = first(input);
                    if byte != if *seen == 0 { b'\r' } else { b'\n' } {
                        return Err(Refusal {
                            before_request: false,
                            ..bad("a chunk ends with CR LF, and nothing follows the last one")
                        });
                    }
                    passed.push(byte);
                    *seen += 1;
                    if *seen == 2 {
                        self.0 = if *last { State::Head(Vec::new()) } else { State::ChunkLine(Vec::new()) };
                    }
                    rest
                }
            };
            debug_assert!(input.len() < before, "every state takes at least a byte");
        }
        Ok(())
    }
}

fn first(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, &[][..]), |(byte, rest)| (*byte, rest))
}

/// Takes bytes into the head up to its end, and refuses what no head holds as soon as it comes.
fn take_head<'a>(head: &mut Vec<u8>, input: &'a [u8]) -> Result<&'a [u8], Refusal> {
    for (at, &byte) in input.iter().enumerate() {
        let after_return = head.last() == Some(&b'\r');
        match byte {
            b'\n' if !after_return => return Err(bad("a line ends with CR LF, not with LF alone")),
            b'\n' => {}
            _ if after_return => return Err(bad("a CR is followed by LF")),
            b'\t' | b'\r' | 0x20..=0x7e | 0x80..=0xff => {}
            _ => return Err(bad("a request's head holds no control characters")),
        }
        head.push(byte);
        if byte == b'\n' {
            if head == b"\r\n" {
                return Err(bad("a request begins with its method"));
            }
            if head.ends_with(b"\r\n\r\n") {
                return Ok(input.get(at + 1..).unwrap_or_default());
            }
        }
        if head.len() >= HEAD_BYTES {
            return Err(if head.contains(&b'\n') {
                refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are longer than 32 KiB")
            } else {
                refuse(StatusCode::URI_TOO_LONG, "the address is longer than 8 KiB")
            });
        }
    }
    Ok(&[])
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

/// Checks a complete head; what follows it.
fn read_head(head: &[u8]) -> Result<State, Refusal> {
    let text = head.strip_suffix(b"\r\n\r\n").unwrap_or(head);
    // No CR is without its LF here, so a line is what lies between two LFs without its CR.
    let mut lines = text.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let is_1_1 = read_request_line(lines.next().unwrap_or_default())?;
    let (mut hosts, mut length, mut chunked, mut upgrade) = (0, None, false, false);
    for (count, line) in lines.enumerate() {
        if count >= HEADERS {
            return Err(refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "there are more than 100 headers"));
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return Err(bad("a header is one line"));
        }
        let Some(colon) = line.iter().position(|b| *b == b':') else { return Err(bad("a header has a colon")) };
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
        if !is_token(name) {
            return Err(bad("a header's name is a token, with the colon right after it"));
        }
        match name.to_ascii_lowercase().as_slice() {
            b"host" => hosts += 1,
            b"content-length" => {
                let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
                let parsed = digits.and_then(|digits| digits.parse::<u64>().ok());
                if length.is_some() || parsed.is_none() {
                    return Err(bad("there is one Content-Length, and it is a number"));
                }
                length = parsed;
            }
            b"transfer-encoding" => {
                if chunked || !is_1_1 || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(bad("there is one Transfer-Encoding, and it is `chunked`"));
                }
                chunked = true;
            }
            b"upgrade" => upgrade = true,
            _ => {}
        }
    }
    if hosts > 1 || (hosts == 0 && is_1_1) {
        return Err(bad("there is one Host header"));
    }
    if chunked && length.is_some() {
        return Err(bad("Content-Length and Transfer-Encoding exclude each other"));
    }
    if upgrade && (chunked || length.is_some_and(|length| length > 0)) {
        return Err(bad("a request that asks for another protocol has no body"));
    }
    Ok(match length {
        _ if chunked => State::ChunkLine(Vec::new()),
        Some(left) if left > 0 => State::Body { left },
        _ => State::Head(Vec::new()),
    })
}

/// Whether the version is 1.1.
fn read_request_line(line: &[u8]) -> Result<bool, Refusal> {
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad("a request's first line is a method, an address and a version"));
    };
    if !is_token(method) || method.len() > 32 {
        return Err(bad("the method is not one"));
    }
    if target.len() > TARGET_BYTES {
        return Err(refuse(StatusCode::URI_TOO_LONG, "the address is longer than 8 KiB"));
    }
    // CONNECT makes a tunnel of what follows, and nothing here is a proxy.
    if method == b"CONNECT" || !(target == b"*" || target.starts_with(b"/") || target.starts_with(b"http")) {
        return Err(bad("the address is not a path"));
    }
    if !target.iter().all(u8::is_ascii_graphic) || target.contains(&b'#') {
        return Err(bad("the address holds a character that has to be percent-encoded"));
    }
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        _ => Err(refuse(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "the version is not HTTP/1.1 or HTTP/2")),
    }
}

/// The size of a chunk when its line is complete.
fn chunk_size(line: &[u8]) -> Result<Option<u64>, Refusal> {
    let wrong = Refusal { before_request: false, ..bad("a chunk's size is hex digits and CR LF, without extensions") };
    let (digits, end) = line.split_at(line.iter().take_while(|b| b.is_ascii_hexdigit()).count());
    match end {
        b"" | b"\r" if line.len() < CHUNK_LINE_BYTES && !(digits.is_empty() && end == b"\r") => Ok(None),
        b"\r\n" if !digits.is_empty() => {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong)?;
            u64::from_str_radix(digits, 16).map(Some).map_err(|_| wrong)
        }
        _ => Err(wrong),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pass(input: &[u8]) -> Result<Vec<u8>, Refusal> {
        let (mut gate, mut passed) = (Gate::new(), Vec::new());
        gate.pass(input, &mut passed).map(|()| passed)
    }

    fn head(headers: &str) -> String {
        format!("POST /a HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
    }

    #[test]
    fn what_is_well_formed_passes_byte_for_byte() {
        let requests = [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "GET / HTTP/1.0\r\n\r\n".to_owned(),
            "OPTIONS * HTTP/1.1\r\nhost:a\r\nX:\r\nY: \tz \r\n\r\n".to_owned(),
            head("Content-Length: 5\r\n") + "\n\r\0 \n",
            head("Transfer-Encoding: chunked\r\n") + "5\r\nabcde\r\n0A\r\n0123456789\r\n0\r\n\r\n",
            head("content-length: 0\r\n"),
        ];
        let (mut gate, mut passed) = (Gate::new(), Vec::new());
        for request in &requests {
            gate.pass(request.as_bytes(), &mut passed).unwrap();
            assert!(gate.is_between_requests(), "{request:?}");
        }
        assert_eq!(String::from_utf8(passed).unwrap(), requests.concat());
    }

    #[test]
    fn attack_50_what_two_readers_could_frame_differently_is_refused() {
        let chunked = |body: &str| head("Transfer-Encoding: chunked\r\n") + body;
        for (request, status) in [
            (head("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400),
            (head("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400),
            (head("Content-Length: 5\r\nContent-Length: 5\r\n"), 400),
            (head("Content-Length: 5\r\nContent-Length: 6\r\n"), 400),
            (head("Content-Length: 5, 5\r\n"), 400),
            (head("Content-Length: +5\r\n"), 400),
            (head("Content-Length: 0x5\r\n"), 400),
            (head("Content-Length: -1\r\n"), 400),
            (head("Content-Length: 18446744073709551616\r\n"), 400),
            (head("Content-Length:\r\n"), 400),
            (head("Transfer-Encoding: gzip, chunked\r\n"), 400),
            (head("Transfer-Encoding: identity\r\n"), 400),
            (head("Transfer-Encoding: xchunked\r\n"), 400),
            (head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), 400),
            (head("Transfer-Encoding : chunked\r\n"), 400),
            (head(" Transfer-Encoding: chunked\r\n"), 400),
            (head("X: a\r\n b\r\n"), 400),
            (head("X: a\n"), 400),
            (head("X: a\rContent-Length: 5\r\n"), 400),
            (head("X: a\0\r\n"), 400),
            (head("Host: b\r\n"), 400),
            (head("nothing\r\n"), 400),
            (head("Upgrade: websocket\r\nContent-Length: 5\r\n"), 400),
            ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505),
            ("GET / HTTP/0.9\r\nHost: a\r\n\r\n".to_owned(), 505),
            ("GET /\r\n\r\n".to_owned(), 400),
            (chunked("5;x=y\r\nabcde\r\n0\r\n\r\n"), 400),
            (chunked("5\nabcde\r\n0\r\n\r\n"), 400),
            (chunked("5\r\nabcdef\r\n0\r\n\r\n"), 400),
            (chunked("5 \r\nabcde\r\n0\r\n\r\n"), 400),
            (chunked("\r\n"), 400),
            (chunked("0x5\r\n"), 400),
            (chunked("-1\r\n"), 400),
            (chunked("000000005\r\n"), 400),
            (chunked("0\r\nX: y\r\n\r\n"), 400),
        ] {
            let refused = pass(request.as_bytes()).unwrap_err();
            assert_eq!(refused.status.as_u16(), status, "{request:?}: {refused:?}");
        }
    }

    #[test]
    fn attack_71_no_head_grows_past_its_limits() {
        let long = |bytes: usize| "a".repeat(bytes);
        for (request, status) in [
            (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(TARGET_BYTES)), 414),
            (format!("GET /{}", long(1 << 20)), 414),
            (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", long(1 << 20)), 431),
            (head(&"X: y\r\n".repeat(1_000_000)), 431),
            (head(&format!("Cookie: {}\r\n", "a=b; ".repeat(1_000_000))), 431),
            (head(&"x:\r\n".repeat(HEADERS)), 431),
        ] {
            assert_eq!(pass(request.as_bytes()).unwrap_err().status.as_u16(), status);
        }
        assert!(pass(head(&"x:\r\n".repeat(HEADERS - 1)).as_bytes()).is_ok());
    }

    proptest! {
        /// However the bytes are cut, the gate says the same; and what passes is a prefix of what came.
        #[test]
        fn cuts_change_nothing(parts in prop::collection::vec(prop::sample::select(vec![
            "GET / HTTP/1.1\r\n", "POST /x HTTP/1.1\r\n", "Host: a\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n",
            "\r\n", "abc", "3\r\n", "0\r\n", "\n", "\r", " ", "x:y\r\n",
        ]), 0..12), cut in 1_usize..9) {
            let whole: String = parts.concat();
            let expect = pass(whole.as_bytes());
            let (mut gate, mut passed) = (Gate::new(), Vec::new());
            let got = whole.as_bytes().chunks(cut).try_for_each(|part| gate.pass(part, &mut passed));
            prop_assert_eq!(got, expect.as_ref().map(|_| ()).map_err(|refusal| *refusal));
            prop_assert!(whole.as_bytes().starts_with(&passed));
        }
    }
}
