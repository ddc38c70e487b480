//! The state of the event log as consensus carries it: the group's entries, and the payloads of those that still need
//! them, in memory. Its limit of bytes bounds both, and what a snapshot is.

use std::collections::BTreeMap;

use bytes::Bytes;
use hearth_core::events::{EventCommand, EventEntry, EventGroup, EventReply, PayloadRef};
use hearth_proto::internal::v1 as pb;
use prost::Message as _;
use tokio::sync::watch;

use crate::raft::{Machine, RestoreError, WriteSnapshot};

/// Version of snapshots. A newer one is refused.
const FORMAT_VERSION: u32 = 1;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct EventMachine {
    group: EventGroup,
    /// By the index of the record that brought them.
    payloads: BTreeMap<u64, Bytes>,
    /// Bytes of payloads that records brought since this controller's start.
    brought: u64,
    /// Why the state cannot be trusted any more.
    broken: watch::Sender<Option<String>>,
}

/// A command as it stands in the log.
pub(super) fn record(command: &EventCommand, payload: Bytes) -> Bytes {
    let command = serde_json::to_vec(command).expect("commands have no failing serializers");
    let command = command.into();
    pb::EventLogRecord { command, payload }
        .encode_to_vec()
        .into()
}

fn read(record: &[u8]) -> Result<(EventCommand, Bytes), String> {
    let record = pb::EventLogRecord::decode(record).map_err(|error| error.to_string())?;
    let command = serde_json::from_slice(&record.command).map_err(|error| error.to_string())?;
    Ok((command, record.payload))
}

impl EventMachine {
    pub(crate) fn group(&self) -> &EventGroup {
        &self.group
    }

    /// The payload of an entry.
    pub(crate) fn payload(&self, entry: &EventEntry) -> Option<Bytes> {
        self.payloads.get(&entry.payload.index).cloned()
    }

    /// Bytes of payloads that records brought since this controller's start: what the log has grown by, and more.
    pub(super) fn brought(&self) -> u64 {
        self.brought
    }

    /// Becomes `Some(reason)` when the state has missed a command: the process must end.
    pub(crate) fn watch_broken(&self) -> watch::Receiver<Option<String>> {
        self.broken.subscribe()
    }

    fn carry_out(&mut self, index: u64, mut command: EventCommand, payload: Bytes) -> EventReply {
        if let EventCommand::Append { payload: place, .. } = &mut command {
            let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            *place = PayloadRef { index, bytes };
        }
        let reply = self.group.apply(&command);
        match (&command, &reply) {
            (EventCommand::Append { .. }, EventReply::Appended) => {
                self.brought = self.brought.saturating_add(payload.len() as u64);
                self.payloads.insert(index, payload);
            }
            (EventCommand::Settle { settlements, .. }, _) => {
                for one in settlements {
                    self.let_go_of(&one.lease.request_id);
                }
            }
            (EventCommand::Sweep { .. }, EventReply::Swept { forgotten: 1.., .. }) => {
                let group = &self.group;
                self.payloads.retain(|index, _| group.needs(*index));
            }
            _ => {}
        }
        reply
    }

    /// Of its payload, once it is over and cannot be taken up again.
    fn let_go_of(&mut self, request_id: &str) {
        if let Some(entry) = self.group.entry(request_id)
            && !entry.needs_payload()
        {
            self.payloads.remove(&entry.payload.index);
        }
    }
}

impl Machine for EventMachine {
    const LEVEL: u32 = 1;

    fn apply(&mut self, index: u64, record: &[u8]) -> Vec<u8> {
        let reply = match read(record) {
            Ok((command, payload)) => self.carry_out(index, command, payload),
            Err(error) => {
                let reason = format!(
                    "record {index} of the event log is of a later release, upgrade this controller: {error}"
                );
                tracing::error!(index, reason, "a record cannot be read");
                self.broken.send_replace(Some(reason));
                return Vec::new();
            }
        };
        serde_json::to_vec(&reply).expect("replies have no failing serializers")
    }

    fn snapshot(&self) -> Vec<u8> {
        self.freeze()()
    }

