//! Name servers: which of the host's a sandbox can use, and how it is told.

use std::fs;
use std::io;
use std::net::Ipv4Addr;

/// Where hosts say whom they ask; with systemd-resolved the first names a server on loopback, the second the real ones.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// A stub resolver asks the first three.
const SERVERS_MAX: usize = 3;

/// The IPv4 servers of a `resolv.conf` that are no loopback addresses: those are the host's own.
fn servers(text: &str) -> Vec<Ipv4Addr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse::<Ipv4Addr>().ok())
        .filter(|server| !server.is_loopback() && !server.is_unspecified())
        .take(SERVERS_MAX)
        .collect()
}

/// The servers that this host uses; none when it uses none that can be reached from elsewhere.
pub(super) fn of_host() -> io::Result<Vec<Ipv4Addr>> {
    for file in FILES {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(super::named(file)(error)),
        };
        let found = servers(&text);
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// What a sandbox finds in `/etc/resolv.conf`.
pub(super) fn text(dns: &[Ipv4Addr]) -> String {
    let mut text = String::new();
    for server in dns {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text.push_str("options timeout:2 attempts:2\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_on_loopback_are_the_hosts_own() {
        let file = "# a comment\nsearch example.org\nnameserver 127.0.0.53\nnameserver ::1\nnameserver  10.0.0.2 \nnameserver 10.0.0.3\n";
        let found = servers(file);
        assert_eq!(
            found,
            [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)]
        );
        assert_eq!(servers(&text(&found)), found);
        assert!(servers("nameserver nonsense\n").is_empty());
    }
}
