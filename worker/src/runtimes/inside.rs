//! Running programs of a tree in that tree: a mount namespace of its own with `/proc`, the host's `/dev` and an empty `/tmp`,
//! the working directory as `/tmp/work` and, for tools, the root that becomes the pack as `/tmp/root`. Everything ends with
//! the program, and with the installer.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::command::run;
use super::install::{InstallError, Workshop};
use super::recipe::{Make, Tree};

pub(super) const ADVICE: &str =
    "parts of this runtime are made by programs of its own, which needs root and util-linux";

/// The shell stays process 1: the kernel would keep a program that is it from being ended by SIGTERM.
///
/// Arguments: the tree, the working directory, the pack's root or nothing, the function's code or nothing,
/// then what is run.
const ENTER: &str = r#"
set -e
tree=$1 work=$2 root=$3 task=$4
shift 4
mount --bind "$tree" "$tree"
mount -t proc proc "$tree/proc"
mount --rbind /dev "$tree/dev"
mount -t tmpfs -o mode=1777 tmpfs "$tree/tmp"
mkdir "$tree/tmp/work"
mount --bind "$work" "$tree/tmp/work"
if [ -n "$root" ]; then mkdir "$tree/tmp/root"; mount --bind "$root" "$tree/tmp/root"; fi
if [ -n "$task" ]; then mount --bind "$task" "$tree/var/task"; fi
chroot "$tree" "$@" || exit $?
exit 0
"#;

/// A program in a tree; arguments are added by the caller. `task` becomes `/var/task`.
pub(super) fn command(work: &Workshop, tree: Tree, task: Option<&Path>) -> Command {
    let (tree, root) = match tree {
        Tree::Root => (work.root(), None),
        Tree::Tools => (work.tools(), Some(work.root())),
    };
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "sh",
            "-c",
            ENTER,
            "sh",
        ])
        .arg(tree)
        .arg(work.work())
        .arg(root.unwrap_or_default())
        .arg(task.unwrap_or_else(|| Path::new("")))
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/tmp")
        .env("LC_ALL", "C")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a script of the recipe.
pub(super) async fn script(work: &Workshop, tree: Tree, make: &Make) -> Result<(), InstallError> {
    let mut command = command(work, tree, None);
    command.args(["/bin/bash", "-euo", "pipefail", "-c"]);
    command.arg(format!("cd /tmp/work\n{}", make.script));
    run(&mut command, &make.step, ADVICE).await?;
    Ok(())
}