    fn freeze(&self) -> WriteSnapshot {
        let (group, payloads) = (self.group.clone(), self.payloads.clone());
        Box::new(move || {
            let group = serde_json::to_vec(&group).expect("the state has no failing serializers");
            let payload = |(index, payload)| pb::EventPayload { index, payload };
            pb::EventLogSnapshot {
                format_version: FORMAT_VERSION,
                group: group.into(),
                payloads: payloads.into_iter().map(payload).collect(),
            }
            .encode_to_vec()
        })
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let stored =
            pb::EventLogSnapshot::decode(bytes).map_err(|error| RestoreError(error.to_string()))?;
        if stored.format_version != FORMAT_VERSION {
            let found = stored.format_version;
            return Err(RestoreError(format!(
                "it has format {found}, this release knows {FORMAT_VERSION}"
            )));
        }
        let group = serde_json::from_slice(&stored.group);
        self.group = group.map_err(|error| RestoreError(error.to_string()))?;
        let payload = |stored: pb::EventPayload| (stored.index, stored.payload);
        self.payloads = stored.payloads.into_iter().map(payload).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hearth_core::events::retry::{Condition, Decision};
    use hearth_core::events::{FunctionKey, LeaseId, Settlement};
    use hearth_core::ids::{NodeId, UnixMs};

    use super::*;

    fn append(request_id: &str) -> EventCommand {
        EventCommand::Append {
            request_id: request_id.to_owned(),
            function: FunctionKey {
                account: "123456789012".parse().unwrap(),
                function: "f".parse().unwrap(),
            },
            qualifier: None,
            payload: PayloadRef { index: 0, bytes: 0 },
            now: UnixMs(1),
        }
    }

    fn apply(
        machine: &mut EventMachine,
        index: u64,
        command: &EventCommand,
        payload: &'static [u8],
    ) -> EventReply {
        let reply = machine.apply(index, &record(command, Bytes::from_static(payload)));
        serde_json::from_slice(&reply).unwrap()
    }

    fn lease(machine: &mut EventMachine, index: u64) -> Vec<EventEntry> {
        let command = EventCommand::Lease {
            holder: NodeId(201),
            count: 10,
            until: UnixMs(1_000),
            skip: Default::default(),
            now: UnixMs(2),
        };
        match apply(machine, index, &command, b"") {
            EventReply::Leased(leased) => leased,
            other => panic!("{other:?}"),
        }
    }

    fn settle(machine: &mut EventMachine, index: u64, entry: &EventEntry, condition: Condition) {
        let settlement = Settlement {
            lease: LeaseId {
                request_id: entry.request_id.clone(),
                epoch: entry.epoch,
            },
            decision: Decision::Deliver {
                condition,
                burns_attempt: true,
            },
        };
        let command = EventCommand::Settle {
            settlements: vec![settlement],
            now: UnixMs(3),
        };
        apply(machine, index, &command, b"");
    }

    #[test]
    fn a_payload_stays_for_as_long_as_it_may_be_asked_for() {
        let mut machine = EventMachine::default();
        apply(&mut machine, 5, &append("good"), b"one");
        apply(&mut machine, 6, &append("bad"), b"two");
        // The same again is another record, and its payload is not kept twice.
        assert_eq!(
            apply(&mut machine, 7, &append("bad"), b"two"),
            EventReply::AlreadyAppended
        );
        let leased = lease(&mut machine, 8);
        let payloads = |machine: &EventMachine| {
            leased
                .iter()
                .map(|entry| machine.payload(entry))
                .collect::<Vec<_>>()
        };
        let (one, two) = (Bytes::from_static(b"one"), Bytes::from_static(b"two"));
        assert_eq!(payloads(&machine), [Some(one), Some(two.clone())]);

        settle(&mut machine, 9, &leased[0], Condition::Success);
        settle(&mut machine, 10, &leased[1], Condition::RetriesExhausted);
        assert_eq!(payloads(&machine), [None, Some(two)]);

        let sweep = EventCommand::Sweep {
            keep_done_ms: 0,
            keep_failed_ms: 0,
            most: 10,
            now: UnixMs(4),
        };
        apply(&mut machine, 11, &sweep, b"");
        assert!(machine.payloads.is_empty());
    }

    #[test]
    fn a_snapshot_has_all_of_it() {
        let mut machine = EventMachine::default();
        apply(&mut machine, 5, &append("a"), b"one");
        let mut other = EventMachine::default();
        other.restore(&machine.snapshot()).unwrap();
        assert_eq!(
            (&other.group, &other.payloads),
            (&machine.group, &machine.payloads)
        );
        // And goes on the same.
        assert_eq!(lease(&mut other, 6), lease(&mut machine, 6));
        assert!(other.restore(b"\xff").is_err());
        let newer = pb::EventLogSnapshot {
            format_version: 2,
            ..Default::default()
        };
        assert!(other.restore(&newer.encode_to_vec()).is_err());
    }

    /// Commands as the first release with an event log writes them, never changed; and the state that they make, as its snapshots
    /// have it.
    const GOLDEN_LOG: &str = include_str!("golden/log-1.jsonl");
    const GOLDEN_STATE: &str = include_str!("golden/state-1.json");

    #[test]
    fn logs_and_snapshots_of_format_1_stay_readable() {
        #[derive(serde::Deserialize)]
        struct Line {
            index: u64,
            command: serde_json::Value,
            payload: Option<String>,
        }
        let mut machine = EventMachine::default();
        for line in GOLDEN_LOG.lines() {
            let line: Line = serde_json::from_str(line).unwrap();
            let record = pb::EventLogRecord {
                command: line.command.to_string().into(),
                payload: line.payload.unwrap_or_default().into(),
            };
            let reply = machine.apply(line.index, &record.encode_to_vec());
            assert!(!String::from_utf8_lossy(&reply).contains("Refused"));
        }
        assert_eq!(*machine.watch_broken().borrow(), None);
        let state = serde_json::to_string_pretty(&machine.group).unwrap();
        assert_eq!(state.trim(), GOLDEN_STATE.trim());
        let group: EventGroup = serde_json::from_str(GOLDEN_STATE).unwrap();
        assert_eq!(group, machine.group);
        let payloads: Vec<u64> = machine.payloads.keys().copied().collect();
        assert_eq!(payloads, [4, 5], "of what may still be asked for");
    }

    #[test]
    fn a_record_of_a_later_release_ends_the_controller() {
        let mut machine = EventMachine::default();
        let broken = machine.watch_broken();
        machine.apply(1, b"\x0a\x05\"New\"");
        assert!(broken.borrow().is_some());
    }
}
