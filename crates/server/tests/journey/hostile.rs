//! Targets that answer with everything but what was asked: the running server says so for each, stays small, and reads the others.

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::logs;

use crate::world::{Engine, Server, World};

const GIGABYTE: usize = 1 << 30;
/// Far below one such reply, and above what the limit of 64 MiB for each of a few at once needs.
const PEAK_KB_MAX: u64 = 700 * 1_024;

/// How a service of the double answers, by its name in the signature.
type Answers = Arc<dyn Fn(&str, &str) -> Answer + Send + Sync>;

#[derive(Clone, Copy)]
enum Answer {
    Default,
    Text(u16, &'static str),
    /// A gigabyte until the connection ends.
    Endless,
    /// A gigabyte, as its length says.
    Long,
    /// A gigabyte in chunks.
    Chunked,
    /// A length of a gigabyte and a few bytes.
    FalseLength,
    /// A gigabyte of blanks, compressed.
    Bomb,
    /// A byte now and then, for ever.
    Drip,
    /// Nothing.
    Hang,
}

/// An AWS on this machine, for as long as the test runs.
fn double(answers: Answers) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), answers) = (stream, Arc::clone(&answers)) else { return };
            // What the other side ends early is no failure of the test.
            std::thread::spawn(move || drop(serve(stream, &answers)));
        }
    });
    url
}

fn pour(
    stream: &mut TcpStream,
    before: &str,
    around: impl Fn(&mut TcpStream, &[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    stream.write_all(before.as_bytes())?;
    let piece = vec![b' '; 1 << 20];
    for _ in 0..GIGABYTE >> 20 {
        around(stream, &piece)?;
    }
    Ok(())
}

fn bomb() -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let piece = vec![b' '; 1 << 20];
    (0..GIGABYTE >> 20).for_each(|_| encoder.write_all(&piece).unwrap());
    encoder.finish().unwrap()
}

fn serve(mut stream: TcpStream, answers: &Answers) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut head, mut line) = (Vec::new(), String::new());
        while reader.read_line(&mut line)? > 2 {
            head.push(std::mem::take(&mut line).trim().to_owned());
        }
        if head.is_empty() {
            return Ok(());
        }
        let header = |name: &str| {
            let mut pairs = head.iter().filter_map(|line| line.split_once(": "));
            pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let length = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0usize);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body).into_owned();
        let service = header("authorization").unwrap_or_default().split('/').nth(3).unwrap_or_default().to_owned();
        let target = header("x-amz-target");
        let action = body.split('&').find_map(|pair| pair.strip_prefix("Action=")).map(str::to_owned);
        let operation = target
            .as_deref()
            .and_then(|target| target.rsplit('.').next().map(str::to_owned))
            .or(action)
            .unwrap_or_default();
        let (status, text) = match answers(&service, &operation) {
            Answer::Default => (200, empty(&operation, target.is_some()).to_owned()),
            Answer::Text(status, text) => (status, text.to_owned()),
            Answer::Endless => {
                return pour(&mut stream, "HTTP/1.1 200 X\r\nConnection: close\r\n\r\n", TcpStream::write_all);
            }
            Answer::Long => {
                let head = format!("HTTP/1.1 200 X\r\nContent-Length: {GIGABYTE}\r\n\r\n");
                return pour(&mut stream, &head, TcpStream::write_all);
            }
            Answer::Chunked => {
                return pour(&mut stream, "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n", |out, piece| {
                    write!(out, "{:x}\r\n", piece.len())?;
                    out.write_all(piece)?;
                    out.write_all(b"\r\n")
                });
            }
            Answer::FalseLength => {
                return write!(stream, "HTTP/1.1 200 X\r\nContent-Length: {GIGABYTE}\r\nConnection: close\r\n\r\n{{}}");
            }
            Answer::Bomb => {
                let bytes = bomb();
                write!(stream, "HTTP/1.1 200 X\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", bytes.len())?;
                return stream.write_all(&bytes);
            }
            Answer::Drip => {
                stream.write_all(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                loop {
                    stream.write_all(b"1\r\n \r\n")?;
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            Answer::Hang => {
                // Until the other side gives up.
                let _ = reader.read(&mut [0]);
                return Ok(());
            }
        };
        write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{text}", text.len())?;
    }
}

/// What an account without anything says.
fn empty(operation: &str, json: bool) -> &'static str {
    match operation {
        "GetCallerIdentity" => {
            "<R><GetCallerIdentityResult><Account>111122223333</Account></GetCallerIdentityResult></R>"
        }
        "DescribeRegions" => {
            "<R><regionInfo><item><regionName>us-east-1</regionName></item><item><regionName>eu-west-1</regionName></item></regionInfo></R>"
        }
        "" => "{}",
        _ if json => "{}",
        _ => "<R/>",
    }
}

fn world(call_timeout_s: &str) -> (World, Server) {
    let world = World::new(Engine::Sqlite)
        .with("CAIRN_DISCOVERY_OWN_HOST", "false")
        .with("CAIRN_DISCOVERY_LOOPBACK_TARGETS", "true")
        .with("CAIRN_DISCOVERY_CALL_TIMEOUT_S", call_timeout_s);
    let server = world.start();
    world.first_login(&server);
    let secret = logs::plant("hostile-aws-secret");
    let secret = json!({"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": secret}).to_string();
    world
        .cairn_with(
            ["creds", "add", "--plugin", "aws", "--name", "prod", "--type", "aws-keys", "--secret-stdin"],
            &secret,
        )
        .ok();
    (world, server)
}

