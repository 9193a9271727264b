//! A user's connection over a stream of the relay channel: bytes in both directions, each with an end of its own.
//!
//! Nothing is held here but the message that is being read: who does not read grants no credit, and who has no credit does not write.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::frame::{MessageKind, PIECE_BYTES_MAX};

use crate::channel::{ChannelEnded, StreamHandle};
use crate::websocket::Side;

/// One end of it. Dropping it closes the stream; what [`AsyncWrite::poll_shutdown`] has waited for arrives before that.
pub struct Tunnel {
    stream: StreamHandle,
    sends: MessageKind,
    takes: MessageKind,
    rest: Bytes,
    /// The other end sends no more.
    ended: bool,
    /// This end has said that it sends no more.
    finished: bool,
}

impl Tunnel {
    /// Over a stream whose beginning was sent or taken.
    pub fn new(stream: StreamHandle, side: Side) -> Self {
        let (sends, takes) = match side {
            Side::Server => (MessageKind::Inward, MessageKind::Outward),
            Side::Client => (MessageKind::Outward, MessageKind::Inward),
        };
        Self { stream, sends, takes, rest: Bytes::new(), ended: false, finished: false }
    }
}

fn gone(ended: ChannelEnded) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, ended)
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.rest.is_empty() && !this.ended {
            // An end that was not said is none: what came may not be everything.
            let message = ready!(this.stream.poll_recv(cx)).map_err(gone)?;
            if message.kind != this.takes {
                let odd = "a message that has no place in a tunnel";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, odd)));
            }
            this.ended = message.bytes.is_empty();
            this.rest = message.bytes.into();
        }
        let now = this.rest.len().min(buf.remaining());
        buf.put_slice(this.rest.get(..now).unwrap_or_default());
        this.rest.advance(now);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let piece = buf.get(..buf.len().min(PIECE_BYTES_MAX)).unwrap_or_default();
        if piece.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.stream.poll_send(cx, self.sends, &Bytes::copy_from_slice(piece))).map_err(gone)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is queued is on its way by itself.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            ready!(self.stream.poll_send(cx, self.sends, &Bytes::new())).map_err(gone)?;
            self.finished = true;
        }
        self.stream.poll_sent(cx).map_err(gone)
    }
}

/// Sends a request over a tunnel of its own, or what leads to one, and waits for the head of the answer. It ends with the answer, or with what it
/// switched to.
pub async fn exchange<S, B>(tunnel: S, request: Request<B>) -> Result<Response<Incoming>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(64 * 1_024);
    let (mut sender, connection) = builder.handshake(TokioIo::new(tunnel)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a tunnel ended");
        }
    });
    sender.send_request(request).await
}
