//! Layers of builders and of attackers, against `layer`.

use std::io::Cursor;
use std::os::unix::fs::MetadataExt;

use flate2::write::GzEncoder;
use tar::{Builder, Header};

use super::*;

enum Item<'a> {
    File(&'a str, u32, &'a [u8]),
    Dir(&'a str, u32),
    Link(EntryType, &'a str, &'a str),
    Other(EntryType, &'a str),
}

/// The names go into the header as they are, which the library's own functions would refuse.
fn header(kind: EntryType, name: &str, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_000_000_000);
    header.set_size(size);
    header
}

fn tar_of(items: &[Item<'_>]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for item in items {
        let (mut header, content) = match item {
            Item::File(name, mode, content) => (
                header(EntryType::Regular, name, *mode, content.len() as u64),
                *content,
            ),
            Item::Dir(name, mode) => (header(EntryType::Directory, name, *mode, 0), &b""[..]),
            Item::Link(kind, name, target) => {
                let mut header = header(*kind, name, 0o777, 0);
                header.set_link_name_literal(target).unwrap();
                (header, &b""[..])
            }
            Item::Other(kind, name) => (header(*kind, name, 0o666, 0), &b""[..]),
        };
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn diff_id(tar: &[u8]) -> Digest {
    Digest(Sha256::digest(tar).into())
}

fn run_bytes(tar: &[u8]) -> (tempfile::TempDir, Result<u64, LayerError>) {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("root");
    fs::create_dir(&root).unwrap();
    let result = unpack(
        Cursor::new(tar),
        false,
        diff_id(tar),
        &root,
        &Budget::default(),
    );
    (outer, result)
}

fn run(items: &[Item<'_>]) -> (tempfile::TempDir, Result<u64, LayerError>) {
    run_bytes(&tar_of(items))
}

use EntryType::{Block, Char, Fifo, GNUSparse, Link, Symlink};

#[test]
fn an_ordinary_layer_keeps_modes_times_and_links_and_loses_set_user_id_and_devices() {
    let (dir, result) = run(&[
        Item::Dir("./", 0o700),
        Item::Dir("usr/bin/", 0o775),
        Item::File("usr/bin/tool", 0o6755, b"#!/bin/sh"),
        Item::Link(Symlink, "bin", "usr/bin"),
        Item::Link(Symlink, "etc/abs", "/usr/bin/tool"),
        Item::Link(Link, "usr/bin/same", "usr/bin/tool"),
        Item::File("/lead", 0o640, b"old"),
        Item::File("lead", 0o600, b"new"),
        Item::File("d/.wh.gone", 0, b""),
        Item::File("d/.wh..wh..opq", 0, b""),
        Item::File(".wh..wh.plnk", 0, b""),
        Item::Other(Char, "dev/mem"),
        Item::Other(Block, "dev/sda"),
        Item::Other(Fifo, "run/pipe"),
    ]);
    assert_eq!(result.unwrap(), 15);
    let root = dir.path().join("root");
    let meta = |path: &str| fs::symlink_metadata(root.join(path)).unwrap();
    let mode = |path: &str| meta(path).mode() & 0o7777;
    assert_eq!(
        (
            mode("usr/bin/tool"),
            mode("usr/bin"),
            mode("usr"),
            mode("lead")
        ),
        (0o755, 0o775, 0o755, 0o600)
    );
    assert_eq!(meta("usr/bin/tool").mtime(), 1_000_000_000);
    assert_eq!(meta("usr/bin/tool").ino(), meta("usr/bin/same").ino());
    assert_eq!(
        fs::read_link(root.join("etc/abs")).unwrap(),
        Path::new("/usr/bin/tool")
    );
    assert_eq!(fs::read(root.join("lead")).unwrap(), b"new");
    assert!(meta("d/.wh.gone").is_file() && meta("d/.wh..wh..opq").is_file());
    for absent in [".wh..wh.plnk", "dev/mem", "dev/sda", "run/pipe"] {
        assert!(!root.join(absent).exists(), "{absent}");
    }
}

#[test]
fn entries_that_lead_out_are_refused_and_write_nothing_outside() {
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("kept"), "safe").unwrap();
    let outside = out.path().to_str().unwrap();
    let kept = format!("{outside}/kept");
    for items in [
        &[Item::File("../evil", 0o644, b"x")][..],
        &[Item::File("a/../../evil", 0o644, b"x")],
        &[
            Item::Link(Symlink, "l", outside),
            Item::File("l/kept", 0o644, b"x"),
        ],
        &[Item::Link(Symlink, "l", outside), Item::Dir("l/sub", 0o755)],
        &[Item::Link(Symlink, "l", outside), Item::Dir("l", 0o777)],
        &[
            Item::Link(Symlink, "l", outside),
            Item::Link(Link, "h", "l/kept"),
        ],
        &[Item::Link(Link, "h", &kept), Item::File("h", 0o644, b"x")],
        &[Item::Link(Link, "h", "../outside")],
        &[Item::Link(Link, "h", "/etc/passwd")],
        &[Item::Dir("d", 0o755), Item::Link(Link, "h", "d")],
        &[
            Item::Dir("d", 0o755),
            Item::Link(Symlink, "d", outside),
            Item::File("d/kept", 0o644, b"x"),
        ],
        &[Item::File("f", 0o644, b"x"), Item::File("f/g", 0o644, b"x")],
        &[Item::Dir("a/.wh...", 0o755)],
        &[Item::File(".wh..", 0o644, b"")],
        &[Item::Link(Symlink, "l", "")],
        &[Item::Other(GNUSparse, "holes")],
    ] {
        let (dir, result) = run(items);
        let error = result.unwrap_err();
        assert!(error.is_image_fault(), "{error}");
        assert!(!dir.path().join("evil").exists());
        let left: Vec<_> = fs::read_dir(out.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["kept"], "{error}");
        assert_eq!(fs::read_to_string(&kept).unwrap(), "safe");
    }
}

#[test]
fn a_file_over_a_link_replaces_the_link_and_not_what_it_leads_to() {
    let out = tempfile::NamedTempFile::new().unwrap();
    fs::write(out.path(), "safe").unwrap();
    let target = out.path().to_str().unwrap();
    let (dir, result) = run(&[
        Item::File("a", 0o644, b"first"),
        Item::Link(Link, "b", "a"),
        Item::File("a", 0o644, b"second"),
        Item::Link(Symlink, "l", target),
        Item::File("l", 0o644, b"third"),
    ]);
    result.unwrap();
    let read = |name: &str| fs::read_to_string(dir.path().join("root").join(name)).unwrap();
    assert_eq!(
        (read("a"), read("b"), read("l")),
        ("second".into(), "first".into(), "third".into())
    );
    assert_eq!(fs::read_to_string(out.path()).unwrap(), "safe");
}

#[test]
fn long_names_are_read_and_those_too_long_or_too_deep_are_refused() {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    let (pax_long, link) = (format!("p/{}", "q".repeat(200)), "t".repeat(300));
    let mut tar = Builder::new(Vec::new());
    let mut plain = header(EntryType::Regular, "", 0o644, 1);
    tar.append_data(&mut plain.clone(), &long, &b"x"[..])
        .unwrap();
    tar.append_pax_extensions([("path", pax_long.as_bytes()), ("mtime", b"1.5")])
        .unwrap();
    plain.as_mut_bytes()[0] = b'n';
    plain.set_cksum();
    tar.append(&plain, &b"y"[..]).unwrap();
    let mut symlink = header(Symlink, "", 0o777, 0);
    tar.append_link(&mut symlink, "l", &link).unwrap();
    let (dir, result) = run_bytes(&tar.into_inner().unwrap());
    assert_eq!(result.unwrap(), 2);
    let root = dir.path().join("root");
    assert_eq!(fs::read(root.join(&long)).unwrap(), b"x");
    assert_eq!(fs::read(root.join(&pax_long)).unwrap(), b"y");
    assert_eq!(fs::read_link(root.join("l")).unwrap(), Path::new(&link));
    let deep = "d/".repeat(DEPTH_MAX + 1);
    for name in [deep, "n".repeat(256), "d/".repeat(2_000), "../".repeat(100)] {
        let mut tar = Builder::new(Vec::new());
        tar.append_pax_extensions([("path", name.as_bytes())])
            .unwrap();
        tar.append(&plain, &b"y"[..]).unwrap();
        let error = run_bytes(&tar.into_inner().unwrap()).1.unwrap_err();
        assert!(matches!(error, LayerError::Entry { .. }), "{error}");
        assert!(error.to_string().len() < 512);
    }
}

#[test]
fn what_takes_too_much_is_refused_before_it_is_had() {
    // A header of a long name that claims, and has, more than any name needs.
    let mut tar = Builder::new(Vec::new());
    let mut note = header(
        EntryType::GNULongName,
        "././@LongLink",
        0o644,
        NOTE_MAX_BYTES + 1,
    );
    note.set_cksum();
    tar.append(&note, io::repeat(b'a').take(NOTE_MAX_BYTES + 1))
        .unwrap();
    let error = run_bytes(&tar.into_inner().unwrap()).1.unwrap_err();
    assert!(matches!(error, LayerError::Archive(_)), "{error}");
    let outer = tempfile::tempdir().unwrap();
    let budget = Budget::default();
    budget.bytes.store(IMAGE_MAX_BYTES - 3, Ordering::Relaxed);
    budget
        .entries
        .store(IMAGE_ENTRIES_MAX - 2, Ordering::Relaxed);
    let run = |tar: &[u8], name: &str| {
        let root = outer.path().join(name);
        fs::create_dir(&root).unwrap();
        unpack(Cursor::new(tar), false, diff_id(tar), &root, &budget)
    };
    let error = run(&tar_of(&[Item::File("f", 0o644, b"four")]), "1");
    assert!(matches!(error, Err(LayerError::TooLarge)));
    let error = run(
        &tar_of(&[Item::File("f", 0o644, b""), Item::File("g", 0o644, b"")]),
        "2",
    );
    assert!(matches!(error, Err(LayerError::TooManyEntries)));
    let mut endless = Hashed {
        inner: io::repeat(0),
        hash: Sha256::new(),
        left: 1_000,
    };
    assert!(io::copy(&mut endless, &mut io::sink()).is_err());
}

#[test]
fn compressed_or_not_the_content_is_what_the_configuration_names() {
    let tar = tar_of(&[Item::File("f", 0o644, &[7; 100_000])]);
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let outer = tempfile::tempdir().unwrap();
    let run = |blob: &[u8], is_gzip: bool, diff_id: Digest| {
        let root = outer.path().join("root");
        let _ = fs::remove_dir_all(&root);
        fs::create_dir(&root).unwrap();
        unpack(blob, is_gzip, diff_id, &root, &Budget::default())
    };
    let right = diff_id(&tar);
    assert_eq!(run(&gzip(&tar), true, right).unwrap(), 100_000);
    // Several members one after the other, as parallel compressors write them.
    let members = [gzip(&tar[..1_000]), gzip(&tar[1_000..])].concat();
    assert_eq!(run(&members, true, right).unwrap(), 100_000);
    assert!(matches!(
        run(&gzip(&tar), true, Digest([1; 32])),
        Err(LayerError::DiffId)
    ));
    let more = [&tar[..], &[0; 512]].concat();
    assert!(matches!(run(&more, false, right), Err(LayerError::DiffId)));
    let whole = gzip(&tar);
    for (blob, is_gzip) in [
        (&b"nonsense"[..], true),
        (&b"nonsense"[..], false),
        (&whole[..whole.len() / 2], true),
        (&tar[..1_000], false),
    ] {
        let error = run(blob, is_gzip, diff_id(blob)).unwrap_err();
        assert!(matches!(error, LayerError::Archive(_)), "{error}");
    }
}
