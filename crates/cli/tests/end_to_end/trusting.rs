//! Which servers are talked to.

use crate::double::{Authority, Double, Identity, Reply};
use crate::world::{NEW_PASSWORD, World, me};

#[test]
fn an_unknown_server_is_refused_without_a_terminal_and_hears_nothing() {
    let world = World::new(|_| None);
    let password = world.file("password", NEW_PASSWORD);
    let (url, fingerprint) = (world.server.url(), world.identity.fingerprint());
    world
        .run_with(&["login", &url, "--user", "ann@example.com", "--password-file", &password], "y\n", &[])
        .expect(1)
        .says(&format!("its fingerprint is {fingerprint}"))
        .says(&format!("cairn login {url} --trust {fingerprint}"));
    assert!(world.server.seen().is_empty());
    assert!(!world.home().exists());
}

#[test]
fn another_certificate_than_the_named_one_is_refused() {
    let world = World::new(|_| None);
    let password = world.file("password", NEW_PASSWORD);
    let other = Identity::self_signed().fingerprint();
    world
        .run(&[
            "login",
            &world.server.url(),
            "--user",
            "ann@example.com",
            "--password-file",
            &password,
            "--trust",
            &other,
        ])
        .expect(1)
        .says(&world.identity.fingerprint());
    assert!(world.server.seen().is_empty());
}

#[test]
fn a_changed_certificate_is_refused_loudly_until_it_is_trusted() {
    let mut world = World::signed_in(|_| None);
    let other = Identity::self_signed();
    world.server.present(&other);
    let before = world.server.seen().len();
    world.run(&["whoami"]).expect(1).says("HAS CHANGED").says(&world.identity.fingerprint()).says(&format!(
        "cairn login {} --trust {}",
        world.server.url(),
        other.fingerprint()
    ));
    let password = world.file("password", NEW_PASSWORD);
    world.run(&["login", &world.server.url(), "--password-file", &password]).expect(1).says("HAS CHANGED");
    assert_eq!(world.server.seen().len(), before, "neither the session nor the password was sent");

    world.identity = other;
    world.login().expect(0);
    world.run(&["whoami"]).expect(0);
}

#[test]
fn a_server_that_is_trusted_once_stays_trusted_when_its_certificate_is_renewed() {
    let authority = Authority::new();
    let mut world = World::new(|_| None);
    world.identity = authority.issue("127.0.0.1", 2_100);
    world.server.present(&world.identity);
    assert_eq!(world.identity.fingerprint(), authority.fingerprint());
    let (url, password) = (world.server.url(), world.file("password", NEW_PASSWORD));
    world
        .run(&["login", &url, "--user", "ann@example.com", "--password-file", &password])
        .expect(1)
        .says(&format!("its fingerprint is {}", authority.fingerprint()));
    world.login().expect(0);
    world.server.present(&authority.issue("127.0.0.1", 2_100));
    world.run(&["whoami"]).expect(0);

    // The same authority does not make a wrong certificate a right one.
    let before = world.server.seen().len();
    world.server.present(&authority.issue("cairn.example.com", 2_100));
    world.run(&["whoami"]).expect(1).says("is not valid").says("server.names");
    world.server.present(&authority.issue("127.0.0.1", 2_020));
    world.run(&["whoami"]).expect(1).says("is not valid").says("expired");
    // Nor does another authority that shows the trusted one's certificate beside its own.
    let other = Authority::new().issue("127.0.0.1", 2_100).beside_authority_of(&world.identity);
    world.server.present(&other);
    world.run(&["whoami"]).expect(1).says("is not valid");
    world.server.present(&Authority::new().issue("127.0.0.1", 2_100));
    world.run(&["whoami"]).expect(1).says("HAS CHANGED");
    assert_eq!(world.server.seen().len(), before, "the session was not sent");
}

#[test]
fn the_fingerprint_of_a_whole_certificate_is_one_too() {
    let mut world = World::new(|_| None);
    world.identity = Authority::new().issue("127.0.0.1", 2_100);
    world.server.present(&world.identity);
    let (url, password) = (world.server.url(), world.file("password", NEW_PASSWORD));
    let certificate = world.identity.certificate_fingerprint();
    let login = ["login", &url, "--user", "ann@example.com", "--password-file", &password, "--trust", &certificate];
    world.run(&login).expect(0);
    world.run(&["whoami"]).expect(0);
}

#[test]
fn the_certificate_without_its_key_is_not_enough() {
    let identities = [Identity::self_signed(), Authority::new().issue("127.0.0.1", 2_100)];
    let versions = [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]];
    for (identity, versions) in identities.iter().flat_map(|identity| versions.map(|versions| (identity, versions))) {
        let mut world = World::new(|_| None);
        world.server = Double::start_with(identity, versions, |_| Reply::Json(200, me(false)));
        world.identity = identity.clone();
        let (url, fingerprint) = (world.server.url(), identity.fingerprint());
        let password = world.file("password", NEW_PASSWORD);
        let login = ["login", &url, "--user", "ann@example.com", "--password-file", &password, "--trust", &fingerprint];

        world.server.present(&identity.stolen_certificate());
        world.run(&login).expect(1).says("is not valid");
        assert!(world.server.seen().is_empty(), "{versions:?}");

        // The same server with its own key is talked to: what was refused was the signature.
        world.server.present(identity);
        world.run(&login);
        assert_eq!(world.server.lines(), ["POST /api/v1/sessions"], "{versions:?}");
    }
}

#[test]
fn a_server_whose_certificate_the_system_trusts_needs_no_fingerprint() {
    let (identity, authority) = Identity::issued("127.0.0.1");
    let mut world = World::new(|_| None);
    world.server.present(&identity);
    world.identity = identity;
    let roots = world.file("roots.pem", &authority);
    let environment = [("SSL_CERT_FILE", roots.as_str())];
    let password = world.file("password", NEW_PASSWORD);
    let url = world.server.url();
    let login = ["login", &url, "--user", "ann@example.com", "--password-file", &password];
    world.run_with(&login, "", &environment).expect(0);
    assert!(std::fs::read_to_string(world.home().join("config.json")).unwrap().contains(r#""trust": "system""#));
    world.run_with(&["whoami"], "", &environment).expect(0);

    // What the system trusted once and no longer does is not asked about again, but refused.
    world.server.present(&Identity::self_signed());
    world.run_with(&["whoami"], "", &environment).expect(1).says("is not valid");
    world.run_with(&login, "", &environment).expect(1).says("is not valid");

    let (other_name, other_authority) = Identity::issued("cairn.example.com");
    world.server.present(&other_name);
    let roots = world.file("roots.pem", &other_authority);
    world.run_with(&["whoami"], "", &[("SSL_CERT_FILE", roots.as_str())]).expect(1).says("is not valid");
}
