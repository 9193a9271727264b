//! Which addresses a target may have. Every transport asks here about the address that it connects to, never about a name.
//!
//! Special addresses lead to the machine that makes the call, to its platform's secrets or to nobody in particular. A tenant's target
//! policy may allow some of them, on a server as far as the installation lets it; what is neither one machine's nor one service's address
//! is never a target.

mod own;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use domain::{HostPort, Network};
use tokio::net::TcpStream;

pub use self::own::Services;
use crate::CallError;

/// Why an address is special.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// `0.0.0.0/8` and `::`: no address of a target.
    Unspecified,
    /// A group of machines.
    Multicast,
    /// Every machine of a network.
    Broadcast,
    /// The machine that makes the call.
    Loopback,
    /// A neighbour without a routed address (RFC 3927, RFC 4291).
    LinkLocal,
    /// A service of the machine's platform that hands out its secrets.
    Metadata,
    /// Where the server or relay itself listens, its database, or another server of the installation.
    Service,
    /// Outside of the networks in which whoever makes the call may work.
    Outside,
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "an unspecified address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
            Self::Loopback => "an address of this machine itself",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "the address of a cloud's metadata service",
            Self::Service => "an address at which a service of this installation itself listens",
            Self::Outside => "outside of the networks of this relay (`RELAY_NETWORKS`)",
        })
    }
}

/// Services of a cloud's hosts that answer whoever runs there: AWS (instances, containers, pods), Azure, Alibaba, Oracle; AWS and Google
/// over IPv6.
const METADATA_V4: [[u8; 4]; 6] = [
    [169, 254, 169, 254],
    [169, 254, 170, 2],
    [169, 254, 170, 23],
    [168, 63, 129, 16],
    [100, 100, 100, 200],
    [192, 0, 0, 192],
];
const METADATA_V6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
];

/// How long a name is looked up that somebody else resolves.
const ELSEWHERE: Duration = Duration::from_secs(3);

