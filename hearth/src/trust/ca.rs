//! `hearth ca`: a cluster's CA in a directory (`ca.pem`, `ca.key`), certificates issued from it, and its replacement.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hearth_node::Seams;
use hearth_node::tls::{
    Authority, Bundle, Credentials, KeyPem, NodeName, NodeRole, TlsFiles, rfc3339,
};

use crate::cli::{CaCommand, RotateStep};

/// A CA's files.
#[derive(Debug, Clone)]
pub(crate) struct CaDir {
    /// What is trusted, PEM.
    pub(crate) bundle: PathBuf,
    /// The key that signs.
    pub(crate) key: PathBuf,
    /// The key that will, while the CA is replaced.
    next: PathBuf,
}

impl CaDir {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            bundle: dir.join("ca.pem"),
            key: dir.join("ca.key"),
            next: dir.join("next.key"),
        }
    }

    pub(crate) fn load(&self) -> anyhow::Result<(Authority, Bundle)> {
        let bundle = Bundle::load(&self.bundle)?;
        let authority = Authority::of(&bundle, &KeyPem::load(&self.key)?)?;
        Ok((authority, bundle))
    }

    /// A new CA, unless there is one.
    pub(crate) fn ensure(&self, cluster: &str, now_ms: u64) -> anyhow::Result<(Authority, Bundle)> {
        if self.bundle.exists() && self.key.exists() {
            return self.load();
        }
        if self.bundle.exists() || self.key.exists() {
            bail!(
                "{} and {} belong together, and one of them is missing: bring it back from a backup, or take the other away for a new CA",
                self.bundle.display(),
                self.key.display()
            );
        }
        self.make_dir()?;
        let authority = Authority::generate(cluster, now_ms)?;
        let bundle = Bundle::of(&[authority.certificate()]);
        authority.key_pem().save(&self.key)?;
        bundle.save(&self.bundle)?;
        Ok((authority, bundle))
    }

    fn make_dir(&self) -> anyhow::Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        let dir = self.bundle.parent().context("a file is in a directory")?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(|| format!("making {}", dir.display()))
    }

    /// A second CA, trusted beside the first.
    fn begin(&self, cluster: &str, now_ms: u64) -> anyhow::Result<()> {
        let (_, bundle) = self.load()?;
        if self.next.exists() {
            bail!(
                "a replacement has begun already: {} is there",
                self.next.display()
            );
        }
        let next = Authority::generate(cluster, now_ms)?;
        next.key_pem().save(&self.next)?;
        let mut all: Vec<_> = bundle.certificates().iter().collect();
        all.push(next.certificate());
        Bundle::of(&all).save(&self.bundle)?;
        Ok(())
    }

    /// The second CA signs from now on.
    fn switch(&self) -> anyhow::Result<()> {
        let bundle = Bundle::load(&self.bundle)?;
        if !self.next.exists() {
            bail!(
                "no replacement has begun: {} is not there",
                self.next.display()
            );
        }
        Authority::of(&bundle, &KeyPem::load(&self.next)?)?;
        std::fs::rename(&self.next, &self.key)
            .with_context(|| format!("renaming {}", self.next.display()))
    }

    /// Only the CA that signs is trusted from now on.
    fn finish(&self) -> anyhow::Result<()> {
        if self.next.exists() {
            bail!("the new CA does not sign yet: `switch` comes first");
        }
        let (authority, _) = self.load()?;
        Bundle::of(&[authority.certificate()]).save(&self.bundle)?;
        Ok(())
    }
}

/// Sees to a certificate for `name` in `dir` that is signed by the CA in use and does not have to be renewed yet.
pub(crate) fn ensure_issued(
    (authority, bundle): &(Authority, Bundle),
    name: &NodeName,
    dir: &Path,
    life: Duration,
    now_ms: u64,
) -> anyhow::Result<()> {
    let known = Credentials::load(&TlsFiles::in_dir(dir))
        .ok()
        .filter(|known| {
            known.name == *name
                && known.bundle == *bundle
                && known.issuer == authority.fingerprint()
                && known.validity.is_good(now_ms)
                && !known.validity.is_due(now_ms)
        });
    if known.is_none() {
        authority.issue(bundle, name, now_ms, life)?.save(dir)?;
    }
    Ok(())
}

