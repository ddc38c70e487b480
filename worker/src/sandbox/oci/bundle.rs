//! A sandbox as the OCI runtime specification writes it: `config.json`, as a pure function, and what a runtime's log
//! says about a start that failed.

use std::path::{Path, PathBuf};

use hearth_core::limits::SANDBOX_DESCRIPTORS;
use nix::errno::Errno;
use serde_json::{Value, json};

use super::wire::ShimRequest;
use crate::sandbox::driver::{SANDBOX_GID, SANDBOX_UID};
use crate::sandbox::native::config::ID_RANGE;
use crate::sandbox::native::rootfs::{MASKED_DIRECTORIES, MASKED_FILES, SHM_MIB};
use crate::sandbox::native::seccomp::oci_profile;
use crate::sandbox::native::wire::Failure;

/// The version of the specification that is written; every runtime of the last years reads it.
const OCI_VERSION: &str = "1.0.2";

/// Where the parts of a sandbox are on the host, inside the shim's mount namespace.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) root: PathBuf,
    /// One for each mount of the request.
    pub(super) mounts: Vec<PathBuf>,
    /// `None`: a tmpfs.
    pub(super) tmp: Option<PathBuf>,
    /// The network namespace.
    pub(super) network: PathBuf,
}

/// `config.json`.
pub(super) fn config(request: &ShimRequest, places: &Places) -> Value {
    let start = &request.start;
    let nothing: [&str; 0] = [];
    let mut namespaces = vec![
        json!({"type": "pid"}),
        json!({"type": "ipc"}),
        json!({"type": "uts"}),
        json!({"type": "mount"}),
        json!({"type": "cgroup"}),
        json!({"type": "network", "path": places.network}),
    ];
    let mut linux = json!({
        "maskedPaths": MASKED_FILES.iter().chain(&MASKED_DIRECTORIES).map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
        "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
        "seccomp": oci_profile(),
    });
    if request.runtime.user_namespace {
        namespaces.push(json!({"type": "user"}));
        let ids = json!([{"containerID": 0, "hostID": start.uid_base, "size": ID_RANGE}]);
        linux["uidMappings"] = ids.clone();
        linux["gidMappings"] = ids;
    }
    linux["namespaces"] = Value::Array(namespaces);
    if let Some(group) = &request.group {
        linux["cgroupsPath"] = json!(group);
    }
    json!({
        "ociVersion": OCI_VERSION,
        "hostname": start.hostname,
        "root": {"path": places.root, "readonly": true},
        "process": {
            "terminal": false,
            "user": {"uid": SANDBOX_UID, "gid": SANDBOX_GID, "umask": 0o022},
            "args": start.argv,
            "env": start.env,
            "cwd": start.cwd,
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": nothing, "effective": nothing, "inheritable": nothing, "permitted": nothing, "ambient": nothing,
            },
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "soft": SANDBOX_DESCRIPTORS, "hard": SANDBOX_DESCRIPTORS},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            ],
        },
        "mounts": mounts(request, places),
        "linux": linux,
    })
}

fn mounts(request: &ShimRequest, places: &Places) -> Vec<Value> {
    let tmpfs = |target: &str, options: &[&str]| json!({"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options});
    let bind = |source: &Path, target: &str, options: &[&str]| json!({"destination": target, "type": "bind", "source": source, "options": options});
    let shm = format!("size={SHM_MIB}m");
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "nodev", "noexec"]}),
        tmpfs("/dev", &["nosuid", "noexec", "mode=755", "size=64k"]),
        tmpfs(
            "/dev/shm",
            &["nosuid", "nodev", "noexec", "mode=1777", &shm],
        ),
    ];
    mounts.push(match &places.tmp {
        Some(tmp) => bind(tmp, "/tmp", &["bind", "rw", "nosuid", "nodev"]),
        None => {
            let size = format!("size={}m", request.start.tmp_mib);
            let (uid, gid) = (format!("uid={SANDBOX_UID}"), format!("gid={SANDBOX_GID}"));
            tmpfs("/tmp", &["nosuid", "nodev", "mode=0700", &uid, &gid, &size])
        }
    });
    let further = request.start.mounts.iter().zip(&places.mounts);
    mounts.extend(further.map(|(wanted, source)| {
        let access = if wanted.writable { "rw" } else { "ro" };
        bind(source, &wanted.target, &["bind", access, "nosuid", "nodev"])
    }));
    mounts
}

/// What a runtime's log says about a start that failed: whether it was the program that could not be executed. Runtimes
/// pass on what the kernel or Go's `exec.LookPath` said; there is no code for it.
pub(super) fn failure(step: &str, log: &str, program: &str) -> Failure {
    let messages = errors(log);
    let is_about_program = |message: &&String| {
        let words = ["exec", "stat", "executable", "load"];
        message.contains(program) && words.iter().any(|word| message.contains(word))
    };
    let about_program = messages.iter().find(is_about_program);
    if let Some(errno) = about_program.and_then(|message| errno_in(message)) {
        return Failure::Exec {
            errno: errno as i32,
        };
    }
    let message = messages.last().map_or("it said nothing", String::as_str);
    Failure::Setup {
        step: format!(
            "{step}: {}",
            message.chars().take(MESSAGE_MAX).collect::<String>()
        ),
        errno: errno_in(message).unwrap_or(Errno::EIO) as i32,
    }
}

/// Whether a runtime failed, and not only the program it ran.
pub(super) fn has_error(log: &str) -> bool {
    !errors(log).is_empty()
}