/// The addresses that an address stands for, each of which has to be a target: for most it is the address itself, else the IPv4 addresses to
/// which something on the way translates or tunnels.
///
/// In its place: mapped and compatible (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052), 6to4 (RFC 3056), Teredo (RFC 4380: its server and
/// its client, whose bits are turned over), local NAT64 (RFC 8215). Besides itself: ISATAP (RFC 5214), which has any prefix, also a
/// link-local one.
fn stands_for(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(ip) = address else { return vec![address] };
    let v4 = |high: u16, low: u16| IpAddr::from(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match ip.segments() {
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => vec![address],
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => vec![v4(high, low)],
        [0x2001, 0, server_high, server_low, _, _, high, low] => vec![v4(!high, !low), v4(server_high, server_low)],
        [0x64, 0xff9b, 1, ..] => local_nat64(ip),
        [.., 0 | 0x200, 0x5efe, high, low] => vec![v4(high, low), address],
        _ => vec![address],
    }
}

/// Where in `64:ff9b:1::/48` the IPv4 address lies depends on the length of the prefix that a network took of it (RFC 6052, section 2.2), which
/// nobody here knows: what lies in each place, but for places that are empty.
fn local_nat64(ip: Ipv6Addr) -> Vec<IpAddr> {
    let bits = ip.to_bits();
    // The octet from bit 64 on belongs to no address.
    let without_u = (bits >> 64) << 64 | (bits << 72) >> 64;
    let at = |bits: u128, begin: u32| {
        let [.., a, b, c, d] = (bits >> (96 - begin)).to_be_bytes();
        IpAddr::from([a, b, c, d])
    };
    let of_96 = at(bits, 96);
    let mut found: Vec<IpAddr> = [48, 56, 64].iter().map(|begin| at(without_u, *begin)).chain([of_96]).collect();
    found.retain(|place| plain(*place) != Some(Special::Unspecified));
    if found.is_empty() { vec![of_96] } else { found }
}

/// What is special about an address, if anything.
pub fn special(address: IpAddr) -> Option<Special> {
    stands_for(address).into_iter().find_map(plain)
}

/// The same of an address as it is written.
fn plain(address: IpAddr) -> Option<Special> {
    match address {
        IpAddr::V4(ip) if METADATA_V4.contains(&ip.octets()) => Some(Special::Metadata),
        IpAddr::V4(ip) if ip.octets().starts_with(&[0]) => Some(Special::Unspecified),
        IpAddr::V4(ip) if ip.is_multicast() => Some(Special::Multicast),
        IpAddr::V4(ip) if ip.is_broadcast() => Some(Special::Broadcast),
        IpAddr::V4(ip) if ip.is_loopback() => Some(Special::Loopback),
        IpAddr::V4(ip) if ip.is_link_local() => Some(Special::LinkLocal),
        IpAddr::V6(ip) if METADATA_V6.contains(&ip) => Some(Special::Metadata),
        IpAddr::V6(ip) if ip.is_unspecified() => Some(Special::Unspecified),
        IpAddr::V6(ip) if ip.is_multicast() => Some(Special::Multicast),
        IpAddr::V6(ip) if ip.is_loopback() => Some(Special::Loopback),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(Special::LinkLocal),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// Networks of which a tenant's policy may allow all or a part; besides them each metadata service, by its one address.
const ALLOWABLE: [&str; 4] = ["127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10"];
static ALLOWABLE_NETWORKS: LazyLock<Vec<Network>> =
    LazyLock::new(|| ALLOWABLE.iter().filter_map(|text| text.parse().ok()).collect());

/// Whether a policy may name a network; why not, as words behind it.
pub fn allowable(network: &Network) -> Result<(), &'static str> {
    let (first, is_one) = (network.first(), network.is_one_address());
    if is_one && !stands_for(first).contains(&first) {
        return Err("is an IPv4 address in another form: name the IPv4 address");
    }
    let all = |range: &Network| range.contains(first) && range.host_bits() >= network.host_bits();
    let is_service = is_one && special(first) == Some(Special::Metadata);
    if is_service || ALLOWABLE_NETWORKS.iter().any(all) {
        return Ok(());
    }
    Err(match special(first) {
        Some(Special::Unspecified | Special::Multicast | Special::Broadcast) => "is never a target",
        _ => {
            "holds addresses that are not special, which are targets anyhow: name 127.0.0.0/8, ::1/128, 169.254.0.0/16, fe80::/10, parts of \
             them, or the one address of a metadata service"
        }
    })
}

/// An address that may not be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {special}, which may not be a target here{}", self.hint())]
pub struct Refused {
    /// The address.
    pub address: IpAddr,
    /// What is special about it.
    pub special: Special,
    /// Whether the tenant's policy allows it, and only the installation does not.
    pub by_installation: bool,
}

impl Refused {
    /// What to change, where something can be.
    fn hint(&self) -> &'static str {
        match self.special {
            _ if self.by_installation => {
                ": the tenant's target policy allows it, the server's `discovery.special_targets` does not (a relay is the tenant's own)"
            }
            Special::Loopback | Special::LinkLocal => ": the tenant's target policy does not name it",
            Special::Metadata => ": the tenant's target policy does not name exactly this address",
            Special::Service => ": a server's `discovery.own_targets` can allow those of its installation",
            Special::Unspecified | Special::Multicast | Special::Broadcast | Special::Outside => "",
        }
    }
}

impl From<Refused> for CallError {
    fn from(refused: Refused) -> Self {
        Self::Denied(refused.to_string())
    }
}

/// Which special addresses may be targets. By default none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    loopback: bool,
    allowed: Vec<Network>,
    up_to: Option<Vec<Network>>,
    within: Vec<Network>,
    services: Arc<Services>,
}

/// Whether one of these networks names an address; `exactly`: and no other beside it.
fn named(networks: &[Network], address: IpAddr, exactly: bool) -> bool {
    networks.iter().any(|network| network.contains(address) && (!exactly || network.is_one_address()))
}

impl Guard {
    /// Whether this machine may be a target: the installation's decision.
    pub fn loopback(loopback: bool) -> Self {
        Self { loopback, ..Self::default() }
    }

    /// What a policy can allow at most, but for metadata services: to look at settings where it is not known yet which policy counts.
    pub fn widest() -> Self {
        Self::default().allowing(ALLOWABLE_NETWORKS.iter().copied())
    }

