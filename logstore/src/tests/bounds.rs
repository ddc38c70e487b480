//! What is limited: bytes on disk and in memory, open files, the queue, the age of events.

use hearth_core::logs::RetentionDays;

use super::*;

const DAY_MS: u64 = 86_400_000;

#[test]
fn a_flood_is_dropped_counted_and_said() {
    let mut fixture = Fixture::new(small());
    let mut accepted = 0;
    let mut dropped = 0;
    // Nobody writes: each call returns all the same.
    for n in 0..5_000 {
        let appended = fixture.append("g", "flood", &[(n, &"x".repeat(1_000))]);
        accepted += appended.accepted;
        dropped += appended.dropped;
    }
    assert!(accepted > 500 && dropped > 3_000);
    let stats = fixture.store.stats();
    assert_eq!(stats.dropped, dropped as u64);
    assert!(stats.queued_bytes <= fixture.options.queue_bytes);
    fixture.append("g", "quiet", &[(1, &"y".repeat(5_000))]);
    fixture.writer.step();
    let messages = fixture.messages("g");
    let said = |line: &str| messages.iter().filter(|m| m.contains(line)).count();
    assert_eq!(
        said(&format!("HEARTH {dropped} log events were dropped")),
        1
    );
    assert_eq!(said("HEARTH 1 log event was dropped"), 1);
    assert_eq!(messages.len(), accepted + 2);
    assert_eq!(fixture.store.stats().queued_bytes, 0);
    // Once.
    fixture.keep("g", "flood", &[(1, "z")]);
    assert_eq!(fixture.messages("g").len(), accepted + 3);
}

#[test]
fn the_store_is_never_larger_than_it_may_be() {
    let mut fixture = Fixture::new(StoreOptions {
        max_bytes: 60_000,
        queue_bytes: 20_000,
        ..small()
    });
    fixture.keep("small", "s", &[(1, "kept")]);
    for n in 0..500_u64 {
        let stream = format!("s{}", n % 9);
        fixture.append("large", &stream, &[(n, &"x".repeat(300))]);
        if n % 5 == 0 {
            fixture.writer.step();
            let stats = fixture.store.stats();
            assert!(fixture.bytes_on_disk() <= stats.bytes);
            assert!(stats.bytes <= 60_000, "{}", stats.bytes);
        }
    }
    fixture.writer.step();
    // The largest group has lost its oldest.
    assert_eq!(fixture.messages("small"), ["kept"]);
    let left = fixture.all("large");
    assert!(left.len() > 50 && left.len() < 400, "{}", left.len());
    assert_eq!(left.last().unwrap().at.timestamp_ms(), 499);
    assert!(
        left.windows(2)
            .all(|two| two[0].at.timestamp_ms() + 1 == two[1].at.timestamp_ms())
    );
}

#[test]
fn what_has_expired_is_deleted_with_its_folder() {
    let mut fixture = Fixture::new(small());
    let days = RetentionDays::try_from(1_u32).unwrap();
    fixture
        .store
        .set_retention(&account(), &group("g"), Some(days));
    for n in 0..40 {
        fixture.keep("g", "s", &[(NOW_MS + n * 1_000, &"x".repeat(100))]);
        fixture.keep("other", "s", &[(NOW_MS + n * 1_000, &"x".repeat(100))]);
    }
    assert_eq!(fixture.store.groups(&account())[0].retention, Some(days));
    // Of the first segment all has expired, of later ones not.
    fixture.clock.advance_ms(DAY_MS + 20_000);
    fixture.writer.step();
    let left = fixture.all("g").len();
    assert!(left > 0 && left < 40, "{left}");
    fixture.clock.advance_ms(DAY_MS);
    fixture.writer.step();
    assert!(fixture.all("g").is_empty());
    assert_eq!(fixture.store.groups(&account()).len(), 1);
    assert_eq!(fixture.all("other").len(), 40);
    assert!(!fixture.dir.path().join("123456789012/g").exists());
    // The group can be written again.
    fixture.keep("g", "s", &[(NOW_MS, "x")]);
    assert_eq!(fixture.messages("g"), ["x"]);
}

