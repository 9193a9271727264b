//! One remote host: what was asked and answered, what a guess still misses, and the questions of a collector on top.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{Digest, Timestamp};
use tokio::time::Instant;

use super::connect::{Draw, Ran, Session, Shell};
use super::script::{self, Answer, Ask};
use super::{SshClient, words};
use crate::budget::Hold;
use crate::call::{
    CallError, CallTag, CommandOutput, DirEntry, FileStat, FileUsage, HostReach, RemoteHost, Reply, Socket,
};
use crate::local::{redact, reply, sockets};
use crate::record::{Asked, HostRecords, entries_text, sockets_text, stat_text};

/// Most questions that one guess may note.
const NOTED: usize = 100_000;
/// Most bytes of one table of sockets.
const SOCKET_BYTES: usize = 16 * 1_024 * 1_024;
/// The kernel's tables of sockets.
const SOCKET_FILES: [(&str, &str, bool); 4] = [
    ("tcp", "/proc/net/tcp", false),
    ("tcp", "/proc/net/tcp6", true),
    ("udp", "/proc/net/udp", false),
    ("udp", "/proc/net/udp6", true),
];

/// An answer and when it was had.
#[derive(Clone)]
struct Known<T> {
    result: Result<T, CallError>,
    started: Timestamp,
    finished: Timestamp,
}

/// A program to run.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Program {
    argv: Vec<String>,
    max: usize,
    seconds: u64,
}

#[derive(Default)]
struct State {
    answers: HashMap<Ask, Known<(Answer, Digest)>>,
    outputs: HashMap<Program, Known<CommandOutput>>,
    guessing: bool,
    /// A collector that waits for a program's output may go on in another way with it: what it asks after that is not noted.
    deaf: bool,
    asks: HashSet<Ask>,
    programs: HashSet<Program>,
    /// Bytes that the target sent.
    bytes: usize,
}

/// A host at the other end of an SSH connection.
pub(super) struct SshHost {
    session: Session,
    records: HostRecords,
    shell: &'static str,
    nonce: String,
    call_timeout: Duration,
    deadline: Instant,
    bytes_max: usize,
    memory: Hold,
    state: Mutex<State>,
    /// The shell that waits for the next questions.
    kept: tokio::sync::Mutex<Option<Shell>>,
}

/// More than what stands around a program's output.
const FRAME_BYTES: usize = 1_024;

/// Nothing of the account's own environment gets in, and the random word gets in by standard input.
const SHELL: &str = "exec env -i /bin/sh";
const SHELL_AS_ROOT: &str = "exec sudo -n env -i /bin/sh";

impl SshClient {
    /// Connects, signs in, and leaves a record of it.
    pub(super) async fn host(&self, host: &str, port: u16, tag: &CallTag) -> Result<SshHost, CallError> {
        let deadline = Instant::now() + self.config.target_timeout;
        let endpoint =
            if host.contains(':') { format!("ssh://[{host}]:{port}") } else { format!("ssh://{host}:{port}") };
        let records = HostRecords { clock: self.clock.clone(), recorder: self.recorder.clone(), endpoint };
        let asked = records.asked("ssh", "connect", tag);
        let session = self.session(host, port).await;
        let finished = self.clock.now();
        let session = records.fact(asked, finished, session, |session| format!("host key {}\n", session.host_key))?;
        let mut word = [0u8; 16];
        self.rng.fill(&mut word);
        let nonce = format!("{:032x}", u128::from_be_bytes(word));
        Ok(SshHost {
            session,
            records,
            shell: if self.config.sudo { SHELL_AS_ROOT } else { SHELL },
            nonce,
            call_timeout: self.config.call_timeout,
            deadline,
            bytes_max: self.config.target_bytes,
            memory: self.memory.hold(),
            state: Mutex::default(),
            kept: tokio::sync::Mutex::default(),
        })
    }
}

/// What is answered while a question is only noted.
fn unasked() -> CallError {
    CallError::NotFound("not asked yet".to_owned())
}

/// A whole answer with its digest, without secrets.
fn safe(ask: &Ask, answer: Answer) -> Result<(Answer, Digest), CallError> {
    match (ask, answer) {
        (Ask::Read(_, path), Answer::Content(body)) => {
            let body = Bytes::from(redact::remote::file(path, body.into())?);
            let digest = crypto::sha256(&body);
            Ok((Answer::Content(body), digest))
        }
        (_, answer) => Ok((answer, crypto::sha256(&[]))),
    }
}