    /// Also the special addresses inside these networks: the tenant's target policy. A metadata service is allowed only by a network that is
    /// its one address, so that nobody allows it by the way.
    #[must_use]
    pub fn allowing(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.allowed.extend(networks);
        self
    }

    /// Of what [`Guard::allowing`] says only what these networks name too, in the same way: what the installation lets tenants allow
    /// of its own machine. Not said: no such limit.
    #[must_use]
    pub fn up_to(mut self, networks: &[Network]) -> Self {
        self.up_to = Some(networks.to_vec());
        self
    }

    /// Only addresses inside these networks, whatever else is allowed; none named: no such limit.
    #[must_use]
    pub fn within(mut self, networks: &[Network]) -> Self {
        self.within.extend_from_slice(networks);
        self
    }

    /// None of these services, whatever else is allowed.
    #[must_use]
    pub fn keeping_from(mut self, services: Services) -> Self {
        self.services = Arc::new(services);
        self
    }

    /// Whether the installation lets this machine be a target.
    pub fn allows_loopback(&self) -> bool {
        self.loopback
    }

    /// Whether a URL may name this host and port, as far as that can be told before its name is resolved.
    pub(crate) fn check_host(&self, host: &str, port: u16) -> Result<(), Refused> {
        spelled(host).map_or(Ok(()), |address| self.check_at(SocketAddr::new(address, port)))
    }

    /// Judges a host that somebody else resolves and connects to: by what is written there, and by where it leads from here, as far as it does.
    /// Returns what they are to connect to: where this one's networks are limited the address that was judged, and a name that has none here is
    /// refused. Else the host as it is, and what only the other side's resolver knows is not seen here.
    pub async fn check_elsewhere(&self, host: &str, port: u16) -> Result<String, CallError> {
        let place = |judged: Option<IpAddr>| match judged.filter(|_| !self.within.is_empty()) {
            Some(address) => address.to_string(),
            None => host.to_owned(),
        };
        if let Some(address) = spelled(host) {
            self.check_at(SocketAddr::new(address, port))?;
            return Ok(place(Some(address)));
        }
        let name = host.trim_end_matches('.');
        let looked = tokio::time::timeout(ELSEWHERE, tokio::net::lookup_host((name, port))).await;
        let found: Vec<SocketAddr> = looked.ok().and_then(Result::ok).map(Iterator::collect).unwrap_or_default();
        for address in &found {
            self.check_at(*address)?;
        }
        if found.is_empty() && !self.within.is_empty() {
            return Err(CallError::Denied(format!(
                "`{}` has no address here, so that nobody can tell whether it is in the networks of this relay (`RELAY_NETWORKS`): name its address",
                shown(host)
            )));
        }
        Ok(place(found.first().map(SocketAddr::ip)))
    }

    /// Whether a port of an address may be connected to.
    pub fn check_at(&self, at: SocketAddr) -> Result<(), Refused> {
        self.check(at.ip())?;
        if stands_for(at.ip()).into_iter().any(|real| self.services.are_at(SocketAddr::new(real, at.port()))) {
            return Err(Refused { address: at.ip(), special: Special::Service, by_installation: false });
        }
        Ok(())
    }

    /// Whether an address may be connected to, at any port that no service of the installation has.
    pub fn check(&self, address: IpAddr) -> Result<(), Refused> {
        stands_for(address).into_iter().try_for_each(|real| self.check_one(address, real))
    }

    /// Judges one of the addresses that an address stands for.
    fn check_one(&self, address: IpAddr, real: IpAddr) -> Result<(), Refused> {
        if !self.within.is_empty() && !self.within.iter().any(|network| network.contains(real)) {
            return Err(Refused { address, special: Special::Outside, by_installation: false });
        }
        let Some(special) = plain(real) else { return Ok(()) };
        let exactly = match special {
            Special::Loopback if self.loopback => return Ok(()),
            Special::Loopback | Special::LinkLocal => false,
            Special::Metadata => true,
            Special::Unspecified | Special::Multicast | Special::Broadcast | Special::Service | Special::Outside => {
                return Err(Refused { address, special, by_installation: false });
            }
        };
        let by_tenant = named(&self.allowed, real, exactly);
        let by_installation = self.up_to.as_ref().is_none_or(|networks| named(networks, real, exactly));
        if by_tenant && by_installation {
            return Ok(());
        }
        Err(Refused { address, special, by_installation: by_tenant })
    }