/// What `state` printed of a program that was executed.
pub(super) fn is_running(state: &[u8]) -> bool {
    let state = serde_json::from_slice::<Value>(state).unwrap_or_default();
    matches!(state["status"].as_str(), Some("running" | "stopped"))
}

/// Characters of a runtime's message that are passed on.
const MESSAGE_MAX: usize = 300;

/// The errors of a log: JSON objects, one after the other, with or without lines between them; else the log as it is.
fn errors(log: &str) -> Vec<String> {
    let entries = serde_json::Deserializer::from_str(log).into_iter::<Value>();
    let errors: Vec<String> = entries
        .map_while(Result::ok)
        .filter(|entry| entry["level"] == "error" || entry["level"] == "fatal")
        .filter_map(|entry| entry["msg"].as_str().map(str::to_owned))
        .collect();
    if errors.is_empty() && !log.trim().is_empty() {
        return vec![log.trim().to_owned()];
    }
    errors
}

fn errno_in(message: &str) -> Option<Errno> {
    let said = [
        ("no such file or directory", Errno::ENOENT),
        ("not found", Errno::ENOENT),
        ("permission denied", Errno::EACCES),
        ("exec format error", Errno::ENOEXEC),
        ("is a directory", Errno::EISDIR),
    ];
    let message = message.to_lowercase();
    let found = said.into_iter().find(|(words, _)| message.contains(words));
    found.map(|(_, errno)| errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::native::wire::MountRequest;
    use crate::sandbox::native::wire::StartRequest;
    use crate::sandbox::oci::config::{ExitSource, OciConfig};

    fn request(user_namespace: bool) -> ShimRequest {
        ShimRequest {
            runtime: OciConfig {
                program: "/usr/bin/runc".into(),
                args: Vec::new(),
                user_namespace,
                exit_status: ExitSource::Process,
            },
            id: "1-2".into(),
            directory: "/run/x".into(),
            group: Some("/hearth/w/7".into()),
            join: None,
            thaw: None,
            start: StartRequest {
                key: 0,
                root: "/packs/python".into(),
                mounts: vec![MountRequest {
                    source: "/code".into(),
                    target: "/var/task".into(),
                    writable: false,
                }],
                argv: vec!["/usr/bin/python3".into()],
                env: vec!["A=b".into()],
                cwd: "/var/task".into(),
                hostname: "lambda".into(),
                tmp_mib: 512,
                uid_base: 200_000,
                tasks: 0,
                cgroup_dir: false,
                scratch: false,
                extensions: Vec::new(),
                extension_env: Vec::new(),
                held: false,
            },
        }
    }

    fn places() -> Places {
        Places {
            root: "/run/x/root".into(),
            mounts: vec!["/run/x/m0".into()],
            tmp: None,
            network: "/proc/5/fd/3".into(),
        }
    }

    #[test]
    fn no_privilege_is_written_into_a_configuration() {
        let config = config(&request(true), &places());
        let process = &config["process"];
        assert_eq!(process["noNewPrivileges"], true);
        for (set, capabilities) in process["capabilities"].as_object().unwrap() {
            assert_eq!(capabilities, &json!([]), "{set}");
        }
        assert_eq!(config["root"]["readonly"], true);
        let linux = &config["linux"];
        assert_eq!(linux["uidMappings"][0]["hostID"], 200_000);
        assert_eq!(linux["cgroupsPath"], "/hearth/w/7");
        for mount in config["mounts"].as_array().unwrap() {
            let options = mount["options"].as_array().unwrap();
            assert!(options.contains(&json!("nosuid")), "{mount}");
            let is_writable = matches!(mount["type"].as_str(), Some("tmpfs" | "proc"));
            assert_eq!(options.contains(&json!("ro")), !is_writable, "{mount}");
        }
    }

    #[test]
    fn a_runtime_with_its_own_kernel_has_no_user_namespace() {
        let config = config(&request(false), &places());
        assert!(config["linux"].get("uidMappings").is_none());
        let kinds = config["linux"]["namespaces"].as_array().unwrap();
        assert!(kinds.iter().all(|namespace| namespace["type"] != "user"));
    }

    #[test]
    fn a_program_that_cannot_be_executed_is_told_from_a_host_that_cannot() {
        let exec = |log: &str| failure("create", log, "/var/task/bootstrap");
        let runc = r#"{"level":"error","msg":"runc create failed: unable to start container process: exec: \"/var/task/bootstrap\": stat /var/task/bootstrap: no such file or directory"}"#;
        let denied = r#"{"level":"error","msg":"unable to start container process: exec: \"/var/task/bootstrap\": permission denied"}"#;
        let crun = r#"{"msg":"executable file `/var/task/bootstrap` not found: No such file or directory","level":"error"}"#;
        assert_eq!(exec(runc), Failure::Exec { errno: 2 });
        assert_eq!(exec(denied), Failure::Exec { errno: 13 });
        assert_eq!(exec(crun), Failure::Exec { errno: 2 });
        let runsc = r#"{"msg":"creating process: failed to load /var/task/bootstrap: no such file or directory","level":"error"}{"msg":"destroying container: timeout","level":"error"}"#;
        assert_eq!(exec(runsc), Failure::Exec { errno: 2 });
        let host = r#"{"level":"error","msg":"mkdir /run/x/state: permission denied"}"#;
        assert!(matches!(exec(host), Failure::Setup { errno: 13, .. }));
        assert!(matches!(exec(""), Failure::Setup { .. }));
    }
}
