//! What goes by on a connection that switched protocols for `exec` or `attach`, read passively: nothing is changed, and nothing is held but the
//! beginning of a frame.
//!
//! Both protocols carry channels: standard input, output and error, the size of the terminal, and how the command ended. What is read otherwise
//! than Kubernetes reads it would be recorded otherwise than it was, so what is not understood is an error, and never passed over.

pub(super) mod spdy;
pub(super) mod websocket;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From the user.
    Up,
    /// To the user.
    Down,
}

/// What a channel carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    /// What the user sends.
    Input,
    /// What the user sees.
    Output,
    /// How the command ended.
    Status,
    /// The size of the terminal.
    Size,
}

/// What went by.
pub(super) type Seen = Vec<(Channel, Vec<u8>)>;

/// Why a stream cannot be recorded.
pub(super) type Unreadable = &'static str;

/// Where a direction stands between two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A frame may begin.
    Between,
    /// So many bytes of a frame's payload are still to come. `begins`: the first of them says which channel it is of.
    Within { left: u64, begins: bool },
    /// In something that nobody else can end.
    Elsewhere,
}

/// Most bytes that are filled in to end a frame.
const FILL_BYTES_MAX: u64 = 64 * 1_024;

impl Place {
    /// What ends the frame at hand and shows nothing, if anything does.
    pub(super) fn filling(self) -> Option<Vec<u8>> {
        match self {
            Self::Between => Some(Vec::new()),
            Self::Within { left, begins } if left <= FILL_BYTES_MAX => {
                let mut filling = vec![0; usize::try_from(left).ok()?];
                if begins {
                    *filling.first_mut()? = OUTPUT;
                }
                Some(filling)
            }
            Self::Within { .. } | Self::Elsewhere => None,
        }
    }
}

/// The channel of standard output.
const OUTPUT: u8 = 1;

/// Reads one direction.
pub(super) trait Reader: Send {
    /// Takes in the next bytes, and adds what they show.
    fn push(&mut self, bytes: &[u8], seen: &mut Seen) -> Result<(), Unreadable>;
    /// Where it stands after what it took in.
    fn place(&self) -> Place;
    /// Frames that tell the user why a session ends, between two others; none where there is nowhere to tell it.
    fn last_words(&self, why: &str) -> Option<Vec<u8>>;
}

/// How a session that was closed is told on the channel that says how a command ended: from the fourth version of the protocol on as the status of an
/// API server, before as text.
fn told(protocol: &str, why: &str) -> Vec<u8> {
    if matches!(protocol, "v4.channel.k8s.io" | "v5.channel.k8s.io") {
        let status = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Forbidden", "code": 403, "message": why,
        });
        status.to_string().into_bytes()
    } else {
        why.as_bytes().to_vec()
    }
}

/// Takes as many bytes as a buffer lacks of a length; whether it has them all.
fn fill(buffer: &mut Vec<u8>, length: usize, bytes: &mut &[u8]) -> bool {
    let (now, rest) = bytes.split_at(length.saturating_sub(buffer.len()).min(bytes.len()));
    buffer.extend_from_slice(now);
    *bytes = rest;
    buffer.len() >= length
}
