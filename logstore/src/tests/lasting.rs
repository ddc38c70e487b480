//! What is there after the store was opened again: after an orderly end, a crash, a torn file, a foreign file.

use std::fs::OpenOptions;
use std::io::BufReader;

use proptest::prelude::*;

use super::*;
use crate::record::{Record, Scanner};

#[test]
fn everything_is_there_after_an_end_and_after_a_crash() {
    let mut fixture = Fixture::new(small());
    let mut expected = Vec::new();
    for (n, is_crash) in [false, true, true, false, true].into_iter().enumerate() {
        let text = n.to_string();
        fixture.keep("g", "s", &[(5, &text)]);
        expected.push(text);
        // The clock goes back, and order stays.
        fixture.clock.set_unix_ms(NOW_MS - n as u64);
        fixture.reopen(is_crash);
        assert_eq!(fixture.messages("g"), expected);
    }
}

#[test]
fn of_closed_segments_no_events_are_read_at_the_start() {
    let mut fixture = Fixture::new(small());
    fixture.keep("g", "s", &[(1, "first"), (2, "second")]);
    fixture.reopen(false);
    // Events that are damaged are noticed by who reads them, and not before.
    let path = fixture.files().remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(6).position(|six| six == b"second").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    fixture.reopen(false);
    assert_eq!(fixture.store.streams(&account(), &group("g"))[0].events, 2);
    let mut events = fixture.store.events(&account(), &group("g"), everything());
    assert_eq!(texts(&events.by_ref().collect::<Vec<_>>()), ["first"]);
    assert!(events.is_incomplete());
}

#[test]
fn foreign_files_are_left_alone() {
    let mut fixture = Fixture::new(small());
    fixture.keep("g", "s", &[(1, "a")]);
    let root = fixture.dir.path().to_owned();
    let foreign = [
        "lock",
        "123456789012/x.y",
        "123456789012/g/notes.txt",
        "123456789012/g/00000000000000aa.log",
        "123456789012/%2e/0000000000000001.log",
    ];
    std::fs::create_dir(root.join("123456789012/%2e")).unwrap();
    for path in foreign {
        std::fs::write(root.join(path), "something else, longer than a header").unwrap();
    }
    fixture.reopen(true);
    assert_eq!(fixture.messages("g"), ["a"]);
    assert!(foreign.iter().all(|path| root.join(path).exists()));
    // No number is used twice.
    fixture.keep("g", "s", &[(2, "b")]);
    assert!(root.join("123456789012/g/00000000000000ab.log").exists());
}

/// Events of a file whose records end before `cut`, by the time that the tests give each.
fn whole_before(path: &Path, cut: u64) -> Vec<u64> {
    let file = std::fs::File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let mut scanner = Scanner::new(BufReader::new(file), length).unwrap().unwrap();
    let mut times = Vec::new();
    loop {
        let time = match scanner.next().unwrap() {
            Some(Record::Event { timestamp_ms, .. }) => Some(timestamp_ms),
            Some(Record::Stream { .. }) => None,
            Some(Record::Footer(_)) | None => return times,
        };
        if scanner.offset() > cut {
            return times;
        }
        times.extend(time);
    }
}

/// What happens to a store.
#[derive(Clone, Debug)]
enum Step {
    /// Events of a group and stream, so many with so long messages.
    Append(usize, usize, usize, usize),
    Write,
    Reopen {
        is_crash: bool,
    },
    /// A crash that has torn the newest file at a part of its length.
    Tear(f64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3_usize, 0..4_usize, 1..6_usize, 0..700_usize).prop_map(|(g, s, n, l)| Step::Append(g, s, n, l)),
        5 => Just(Step::Write),
        1 => any::<bool>().prop_map(|is_crash| Step::Reopen { is_crash }),
        1 => (0.0..1.0_f64).prop_map(Step::Tear),
    ]
}

const GROUPS: [&str; 3] = ["g", "/aws/lambda/f", ".."];

/// What must be there: time, stream and message of each event of each group, in order of time, which is that of arrival.
#[derive(Default)]
struct Model {
    waiting: Vec<(usize, u64, String, String)>,
    written: [Vec<(u64, String, String)>; 3],
    time: u64,
}

impl Model {
    fn append(&mut self, fixture: &Fixture, at: (usize, usize), events: usize, length: usize) {
        let (group, stream) = (at.0, format!("s{}/é", at.1));
        let mut batch = Vec::new();
        for _ in 0..events {
            self.time += 1;
            batch.push((self.time, format!("{}-{}", self.time, "x".repeat(length))));
        }
        let borrowed: Vec<_> = batch
            .iter()
            .map(|(time, text)| (*time, text.as_str()))
            .collect();
        let appended = fixture.append(GROUPS[group], &stream, &borrowed);
        assert_eq!(appended.dropped, 0);
        let kept = batch
            .into_iter()
            .map(|(time, text)| (group, time, stream.clone(), text));
        self.waiting.extend(kept);
    }

    fn write(&mut self) {
        for (group, time, stream, text) in self.waiting.drain(..) {
            self.written[group].push((time, stream, text));
        }
    }

    /// Tears the newest file of all, and forgets what this has taken.
    fn tear(&mut self, fixture: &Fixture, part: f64) {
        let files = fixture.files();
        let Some(path) = files.iter().max_by_key(|path| path.file_name()) else {
            return;
        };
        let length = path.metadata().unwrap().len();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a part of a small file's length"
        )]
        let cut = (length as f64 * part) as u64;
        let (before, left) = (whole_before(path, length), whole_before(path, cut));
        OpenOptions::new()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(cut)
            .unwrap();
        for group in &mut self.written {
            group.retain(|(time, ..)| !before.contains(time) || left.contains(time));
        }
    }

    fn check(&self, fixture: &Fixture) {
        for (name, expected) in GROUPS.iter().zip(&self.written) {
            let found = fixture.all(name);
            let parts = found.iter().map(|event| {
                let message = String::from_utf8(event.message.to_vec()).unwrap();
                (event.at.timestamp_ms(), event.stream.to_string(), message)
            });
            assert_eq!(&parts.collect::<Vec<_>>(), expected);
            let mut latest_first = fixture.read(
                name,
                ReadQuery {
                    is_ascending: false,
                    ..everything()
                },
            );
            latest_first.reverse();
            assert_eq!(latest_first, found);
            let streams = fixture.store.streams(&account(), &group(name));
            let events: u64 = streams.iter().map(|stream| stream.events).sum();
            assert_eq!(events, found.len() as u64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn what_was_written_is_read_once_in_order_whatever_happens(steps in prop::collection::vec(step(), 1..60)) {
        let mut fixture = Fixture::new(small());
        let mut model = Model::default();
        for step in steps {
            fixture.clock.advance_ms(1);
            match step {
                Step::Append(group, stream, events, length) => model.append(&fixture, (group, stream), events, length),
                Step::Write => {
                    fixture.writer.step();
                    model.write();
                }
                Step::Reopen { is_crash: false } => {
                    fixture.reopen(false);
                    model.write();
                }
                Step::Reopen { is_crash: true } => {
                    // What waited was not on disk.
                    model.waiting.clear();
                    fixture.reopen(true);
                }
                Step::Tear(part) => {
                    model.waiting.clear();
                    model.tear(&fixture, part);
                    fixture.reopen(true);
                }
            }
            model.check(&fixture);
        }
    }
}
