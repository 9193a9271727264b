//! The log of the whole suite, and the secrets that must never be in it.
//!
//! Tests give each log line and response that they see to [`tee`] (tracing's lines come by [`capture`]), and use values of
//! [`plant`] wherever a secret is called for. Both end up in `target/suite-log/`: `*.log` and `planted.txt`. A leak fails the
//! test that saw it ([`watch`]); the last step of `cargo xtask test` searches all files for all values once more.
//!
//! A line of `planted.txt` is one needle: the secret's name, the form, the bytes in hex, separated by tabs.

mod forms;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::thread::JoinHandle;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::suite;
use forms::{Needle, needles};

/// The shortest value that may be planted, in bytes: shorter ones occur by chance.
pub const SECRET_BYTES_MIN: usize = 12;

/// A planted value was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// The name that it was planted by.
    pub name: String,
    /// In which form: `plain`, `base64`, `hex`...
    pub form: &'static str,
    /// Which log it was written to; empty for [`scan`].
    pub log: String,
    /// From 1, in the text that was searched.
    pub line: usize,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: the planted secret `{}` ({})", self.log, self.line, self.name, self.form)
    }
}

/// Plants a fresh value: use it as a password, key or token in a test.
pub fn plant(name: &str) -> String {
    SuiteLog::shared().plant(name)
}

/// Plants a value that has to have a certain shape, such as a private key.
///
/// # Panics
/// When it is shorter than [`SECRET_BYTES_MIN`].
pub fn plant_as(name: &str, value: &str) {
    SuiteLog::shared().plant_as(name, value);
}

/// Appends to the suite's log `name`: a response, a process's output, whatever must not hold a secret.
pub fn tee(name: &str, text: impl AsRef<[u8]>) {
    SuiteLog::shared().tee(name, text.as_ref());
}

/// Appends all that comes from a process's pipe, line by line; the thread returns the text.
pub fn tee_pipe(name: &str, pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    let name = name.to_owned();
    std::thread::spawn(move || {
        let (mut all, mut line, mut pipe) = (Vec::new(), Vec::new(), BufReader::new(pipe));
        while pipe.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            tee(&name, &line);
            all.append(&mut line);
        }
        String::from_utf8_lossy(&all).into_owned()
    })
}

/// Where this process planted values occur in a text, in any of their forms.
pub fn scan(text: impl AsRef<[u8]>) -> Vec<Leak> {
    SuiteLog::shared().scan("", text.as_ref())
}

/// Sends every tracing line of this process to the suite's log, as JSON: ours from `TRACE`, others' from `DEBUG`. Safe to call often.
pub fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        const OURS: [&str; 13] = [
            "domain",
            "crypto",
            "access",
            "wire",
            "evidence",
            "inventory",
            "compliance",
            "transport",
            "plugins",
            "store",
            "api",
            "server",
            "cairn",
        ];
        let levels = tracing_subscriber::filter::Targets::new()
            .with_default(LevelFilter::DEBUG)
            .with_targets(OURS.map(|name| (name, LevelFilter::TRACE)));
        let lines = tracing_subscriber::fmt::layer().json().with_writer(|| Tee("tracing")).with_filter(levels);
        // Fails only where a test set its own subscriber: that one was its wish.
        let _ = tracing_subscriber::registry().with(lines).try_init();
    });
}

/// Checks, when dropped, that nothing which this process teed since held a planted value.
#[must_use = "the check is made when it is dropped"]
pub fn watch() -> Watch<'static> {
    SuiteLog::shared().watch()
}

/// See [`watch`].
#[derive(Debug)]
pub struct Watch<'a> {
    log: &'a SuiteLog,
    before: usize,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let leaks: Vec<String> = self.log.state().leaks.iter().skip(self.before).map(Leak::to_string).collect();
        if !leaks.is_empty() {
            let message = format!("secrets in logs or responses:\n{}", leaks.join("\n"));
            // A second panic would abort the process and hide the first.
            if std::thread::panicking() { eprintln!("{message}") } else { panic!("{message}") }
        }
    }
}

