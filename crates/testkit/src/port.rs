//! A port for a program that cannot be told to take a free one.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};

/// A port that nobody else is given for as long as this is held. A socket of ours is bound to it and never listens, so that a program that sets
/// `SO_REUSEADDR`, as servers do, listens there, also when it is started again; and that nobody does before.
#[derive(Debug)]
pub struct HeldPort {
    /// The port.
    pub number: u16,
    _socket: OwnedFd,
}

impl HeldPort {
    /// Takes one that is free at this address: at 0.0.0.0 it is free at every one.
    pub fn at(address: Ipv4Addr) -> Self {
        let socket =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
        sockopt::set_socket_reuseaddr(&socket, true).expect("its option");
        bind(&socket, &SocketAddrV4::new(address, 0)).expect("a free port");
        let address = SocketAddr::try_from(getsockname(&socket).expect("its address")).expect("one of IPv4");
        Self { number: address.port(), _socket: socket }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_held_port_is_nobodys_but_a_servers_that_is_told_it() {
        let held = HeldPort::at(Ipv4Addr::UNSPECIFIED);
        assert!(std::net::TcpStream::connect(("127.0.0.1", held.number)).is_err(), "nobody listens");
        // The standard library sets the option, as servers do: twice, one after the other.
        for _ in 0..2 {
            let server = TcpListener::bind((Ipv4Addr::UNSPECIFIED, held.number)).unwrap();
            std::net::TcpStream::connect(("127.0.0.2", held.number)).unwrap();
            drop(server);
        }
    }
}
