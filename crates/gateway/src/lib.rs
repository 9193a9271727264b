//! The relay channel: many streams of messages over one WebSocket that may break and be made again; [`kubernetes`], the access proxy that a relay
//! runs in front of a cluster; and [`recording`], which sessions are recorded through.
//!
//! The core is without I/O: [`websocket`] frames bytes (RFC 6455), [`session`] numbers, acknowledges, orders, bounds and resumes. The shell
//! around it ([`channel`]) drives one socket at a time, and [`hub`] holds the relays that hang on a server.
//!
//! **Not for** who a relay is (the request that becomes the channel was authenticated before), what a message means (`wire::relay`, the
//! server's runner and the relay), or TLS.
//!
//! Invariants:
//! - what a peer may make this side hold is bounded by limits that are checked before anything is allocated;
//! - a message is delivered once, whole and in order, or the session is broken and says so: a duplicate is dropped and counted, a gap ends
//!   the link;
//! - one identity has one living connection: a second one is refused while the first answers;
//! - nothing here can open a credential: it passes as ciphertext.

pub mod channel;
pub mod destination_token;
pub mod gate;
pub mod hub;
pub mod kubernetes;
pub mod peer;
pub mod places;
pub mod recording;
pub mod session;
pub mod stall;
mod tasks;
pub mod tunnel;
pub mod websocket;
pub mod word;

pub use channel::{Channel, ChannelEnded, LinkEnd, Message, StreamHandle};
pub use destination_token::{Refusal, Verifier};
pub use hub::{Admitted, Connected, Hub, HubSettings, Refused};
pub use session::{Broken, Incoming, Session, Timing};
pub use tasks::{BrokenOff, Tasks, broke_off};
