//! Attack 50 at the connector: requests whose framing or address two readers could understand differently, sent through the relay's own proxy.

use std::sync::Arc;
use std::time::Duration;

use testkit::KubeApi;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;
use wire::recording::RecordingMode;

use super::world::{self, Tapes};

const PODS: &str = "/api/v1/namespaces/a/pods";
/// What an attacker hides behind another request.
const HIDDEN: &str =
    "GET /api/v1/namespaces/a/secrets/hidden HTTP/1.1\r\nHost: k\r\nAuthorization: Bearer eve.edit\r\n\r\n";

/// A request that is let in, but for what is wrong with it.
fn request(line: &str, headers: &str, body: &str) -> String {
    format!("{line}\r\nHost: k\r\nAuthorization: Bearer ann.edit\r\n{headers}\r\n{body}")
}

/// Sends bytes through a proxy of its own; what comes back until it closes.
async fn send(api: &KubeApi, folder: &std::path::Path, bytes: &str) -> String {
    let tapes = Tapes::new(RecordingMode::Off, false);
    let (proxy, _) = world::proxy(&api.address(), &api.authority, folder, &tapes);
    let (mut client, server) = tokio::io::duplex(64 * 1_024);
    let stop = CancellationToken::new();
    let serving = tokio::spawn(Arc::clone(&proxy).serve(server, None, stop.clone()));
    client.write_all(bytes.as_bytes()).await.unwrap();
    let mut came = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), client.read_to_end(&mut came)).await;
    read.expect("it is closed").unwrap();
    stop.cancel();
    serving.await.unwrap();
    String::from_utf8_lossy(&came).into_owned()
}

fn check(work: impl AsyncFn(&KubeApi, &std::path::Path)) {
    let (api, folder) = (KubeApi::start("the-service-account"), tempfile::tempdir().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work(&api, folder.path()));
}

#[test]
fn attack_50_what_two_readers_could_frame_differently_goes_no_further_than_the_proxy() {
    check(async |api, folder| {
        let post = format!("POST {PODS} HTTP/1.1");
        let get = format!("GET {PODS} HTTP/1.1");
        for bytes in [
            request(&post, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{HIDDEN}")),
            request(&post, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", &format!("0\r\n\r\n{HIDDEN}")),
            request(&post, "Content-Length: 0\r\nContent-Length: 120\r\n", HIDDEN),
            request(&post, "Content-Length: 0, 0\r\n", HIDDEN),
            request(&post, "Transfer-Encoding: gzip, chunked\r\n", &format!("0\r\n\r\n{HIDDEN}")),
            request(&post, "Transfer-Encoding : chunked\r\n", &format!("0\r\n\r\n{HIDDEN}")),
            request(&get, "X-A: b\r\n Transfer-Encoding: chunked\r\n", HIDDEN),
            request(&get, "X-A: b\rX-B: c\r\n", HIDDEN),
            request(&get, "X-A: b\0\r\n", HIDDEN),
            request(&get, "X-A: b\nX-B: c\r\n", HIDDEN),
            request(&get, "Host: other\r\n", HIDDEN),
            request(&format!("GET  {PODS} HTTP/1.1"), "", HIDDEN),
            request("CONNECT kubernetes:443 HTTP/1.1", "", HIDDEN),
            format!("GET {PODS} HTTP/1.1\nHost: k\nAuthorization: Bearer ann.edit\n\n{HIDDEN}"),
        ] {
            let answer = send(api, folder, &bytes).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{bytes:?}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "nothing is read after it: {bytes:?}: {answer}");
            assert!(api.seen().is_empty(), "{bytes:?}: {:?}", api.seen());
        }
    });
}

#[test]
fn attack_50_a_body_in_chunks_that_two_readers_could_end_differently_hides_no_request() {
    check(async |api, folder| {
        let post = format!("POST {PODS}/web/echo HTTP/1.1");
        for chunks in [
            "5;a=\n\r\nabcde\r\n0\r\n\r\n",
            "5;a=b\r\nabcde\r\n0\r\n\r\n",
            "0x5\r\nabcde\r\n0\r\n\r\n",
            "5 \r\nabcde\r\n0\r\n\r\n",
            "5\nabcde\n0\n\n",
            "5\r\nabcdeX\r\n0\r\n\r\n",
            "0\r\nX-Trailer: a\r\n\r\n",
            "fffffffffffffffff\r\nabcde\r\n0\r\n\r\n",
        ] {
            let bytes = request(&post, "Transfer-Encoding: chunked\r\n", &format!("{chunks}{HIDDEN}"));
            let answer = send(api, folder, &bytes).await;
            assert!(!answer.starts_with("HTTP/1.1 2"), "{chunks:?}: {answer}");
            let seen = api.seen();
            assert!(seen.iter().all(|seen| !seen.target.contains("hidden")), "{chunks:?}: {seen:?}");
            assert!(seen.iter().all(|seen| seen.status == 0 || seen.status >= 400), "{chunks:?}: {seen:?}");
        }
        // What is well-formed goes on, whole.
        let bytes = request(&post, "Transfer-Encoding: chunked\r\nConnection: close\r\n", "5\r\nabcde\r\n0\r\n\r\n");
        let answer = send(api, folder, &bytes).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"bytes\":5"), "{answer}");
    });
}

#[test]
fn attack_50_an_address_is_read_in_one_way_or_not_at_all() {
    check(async |api, folder| {
        for target in [
            "//api/v1/namespaces/a/pods",
            "/api//v1/namespaces/a/pods",
            "/api/v1/namespaces/a/pods/../secrets",
            "/api/v1/namespaces/a/pods/%2e%2e/secrets",
            "/api/v1/namespaces/a/%2E%2e/b/pods",
            "/api/v1/namespaces/a%2fpods",
            "/api/v1/namespaces/a%2Fpods",
            "/api/v1/namespaces/a%252fpods",
            "/api/v1/namespaces/a%5cpods",
            "/api/v1/namespaces/a/%2e/pods",
            "/api/v1/namespaces/a/pods/.",
            "/api/v1/namespaces/a/pods/..",
            "/./api/v1/namespaces/a/pods",
            "/api/v1/namespaces/a//pods",
            "/api/v1/namespaces/a/pods//log",
            "/api/v1/namespaces/a/./pods",
            "/api/v1/namespaces/a/pods#x",
            "/api/v1/namespaces/a\\pods",
            "/api/v1/namespaces/a/pods?watch=%ff",
            "/api/v1/namespaces/a/pods/web/exec?command=sh&command=-c&command=id%20%23%ff&stdout=true",
            "/api/v1/nodes/n1/proxy/run/a/web/app?cmd=id%ff",
        ] {
            let bytes = request(&format!("GET {target} HTTP/1.1"), "Connection: close\r\n", "");
            let answer = send(api, folder, &bytes).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
            if target.contains('?') {
                assert!(answer.contains("\"kind\":\"Status\"") && answer.contains("not UTF-8"), "{target}: {answer}");
            }
            assert!(api.seen().is_empty(), "{target}: {:?}", api.seen());
        }
        // An absolute address leads nowhere else: it goes on as a path, to the cluster.
        let bytes = request(&format!("GET http://evil.example{PODS} HTTP/1.1"), "Connection: close\r\n", "");
        let answer = send(api, folder, &bytes).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let seen = api.seen();
        assert_eq!((seen.len(), seen[0].target.as_str()), (1, PODS));
        assert_eq!(seen[0].header("host"), [api.address()]);
    });
}
