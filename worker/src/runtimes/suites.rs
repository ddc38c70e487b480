//! Where the packages of a Debian release come from: the host's own mirror and settings, whatever release the host runs.

use std::collections::BTreeSet;

/// Where Debian's packages keep the archive's keys; used where it exists.
pub(super) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Codename of the host's release from `/etc/os-release`.
pub(super) fn codename(os_release: &str) -> Option<&str> {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|value| value.trim_matches('"'))
}

/// Sources of `suite` in apt's deb822 format. `targets` are lines `URI RELEASE` of the host's own configuration, of which
/// those of `host`'s release and its updates are taken. None when the host has no source of Debian.
pub(super) fn sources(
    targets: &str,
    host: &str,
    suite: &str,
    keyring: Option<&str>,
) -> Option<String> {
    let mut found = BTreeSet::new();
    for line in targets.lines() {
        let Some((uri, release)) = line.split_once(' ') else {
            continue;
        };
        if let Some(kind) = release.strip_prefix(host)
            && matches!(kind, "" | "-updates" | "-security")
        {
            found.insert((uri, kind));
        }
    }
    let signed_by = keyring.map_or_else(String::new, |path| format!("Signed-By: {path}\n"));
    let mut text = String::new();
    for (uri, kind) in &found {
        text.push_str(&format!(
            "Types: deb\nURIs: {uri}\nSuites: {suite}{kind}\nComponents: main\n{signed_by}\n"
        ));
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_release_comes_from_the_hosts_own_mirror() {
        let targets = "http://mirror/debian/ bookworm\nhttp://mirror/debian/ bookworm\nhttp://mirror/debian/ bookworm-updates\n\
                       http://mirror/security/ bookworm-security\nhttps://elsewhere/node nodistro\n";
        let text = sources(targets, "bookworm", "trixie", Some("/k")).unwrap();
        assert_eq!(
            text,
            "Types: deb\nURIs: http://mirror/debian/\nSuites: trixie\nComponents: main\nSigned-By: /k\n\n\
             Types: deb\nURIs: http://mirror/debian/\nSuites: trixie-updates\nComponents: main\nSigned-By: /k\n\n\
             Types: deb\nURIs: http://mirror/security/\nSuites: trixie-security\nComponents: main\nSigned-By: /k\n\n"
        );
        assert_eq!(
            sources(
                "https://elsewhere/node nodistro",
                "bookworm",
                "trixie",
                None
            ),
            None
        );
    }

    #[test]
    fn the_hosts_release_is_read() {
        let text = "ID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(codename(text), Some("bookworm"));
        assert_eq!(codename("ID=arch\n"), None);
    }
}
