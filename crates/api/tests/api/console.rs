//! The console's pages and files.

use axum::body::Body;
use axum::http::{Request, Response};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use crate::world::each_engine;

const FILES: [api::Asset; 2] = [
    api::Asset { name: "index.html", bytes: b"<!doctype html><title>Cairn</title>", brotli: b"packed" },
    api::Asset { name: "assets/index-C0ffee.js", bytes: b"let cairn = 'a stone on another stone'", brotli: b"br" },
];

async fn get(router: &axum::Router, path: &str, headers: &[(&str, &str)]) -> (Response<()>, Vec<u8>) {
    let request = headers.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
    let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    (Response::from_parts(parts, ()), body.collect().await.unwrap().to_bytes().to_vec())
}

fn header<'a>(response: &'a Response<()>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[test]
fn every_page_is_the_same_document_and_files_are_kept_for_ever() {
    each_engine(|world| async move {
        let router = world.server(|settings| settings.console = api::Console::new(FILES));
        let document = FILES[0].bytes.to_vec();
        for page in ["/", "/login", "/device", "/account", "/t/acme", "/t/acme/findings", "/t/acme/nodes/aws%3Ax%2Fy"] {
            let (answer, body) = get(&router, page, &[]).await;
            assert_eq!((answer.status().as_u16(), &body), (200, &document), "{page}");
            assert_eq!(header(&answer, "content-type"), "text/html; charset=utf-8");
            assert_eq!(header(&answer, "cache-control"), "no-cache");
            assert!(header(&answer, "content-security-policy").contains("default-src 'self'"));
            assert!(!header(&answer, "content-security-policy").contains("unsafe"));
            assert!(!header(&answer, "x-request-id").is_empty());
        }
        let (answer, _) = get(&router, "/", &[]).await;
        let tag = header(&answer, "etag").to_owned();
        for known in [tag.clone(), format!("\"other\", {tag}"), format!("W/{tag}")] {
            let (answer, body) = get(&router, "/t/acme", &[("if-none-match", &known)]).await;
            assert_eq!((answer.status().as_u16(), body.len()), (304, 0), "{known}");
        }
        let (answer, body) = get(&router, "/assets/index-C0ffee.js", &[("accept-encoding", "gzip, br")]).await;
        assert_eq!((answer.status().as_u16(), body.as_slice()), (200, &b"br"[..]));
        assert_eq!(header(&answer, "content-encoding"), "br");
        assert_eq!(header(&answer, "vary"), "accept-encoding");
        assert_eq!(header(&answer, "content-type"), "text/javascript; charset=utf-8");
        assert_eq!(header(&answer, "cache-control"), "public, max-age=31536000, immutable");
        let (answer, body) = get(&router, "/assets/index-C0ffee.js", &[]).await;
        assert_eq!((header(&answer, "content-encoding"), body.as_slice()), ("", FILES[1].bytes));
        for nothing in ["/assets/other.js", "/assets/..%2Findex.html", "/index.html", "/no-page", "/api/v1/no-path"] {
            let (answer, body) = get(&router, nothing, &[("accept", "text/html")]).await;
            assert_eq!(answer.status().as_u16(), 404, "{nothing}");
            assert!(String::from_utf8(body).unwrap().contains("there is no such path"), "{nothing}");
        }
    });
}

#[test]
fn a_server_without_the_console_says_how_to_build_it() {
    each_engine(|world| async move {
        let router = world.server(|_| {});
        for page in ["/", "/login", "/t/acme/findings"] {
            let (answer, body) = get(&router, page, &[]).await;
            assert_eq!(answer.status().as_u16(), 404);
            assert!(String::from_utf8(body).unwrap().contains("cargo xtask console"));
        }
        let (answer, body) = get(&router, "/device", &[]).await;
        assert_eq!(answer.status().as_u16(), 200, "the command line's sign-in works without it");
        assert!(String::from_utf8(body).unwrap().contains("<form"));
    });
}
