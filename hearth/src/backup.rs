//! `hearth backup` and `hearth restore`: the file, its name and its progress. Its layout is the controller crate's.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hearth_controller::backup::{self, Manifest, NewCluster, Restored};
use hearth_node::Seams;
use hearth_node::clock::SharedClock;
use hearth_node::data_dir::write_atomic;
use hearth_node::grpc::with_deadline;
use hearth_proto::internal::v1 as pb;
use pb::backup_part::Part;
use pb::backups_client::BackupsClient;
use pb::cluster_admin_client::ClusterAdminClient;
use tokio::io::AsyncWriteExt as _;

use crate::cli::{BackupArgs, BackupCommand, MembersArgs, RestoreArgs};
use crate::members;
use crate::up;

/// How long a controller may be silent before the backup is given up. Reading a blob from another controller is within it.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a controller may take to say who leads.
const ASK_DEADLINE: Duration = Duration::from_secs(3);
/// Time between two lines of progress.
const TELL_EVERY_MS: u64 = 2_000;
/// The controller a restored cluster has.
const FIRST_CONTROLLER: u64 = 1;

pub(crate) async fn run(args: BackupArgs) -> anyhow::Result<()> {
    let clock = Seams::system().clock;
    if let Some(BackupCommand::Verify { file }) = &args.command {
        let manifest = backup::verify(file, &mut Progress::new(&clock, "checked").into_fn())
            .with_context(|| file.display().to_string())?;
        println!("{}", told(&manifest));
        return Ok(());
    }
    let file = args.file.context("the file to write is missing")?;
    let temporary = beside(&file)?;
    let outcome = take(&args.at, &temporary, &file, &clock).await;
    if outcome.is_err() {
        // A backup that is not whole must not lie around.
        let _ = std::fs::remove_file(&temporary);
    }
    println!("{}: {}", file.display(), told(&outcome?));
    Ok(())
}

/// What is in a backup, on one line.
fn told(manifest: &Manifest) -> String {
    format!(
        "backup of cluster {} as of index {}: {} functions, {} blobs, every digest is right",
        manifest.cluster_id,
        manifest.applied_index,
        manifest.functions,
        manifest.blobs()
    )
}

/// The name of the file until it is whole.
fn beside(file: &Path) -> anyhow::Result<PathBuf> {
    let name = file
        .file_name()
        .with_context(|| format!("{} is no file name", file.display()))?;
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    Ok(file.with_file_name(temporary))
}

/// Writes, checks, syncs, and only then gives the file its name.
async fn take(
    at: &MembersArgs,
    temporary: &Path,
    file: &Path,
    clock: &SharedClock,
) -> anyhow::Result<Manifest> {
    receive(at, temporary, clock).await?;
    let manifest = backup::verify(temporary, &mut Progress::new(clock, "checked").into_fn())
        .context("what the controller sent is not whole")?;
    std::fs::rename(temporary, file).with_context(|| format!("writing {}", file.display()))?;
    let dir = match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    std::fs::File::open(dir)
        .and_then(|dir| dir.sync_all())
        .with_context(|| format!("syncing {}", dir.display()))?;
    Ok(manifest)
}

async fn receive(at: &MembersArgs, temporary: &Path, clock: &SharedClock) -> anyhow::Result<()> {
    let (addr, channel) = leader(at).await?;
    let mut client = BackupsClient::new(channel);
    let begun = with_deadline(client.take(pb::TakeBackupRequest {}), SILENCE).await;
    let mut parts = match begun {
        Ok(reply) => reply.into_inner(),
        Err(status) => bail!("controller {addr} answers: {}", status.message()),
    };
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary);
    let opened = opened.with_context(|| format!("making {}", temporary.display()))?;
    let mut out = tokio::fs::File::from_std(opened);
    let (mut done, mut total) = (0, 0);
    let mut progress = Progress::new(clock, "received").into_fn();
    loop {
        let part = match with_deadline(parts.message(), SILENCE).await {
            Ok(None) => break,
            Ok(Some(message)) => message.part,
            Err(status) => bail!("controller {addr} breaks off: {}", status.message()),
        };
        match part {
            Some(Part::Head(head)) => total = head.bytes,
            Some(Part::Data(data)) => {
                done += data.len() as u64;
                out.write_all(&data)
                    .await
                    .with_context(|| format!("writing {}", temporary.display()))?;
                progress(done, total);
            }
            None => bail!("controller {addr} is of a later release"),
        }
    }
    if done != total {
        bail!("controller {addr} breaks off after {done} of {total} bytes");
    }
    out.sync_all()
        .await
        .with_context(|| format!("writing {}", temporary.display()))
}

