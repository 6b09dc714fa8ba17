//! Where a registry is on the network, and where it may send us.
//!
//! A registry hands out addresses of its own choosing: where an upload goes on (`Location`), where a blob really is (a
//! redirect), where tokens come from (`realm`). Two rules hold for all of them. Credentials and tokens go to the
//! registry's own address only ([`Address::owns`]; the realm is the one exception, by the protocol). And a public
//! registry cannot send us into a private network: from a build service that is an attack on what stands beside it
//! (server-side request forgery; go-containerregistry refuses the same of literals, and here names that resolve to
//! private addresses are refused too). Registries that are themselves private are free to name their neighbours.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// The host that answers for `docker.io`.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// The root of one registry's API.
#[derive(Clone, Debug)]
pub struct Address {
    /// `scheme://host[:port]/`.
    pub base: Url,
}

/// Why an address is not followed.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The registry's own name makes no URL.
    #[error("`{0}` is not a registry host")]
    Host(String),
    /// What was handed out makes no URL.
    #[error("`{0}` is not an address")]
    Malformed(String),
    /// A step from TLS to plain HTTP.
    #[error("{0} is plain HTTP, and the registry is not")]
    Downgrade(String),
    /// A step into a private network.
    #[error("{0} is in a private network, and the registry is not")]
    Private(String),
}

impl Address {
    /// The address of `registry` (`host` or `host:port`). Without a setting, loopback hosts speak plain HTTP, others TLS.
    pub fn new(registry: &str, plain_http: Option<bool>) -> Result<Address, AddressError> {
        let host = if registry == "docker.io" { DOCKER_HUB_API } else { registry };
        let parse = |scheme: &str| {
            let url = Url::parse(&format!("{scheme}://{host}/")).map_err(|_| AddressError::Host(registry.to_owned()))?;
            // `user@host` or `host/path` would be another address than the one that was read.
            let plain = url.username().is_empty() && url.password().is_none() && url.path() == "/" && url.query().is_none();
            if plain && url.host().is_some() { Ok(url) } else { Err(AddressError::Host(registry.to_owned())) }
        };
        let base = parse("https")?;
        let plain = plain_http.unwrap_or_else(|| is_loopback(&base));
        Ok(Address { base: if plain { parse("http")? } else { base } })
    }

    /// Whether the registry is on this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.base)
    }

    /// Whether `url` is at the registry's own host and port, reached the same way: the only place that gets its tokens.
    pub fn owns(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// The URL that `location`, handed out in an answer to `asked`, leads to.
    ///
    /// A registry behind a proxy that ends TLS often writes `http://` with its own name; that means itself.
    pub fn follow(&self, asked: &Url, location: &str) -> Result<Url, AddressError> {
        let shown = || location.chars().take(300).collect();
        let mut url = asked.join(location).map_err(|_| AddressError::Malformed(shown()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(AddressError::Malformed(shown()));
        }
        // A login in a URL would be sent along, in the clear where the scheme says so.
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return Err(AddressError::Malformed(shown()));
        }
        url.set_fragment(None);
        if self.base.scheme() == "https" && url.scheme() == "http" {
            if url.host() == self.base.host() && (url.port().is_none() || url.port() == self.base.port()) {
                let path = url[url::Position::BeforePath..].to_owned();
                return self.base.join(&path).map_err(|_| AddressError::Malformed(shown()));
            }
            return Err(AddressError::Downgrade(origin_text(&url)));
        }
        Ok(url)
    }

    /// Whether the registry itself is in a private network, by what its name resolves to.
    pub async fn is_private(&self) -> bool {
        let port = self.base.port_or_known_default().unwrap_or(443);
        match self.base.host() {
            Some(Host::Domain(name)) => {
                is_loopback(&self.base)
                    // A name that only a proxy can resolve counts as public: the stricter side.
                    || tokio::net::lookup_host((name, port)).await.is_ok_and(|mut found| found.any(|at| is_private(at.ip())))
            }
            Some(Host::Ipv4(address)) => is_private(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => is_private(IpAddr::V6(address)),
            None => false,
        }
    }
}

/// Refuses URLs that name a private address outright; names are checked by [`PublicOnly`] when they are resolved.
pub fn refuse_private_literal(url: &Url) -> Result<(), AddressError> {
    let private = match url.host() {
        Some(Host::Ipv4(address)) => is_private(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => is_private(IpAddr::V6(address)),
        _ => is_loopback(url),
    };
    if private { Err(AddressError::Private(origin_text(url))) } else { Ok(()) }
}

/// The scheme, host and port: the part of a URL that may be printed (the rest can be signed).
pub fn origin_text(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback() || address.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
        None => false,
    }
}

/// Whether an address is not one of the public internet.
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local() // 169.254.169.254 answers for cloud machines' credentials
        || address.is_unspecified()
        || address.is_broadcast()
        || address.is_multicast()
        || first == 0
        || first >= 240
        || (first == 100 && second & 0xc0 == 64) // carrier-grade NAT, RFC 6598
        || (first == 192 && second == 0 && third == 0) // RFC 6890
        || (first == 198 && second & 0xfe == 18) // benchmarks, RFC 2544
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Forms that carry an IPv4 address: mapped, compatible, NAT64 (RFC 6052) and 6to4.
    let [.., high, low] = segments;
    let carried = |high: u16, low: u16| is_private_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || segments[0] & 0xfe00 == 0xfc00 // unique local
        || segments[0] & 0xffc0 == 0xfe80 // link local
        || segments[0] & 0xffc0 == 0xfec0 // site local, long out of use
        || (segments[..6] == [0, 0, 0, 0, 0, 0xffff] && carried(high, low))
        || (segments[..6] == [0; 6] && carried(high, low))
        || (segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] && carried(high, low))
        || (segments[0] == 0x2002 && carried(segments[1], segments[2]))
}