impl SshHost {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a script in the shell that is kept for them: a login's shell costs a host more than what it is asked.
    async fn run(&self, script: &str, max: usize, silence: Duration) -> Result<Ran, CallError> {
        if Instant::now() >= self.deadline {
            return Err(CallError::Timeout(self.call_timeout));
        }
        let end = script::end(&self.nonce);
        let mut kept = self.kept.lock().await;
        loop {
            let left = self.bytes_max.saturating_sub(self.state().bytes);
            // Once it is settled, whoever waits for this answer may be who lets the other targets go on.
            let memory = Draw { from: &self.memory, waits: self.state().guessing };
            let (shell, is_old) = match kept.take() {
                Some(shell) => (shell, true),
                None => (self.session.shell(self.shell, self.call_timeout).await?, false),
            };
            let (ran, alive) =
                shell.run(script.to_owned(), end.as_bytes(), max.min(left), silence, self.deadline, &memory).await;
            self.state().bytes += ran.stdout.len();
            *kept = alive;
            // One that ended meanwhile answers nothing.
            if !(is_old && ran.stdout.is_empty() && ran.cut.is_none()) {
                return Ok(ran);
            }
        }
    }

    /// Asks all of this and keeps the answers: first together, then what stayed open one by one.
    async fn ask_all(&self, mut asks: Vec<Ask>) -> Result<(), CallError> {
        // A file system that hangs must not take the other answers with it.
        let slow: Vec<Ask> = asks.extract_if(.., |ask| matches!(ask, Ask::Usage(_))).collect();
        for (asks, singly) in [(asks, false), (slow, false)] {
            let open = self.ask_once(asks, singly).await?;
            let open = self.ask_once(open, true).await?;
            let now = self.records.clock.now();
            let mut state = self.state();
            for ask in open {
                let result = Err(CallError::Unreachable("the target's answer was cut off".to_owned()));
                state.answers.insert(ask, Known { result, started: now, finished: now });
            }
        }
        Ok(())
    }

    /// Asks in one round trip; what stays open comes back.
    async fn ask_once(&self, asks: Vec<Ask>, singly: bool) -> Result<Vec<Ask>, CallError> {
        if asks.is_empty() {
            return Ok(asks);
        }
        let started = self.records.clock.now();
        let script = script::script(asks.clone(), &self.nonce, singly);
        let ran = self.run(&script.text, self.bytes_max, self.call_timeout).await?;
        let finished = self.records.clock.now();
        if ran.stdout.is_empty()
            && let Some(cut) = ran.cut
        {
            return Err(cut);
        }
        let found = script::answers(&script, &self.nonce, &ran.stdout);
        let mut found = found.map_err(|error| self.refusal(&ran, error))?;
        let mut open = Vec::new();
        let mut state = self.state();
        for ask in asks {
            match (found.remove(&ask), &ran.cut) {
                (Some(result), _) => {
                    let result = result.and_then(|answer| safe(&ask, answer));
                    state.answers.insert(ask, Known { result, started, finished });
                }
                (None, Some(cut)) => {
                    state.answers.insert(ask, Known { result: Err(cut.clone()), started, finished });
                }
                (None, None) => open.push(ask),
            }
        }
        Ok(open)
    }

    /// Why a shell did not do what it was told.
    fn refusal(&self, ran: &Ran, error: CallError) -> CallError {
        match ran.code {
            Some(1) if self.shell == SHELL_AS_ROOT => {
                CallError::Denied(format!("`sudo -n` is refused: {}", words(ran.stderr.trim())))
            }
            _ => error,
        }
    }