/// The leader has applied the most, and it alone can keep blobs of a shared store from being collected.
async fn leader(at: &MembersArgs) -> anyhow::Result<(String, members::Channel)> {
    let (addr, channel) = members::find(at).await?;
    let mut client = ClusterAdminClient::new(channel.clone());
    let asked = with_deadline(client.members(pb::MembersRequest {}), ASK_DEADLINE).await;
    let reply = match asked {
        Ok(reply) => reply.into_inner(),
        Err(status) => bail!("controller {addr} answers: {}", status.message()),
    };
    let leader = reply.members.into_iter().find(|m| m.id == reply.leader_id);
    match leader {
        Some(leader) if leader.addr != addr => {
            let at = MembersArgs {
                controller: Some(leader.addr),
                data_dir: at.data_dir.clone(),
                tls_dir: at.tls_dir.clone(),
            };
            // One that cannot be reached from here is not needed: any controller can answer, except for a shared store.
            Ok(members::find(&at).await.unwrap_or((addr, channel)))
        }
        Some(_) | None => Ok((addr, channel)),
    }
}

pub(crate) async fn restore(args: RestoreArgs) -> anyhow::Result<()> {
    let seams = Seams::system();
    let mut progress = Progress::new(&seams.clock, "done").into_fn();
    let named = || args.file.display().to_string();
    if args.dry_run {
        let manifest = backup::verify(&args.file, &mut progress).with_context(named)?;
        println!("{}", told(&manifest));
        return Ok(());
    }
    let data_dir = args.data_dir.clone().context("--data-dir is needed")?;
    let data_dir = std::path::absolute(data_dir).context("finding the data dir")?;
    if data_dir.exists() && std::fs::read_dir(&data_dir)?.next().is_some() {
        bail!(
            "{} is not empty: restore makes a new data directory",
            data_dir.display()
        );
    }
    let listen: SocketAddr = ([127, 0, 0, 1], 9100).into();
    let mut cluster = up::plan_restored(listen, &seams)?;
    let controller = up::addresses(&cluster, up::Role::Controller).next();
    let addr = match (&args.addr, controller) {
        (Some(addr), _) => addr.clone(),
        (None, Some(addr)) => addr.to_string(),
        (None, None) => bail!("a cluster has a controller"),
    };
    let new = NewCluster {
        data_dir: data_dir.join(format!("controller-{FIRST_CONTROLLER}")),
        cluster_id: (!args.same_cluster).then(|| cluster.cluster_id.clone()),
        node_id: FIRST_CONTROLLER,
        addr,
    };
    let existed = data_dir.exists();
    let outcome = backup::restore(&args.file, &new, &mut progress).await;
    if outcome.is_err() && !existed {
        let _ = std::fs::remove_dir(&data_dir);
    }
    let restored = outcome.with_context(named)?;
    cluster.cluster_id.clone_from(&restored.cluster_id);
    cluster.region.clone_from(&restored.manifest.region);
    if let Some(account) = args.account_id.clone().or_else(|| only_account(&restored)) {
        cluster.account_id = account;
    }
    // With an address that is not one of this machine's, `hearth up` is not what will run it.
    if args.addr.is_none() {
        let bytes = serde_json::to_vec_pretty(&cluster).context("encoding cluster.json")?;
        write_atomic(&data_dir.join("cluster.json"), &bytes, 0o644)
            .context("writing cluster.json")?;
    }
    print!("{}", advice(&args, &data_dir, &new, &restored));
    Ok(())
}

/// Whose the functions are, when they are one account's.
fn only_account(restored: &Restored) -> Option<String> {
    match restored.accounts.as_slice() {
        [account] => Some(account.to_string()),
        _ => None,
    }
}

fn advice(args: &RestoreArgs, data_dir: &Path, new: &NewCluster, restored: &Restored) -> String {
    let dir = data_dir.display();
    let mut text = format!("{}\nrestored into {dir}\n", told(&restored.manifest));
    if args.addr.is_none() {
        text.push_str(&format!("start it with:  hearth up --data-dir {dir}\n"));
    }
    text.push_str(&format!(
        "or as `hearth controller` with:\n  node_id = {}\n  cluster_id = \"{}\"\n  data_dir = \"{}\"\n  region = \"{}\"\n  peers = {{ {} = \"{}\" }}\n",
        new.node_id,
        restored.cluster_id,
        new.data_dir.display(),
        restored.manifest.region,
        new.node_id,
        new.addr
    ));
    if args.same_cluster {
        text.push_str(
            "it has the id of the old cluster: no controller of that must ever run again; restart workers and gateways\n",
        );
    }
    text
}

/// Tells on standard error how far something long has come.
struct Progress {
    clock: SharedClock,
    what: &'static str,
    told_ms: u64,
}

impl Progress {
    fn new(clock: &SharedClock, what: &'static str) -> Self {
        Self {
            clock: clock.clone(),
            what,
            told_ms: clock.monotonic_ms(),
        }
    }

    fn into_fn(mut self) -> impl FnMut(u64, u64) + Send {
        move |done, total| {
            let now = self.clock.monotonic_ms();
            if now.saturating_sub(self.told_ms) >= TELL_EVERY_MS {
                self.told_ms = now;
                let mib = |bytes: u64| bytes / (1024 * 1024);
                eprintln!("{} {} of {} MiB", self.what, mib(done), mib(total));
            }
        }
    }
}