/// Resolves names to public addresses only. The check is made on the very addresses that are then connected to, so that a
/// name which changes its mind between two look-ups (DNS rebinding) gains nothing.
pub struct PublicOnly {
    /// Names that may be private all the same: those of the user's proxies.
    pub except: BTreeSet<String>,
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let excepted = self.except.contains(name.as_str());
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if !excepted && found.iter().any(|at| is_private(at.ip())) {
                return Err(AddressError::Private(name.as_str().to_owned()).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_unless_told() {
        for (registry, told, base) in [
            ("127.0.0.1:5000", None, "http://127.0.0.1:5000/"),
            ("localhost", None, "http://localhost/"),
            ("[::1]:5000", None, "http://[::1]:5000/"),
            ("registry.example:5000", None, "https://registry.example:5000/"),
            ("10.0.0.7:5000", None, "https://10.0.0.7:5000/"),
            ("registry.example:5000", Some(true), "http://registry.example:5000/"),
            ("127.0.0.1:5000", Some(false), "https://127.0.0.1:5000/"),
            ("docker.io", None, "https://registry-1.docker.io/"),
        ] {
            assert_eq!(Address::new(registry, told).unwrap().base.as_str(), base);
        }
        for wrong in ["", "a b", "user@host", "host/path", "host?x"] {
            assert!(Address::new(wrong, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn locations_of_every_form_lead_where_they_say() {
        let address = Address::new("registry.example", None).unwrap();
        let asked = Url::parse("https://registry.example/v2/a/blobs/uploads/").unwrap();
        for (location, url) in [
            ("/v2/a/blobs/uploads/7?_state=x%2By", "https://registry.example/v2/a/blobs/uploads/7?_state=x%2By"),
            ("7", "https://registry.example/v2/a/blobs/uploads/7"),
            ("https://storage.example/put?sig=1#x", "https://storage.example/put?sig=1"),
            ("http://registry.example/v2/a/blobs/uploads/7?q", "https://registry.example/v2/a/blobs/uploads/7?q"),
            ("https://user:password@registry.example/x", "https://registry.example/x"),
        ] {
            assert_eq!(address.follow(&asked, location).unwrap().as_str(), url);
        }
        for wrong in ["http://registry.example:81/x", "http://other.example/x", "ftp://registry.example/x", "https://", "mailto:x"] {
            assert!(address.follow(&asked, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn private_networks_are_known_in_every_disguise() {
        for url in [
            "https://127.0.0.1/",
            "https://10.1.2.3/",
            "https://172.16.0.1/",
            "https://192.168.1.1/",
            "https://169.254.169.254/latest",
            "https://0.0.0.0/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://localhost/",
            "https://a.localhost./",
            "https://[::1]/",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[64:ff9b::a00:1]/",
            "https://100.64.0.1/",
        ] {
            assert!(refuse_private_literal(&Url::parse(url).unwrap()).is_err(), "{url}");
        }
        for url in ["https://8.8.8.8/", "https://registry.example/", "https://[2606:4700::1]/", "https://172.32.0.1/"] {
            assert!(refuse_private_literal(&Url::parse(url).unwrap()).is_ok(), "{url}");
        }
    }
}
