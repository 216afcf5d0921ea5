//! Addresses that candidates are made of.

use std::net::{IpAddr, SocketAddr};

/// One address to offer; the port is the socket's unless it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    ip: IpAddr,
    port: Option<u16>,
}

impl Address {
    /// "192.0.2.1", "[2001:db8::1]", "2001:db8::1", "198.51.100.7:4000".
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(addr) = text.parse::<SocketAddr>() {
            let port = Some(addr.port()).filter(|p| *p != 0);
            return Some(Address {
                ip: addr.ip(),
                port,
            });
        }
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        let ip = bare.unwrap_or(text).parse().ok()?;
        Some(Address { ip, port: None })
    }

    /// The address to write into an answer; `port`: the socket's own.
    pub(super) fn with_port(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_every_documented_form() {
        let with = |text: &str| Address::parse(text).map(|a| a.with_port(5_000).to_string());
        assert_eq!(with("192.0.2.1").as_deref(), Some("192.0.2.1:5000"));
        assert_eq!(with("[2001:db8::1]").as_deref(), Some("[2001:db8::1]:5000"));
        assert_eq!(with("2001:db8::1").as_deref(), Some("[2001:db8::1]:5000"));
        assert_eq!(
            with("198.51.100.7:4000").as_deref(),
            Some("198.51.100.7:4000")
        );
        assert_eq!(
            with("[2001:db8::1]:4000").as_deref(),
            Some("[2001:db8::1]:4000")
        );
        for bad in ["", "example", "1.2.3", "1.2.3.4:99999", "[1.2.3.4"] {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
    }
}