/// Runs a job against a double to its end; the job with its coverage.
fn run(world: &World, services: &str, answers: Answers) -> Value {
    let (endpoint, services) = (format!("endpoint_url={}", double(answers)), format!("services={services}"));
    let job = ["jobs", "run", "--plugin", "aws", "--credential", "prod", "--set", "regions=eu-west-1"];
    world.cairn(job.into_iter().chain(["--set", &endpoint, "--set", &services])).ok();
    let job = world.job_ended();
    world.cairn(["jobs", "show", job["id"].as_str().unwrap(), "-o", "json"]).ok().json()
}

fn scope<'j>(job: &'j Value, name: &str) -> (&'j str, &'j str) {
    let wanted = format!("aws:111122223333:eu-west-1:{name}");
    let rows = job["coverage"].as_array().unwrap();
    let row = rows.iter().find(|row| row["scope"] == wanted.as_str()).unwrap_or_else(|| panic!("no {wanted}: {job}"));
    (row["coverage"].as_str().unwrap(), row["reason"].as_str().unwrap_or_default())
}

#[test]
fn attack_71_a_gigabyte_in_every_form_stays_out_of_memory_and_harms_no_other_scope() {
    // Time for 64 MiB on a machine that does much else.
    let (world, server) = world("10");
    let answers = |service: &str, _: &str| match service {
        "dynamodb" => Answer::Endless,
        "secretsmanager" => Answer::Long,
        "kms" => Answer::Chunked,
        "kinesis" => Answer::FalseLength,
        "ecr" => Answer::Bomb,
        _ => Answer::Default,
    };
    let before = server.peak_kb();
    let job = run(&world, "dynamodb,secretsmanager,kms,kinesis,ecr,lambda,sqs", Arc::new(answers));
    let peak = server.peak_kb();
    assert_eq!(job["status"], "partial", "{job}");
    for name in ["dynamodb.tables", "secretsmanager.secrets", "kms.keys"] {
        let (coverage, reason) = scope(&job, name);
        assert!(
            coverage != "complete" && reason.contains("larger than 67108864 bytes"),
            "{name}: {coverage}, {reason}"
        );
    }
    for name in ["kinesis.streams", "ecr.repositories"] {
        let (coverage, reason) = scope(&job, name);
        assert!(coverage != "complete" && coverage != "absent" && !reason.is_empty(), "{name}: {coverage}, {reason}");
    }
    for name in ["lambda.functions", "sqs.queues"] {
        assert_eq!(scope(&job, name).0, "complete", "{name}");
    }
    assert!(peak < PEAK_KB_MAX, "{peak} kB at its peak, {before} kB before");
    server.stop();
}

#[test]
fn targets_that_hang_lie_or_refuse_are_told_one_by_one() {
    let (world, server) = world("2");
    let answers = |service: &str, _: &str| match service {
        "acm" => Answer::Hang,
        "kinesis" => Answer::Drip,
        "secretsmanager" => Answer::Text(200, "{\"SecretList\":[,"),
        "sns" => Answer::Text(200, "<ListTopicsResponse><ListTopicsResult><Topics><member>"),
        "kms" => Answer::Text(400, r#"{"__type":"ExpiredTokenException","message":"The security token is expired"}"#),
        "ssm" => Answer::Text(403, r#"{"__type":"AccessDeniedException","message":"no"}"#),
        _ => Answer::Default,
    };
    let job = run(&world, "acm,kinesis,secretsmanager,sns,kms,ssm,lambda", Arc::new(answers));
    assert_eq!(job["status"], "partial", "{job}");
    for (name, expected) in [
        ("acm.certificates", "no answer within"),
        ("kinesis.streams", "no answer within"),
        ("secretsmanager.secrets", "malformed reply"),
        ("sns.topics", "malformed reply"),
        ("kms.keys", "store fresh keys"),
        ("ssm.parameters", "denied"),
    ] {
        let (coverage, reason) = scope(&job, name);
        assert!(coverage != "complete" && reason.contains(expected), "{name}: {coverage}, {reason}");
    }
    assert_eq!(scope(&job, "lambda.functions").0, "complete");
    server.stop();
}

#[test]
fn a_job_that_cannot_begin_says_why_in_words_that_help() {
    let (world, server) = world("2");
    let expired = "<ErrorResponse><Error><Code>ExpiredToken</Code><Message>The security token is expired</Message></Error></ErrorResponse>";
    type Case = (&'static str, Answer, &'static str);
    let cases: [Case; 5] = [
        ("expired keys", Answer::Text(403, expired), "store fresh keys"),
        ("no XML", Answer::Text(200, "<html><p>sign in to the hotel's network"), "AWS could not be asked"),
        ("no account", Answer::Text(200, "<R><GetCallerIdentityResult/></R>"), "named no account"),
        ("a gigabyte", Answer::Endless, "larger than 67108864 bytes"),
        ("a hang", Answer::Hang, "no answer within"),
    ];
    for (what, answer, expected) in cases {
        let answers = move |service: &str, _: &str| if service == "sts" { answer } else { Answer::Default };
        let job = run(&world, "lambda", Arc::new(answers));
        assert_eq!(job["status"], "failed", "{what}: {job}");
        assert!(job["error"].as_str().unwrap_or_default().contains(expected), "{what}: {job}");
    }
    // A region that the account does not have, and one that is no region at all.
    let endpoint = format!("endpoint_url={}", double(Arc::new(|_: &str, _: &str| Answer::Default)));
    for (region, expected) in
        [("us-moon-1", "is not enabled in account 111122223333: use some of"), ("moon", "is not a region")]
    {
        let region = format!("regions={region}");
        let ran = world.cairn([
            "jobs",
            "run",
            "--plugin",
            "aws",
            "--credential",
            "prod",
            "--wait",
            "--set",
            &region,
            "--set",
            &endpoint,
        ]);
        assert!(ran.code == 1 && ran.err.contains(expected), "{region}: {}{}", ran.out, ran.err);
    }
    server.stop();
}
