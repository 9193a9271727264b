//! As much of WebSocket (RFC 6455) as `kubectl exec` speaks: binary messages, each on a channel, and pings.

use std::sync::Arc;

use base64::Engine as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Mutex, mpsc};

/// The subprotocol in which `kubectl port-forward` carries SPDY (since 1.31).
pub(super) const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// `Sec-WebSocket-Accept`.
pub(super) fn accept(key: &str) -> String {
    let digest = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
    );
    base64::engine::general_purpose::STANDARD.encode(digest)
}

/// The sending half.
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

    async fn frame(&self, opcode: u8, body: &[u8]) {
        let mut frame = vec![0x80 | opcode];
        match body.len() {
            length @ 0..=125 => frame.push(length as u8),
            length @ 126..=0xffff => {
                frame.push(126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(body);
        let mut writer = self.writer.lock().await;
        // A client that is gone ends the test by itself.
        let _ = writer.write_all(&frame).await;
        let _ = writer.flush().await;
    }

    /// Bytes on a channel.
    pub(super) async fn data(&self, channel: u8, bytes: &[u8]) {
        self.frame(2, &[&[channel], bytes].concat()).await;
    }

    /// The regular end.
    pub(super) async fn close(&self) {
        self.frame(8, &1_000_u16.to_be_bytes()).await;
        let _ = self.writer.lock().await.shutdown().await;
    }
}

/// The next frame: its kind and what it carries.
async fn frame(reader: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    reader.read_exact(&mut head).await.ok()?;
    let mut length = u64::from(head[1] & 0x7f);
    if length == 126 {
        length = u64::from(reader.read_u16().await.unwrap_or_default());
    } else if length == 127 {
        length = reader.read_u64().await.unwrap_or_default();
    }
    let mut mask = [0; 4];
    assert!(head[1] & 0x80 != 0, "a client masks what it sends");
    let mut body = vec![0; length as usize];
    reader.read_exact(&mut mask).await.ok()?;
    reader.read_exact(&mut body).await.ok()?;
    for (at, byte) in body.iter_mut().enumerate() {
        *byte ^= mask[at % 4];
    }
    Some((head[0] & 0x0f, body))
}

/// Carries another protocol in binary messages, without channels, until either end is gone.
pub(super) async fn carry<R, W>(mut reader: R, writer: Writer<W>, inside: tokio::io::DuplexStream)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (mut from, mut to) = tokio::io::split(inside);
    let incoming = async {
        while let Some((opcode, body)) = frame(&mut reader).await {
            match opcode {
                8 => return,
                9 => writer.frame(10, &body).await,
                0..=2 if to.write_all(&body).await.is_err() => return,
                _ => {}
            }
        }
    };
    let outgoing = async {
        let mut bytes = vec![0; 16 * 1_024];
        while let Ok(length @ 1..) = from.read(&mut bytes).await {
            writer.frame(2, &bytes[..length]).await;
        }
        writer.close().await;
    };
    tokio::select! {
        () = incoming => {}
        () = outgoing => {}
    }
}

/// Reads messages until the client is gone; what comes on channel 0 goes to `stdin`, which ends when the client closes it (version 5).
pub(super) async fn read<R, W>(mut reader: R, writer: Writer<W>, stdin: mpsc::Sender<Vec<u8>>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (mut stdin, mut channel) = (Some(stdin), None);
    while let Some((opcode, body)) = frame(&mut reader).await {
        match opcode {
            8 => return,
            9 => writer.frame(10, &body).await,
            opcode @ (0..=2) => {
                // The first fragment names the channel.
                let data = if opcode == 0 { &body[..] } else { &body[1.min(body.len())..] };
                if opcode != 0 {
                    channel = body.first().copied();
                }
                match (channel, data) {
                    (Some(0), data) => {
                        if let Some(stdin) = &stdin {
                            let _ = stdin.send(data.to_vec()).await;
                        }
                    }
                    (Some(255), [0, ..]) => stdin = None,
                    _ => {}
                }
            }
            _ => {}
        }
    }
}