    /// The addresses of a name or an address in text. Where one of them is refused all are: a name that changes its mind is no target.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, CallError> {
        let unknown = |why: String| CallError::Unreachable(format!("`{}` {why}", shown(host)));
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
            .await
            .map_err(|error| unknown(format!("cannot be resolved: {error}")))?
            .collect();
        for address in &found {
            self.check_at(*address)?;
        }
        if found.is_empty() { Err(unknown("has no address".to_owned())) } else { Ok(found) }
    }

    /// Resolves, checks and connects within a time, and checks where the connection went.
    pub async fn connect(&self, host: &str, port: u16, timeout: Duration) -> Result<TcpStream, CallError> {
        let work = async {
            let addresses = self.resolve(host, port).await?;
            let stream = TcpStream::connect(addresses.as_slice())
                .await
                .map_err(|error| CallError::Unreachable(format!("`{}` port {port}: {error}", shown(host))))?;
            let peer = stream.peer_addr().map_err(|error| CallError::Unreachable(error.to_string()))?;
            self.check_at(peer)?;
            Ok(stream)
        };
        tokio::time::timeout(timeout, work).await.unwrap_or(Err(CallError::Timeout(timeout)))
    }
}

/// The address that a host in text is, in whatever spelling resolvers take one: with brackets, a zone or a dot at its end, as one to four
/// numbers that are decimal, octal or hexadecimal (inet_aton(3)), or by the names that mean the machine itself (RFC 6761).
fn spelled(host: &str) -> Option<IpAddr> {
    let host = host.trim().trim_matches(['[', ']']);
    let host = host.split('%').next().unwrap_or_default().trim_end_matches('.');
    let named = || {
        let lower = host.to_ascii_lowercase();
        let is_local = lower == "localhost" || lower.ends_with(".localhost") || LOCAL_NAMES.contains(&&*lower);
        let metadata = (lower == METADATA_NAME).then_some(Ipv4Addr::new(169, 254, 169, 254));
        is_local.then_some(Ipv4Addr::LOCALHOST).or(metadata).map(IpAddr::V4)
    };
    host.parse().ok().or_else(|| numbers(host).map(IpAddr::V4)).or_else(named)
}

/// Names besides `localhost` that lists of hosts give to the machine itself.
const LOCAL_NAMES: [&str; 6] =
    ["localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback", "localhost6.localdomain6"];
/// The name by which Google's cloud tells a machine of itself.
const METADATA_NAME: &str = "metadata.google.internal";

/// An IPv4 address of one to four numbers, the last of which fills what is left.
fn numbers(text: &str) -> Option<Ipv4Addr> {
    let number = |part: &str| {
        let (digits, radix) = match part.as_bytes() {
            [b'0', b'x' | b'X', ..] => (part.get(2..)?, 16),
            [b'0', _, ..] => (part.get(1..)?, 8),
            _ => (part, 10),
        };
        digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
        u32::from_str_radix(digits, radix).ok()
    };
    let parts: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = parts.split_last().filter(|(_, first)| first.len() <= 3)?;
    let mut bits = Some(*last).filter(|last| first.is_empty() || *last < 1 << (32 - 8 * first.len()))?;
    for (at, byte) in first.iter().enumerate() {
        bits |= u32::from(u8::try_from(*byte).ok()?) << (24 - 8 * at);
    }
    Some(Ipv4Addr::from_bits(bits))
}

/// A target in text: `host`, `host:port`, an IPv6 address, `[IPv6]` or `[IPv6]:port`. The host is in lower case.
pub fn host_and_port(text: &str, default_port: u16) -> Option<(String, u16)> {
    HostPort::read(text, default_port).map(|found| (found.host().to_owned(), found.port()))
}

/// A host as an error may show it.
fn shown(host: &str) -> String {
    host.chars().take(255).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
