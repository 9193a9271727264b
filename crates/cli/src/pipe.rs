//! The standard input and output as two ends of a connection. They block, so each has a thread: neither holds up the other.

use std::io::{Read as _, Write as _};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// How much goes at once, in bytes.
const PIECE_BYTES: usize = 32 * 1_024;
/// How many pieces wait at most.
const PIECES: usize = 4;

/// Carries bytes both ways until the other end of the connection is done. The end of the standard input is passed on.
pub(crate) async fn carry(way: impl AsyncRead + AsyncWrite) {
    let (mut from, mut to) = tokio::io::split(way);
    let (came, mut typed) = mpsc::channel::<Vec<u8>>(PIECES);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(length) = input.read(&mut piece) {
            let bytes = piece.get(..length).unwrap_or_default();
            if bytes.is_empty() || came.blocking_send(bytes.to_vec()).is_err() {
                return;
            }
        }
    });
    let (shows, mut shown) = mpsc::channel::<Vec<u8>>(PIECES);
    let showing = std::thread::spawn(move || {
        let mut output = std::io::stdout().lock();
        while let Some(bytes) = shown.blocking_recv() {
            if output.write_all(&bytes).and_then(|()| output.flush()).is_err() {
                return;
            }
        }
    });
    let up = async {
        while let Some(bytes) = typed.recv().await {
            if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
        std::future::pending::<()>().await;
    };
    let down = async {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(length) = from.read(&mut piece).await {
            let bytes = piece.get(..length).unwrap_or_default();
            if bytes.is_empty() || shows.send(bytes.to_vec()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
    drop(shows);
    // What came is shown before the program ends; whoever does not take it has gone.
    let _ = showing.join();
}
