//! Signing in on the real server with the real command line: through a page, with a key, and out again.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use crate::world::{Engine, World};

/// A browser's two requests, as far as the page needs them: prints the status, then the body.
const BROWSER: &str = "
import json, ssl, sys, urllib.error, urllib.parse, urllib.request
url, form = sys.argv[1], json.load(sys.stdin)
data = urllib.parse.urlencode(form).encode() if form else None
request = urllib.request.Request(url, data, {'Sec-Fetch-Site': 'same-origin'} if form else {})
try:
    answer = urllib.request.urlopen(request, context=ssl._create_unverified_context())
except urllib.error.HTTPError as error:
    answer = error
print(answer.status)
print(answer.read().decode())
";

/// What a browser gets of a page of the server: the status and the body.
fn page(url: &str, form: &[(&str, &str)]) -> (String, String) {
    let form: serde_json::Map<_, _> = form.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    let mut browser = Command::new("python3")
        .args(["-B", "-c", BROWSER, url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    browser.stdin.take().unwrap().write_all(serde_json::Value::Object(form).to_string().as_bytes()).unwrap();
    let output = browser.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (status, body) = text.split_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

fn hidden<'a>(page: &'a str, name: &str) -> &'a str {
    let begin = format!("name=\"{name}\" value=\"");
    page.split_once(&begin).unwrap_or_else(|| panic!("no {name} in {page}")).1.split('"').next().unwrap()
}

fn signing_in_and_out(engine: Engine) {
    let world = World::new(engine).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    let config = || std::fs::read_to_string(world.path("home").join("config.json")).unwrap();
    assert!(config().contains("\"token\": \"cs_"));
    assert_eq!(world.cairn(["whoami", "-o", "json"]).ok().json()["email"], "admin@localhost");

    // Through the browser: the command line waits, somebody approves on the page.
    let mut waiting = world.cairn_command(["login", &server.url, "--device"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let url =
        lines.find_map(|line| line.unwrap().split(' ').find(|word| word.starts_with("https://")).map(str::to_owned));
    let (url, code) = (url.unwrap(), lines.next().unwrap().unwrap().trim().to_owned());
    assert_eq!(page(&url, &[]).0, "200");
    let fields = [("user_code", code.as_str()), ("email", "admin@localhost"), ("password", world.password.as_str())];
    let (status, confirm) = page(&url, &fields);
    assert!(status == "200" && confirm.contains("cairn 0.") && confirm.contains("127.0.0.1"), "{status} {confirm}");
    let answer =
        [("session", hidden(&confirm, "session")), ("login", hidden(&confirm, "login")), ("decision", "approve")];
    assert_eq!(page(&url, &answer).0, "200");
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(waiting.wait().unwrap().success(), "{rest:?}");
    assert_eq!(world.cairn(["whoami", "-o", "json"]).ok().json()["kind"], "user");

    // A machine's key, rotated and revoked.
    let made = world.cairn_secretly(["keys", "create", "ci", "--role", "read-only", "-o", "json"], "secret");
    let key = world.private("key", made["secret"].as_str().unwrap());
    let session = config();
    world.cairn(["login", &server.url, "--api-key-file", key.to_str().unwrap()]).ok();
    assert_eq!(world.cairn(["whoami", "-o", "json"]).ok().json()["name"], "ci");
    world.cairn(["nodes", "list"]).ok();
    assert!(world.cairn(["keys", "list"]).err.contains("API key cannot"));
    world.cairn(["logout"]).ok();
    std::fs::write(world.path("home").join("config.json"), session).unwrap();
    let listed = world.cairn(["keys", "list", "-o", "json"]).ok().json();
    assert_eq!((listed[0]["state"].as_str(), listed[0]["last_used_ip"].as_str()), (Some("active"), Some("127.0.0.1")));
    world.cairn(["keys", "revoke", "ci"]).ok();
    let refused = world.cairn(["login", &server.url, "--api-key-file", key.to_str().unwrap()]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(world.cairn(["roles", "list"]).ok().out.contains("users:manage"));
    world.cairn(["members", "add", "ann@example.com", "--role", "auditor"]).ok();
    assert!(world.cairn(["members", "invitations"]).ok().out.contains("ann@example.com"));
    roles_are_given_once(&world);

    world.cairn(["logout"]).ok();
    assert!(!config().contains("cs_"));
    assert_eq!(world.cairn(["whoami"]).code, 1);
    server.stop();
}

/// Saying what is so already is no error; another role is given with `--replace` only.
fn roles_are_given_once(world: &World) {
    let secret = world.private("client-secret", &testkit::logs::plant("roles-client"));
    let words = ["providers", "create", "corp", "--issuer", "https://127.0.0.1:1/", "--client-id", "cairn"];
    world.cairn(words.iter().chain(&["--title", "Corp", "--client-secret-file", secret.to_str().unwrap()])).ok();
    let add = ["members", "add", "Ann@example.com", "--role"];
    let set = ["groups", "roles", "set", "staff", "--provider", "corp", "--role"];
    for (words, email) in [(&add[..], "ann@example.com"), (&set[..], "")] {
        let give = |more: &[&str]| world.cairn(words.iter().chain(more).chain(&["-o", "json"]));
        let made = give(&["auditor"]).ok().json();
        let again = give(&["auditor"]).ok();
        assert!(again.err.contains("already"), "{}", again.err);
        assert_eq!(again.json(), made);
        assert_eq!(made["email"].as_str().unwrap_or_default(), email);
        let other = give(&["read-only"]);
        assert_eq!((other.code, other.out.as_str()), (1, ""), "{}", other.err);
        assert!(other.err.contains("already") && other.err.contains("`auditor`"), "{}", other.err);
        assert!(other.err.contains("--replace"), "{}", other.err);
        assert_eq!(give(&["read-only", "--replace"]).ok().json()["role"], "read-only");
        assert!(give(&["read-only"]).ok().err.contains("already"));
    }
    // A member too; and the last administrator stays one.
    let email = world.cairn(["whoami", "-o", "json"]).ok().json()["email"].as_str().unwrap().to_owned();
    let role = |role: &str, more: &[&str]| {
        let words = ["members", "add", email.as_str(), "--role", role, "-o", "json"];
        world.cairn(words.iter().chain(more))
    };
    let own = world.cairn(["members", "show", &email, "-o", "json"]).ok().json();
    let held = own["role"].as_str().unwrap();
    let same = role(held, &[]).ok().json();
    assert_eq!((same["state"].as_str(), &same["user"]), (Some("member"), &own["user"]));
    assert!(role("read-only", &[]).err.contains("--replace"));
    assert!(role("read-only", &["--replace"]).err.contains("last administrator"));
    assert_eq!(world.cairn(["members", "show", own["user"].as_str().unwrap(), "-o", "json"]).ok().json(), own);
}

#[test]
fn signing_in_and_out_on_sqlite() {
    signing_in_and_out(Engine::Sqlite);
}

#[test]
fn signing_in_and_out_on_postgresql() {
    signing_in_and_out(Engine::postgres());
}
