//! As much of SPDY/3.1 as `kubectl` speaks: streams with headers, data, and pings.

use std::collections::HashMap;
use std::sync::Arc;

use flate2::{Decompress, FlushDecompress, Status};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};

/// The words of the dictionary (SPDY draft 3, section 2.6.10.1), which are written with their lengths.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow \
    authorization cache-control connection content-base content-encoding content-language content-length content-location content-md5 \
    content-range content-type date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since \
    last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer \
    transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";
/// What follows them.
const REST: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative \
    Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not \
    Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, \
    GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=\
    gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in WORDS.split(' ') {
        let word = word.replace('_', " ");
        bytes.extend_from_slice(&(word.len() as u32).to_be_bytes());
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(REST.as_bytes());
    bytes
}

/// A stream that the client opened.
pub(super) struct Opened {
    pub(super) id: u32,
    pub(super) headers: HashMap<String, String>,
    /// What comes on it; ends with the stream.
    pub(super) data: mpsc::Receiver<Vec<u8>>,
}

/// The sending half, shared by what writes to streams.
pub(super) struct Writer<W> {
    writer: Arc<Mutex<W>>,
}

impl<W> Clone for Writer<W> {
    fn clone(&self) -> Self {
        Self { writer: Arc::clone(&self.writer) }
    }
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) fn new(writer: W) -> Self {
        Self { writer: Arc::new(Mutex::new(writer)) }
    }

    async fn control(&self, kind: u8, body: &[u8]) {
        let mut frame = vec![0x80, 3, 0, kind, 0];
        frame.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
        frame.extend_from_slice(body);
        let mut writer = self.writer.lock().await;
        // A client that is gone ends the test by itself.
        let _ = writer.write_all(&frame).await;
        let _ = writer.flush().await;
    }

    /// Data on a stream; `last` ends this side of it.
    pub(super) async fn data(&self, stream: u32, bytes: &[u8], last: bool) {
        let mut frame = stream.to_be_bytes().to_vec();
        frame.push(u8::from(last));
        frame.extend_from_slice(&(bytes.len() as u32).to_be_bytes()[1..]);
        frame.extend_from_slice(bytes);
        let mut writer = self.writer.lock().await;
        let _ = writer.write_all(&frame).await;
        let _ = writer.flush().await;
    }

    /// Closes the connection.
    pub(super) async fn close(&self) {
        let _ = self.writer.lock().await.shutdown().await;
    }
}

/// Reads frames, hands each opened stream to `opened`, and answers pings, until the client is gone.
pub(super) async fn read<R, W>(mut reader: R, writer: Writer<W>, opened: mpsc::Sender<Opened>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut streams: HashMap<u32, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut inflate = Decompress::new(true);
    let mut replies = 0;
    loop {
        let mut head = [0; 8];
        if reader.read_exact(&mut head).await.is_err() {
            return;
        }
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let (flags, length) = (head[4], u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize);
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).await.is_err() {
            return;
        }
        if first >> 31 == 0 {
            if let Some(stream) = streams.get(&first)
                && !body.is_empty()
            {
                let _ = stream.send(body).await;
            }
            if flags & 1 != 0 {
                streams.remove(&first);
            }
            continue;
        }
        let id = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().expect("four bytes"));
        match first & 0xffff {
            1 => {
                let headers = headers(&mut inflate, &body[10..]);
                let (sender, data) = mpsc::channel(64);
                if flags & 1 == 0 {
                    streams.insert(id(0), sender);
                }
                // An empty list of headers, as a block that is not compressed: only the first one begins the compressed stream.
                let mut reply = id(0).to_be_bytes().to_vec();
                if replies == 0 {
                    reply.extend_from_slice(&[0x78, 0x01]);
                }
                replies += 1;
                // The second, empty block is the mark of a flush: readers wait for it.
                reply.extend_from_slice(&[0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
                writer.control(2, &reply).await;
                if opened.send(Opened { id: id(0), headers, data }).await.is_err() {
                    return;
                }
            }
            3 => drop(streams.remove(&id(0))),
            6 => writer.control(6, &body).await,
            7 => return,
            _ => {}
        }
    }
}

fn headers(inflate: &mut Decompress, block: &[u8]) -> HashMap<String, String> {
    let mut plain = Vec::with_capacity(64 * 1_024);
    let before = inflate.total_in();
    let rest = |inflate: &Decompress| &block[(inflate.total_in() - before) as usize..];
    if inflate.decompress_vec(rest(inflate), &mut plain, FlushDecompress::Sync).is_err() {
        // The first block asks for the dictionary.
        inflate.set_dictionary(&dictionary()).expect("the dictionary that it asks for");
        let status =
            inflate.decompress_vec(rest(inflate), &mut plain, FlushDecompress::Sync).expect("a block of headers");
        assert_ne!(status, Status::StreamEnd);
    }
    let count = u32::from_be_bytes(plain[..4].try_into().expect("four bytes"));
    let mut pairs = HashMap::new();
    let mut at = 4;
    let mut text = || {
        let length = u32::from_be_bytes(plain[at..at + 4].try_into().expect("four bytes")) as usize;
        let text = String::from_utf8_lossy(&plain[at + 4..at + 4 + length]).into_owned();
        at += 4 + length;
        text
    };
    for _ in 0..count {
        pairs.insert(text(), text());
    }
    pairs
}

/// Connects each pair of streams to the port of this machine that it asks for.
pub(super) async fn forward<W>(writer: Writer<W>, mut opened: mpsc::Receiver<Opened>)
where
    W: AsyncWrite + Send + Unpin + 'static,
{
    while let Some(mut stream) = opened.recv().await {
        if stream.headers.get("streamtype").is_none_or(|kind| kind != "data") {
            continue;
        }
        let port: u16 = stream.headers["port"].parse().expect("a port");
        let writer = writer.clone();
        tokio::spawn(async move {
            let Ok(socket) = TcpStream::connect(("127.0.0.1", port)).await else {
                return writer.data(stream.id, &[], true).await;
            };
            let (mut from, mut to) = socket.into_split();
            let sending = async {
                while let Some(bytes) = stream.data.recv().await {
                    let _ = to.write_all(&bytes).await;
                }
                let _ = to.shutdown().await;
            };
            let receiving = async {
                let mut bytes = vec![0; 16 * 1_024];
                while let Ok(length @ 1..) = from.read(&mut bytes).await {
                    writer.data(stream.id, &bytes[..length], false).await;
                }
                writer.data(stream.id, &[], true).await;
            };
            tokio::join!(sending, receiving);
        });
    }
}
