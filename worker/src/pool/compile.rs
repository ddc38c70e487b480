//! What a runtime can make of a function's sources before it runs them: byte code beside them, so that no cold start compiles.
//!
//! The compiler reads what tenants wrote, so it runs in a sandbox of its own: no network, the code read-only, limits, a
//! deadline. What it says on its output is taken as hostile too: files of a known form, beside sources that are there, in
//! bounds. Whatever fails, the function runs without.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hearth_core::function::FunctionConfig;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tracing::debug;

use super::Engine;
use super::package::{Package, package_mounts};
use crate::code::CodeDir;
use crate::runtimes::environment::pack_environment;
use crate::sandbox::driver::{OutputStream, SandboxSpec};

/// Longest run; the largest packages are some hundred megabytes.
const DEADLINE: Duration = Duration::from_secs(60);

/// All files of one run together.
const BYTES_MAX: u64 = 64 << 20;

/// Files of one run.
const FILES_MAX: usize = 20_000;

/// Longest line before a file: its length and its path.
const LINE_MAX: u64 = 4_200;

const MEMORY_MIB: u32 = 512;
const CPU_MILLIS: u32 = 500;
const PIDS_MAX: u32 = 8;
const TMP_MIB: u32 = 512;

/// Packages that wait; those that find no room run without.
const WAITING_MAX: usize = 256;

/// Packages known to be done; forgotten all at once, as doing one again is cheap.
const DONE_MAX: usize = 8_192;

/// Directory of byte code, and its files' ending.
const CACHE_DIR: &str = "__pycache__";
const CACHE_EXTENSION: &str = "pyc";
const SOURCE_EXTENSION: &str = "py";

/// A runtime, and the trees of code and layers.
type Key = (String, PathBuf, Option<PathBuf>);

/// What is to be compiled when nothing else is to be done.
#[derive(Debug, Default)]
pub(crate) struct Compiling {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: BTreeMap<Key, Trees>,
    done: std::collections::BTreeSet<Key>,
}

/// Held until they are done.
#[derive(Debug, Clone)]
struct Trees {
    code: Arc<CodeDir>,
    layers: Option<Arc<CodeDir>>,
}

impl Compiling {
    /// A package that is here now and was not a moment ago, as far as is known.
    pub(crate) fn want(&self, config: &FunctionConfig, package: &Package) {
        let (Some(runtime), Package::Archive { code, layers }) = (&config.runtime, package) else {
            return;
        };
        let layers_path = layers.as_ref().map(|layers| layers.path.clone());
        let key = (runtime.clone(), code.path.clone(), layers_path);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.done.contains(&key) || inner.waiting.len() >= WAITING_MAX {
            return;
        }
        let trees = Trees {
            code: Arc::clone(code),
            layers: layers.clone(),
        };
        inner.waiting.insert(key, trees);
    }

    fn next(&self) -> Option<(String, Trees)> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, trees) = inner.waiting.pop_first()?;
        if inner.done.len() >= DONE_MAX {
            inner.done.clear();
        }
        inner.done.insert(key.clone());
        Some((key.0, trees))
    }
}

impl Engine {
    /// Compiles one package that waits, if there is one.
    pub(super) async fn compile_one(&self) -> bool {
        let Some((runtime, trees)) = self.compiling.next() else {
            return false;
        };
        match self.compile(&runtime, &trees).await {
            Ok(files) => debug!(runtime, code = ?trees.code.path, files, "compiled"),
            Err(error) => {
                debug!(runtime, code = ?trees.code.path, %error, "runs without byte code")
            }
        }
        true
    }