    async fn run_program(&self, program: Program) -> Result<(), CallError> {
        let started = self.records.clock.now();
        let argv: Vec<&str> = program.argv.iter().map(String::as_str).collect();
        let silence = Duration::from_secs(program.seconds);
        let script = script::command(&argv, program.seconds, &self.nonce);
        let ran = self.run(&script, program.max.saturating_add(FRAME_BYTES), silence).await?;
        let finished = self.records.clock.now();
        let result = match &ran.cut {
            Some(cut) => Err(cut.clone()),
            None => match script::printed(&self.nonce, &ran.stdout).map_err(|error| self.refusal(&ran, error))? {
                None => Err(CallError::NotFound(format!("program {}", words(argv.first().unwrap_or(&""))))),
                // coreutils' and busybox's word that its time was over.
                Some((_, 124 | 143)) => Err(CallError::Timeout(silence)),
                Some((body, _)) if body.len() > program.max => Err(CallError::TooLarge { max: program.max }),
                Some((body, code)) => Ok(CommandOutput { code, stdout: reply(body), stderr: ran.stderr }),
            },
        };
        self.state().outputs.insert(program, Known { result, started, finished });
        Ok(())
    }

    /// The answer to a question, or that it is noted.
    async fn answer(&self, ask: Ask) -> Known<(Answer, Digest)> {
        let now = self.records.clock.now();
        let failed = |error: CallError| Known { result: Err(error), started: now, finished: now };
        {
            let mut state = self.state();
            if let Some(known) = state.answers.get(&ask) {
                return known.clone();
            }
            if state.guessing {
                if !state.deaf && state.asks.len() < NOTED {
                    state.asks.insert(ask);
                }
                return failed(unasked());
            }
        }
        if let Err(error) = self.ask_all(vec![ask.clone()]).await {
            return failed(error);
        }
        self.state().answers.get(&ask).cloned().unwrap_or_else(|| failed(unasked()))
    }

    fn is_recording(&self) -> bool {
        !self.state().guessing
    }
}

fn asked(operation: String, tag: &CallTag, started: Timestamp) -> Asked<'_> {
    Asked { system: "ssh", operation, tag, started }
}

/// A path that a question can hold.
fn path(path: &str) -> Result<String, CallError> {
    if path.starts_with('/') && !path.contains('\0') {
        Ok(path.to_owned())
    } else {
        Err(CallError::NotFound(words(path)))
    }
}

fn mixed_up() -> CallError {
    CallError::Malformed("an answer to another question".to_owned())
}

#[async_trait]
impl HostReach for SshHost {
    async fn read(&self, file: &str, max: usize, tag: &CallTag) -> Result<Reply, CallError> {
        let known = self.answer(Ask::Read(max, path(file)?)).await;
        let result = known.result.and_then(|answer| match answer {
            (Answer::Content(body), digest) => Ok(Reply { status: 200, headers: BTreeMap::new(), digest, body }),
            _ => Err(mixed_up()),
        });
        if self.is_recording() {
            let asked = asked(file.to_owned(), tag, known.started);
            self.records.push(asked, known.finished, result.as_ref().map(|reply| (&reply.body, reply.digest)));
        }
        result
    }

    async fn list(&self, dir: &str, tag: Option<&CallTag>) -> Result<Vec<DirEntry>, CallError> {
        let known = self.answer(Ask::List(path(dir)?)).await;
        let result = known.result.and_then(|answer| match answer {
            (Answer::Entries(entries), _) => Ok(entries),
            _ => Err(mixed_up()),
        });
        let Some(tag) = tag.filter(|_| self.is_recording()) else { return result };
        let asked = asked(format!("list {dir}"), tag, known.started);
        self.records.fact(asked, known.finished, result, |entries| entries_text(entries))
    }

    async fn stat(&self, file: &str, tag: &CallTag) -> Result<FileStat, CallError> {
        let known = self.answer(Ask::Stat(path(file)?)).await;
        let result = known.result.and_then(|answer| match answer {
            (Answer::Stat(stat), _) => Ok(stat),
            _ => Err(mixed_up()),
        });
        if !self.is_recording() {
            return result;
        }
        let asked = asked(format!("lstat {file}"), tag, known.started);
        self.records.fact(asked, known.finished, result, stat_text)
    }

    async fn read_link(&self, file: &str) -> Result<String, CallError> {
        match self.answer(Ask::Link(path(file)?)).await.result? {
            (Answer::Link(target), _) => Ok(target),
            _ => Err(mixed_up()),
        }
    }

