//! From one server to another, on which a relay hangs: over one connection between them one connection to the relay.
//!
//! The asking server says which relay and with which beginning, the other one answers, and from then on bytes go by in both directions: what the
//! relay is told is what it would be told by a user who came to that server.
//!
//! **Not for** who the two are: both have proved it before (`server/src/peers.rs`).
//!
//! Invariants:
//! - what is read before the answer is bounded in bytes, and by the caller in time;
//! - a connection that breaks is an error and no end: half an answer is never taken for a whole one.

use std::io;

use domain::RelayId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use wire::frame::MessageKind;
use wire::relay::Connect;

use crate::hub::Connected;
use crate::tunnel::Tunnel;
use crate::websocket::Side;

/// What the asking server speaks, and nothing else.
pub const PROTOCOL: &[u8] = b"cairn-peer/1";
/// Longest word of either side before bytes go by.
const WORD_BYTES_MAX: u16 = 4_096;
/// How much is passed on at once, in bytes, in each direction.
const PASS_BYTES: usize = 16 * 1_024;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Which relay.
    pub relay: RelayId,
    /// What it is told first.
    pub connect: Connect,
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// From here on it is the relay that speaks.
    Open,
    /// The relay does not hang here.
    Elsewhere,
    /// It does, and no connection can be made to it.
    Refused(String),
}

async fn hear<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let length = from.read_u16().await?;
    if length > WORD_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a word between servers is too long"));
    }
    let mut word = vec![0; usize::from(length)];
    from.read_exact(&mut word).await?;
    serde_json::from_slice(&word).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

async fn say(to: &mut (impl AsyncWrite + Unpin), word: &impl Serialize) -> io::Result<()> {
    let word = serde_json::to_vec(word)?;
    let length = u16::try_from(word.len()).ok().filter(|length| *length <= WORD_BYTES_MAX);
    let length =
        length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a word between servers is too long"))?;
    to.write_all(&[&length.to_be_bytes(), word.as_slice()].concat()).await?;
    to.flush().await
}

/// Asks for a connection to a relay: after [`Answer::Open`] the stream is that connection.
pub async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), ask: &Ask) -> io::Result<Answer> {
    say(stream, ask).await?;
    hear(stream).await
}

/// What another server asks for.
pub async fn asked(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Ask> {
    hear(stream).await
}

/// Answers, and carries bytes between the server that asked and the relay, until one of them ends.
pub async fn serve<S>(mut stream: S, connected: Option<Connected>, ask: &Ask) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(connected) = connected else { return part(stream, &Answer::Elsewhere).await };
    let stream_of_relay = match connected.channel.open_tunnel() {
        Ok(opened) => opened,
        Err(ended) => return part(stream, &Answer::Refused(ended.to_string())).await,
    };
    if let Err(ended) = stream_of_relay.send(MessageKind::Connect, serde_json::to_vec(&ask.connect)?).await {
        return part(stream, &Answer::Refused(ended.to_string())).await;
    }
    say(&mut stream, &Answer::Open).await?;
    let mut tunnel = Tunnel::new(stream_of_relay, Side::Server);
    tokio::io::copy_bidirectional_with_sizes(&mut stream, &mut tunnel, PASS_BYTES, PASS_BYTES).await.map(drop)
}

async fn part(mut stream: impl AsyncWrite + Unpin, answer: &Answer) -> io::Result<()> {
    say(&mut stream, answer).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn an_ask() -> Ask {
        let id = |prefix: &str| format!("{prefix}_{}1", "0".repeat(25));
        let connect = Connect { destination: id("dst").parse().unwrap(), from: Some("192.0.2.7".parse().unwrap()) };
        Ask { relay: id("rly").parse().unwrap(), connect }
    }

    #[tokio::test]
    async fn what_is_asked_is_heard_and_a_relay_that_is_elsewhere_is_said() {
        let (mut near, mut far) = tokio::io::duplex(64);
        let there = async {
            let asked = asked(&mut far).await.unwrap();
            serve(far, None, &asked).await.unwrap();
            asked
        };
        let ask_it = an_ask();
        let (answer, heard) = tokio::join!(ask(&mut near, &ask_it), there);
        assert_eq!((answer.unwrap(), heard), (Answer::Elsewhere, an_ask()));
        assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 0, "nothing follows");
    }

    #[tokio::test]
    async fn words_that_are_too_long_cut_short_or_none_are_errors() {
        let word = serde_json::to_vec(&an_ask()).unwrap();
        let whole = |text: &[u8]| [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat();
        let unknown = String::from_utf8(word.clone()).unwrap().replace("\"relay\"", "\"more\":1,\"relay\"");
        for wrong in [
            vec![],
            vec![0],
            vec![0xff, 0xff],
            [whole(&word)[..40].to_vec()].concat(),
            whole(b"{}"),
            whole(b"not json"),
            whole(unknown.as_bytes()),
        ] {
            assert!(asked(&mut wrong.as_slice()).await.is_err(), "{wrong:?}");
        }
        assert_eq!(asked(&mut whole(&word).as_slice()).await.unwrap(), an_ask());
        assert!(say(&mut Vec::new(), &Answer::Refused("x".repeat(5_000))).await.is_err());
    }
}
