//! An rsyslogd of one test: syslog over TLS on a free port of loopback, each message on a line of its file, as it came.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RSYSLOGD: &str = "/usr/sbin/rsyslogd";

/// A collector. It ends when this is dropped.
pub struct Rsyslogd {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Rsyslogd {
    /// Starts one that shows this certificate, with its key and who signed it; all in PEM.
    pub fn start(authority: &str, certificate: &str, key: &str) -> Self {
        assert!(Path::new(RSYSLOGD).is_file(), "{RSYSLOGD} is missing: run `cargo xtask setup`");
        let dir = tempfile::tempdir().expect("a folder");
        for (name, text) in [("ca.pem", authority), ("cert.pem", certificate), ("key.pem", key)] {
            fs::write(dir.path().join(name), text).expect("a file");
        }
        let mut collector = Self { port: 0, dir, child: None };
        for _ in 0..5 {
            let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
            collector.port = socket.local_addr().expect("its address").port();
            drop(socket);
            // Somebody else may be faster at the port.
            if collector.runs() {
                return collector;
            }
        }
        panic!("rsyslogd does not start: {}", collector.log())
    }

    /// Starts it again at the same port after [`Rsyslogd::stop`].
    pub fn start_again(&mut self) {
        assert!(self.runs(), "rsyslogd does not start again: {}", self.log());
    }

    /// Ends it as `kill` does.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
    }

    /// Every message that it has written to its file.
    pub fn messages(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("messages")).unwrap_or_default();
        // Without its end a line is one that is being written.
        text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn runs(&mut self) -> bool {
        let folder = self.dir.path().to_str().expect("a temporary path is UTF-8");
        let config = format!(
            "global(workDirectory=\"{folder}\" maxMessageSize=\"128k\" defaultNetstreamDriver=\"ossl\"\n\
             defaultNetstreamDriverCAFile=\"{folder}/ca.pem\" defaultNetstreamDriverCertFile=\"{folder}/cert.pem\"\n\
             defaultNetstreamDriverKeyFile=\"{folder}/key.pem\")\n\
             module(load=\"imtcp\" streamDriver.name=\"ossl\" streamDriver.mode=\"1\" streamDriver.authMode=\"anon\")\n\
             template(name=\"whole\" type=\"string\" string=\"%rawmsg%\\n\")\n\
             ruleset(name=\"kept\") {{ action(type=\"omfile\" file=\"{folder}/messages\" template=\"whole\") }}\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{}\" ruleset=\"kept\")\n\
             action(type=\"omfile\" file=\"{folder}/own\")\n",
            self.port
        );
        fs::write(self.dir.path().join("rsyslog.conf"), config).expect("a configuration");
        let log = fs::File::create(self.dir.path().join("log")).expect("a log");
        let mut child = Command::new(RSYSLOGD)
            .args(["-n", "-f", &format!("{folder}/rsyslog.conf"), "-i", &format!("{folder}/pid")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("rsyslogd starts");
        let deadline = Instant::now() + Duration::from_secs(30);
        while child.try_wait().expect("its state").is_none() && Instant::now() < deadline {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                self.child = Some(child);
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
        false
    }
}

impl Drop for Rsyslogd {
    fn drop(&mut self) {
        self.stop();
    }
}
