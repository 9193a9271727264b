//! The web console's pages and files, as the binary brings them.
//!
//! **Not for** data: the console is a client of the public API like any other, and whoever loads it needs no session.
//!
//! Invariants:
//! - every page is the same document, without a line of script or style inside: the content security policy of all answers holds;
//! - what is kept by browsers for ever has its content's hash in its name; the document itself is asked for each time;
//! - what is no page of the console is answered as every other path that does not exist.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use crate::problem;
use crate::state::ApiState;

/// Where the console has pages. All of them are one document, which looks at the address.
const PAGES: [&str; 7] =
    ["/", "/login", "/account", "/account/{*rest}", "/platform/{*rest}", "/t/{tenant}", "/t/{tenant}/{*rest}"];
const DOCUMENT: &str = "index.html";

/// A file of the console.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// Its path below the root: `index.html`, `assets/index-C0ffee.js`.
    pub name: &'static str,
    /// As it is.
    pub bytes: &'static [u8],
    /// Compressed with Brotli.
    pub brotli: &'static [u8],
}

/// The files of the console; none where it was not built into the server.
#[derive(Debug, Clone, Default)]
pub struct Console(Arc<Vec<(Asset, HeaderValue)>>);

impl Console {
    /// Of these files.
    pub fn new(files: impl IntoIterator<Item = Asset>) -> Self {
        let tagged = files.into_iter().filter_map(|file| {
            let tag = format!("\"{}\"", crypto::sha256(file.bytes).to_hex());
            Some((file, HeaderValue::from_str(&tag).ok()?))
        });
        Self(Arc::new(tagged.collect()))
    }

    fn find(&self, name: &str) -> Option<&(Asset, HeaderValue)> {
        self.0.iter().find(|(file, _)| file.name == name)
    }

    /// The document of every page, if the console is there.
    pub(crate) fn document(&self, headers: &HeaderMap) -> Option<Response> {
        let (file, tag) = self.find(DOCUMENT)?;
        // Names change with their content, so the document must be the newest.
        Some(send(file, tag, headers, "no-cache"))
    }
}

/// What browsers are told a file is. `nosniff` is on, so it has to be right.
fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

/// Whether the client takes Brotli: the coding is named, and not with the weight 0.
fn takes_brotli(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().trim_start_matches("q=");
        name.trim().eq_ignore_ascii_case("br")
            && weight.parse().is_ok_and(|weight: f32| weight > 0.0) | weight.is_empty()
    })
}

fn send(file: &Asset, tag: &HeaderValue, asked: &HeaderMap, keep: &'static str) -> Response {
    let known = asked.get_all(header::IF_NONE_MATCH).iter().any(|known| {
        known.to_str().is_ok_and(|known| known.split(',').any(|known| known.trim().trim_start_matches("W/") == *tag))
    });
    let mut headers = HeaderMap::new();
    headers.insert(header::ETAG, tag.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind(file.name)));
    // What was packed already gains nothing.
    let bytes = if file.brotli.len() < file.bytes.len() && takes_brotli(asked) {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
        file.brotli
    } else {
        file.bytes
    };
    (headers, bytes).into_response()
}

/// The pages and files, which are no part of the API.
pub(crate) fn pages(router: Router<ApiState>) -> Router<ApiState> {
    let router = PAGES.iter().fold(router, |router, page| router.route(page, get(page_show)));
    router.route("/assets/{name}", get(asset_show))
}

async fn page_show(State(state): State<ApiState>, headers: HeaderMap) -> Response {
    state.settings.console.document(&headers).unwrap_or_else(|| {
        let text = "This server was built without its web console.\n\n\
            Build it with `cargo xtask console`, which needs Node 18 or newer and npm (on Debian: `apt-get install nodejs npm`), \
            and then the server again with `cargo build -p server`. `cargo xtask up` does both.\n\
            The API and the command line work without it: `cairn login`.\n";
        let kind = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
        (StatusCode::NOT_FOUND, [kind], text).into_response()
    })
}

async fn asset_show(State(state): State<ApiState>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    match state.settings.console.find(&format!("assets/{name}")) {
        Some((file, tag)) => send(file, tag, &headers, "public, max-age=31536000, immutable"),
        None => problem::no_route().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brotli_is_sent_to_who_asks_for_it_only() {
        let takes = |value: &'static str| {
            takes_brotli(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        for yes in ["br", "gzip, deflate, br, zstd", "gzip;q=1.0, BR;q=0.5"] {
            assert!(takes(yes), "{yes}");
        }
        for no in ["", "gzip", "br;q=0", "br;q=0.0", "brotli", "*", "br;q=x"] {
            assert!(!takes(no), "{no}");
        }
        assert!(!takes_brotli(&HeaderMap::new()));
    }
}