    async fn hash(&self, file: &str, tag: &CallTag) -> Result<Digest, CallError> {
        let asked_path = path(file)?;
        let known = if redact::is_secret(file) {
            let error = CallError::Denied(format!("{}: the hash of a file of secrets is not taken", words(file)));
            let now = self.records.clock.now();
            Known { result: Err(error), started: now, finished: now }
        } else if file.contains(['\\', '\n']) {
            return Err(CallError::Malformed(format!("{}: a name that is not hashed over SSH", words(file))));
        } else {
            self.answer(Ask::Hash(asked_path)).await
        };
        let result = known.result.and_then(|answer| match answer {
            (Answer::Digest(digest), _) => Ok(digest),
            _ => Err(mixed_up()),
        });
        if !self.is_recording() {
            return result;
        }
        let asked = asked(format!("sha256 {file}"), tag, known.started);
        self.records.fact(asked, known.finished, result, |digest| format!("{digest}\n"))
    }

    async fn usage(&self, file: &str) -> Result<FileUsage, CallError> {
        match self.answer(Ask::Usage(path(file)?)).await.result? {
            (Answer::Usage(usage), _) => Ok(usage),
            _ => Err(mixed_up()),
        }
    }

    async fn sockets(&self, tag: &CallTag) -> Result<Vec<Socket>, CallError> {
        let mut result = Ok(Vec::new());
        let (mut started, mut finished) = (None, self.records.clock.now());
        for (protocol, file, v6) in SOCKET_FILES {
            let known = self.answer(Ask::Read(SOCKET_BYTES, file.to_owned())).await;
            started = started.or(Some(known.started));
            finished = known.finished;
            match (known.result, &mut result) {
                (Ok((Answer::Content(body), _)), Ok(list)) => {
                    list.extend(sockets::from_text(protocol, &String::from_utf8_lossy(&body)));
                }
                // A kernel without IPv6 has no such sockets.
                (Err(CallError::NotFound(_)), _) if v6 => {}
                (Err(error), Ok(_)) => result = Err(error),
                _ => {}
            }
        }
        if let Ok(list) = &mut result {
            sockets::sort(list);
        }
        if !self.is_recording() {
            return result;
        }
        let asked = asked("/proc/net tcp,udp inet,inet6".to_owned(), tag, started.unwrap_or(finished));
        self.records.fact(asked, finished, result, |list| sockets_text(list))
    }

    async fn command(
        &self,
        argv: &[&str],
        max: usize,
        timeout: Duration,
        tag: &CallTag,
    ) -> Result<CommandOutput, CallError> {
        if argv.is_empty() || argv.iter().any(|word| word.contains('\0')) {
            return Err(CallError::NotFound("program".to_owned()));
        }
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        let program = Program { argv, max, seconds: timeout.as_secs().max(1) };
        let known = self.state().outputs.get(&program).cloned();
        if known.is_none() {
            {
                let mut state = self.state();
                if state.guessing {
                    if !state.deaf {
                        state.programs.insert(program);
                        state.deaf = true;
                    }
                    return Err(unasked());
                }
            }
            self.run_program(program.clone()).await?;
        }
        let known = known.or_else(|| self.state().outputs.get(&program).cloned()).ok_or_else(unasked)?;
        if self.is_recording() {
            let asked = Asked { system: "command", ..asked(program.argv.join(" "), tag, known.started) };
            let outcome = known.result.as_ref().map(|output| (&output.stdout.body, output.stdout.digest));
            self.records.push(asked, known.finished, outcome);
        }
        known.result
    }
}

#[async_trait]
impl RemoteHost for SshHost {
    fn guess(&self) {
        let mut state = self.state();
        (state.guessing, state.deaf) = (true, false);
    }

    fn noted(&self) -> usize {
        let state = self.state();
        state.asks.len() + state.programs.len()
    }

    async fn ask(&self) -> Result<(), CallError> {
        let (asks, programs) = {
            let mut state = self.state();
            (std::mem::take(&mut state.asks), std::mem::take(&mut state.programs))
        };
        self.ask_all(asks.into_iter().collect()).await?;
        for program in programs {
            self.run_program(program).await?;
        }
        Ok(())
    }

    fn settle(&self) {
        let mut state = self.state();
        (state.guessing, state.deaf) = (false, false);
    }

    async fn close(&self) {
        self.session.end().await;
    }
}
