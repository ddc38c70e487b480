//! What `ARCHITECTURE.md` says and a program can see: who depends on whom, what a folder may import, where unsafe code is,
//! how long files are. Each test names the rule it holds.

#[cfg(test)]
mod architecture {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::{Path, PathBuf};

    /// Our crates and those of them each may depend on.
    const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
        ("core", &[]),
        ("proto", &["core"]),
        ("node", &["core"]),
        ("registry", &["core", "node"]),
        ("aws-api", &["core"]),
        ("services", &["core", "node", "aws-api"]),
        ("logstore", &["core", "node"]),
        ("controller", &["core", "proto", "node"]),
        ("worker", &["core", "proto", "node", "registry"]),
        (
            "gateway",
            &["core", "proto", "node", "registry", "aws-api", "services"],
        ),
        (
            "hearth",
            &["core", "proto", "node", "controller", "worker", "gateway"],
        ),
        ("xtask", &[]),
    ];

    /// Lines of a file, its tests included: "at most about 500".
    const FILE_LINES: usize = 525;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap()
            .to_owned()
    }

    fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_none_or(|n| n != "target") {
                rust_files(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }

    /// Every Rust file of our crates below `dir` with its text; generated ones left out.
    fn sources(dir: &str) -> BTreeMap<String, String> {
        let mut files = Vec::new();
        rust_files(&root().join(dir), &mut files);
        assert!(
            !files.is_empty(),
            "no Rust file below {dir}: the test looks in the wrong place"
        );
        files
            .into_iter()
            .map(|path| {
                let text = std::fs::read_to_string(&path).unwrap();
                (
                    path.strip_prefix(root()).unwrap().display().to_string(),
                    text,
                )
            })
            .filter(|(_, text)| {
                !text
                    .chars()
                    .take(400)
                    .collect::<String>()
                    .contains("@generated")
            })
            .collect()
    }

    fn all_sources() -> BTreeMap<String, String> {
        MAY_DEPEND_ON
            .iter()
            .map(|(name, _)| *name)
            .chain(["tests"])
            .flat_map(sources)
            .collect()
    }

    /// The part of a file before its tests, without comments.
    fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
        text.lines()
            .take_while(|line| line.trim() != "#[cfg(test)]")
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(n, line)| (n + 1, line))
    }

    fn offenders(files: &BTreeMap<String, String>, bad: impl Fn(&str) -> bool) -> Vec<String> {
        files
            .iter()
            .flat_map(|(path, text)| {
                code(text)
                    .filter(|(_, l)| bad(l))
                    .map(move |(n, l)| format!("{path}:{n}: {}", l.trim()))
            })
            .collect()
    }

    #[test]
    fn crates_depend_only_on_those_the_architecture_allows() {
        for (name, allowed) in MAY_DEPEND_ON {
            let manifest: toml::Table =
                std::fs::read_to_string(root().join(name).join("Cargo.toml"))
                    .unwrap()
                    .parse()
                    .unwrap();
            let ours: BTreeSet<&str> = manifest["dependencies"]
                .as_table()
                .unwrap()
                .keys()
                .filter_map(|dependency| dependency.strip_prefix("hearth-"))
                .collect();
            for dependency in ours {
                assert!(
                    allowed.contains(&dependency),
                    "{name} depends on {dependency}, which it may not"
                );
            }
        }
    }

    #[test]
    fn core_is_pure() {
        let banned = [
            "async fn",
            ".await",
            "std::fs",
            "std::net",
            "std::process",
            "std::thread",
            "std::time::Instant",
            "SystemTime",
            "tokio",
            "HashMap",
            "HashSet",
            "rand::",
        ];
        let bad = offenders(&sources("core/src"), |line| {
            banned.iter().any(|word| line.contains(word))
        });
        assert!(
            bad.is_empty(),
            "core has no IO, async, clock, chance or hash order:\n{}",
            bad.join("\n")
        );
    }

    #[test]
    fn the_replicated_state_imports_only_std_serde_and_core() {
        let mut files = sources("controller/src/state");
        // Compiled for tests alone.
        files.retain(|path, _| !path.ends_with("/tests.rs") && !path.ends_with("/properties.rs"));
        let bad = offenders(&files, |line| {
            let Some(path) = line
                .trim()
                .strip_prefix("use ")
                .or_else(|| line.trim().strip_prefix("pub use "))
            else {
                return [
                    "tokio",
                    "std::time",
                    "SystemTime",
                    "HashMap",
                    ".await",
                    "f64",
                    "f32",
                ]
                .iter()
                .any(|w| line.contains(w));
            };
            ![
                "std::",
                "serde",
                "hearth_core",
                "super::",
                "crate::state",
                "self::",
                "thiserror",
            ]
            .iter()
            .any(|ok| path.starts_with(ok))
                || ["std::fs", "std::net", "std::time", "std::collections::Hash"]
                    .iter()
                    .any(|no| path.starts_with(no))
        });
        // A `pub use` of a module of its own is a path without a prefix.
        let bad: Vec<_> = bad
            .into_iter()
            .filter(|line| {
                !line.contains("pub use ")
                    || line.contains("hearth_proto")
                    || line.contains("hearth_node")
            })
            .collect();
        assert!(bad.is_empty(), "apply is pure:\n{}", bad.join("\n"));
    }

    #[test]
    fn unsafe_code_lives_in_one_folder() {
        let files = all_sources();
        let bad: Vec<_> = offenders(&files, |line| {
            let line = line.trim();
            line.contains("unsafe {")
                || line.starts_with("unsafe fn")
                || line.contains(" unsafe fn")
                || line.contains("unsafe impl")
        })
        .into_iter()
        .filter(|place| {
            !place.starts_with("worker/src/sandbox/sys/")
                && !place.starts_with("tests/tests/architecture.rs")
        })
        .collect();
        assert!(
            bad.is_empty(),
            "unsafe outside worker/src/sandbox/sys/:\n{}",
            bad.join("\n")
        );
    }

    #[test]
    fn files_are_short_and_say_what_lives_in_them() {
        let mut bad = Vec::new();
        for (path, text) in all_sources() {
            let lines = text.lines().count();
            if lines > FILE_LINES {
                bad.push(format!("{path}: {lines} lines, at most {FILE_LINES}"));
            }
            if !text.starts_with("//!") {
                bad.push(format!("{path}: does not open with //!"));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }

    #[test]
    fn nothing_is_left_open_and_lints_are_expected_not_allowed() {
        // This file names what it looks for; the other holds what prost generates.
        let exempt = ["tests/tests/architecture.rs", "proto/src/lib.rs"];
        let files: BTreeMap<_, _> = all_sources()
            .into_iter()
            .filter(|(path, _)| !exempt.contains(&path.as_str()))
            .collect();
        let bad = offenders(&files, |line| {
            ["todo!(", "unimplemented!(", "dbg!("]
                .iter()
                .any(|word| line.contains(word))
                || (line.contains("#[allow(") || line.contains("#![allow("))
                    && !line.contains("generated")
        });
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }

    #[test]
    fn openraft_sled_and_fjall_are_named_in_the_raft_folder_alone() {
        let files = all_sources();
        let bad: Vec<_> = offenders(&files, |line| {
            line.contains("openraft::") || line.contains("sled::") || line.contains("fjall::")
        })
        .into_iter()
        .filter(|place| {
            !place.starts_with("controller/src/raft/")
                && !place.starts_with("controller/tests/raft")
                && !place.starts_with("tests/tests/architecture.rs")
        })
        .collect();
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }

    #[test]
    fn grpc_codes_are_mapped_in_one_place() {
        let files: BTreeMap<_, _> = sources("gateway/src")
            .into_iter()
            .chain(sources("controller/src/api"))
            .collect();
        let bad = offenders(&files, |line| {
            line.contains("ErrorCode::") && line.contains("Code::") && line.contains("tonic::Code")
        });
        assert!(
            bad.is_empty(),
            "proto/src/status.rs is the one map:\n{}",
            bad.join("\n")
        );
    }

    #[test]
    fn the_fixed_top_level_entries_are_there() {
        for entry in [
            "Cargo.toml",
            "proto",
            "controller",
            "worker",
            "gateway",
            "deploy/helm",
            "tests",
            "README.md",
            "ARCHITECTURE.md",
            "CONTRIBUTING.md",
            "LICENSE",
            "CHANGELOG.md",
            "Makefile",
            ".ci/run",
            "docs/adr",
            "examples",
            "Cargo.lock",
        ] {
            assert!(root().join(entry).exists(), "{entry} is missing");
        }
    }
}