pub(crate) fn run(command: &CaCommand) -> anyhow::Result<()> {
    let now_ms = Seams::system().clock.unix_ms();
    match command {
        CaCommand::Init { dir, cluster_id } => {
            NodeName::new(cluster_id, NodeRole::Controller, 1)?;
            let files = CaDir::new(dir);
            if files.bundle.exists() || files.key.exists() {
                bail!("there is a CA in {} already", dir.display());
            }
            let (authority, _) = files.ensure(cluster_id, now_ms)?;
            println!("{}", authority.fingerprint());
            Ok(())
        }
        CaCommand::Issue {
            ca,
            cluster_id,
            role,
            id,
            out,
            life,
        } => {
            let name = NodeName::new(cluster_id, *role, *id)?;
            let (authority, bundle) = CaDir::new(ca).load()?;
            let credentials = authority.issue(&bundle, &name, now_ms, life.0)?;
            credentials.save(out)?;
            let until = rfc3339(credentials.validity.not_after_ms);
            println!(
                "{name}: {} is good until {until}",
                out.join("node.pem").display()
            );
            Ok(())
        }
        CaCommand::Rotate {
            dir,
            cluster_id,
            step,
        } => {
            let files = CaDir::new(dir);
            match step {
                RotateStep::Begin => {
                    NodeName::new(cluster_id, NodeRole::Controller, 1)?;
                    files.begin(cluster_id, now_ms)
                }
                RotateStep::Switch => files.switch(),
                RotateStep::Finish => files.finish(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    #[test]
    fn a_ca_is_made_once_and_replaced_in_three_steps() {
        let dir = tempfile::tempdir().unwrap();
        let files = CaDir::new(&dir.path().join("ca"));
        let (first, _) = files.ensure("c", NOW).unwrap();
        let (same, _) = files.ensure("c", NOW).unwrap();
        assert_eq!(first.fingerprint(), same.fingerprint());
        assert!(files.switch().is_err(), "nothing has begun");

        files.begin("c", NOW).unwrap();
        assert!(files.begin("c", NOW).is_err(), "once at a time");
        assert!(files.finish().is_err(), "the old one still signs");
        let (signs, bundle) = files.load().unwrap();
        assert_eq!(signs.fingerprint(), first.fingerprint());
        assert_eq!(bundle.certificates().len(), 2);

        files.switch().unwrap();
        let (signs, bundle) = files.load().unwrap();
        assert_ne!(signs.fingerprint(), first.fingerprint());
        assert_eq!(bundle.certificates().len(), 2);

        files.finish().unwrap();
        let (_, bundle) = files.load().unwrap();
        assert_eq!(bundle.fingerprints(), [signs.fingerprint()]);
    }

    #[test]
    fn half_a_ca_is_not_replaced_silently() {
        let dir = tempfile::tempdir().unwrap();
        let files = CaDir::new(dir.path());
        files.ensure("c", NOW).unwrap();
        std::fs::remove_file(&files.key).unwrap();
        assert!(files.ensure("c", NOW).is_err());
    }

    #[test]
    fn a_certificate_is_issued_again_only_when_it_must_be() {
        let dir = tempfile::tempdir().unwrap();
        let ca = CaDir::new(&dir.path().join("ca")).ensure("c", NOW).unwrap();
        let tls = dir.path().join("tls");
        let name = NodeName::new("c", NodeRole::Worker, 1).unwrap();
        let life = Duration::from_secs(3_000);
        let issue = |now| {
            ensure_issued(&ca, &name, &tls, life, now).unwrap();
            std::fs::read(tls.join("node.pem")).unwrap()
        };
        let first = issue(NOW);
        assert_eq!(issue(NOW + 1_000_000), first);
        assert_ne!(
            issue(NOW + 2_500_000),
            first,
            "two thirds of its life are over"
        );
    }
}