    async fn compile(&self, runtime: &str, trees: &Trees) -> io::Result<usize> {
        let pack = self.runtimes.pack(runtime).map_err(io::Error::other)?;
        let Some(argv) = pack.manifest.compile.clone() else {
            return Ok(0);
        };
        let target = &pack.manifest.code_target;
        let serial = self
            .next_sandbox
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let spec = SandboxSpec {
            id: format!("{}-compile-{serial}", self.incarnation),
            root: pack.root.clone(),
            mounts: package_mounts(&trees.code, trees.layers.as_deref(), target),
            argv,
            env: pack_environment(&pack.manifest),
            cwd: PathBuf::from("/"),
            memory_mib: MEMORY_MIB,
            pids_max: PIDS_MAX,
            tmp_mib: TMP_MIB,
            hostname: super::launch::HOST_NAME.into(),
            isolated: true,
            maker: None,
            extensions: Default::default(),
        };
        let started = self.driver.start(spec).await.map_err(io::Error::other)?;
        started.control.set_cpu(CPU_MILLIS)?;
        // A run that is cut short has said something of use all the same.
        let mut files = Vec::new();
        let read = tokio::time::timeout(DEADLINE, read(started.output, &mut files)).await;
        started.control.kill();
        started.control.wait().await;
        let places: Vec<(PathBuf, PathBuf)> =
            package_mounts(&trees.code, trees.layers.as_deref(), target)
                .into_iter()
                .map(|mount| (mount.target, mount.source))
                .collect();
        let written = hearth_node::blocking::run(move || write_all(&files, &places))
            .await
            .map_err(io::Error::other)?;
        for (tree, bytes) in [Some(&trees.code), trees.layers.as_ref()]
            .into_iter()
            .flatten()
            .zip(written.bytes)
        {
            self.code.on_grown(tree, bytes);
        }
        match read {
            Ok(Ok(())) => Ok(written.files),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// A path inside, and what is to be there.
type Compiled = (PathBuf, Vec<u8>);

/// `LENGTH PATH` on a line, then so many bytes; and so on.
async fn read(output: Box<dyn OutputStream>, files: &mut Vec<Compiled>) -> io::Result<()> {
    let mut output = BufReader::new(output);
    let mut left = BYTES_MAX;
    while files.len() < FILES_MAX {
        let mut line = Vec::new();
        (&mut output)
            .take(LINE_MAX)
            .read_until(b'\n', &mut line)
            .await?;
        if line.is_empty() {
            return Ok(());
        }
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let text = std::str::from_utf8(&line).map_err(|_| invalid())?;
        let (length, path) = text
            .strip_suffix('\n')
            .and_then(|text| text.split_once(' '))
            .ok_or_else(invalid)?;
        let length: u64 = length.parse().map_err(|_| invalid())?;
        left = left.checked_sub(length).ok_or_else(invalid)?;
        let mut bytes = Vec::new();
        (&mut output).take(length).read_to_end(&mut bytes).await?;
        if bytes.len() as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        files.push((PathBuf::from(path), bytes));
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Written {
    files: usize,
    /// Of each place.
    bytes: Vec<u64>,
}

/// Writes what may be written; `places` are targets inside and the trees that are there.
fn write_all(files: &[Compiled], places: &[(PathBuf, PathBuf)]) -> Written {
    let mut written = Written {
        files: 0,
        bytes: vec![0; places.len()],
    };
    for (path, bytes) in files {
        let place = places
            .iter()
            .zip(&mut written.bytes)
            .find_map(|((target, tree), count)| {
                let inner = path.strip_prefix(target).ok()?;
                Some((inner, tree, count))
            });
        let Some((inner, tree, count)) = place else {
            continue;
        };
        if let Ok(()) = write_one(tree, inner, bytes) {
            *count += bytes.len() as u64;
            written.files += 1;
        }
    }
    written
}

/// `inner` must be `DIR/__pycache__/NAME.TAG.pyc` with `DIR/NAME.py` a file, and `DIR` a directory not behind any link.
fn write_one(tree: &Path, inner: &Path, bytes: &[u8]) -> io::Result<()> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    if !inner
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
    {
        return Err(invalid());
    }
    let name = inner
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(invalid)?;
    let mut parts = name.split('.');
    let (Some(module), Some(_tag), Some(CACHE_EXTENSION), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(invalid());
    };
    let cache = inner
        .parent()
        .filter(|dir| dir.ends_with(CACHE_DIR))
        .ok_or_else(invalid)?;
    let dir = cache.parent().ok_or_else(invalid)?;
    let mut place = tree.to_owned();
    for part in dir.components() {
        place.push(part);
        if !fs::symlink_metadata(&place)?.is_dir() {
            return Err(invalid());
        }
    }
    let source = place.join(module).with_extension(SOURCE_EXTENSION);
    if !fs::symlink_metadata(source)?.is_file() {
        return Err(invalid());
    }
    place.push(CACHE_DIR);
    match fs::create_dir(&place) {
        Ok(()) => fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !fs::symlink_metadata(&place)?.is_dir() {
                return Err(invalid());
            }
        }
        Err(error) => return Err(error),
    }
    // In full or not at all, as a sandbox may be reading there.
    let temporary = place.join(format!(".{name}.new"));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&temporary)?;
    let wrote = file
        .write_all(bytes)
        .and_then(|()| fs::hard_link(&temporary, place.join(name)));
    fs::remove_file(&temporary)?;
    wrote
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_byte_code_beside_its_source_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("pkg")).unwrap();
        fs::write(tree.join("app.py"), "x = 1").unwrap();
        fs::write(tree.join("pkg/m.py"), "x = 1").unwrap();
        std::os::unix::fs::symlink(dir.path(), tree.join("out")).unwrap();
        fs::write(dir.path().join("secret.py"), "").unwrap();
        let good = [
            "__pycache__/app.cpython-311.pyc",
            "pkg/__pycache__/m.cpython-311.pyc",
        ];
        for inner in good {
            write_one(&tree, Path::new(inner), b"code").unwrap();
            assert_eq!(fs::read(tree.join(inner)).unwrap(), b"code");
            assert!(
                write_one(&tree, Path::new(inner), b"other").is_err(),
                "what is there stays"
            );
            assert_eq!(fs::read(tree.join(inner)).unwrap(), b"code");
        }
        for inner in [
            "app.cpython-311.pyc",
            "__pycache__/absent.cpython-311.pyc",
            "__pycache__/app.pyc",
            "__pycache__/app.cpython-311.so",
            "../__pycache__/secret.cpython-311.pyc",
            "out/__pycache__/secret.cpython-311.pyc",
            "/__pycache__/app.cpython-311.pyc",
            "",
        ] {
            assert!(write_one(&tree, Path::new(inner), b"x").is_err(), "{inner}");
        }
        assert_eq!(fs::read_dir(tree.join("__pycache__")).unwrap().count(), 1);
        let places = [(PathBuf::from("/var/task"), tree)];
        let stray = (
            PathBuf::from("/etc/__pycache__/app.cpython-311.pyc"),
            Vec::new(),
        );
        assert_eq!(write_all(&[stray], &places).files, 0);
    }

    #[tokio::test]
    async fn what_a_compiler_says_is_read_within_bounds() {
        let mut files = Vec::new();
        let told = |text: &'static [u8]| Box::new(text);
        read(told(b"3 /a\nxyz0 /b c\n"), &mut files).await.unwrap();
        assert_eq!(
            files,
            [
                (PathBuf::from("/a"), b"xyz".to_vec()),
                (PathBuf::from("/b c"), Vec::new())
            ]
        );
        for bad in [
            &b"3 /a\nxy"[..],
            b"x /a\n",
            b"3/a\n",
            b"3 /a",
            b"-1 /a\n",
            b"99999999999 /a\n",
            b"\xff\n",
        ] {
            let mut files = Vec::new();
            read(Box::new(bad), &mut files).await.unwrap_err();
            assert!(files.is_empty());
        }
    }
}
