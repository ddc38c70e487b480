//! Archives of attackers and of ordinary people, against `unpack`.

use std::io::Cursor;
use std::os::unix::fs::MetadataExt;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

enum Item<'a> {
    File(&'a str, u32, &'a [u8]),
    Link(&'a str, &'a str),
    Dir(&'a str),
}

fn archive(items: &[Item<'_>]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for item in items {
        match item {
            Item::File(name, mode, content) => {
                let options = SimpleFileOptions::default().unix_permissions(*mode);
                zip.start_file(*name, options).unwrap();
                zip.write_all(content).unwrap();
            }
            Item::Link(name, target) => zip
                .add_symlink(*name, *target, SimpleFileOptions::default())
                .unwrap(),
            Item::Dir(name) => zip
                .add_directory(*name, SimpleFileOptions::default())
                .unwrap(),
        }
    }
    zip.finish().unwrap().into_inner()
}

fn run(items: &[Item<'_>]) -> (tempfile::TempDir, Result<u64, UnpackError>) {
    run_bytes(archive(items), UnpackLimits::default())
}

fn run_bytes(
    bytes: Vec<u8>,
    limits: UnpackLimits,
) -> (tempfile::TempDir, Result<u64, UnpackError>) {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("root");
    fs::create_dir(&root).unwrap();
    let result = unpack(Cursor::new(bytes), &root, limits);
    (outer, result)
}

#[test]
fn ordinary_package_keeps_content_and_execute_bits_and_is_readable_by_all() {
    let (dir, result) = run(&[
        Item::File("app.py", 0o600, b"print(1)"),
        Item::File("bin/tool", 0o4711, b"#!/bin/sh"),
        Item::Dir("empty/"),
        Item::Link("bin/alias", "../app.py"),
    ]);
    assert_eq!(result.unwrap(), 17);
    let root = dir.path().join("root");
    let mode = |p: &str| fs::symlink_metadata(root.join(p)).unwrap().mode() & 0o7777;
    assert_eq!(mode("app.py"), 0o644);
    assert_eq!(mode("bin/tool"), 0o755);
    assert_eq!(mode("bin"), 0o755);
    assert_eq!(mode("empty"), 0o755);
    assert_eq!(fs::read(root.join("bin/alias")).unwrap(), b"print(1)");
}

#[test]
fn entries_that_lead_out_are_refused_and_write_nothing_outside() {
    for items in [
        &[Item::File("../evil", 0o644, b"x")][..],
        &[Item::File("a/../../evil", 0o644, b"x")],
        &[Item::File("/evil", 0o644, b"x")],
        &[Item::Link("l", "/etc/passwd")],
        &[Item::Link("l", "../evil")],
        &[Item::Link("a/b/l", "../../../evil")],
        // A link, then a file through it: the link is made last and finds a directory there.
        &[
            Item::Link("d", "elsewhere"),
            Item::File("d/evil", 0o644, b"x"),
        ],
        // A link through a link, whose text stays inside and whose meaning does not.
        &[
            Item::Link("p/q/a", "../../r"),
            Item::Link("p/q/a/evil", "x"),
        ],
        &[Item::File("f", 0o644, b"x"), Item::Link("./f", "y")],
    ] {
        let (dir, result) = run(items);
        let error = result.unwrap_err();
        assert!(error.is_archive_fault(), "{error}");
        assert!(!dir.path().join("evil").exists());
    }
}

#[test]
fn a_file_under_a_file_is_refused() {
    let (_dir, result) = run(&[Item::File("f", 0o644, b"x"), Item::File("f/g", 0o644, b"x")]);
    assert!(result.unwrap_err().is_archive_fault());
}

#[test]
fn bombs_stop_at_the_limit() {
    let zeros = vec![0; 1 << 20];
    let bytes = archive(&[Item::File("big", 0o644, &zeros)]);
    let limits = UnpackLimits {
        bytes: 1_000,
        entries: 10,
    };
    assert!(matches!(
        run_bytes(bytes, limits).1,
        Err(UnpackError::TooLarge(1_000))
    ));
    let names: Vec<String> = (0..11).map(|n| n.to_string()).collect();
    let items: Vec<_> = names.iter().map(|n| Item::File(n, 0o644, b"")).collect();
    assert!(matches!(
        run_bytes(archive(&items), limits).1,
        Err(UnpackError::TooManyEntries(10))
    ));
}

#[test]
fn damage_is_the_archives_fault() {
    let good = archive(&[Item::File("f", 0o644, &[7; 5_000])]);
    let mut flipped = good.clone();
    flipped[40] ^= 0xff;
    for bytes in [
        Vec::new(),
        b"not a zip".to_vec(),
        good[..good.len() / 2].to_vec(),
        flipped,
    ] {
        let error = run_bytes(bytes, UnpackLimits::default()).1.unwrap_err();
        assert!(error.is_archive_fault(), "{error}");
    }
}

#[test]
fn a_path_too_long_or_too_deep_is_the_archives_fault_and_harms_nobody() {
    // A stack of a spawn_blocking thread holds 2 MiB; the deepest name a zip can carry has 32767 directories.
    let deepest = "d/".repeat(32_000);
    let long_name = "n".repeat(256);
    let deep = format!("{}f", "d/".repeat(DEPTH_MAX));
    for name in [&deepest, &long_name, &deep] {
        for item in [Item::File(name, 0o644, b""), Item::Link(name, "x")] {
            let (_dir, result) = run(&[item]);
            assert!(matches!(&result, Err(e @ UnpackError::Entry { .. }) if e.is_archive_fault()));
            assert!(result.unwrap_err().to_string().len() < 512);
        }
    }
    let fits = format!("{}f", "d/".repeat(DEPTH_MAX - 1));
    assert_eq!(run(&[Item::File(&fits, 0o644, b"x")]).1.unwrap(), 1);
}

#[test]
fn directories_made_for_paths_are_bounded_too() {
    let names: Vec<String> = (0..3).map(|i| format!("{i}/a/b/c/f")).collect();
    let items: Vec<_> = names.iter().map(|n| Item::File(n, 0o644, b"")).collect();
    let limits = UnpackLimits {
        bytes: 100,
        entries: 10,
    };
    let (_dir, result) = run_bytes(archive(&items), limits);
    assert!(matches!(result, Err(UnpackError::TooManyEntries(10))));
}