#[test]
fn a_segment_is_closed_when_it_is_old() {
    let mut fixture = Fixture::new(small());
    fixture.keep("g", "s", &[(1, "a")]);
    let open = fixture.bytes_on_disk();
    fixture.clock.advance_ms(fixture.options.segment_age_ms);
    fixture.writer.step();
    assert!(fixture.bytes_on_disk() > open);
    fixture.keep("g", "s", &[(2, "b")]);
    assert_eq!(fixture.files().len(), 2);
    assert_eq!(fixture.messages("g"), ["a", "b"]);
}

#[test]
fn the_index_of_many_streams_is_limited() {
    let mut fixture = Fixture::new(StoreOptions {
        segment_bytes: 1 << 20,
        max_bytes: 16 << 20,
        index_bytes: 400_000,
        ..small()
    });
    for n in 0..10_000 {
        fixture.append("g", &format!("2030/01/01/[$LATEST]{n:032}"), &[(n, "x")]);
        if n % 500 == 0 {
            fixture.writer.step();
            assert!(fixture.store.stats().index_bytes <= 400_000);
        }
    }
    fixture.writer.step();
    assert_eq!(fixture.store.stats().dropped, 0);
    let streams = fixture.store.streams(&account(), &group("g"));
    assert!(
        streams.len() > 100 && streams.len() < 4_000,
        "{}",
        streams.len()
    );
    let last = format!("2030/01/01/[$LATEST]{:032}", 9_999);
    assert!(streams.iter().any(|stream| stream.name.as_str() == last));
}

#[test]
fn more_groups_than_open_files_are_written() {
    let mut fixture = Fixture::new(small());
    let in_use = || {
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
        let target =
            |fd: std::io::Result<std::fs::DirEntry>| std::fs::read_link(fd.ok()?.path()).ok();
        let targets: Vec<PathBuf> = descriptors.filter_map(target).collect();
        targets
    };
    for round in 0..3 {
        for n in 0..20 {
            fixture.append(&format!("g{n}"), "s", &[(round, "x")]);
        }
        fixture.clock.advance_ms(2_000);
        fixture.writer.step();
        let ours = in_use().into_iter();
        let ours = ours
            .filter(|path| path.starts_with(fixture.dir.path()))
            .count();
        assert!(ours <= fixture.options.open_files, "{ours}");
    }
    for n in 0..20 {
        assert_eq!(fixture.all(&format!("g{n}")).len(), 3);
    }
    assert_eq!(fixture.files().len(), 20);
}

#[test]
fn hostile_names_stay_in_the_directory_and_are_read_again() {
    let mut fixture = Fixture::new(small());
    let long = "/..".repeat(170);
    let groups = [
        "..",
        ".",
        "/",
        "../../../etc/passwd",
        "a",
        "a/b",
        "#",
        &long,
    ];
    let streams = ["../../x", "\0", "\u{202e}a/é\n", &"é".repeat(512)];
    for name in groups {
        for stream in streams {
            fixture.keep(name, stream, &[(1, name)]);
        }
    }
    let outside = fixture.dir.path().parent().unwrap().join("x");
    assert!(!outside.exists());
    for is_crash in [true, false] {
        fixture.reopen(is_crash);
        assert_eq!(fixture.store.groups(&account()).len(), groups.len());
        for name in groups {
            assert_eq!(fixture.messages(name), [name; 4]);
            assert_eq!(fixture.store.streams(&account(), &group(name)).len(), 4);
        }
    }
}

/// A folder that cannot be written: a file is in its place.
#[test]
fn what_cannot_be_written_is_counted_and_the_rest_goes_on() {
    let mut fixture = Fixture::new(small());
    std::fs::create_dir(fixture.dir.path().join("123456789012")).unwrap();
    std::fs::write(fixture.dir.path().join("123456789012/bad"), "").unwrap();
    fixture.append("bad", "s", &[(1, "a"), (2, "b")]);
    fixture.append("good", "s", &[(1, "c")]);
    fixture.writer.step();
    assert_eq!(fixture.store.stats().dropped, 2);
    assert!(fixture.all("bad").is_empty());
    assert_eq!(fixture.messages("good"), ["c"]);
    std::fs::remove_file(fixture.dir.path().join("123456789012/bad")).unwrap();
    fixture.keep("bad", "s", &[(3, "d")]);
    assert_eq!(fixture.messages("bad"), ["d"]);
}