struct Tee(&'static str);

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        tee(self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log files of one process in one folder.
#[derive(Debug)]
struct SuiteLog {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<String, File>,
    needles: Needles,
    leaks: Vec<Leak>,
}

/// Bytes by which a needle is looked up: more than what `plant` begins its values with, and no more than the shortest form has.
const BEGIN: usize = SECRET_BYTES_MIN;

/// What is searched for. Logs are long and this is not optimised code: two bytes rule out most places, twelve all but a few.
#[derive(Debug)]
struct Needles {
    pairs: Vec<bool>,
    by_begin: HashMap<[u8; BEGIN], Vec<Needle>>,
}

impl Default for Needles {
    fn default() -> Self {
        Self { pairs: vec![false; 1 << 16], by_begin: HashMap::new() }
    }
}

impl Needles {
    fn insert(&mut self, needle: Needle) {
        let begin = *needle.bytes.first_chunk().expect("no form is shorter than what it is looked up by");
        self.pairs[usize::from(u16::from_be_bytes([begin[0], begin[1]]))] = true;
        self.by_begin.entry(begin).or_default().push(needle);
    }

    /// Those that a text begins with.
    fn at<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = &'a Needle> {
        let begin = match text {
            [first, second, ..] if self.pairs[usize::from(u16::from_be_bytes([*first, *second]))] => text.first_chunk(),
            _ => None,
        };
        let near = begin.and_then(|begin| self.by_begin.get(begin));
        near.into_iter().flatten().filter(|needle| text.starts_with(&needle.bytes))
    }
}

impl SuiteLog {
    fn shared() -> &'static Self {
        static SHARED: OnceLock<SuiteLog> = OnceLock::new();
        SHARED.get_or_init(|| {
            let set = suite::env("CAIRN_SUITE_LOG").map(PathBuf::from);
            Self::at(set.unwrap_or_else(|| suite::target_dir().join("suite-log")))
        })
    }

    fn at(dir: PathBuf) -> Self {
        std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        Self { dir, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked while it held the lock has already failed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plant(&self, name: &str) -> String {
        let value = format!("planted-{}", suite::fresh_hex(16));
        self.plant_as(name, &value);
        value
    }

    fn plant_as(&self, name: &str, value: &str) {
        assert!(value.len() >= SECRET_BYTES_MIN, "the secret `{name}` is shorter than {SECRET_BYTES_MIN} bytes");
        assert!(!name.contains(['\t', '\n']), "a secret's name is one word");
        let fresh = needles(name, value.as_bytes());
        let lines: Vec<_> = fresh.iter().map(|n| format!("{name}\t{}\t{}\n", n.form, forms::hex(&n.bytes))).collect();
        // Written before the value is used; one append, so that processes do not mix their lines.
        append(&self.dir.join("planted.txt"))
            .write_all(lines.concat().as_bytes())
            .expect("the suite's log is writable");
        let mut state = self.state();
        for needle in fresh {
            state.needles.insert(needle);
        }
    }

    fn tee(&self, name: &str, text: &[u8]) {
        let leaks = self.scan(name, text);
        let mut state = self.state();
        state.leaks.extend(leaks);
        if !state.files.contains_key(name) {
            let file: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            state.files.insert(name.to_owned(), append(&self.dir.join(format!("{file}.{}.log", std::process::id()))));
        }
        if let Some(file) = state.files.get_mut(name) {
            let end: &[u8] = if text.ends_with(b"\n") { b"" } else { b"\n" };
            file.write_all(&[text, end].concat()).expect("the suite's log is writable");
        }
    }

    fn scan(&self, log: &str, text: &[u8]) -> Vec<Leak> {
        let state = self.state();
        let (mut leaks, mut line) = (Vec::new(), 1);
        for (at, byte) in text.iter().enumerate() {
            let rest = text.get(at..).unwrap_or_default();
            let here = state.needles.at(rest);
            leaks.extend(here.map(|n| Leak { name: n.name.clone(), form: n.form, log: log.to_owned(), line }));
            line += usize::from(*byte == b'\n');
        }
        leaks
    }

    fn watch(&self) -> Watch<'_> {
        Watch { log: self, before: self.state().leaks.len() }
    }
}

fn append(path: &Path) -> File {
    File::options().create(true).append(true).open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn private() -> (tempfile::TempDir, SuiteLog) {
        let dir = tempfile::tempdir().unwrap();
        let log = SuiteLog::at(dir.path().to_path_buf());
        (dir, log)
    }

    #[test]
    fn what_is_teed_is_in_a_file_of_this_process_and_clean_text_passes() {
        let (dir, log) = private();
        let secret = log.plant("vault key");
        let watch = log.watch();
        log.tee("GET /api/v1/creds", b"{\"value\":\"***\"}");
        log.tee("GET /api/v1/creds", b"second\n");
        drop(watch);
        let path = dir.path().join(format!("GET--api-v1-creds.{}.log", std::process::id()));
        assert_eq!(std::fs::read_to_string(path).unwrap(), "{\"value\":\"***\"}\nsecond\n");
        let planted = std::fs::read_to_string(dir.path().join("planted.txt")).unwrap();
        assert!(planted.contains(&format!("vault key\tplain\t{}\n", forms::hex(secret.as_bytes()))), "{planted}");
    }

    #[test]
    fn a_leak_fails_the_test_that_watches_and_names_secret_form_and_line() {
        let (_dir, log) = private();
        let secret = log.plant("aws key");
        let failed = catch_unwind(AssertUnwindSafe(|| {
            let _watch = log.watch();
            log.tee("server", format!("fine\nkey={secret}\n").as_bytes());
        }));
        let message = *failed.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("server:2: the planted secret `aws key` (plain)"), "{message}");
        drop(log.watch());
    }

    #[test]
    fn a_panicking_test_keeps_its_own_message() {
        let (_dir, log) = private();
        let secret = log.plant("x");
        let failed = catch_unwind(AssertUnwindSafe(|| {
            let _watch = log.watch();
            log.tee("server", secret.as_bytes());
            panic!("the first reason");
        }));
        assert_eq!(*failed.unwrap_err().downcast::<&str>().unwrap(), "the first reason");
    }

    #[test]
    #[should_panic(expected = "shorter than 12 bytes")]
    fn a_value_that_occurs_by_chance_cannot_be_planted() {
        private().1.plant_as("short", "hunter2");
    }
}
