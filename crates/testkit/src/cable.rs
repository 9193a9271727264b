//! A cable: a TCP port that leads to another one, until a test cuts it, holds it still or plugs it in elsewhere.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One cable. Its threads end with the process.
#[derive(Clone)]
pub struct Cable {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: Mutex<Option<SocketAddr>>,
    streams: Mutex<Vec<TcpStream>>,
    still: AtomicBool,
    carried: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cable {
    /// A cable to a port of this machine.
    pub fn to(port: u16) -> Self {
        Self::from(TcpListener::bind(("127.0.0.1", 0)).expect("a free port"), port)
    }

    /// A cable from a port that somebody listens on already, in another network namespace perhaps: the other end is where this is called.
    pub fn from(listener: TcpListener, port: u16) -> Self {
        let own = listener.local_addr().expect("a bound port").port();
        let shared = Arc::new(Shared {
            target: Mutex::default(),
            streams: Mutex::default(),
            still: AtomicBool::new(false),
            carried: AtomicU64::new(0),
        });
        let cable = Self { port: own, shared };
        cable.plug(Some(port));
        let accepting = cable.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                accepting.carry(stream);
            }
        });
        cable
    }

    /// Its own port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Plugs it in elsewhere, or nowhere. What is connected stays so until [`Cable::cut`].
    pub fn plug(&self, port: Option<u16>) {
        *lock(&self.shared.target) = port.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        for stream in lock(&self.shared.streams).drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Carries nothing, in either direction, while connections stay open; or goes on.
    pub fn hold(&self, still: bool) {
        self.shared.still.store(still, Ordering::SeqCst);
    }

    /// How many bytes it has carried.
    pub fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::SeqCst)
    }

    fn carry(&self, near: TcpStream) {
        let target = *lock(&self.shared.target);
        let Some(far) = target.and_then(|target| TcpStream::connect(target).ok()) else { return };
        // Otherwise small pieces wait for what the other end acknowledges late: some 44 ms each.
        for stream in [&near, &far] {
            let _ = stream.set_nodelay(true);
        }
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let shared = Arc::clone(&self.shared);
            std::thread::spawn(move || pump(from, to, &shared));
        }
        lock(&self.shared.streams).extend([near, far]);
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut bytes = [0; 16 * 1_024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        while shared.still.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
        shared.carried.fetch_add(length as u64, Ordering::SeqCst);
    }
    let _ = to.shutdown(Shutdown::Write);
}
