//! Which worker starts a new sandbox. Which warm one is used is in `routing`.

use std::cmp::Reverse;

use crate::ids::NodeId;

/// What is known of a worker for a cold start of one function version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Which.
    pub worker: NodeId,
    /// Memory not promised to a sandbox, less what was asked of it since the report, MB.
    pub free_memory_mib: u64,
    /// Memory of idle sandboxes, which give way to a start, MB.
    pub idle_memory_mib: u64,
    /// Sandboxes it will start now without queueing, less those asked for since the report.
    pub start_budget: u32,
    /// Whether it has the code unpacked.
    pub code_cached: bool,
    /// It finishes and takes no more.
    pub draining: bool,
}

/// Memory is compared in steps of this many MB, so that a worker with the code at hand wins against one
/// with hardly more memory. Four sandboxes of the smallest size.
const MEMORY_STEP_MIB: u64 = 512;

/// The worker that should start a sandbox of `memory_mib`, or `None` when none can now: where no idle sandbox has to give
/// way, the most memory in coarse steps, then code at hand, then the larger start budget, then the lowest id.
pub fn place(rooms: &[Room], memory_mib: u32) -> Option<NodeId> {
    let needed = u64::from(memory_mib);
    let with_idle = |r: &Room| r.free_memory_mib.saturating_add(r.idle_memory_mib);
    rooms
        .iter()
        .filter(|r| !r.draining && r.start_budget > 0 && with_idle(r) >= needed)
        .max_by_key(|r| {
            let is_free = r.free_memory_mib >= needed;
            let memory = if is_free {
                r.free_memory_mib
            } else {
                with_idle(r)
            };
            let steps = memory / MEMORY_STEP_MIB;
            (
                is_free,
                steps,
                r.code_cached,
                r.start_budget,
                Reverse(r.worker),
            )
        })
        .map(|r| r.worker)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn room(id: u64, free_memory_mib: u64) -> Room {
        Room {
            worker: NodeId(id),
            free_memory_mib,
            idle_memory_mib: 0,
            start_budget: 4,
            code_cached: false,
            draining: false,
        }
    }

    #[test]
    fn table_of_choices() {
        let cached = |r: Room| Room {
            code_cached: true,
            ..r
        };
        let budget = |r: Room, start_budget| Room { start_budget, ..r };
        let idle = |r: Room, idle_memory_mib| Room {
            idle_memory_mib,
            ..r
        };
        let draining = |r: Room| Room {
            draining: true,
            ..r
        };
        let table = [
            ("nobody", vec![], None),
            ("most memory", vec![room(1, 2_048), room(2, 8_192)], Some(2)),
            ("too little memory", vec![room(1, 127)], None),
            ("exactly enough", vec![room(1, 128)], Some(1)),
            ("idle ones give way", vec![idle(room(1, 64), 64)], Some(1)),
            ("not enough gives way", vec![idle(room(1, 64), 63)], None),
            (
                "none gives way without need",
                vec![idle(room(1, 127), 8_192), room(2, 128)],
                Some(2),
            ),
            (
                "no start budget",
                vec![budget(room(1, 8_192), 0), room(2, 1_024)],
                Some(2),
            ),
            ("draining", vec![draining(room(1, 8_192))], None),
            (
                "code at hand on a tie",
                vec![room(1, 8_200), cached(room(2, 8_192))],
                Some(2),
            ),
            (
                "code is not worth a full host",
                vec![room(1, 8_192), cached(room(2, 512))],
                Some(1),
            ),
            (
                "budget on a tie",
                vec![budget(room(1, 1_024), 1), room(2, 1_024)],
                Some(2),
            ),
            (
                "lowest id at last",
                vec![room(2, 1_024), room(1, 1_024)],
                Some(1),
            ),
        ];
        for (name, rooms, expected) in table {
            assert_eq!(place(&rooms, 128).map(|w| w.0), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn order_of_candidates_does_not_matter(
            memories in prop::collection::vec(0_u64..4_096, 1..10), turn in 0_usize..10,
        ) {
            let mut rooms: Vec<Room> = (0..).zip(&memories).map(|(id, m)| room(id, *m)).collect();
            let before = place(&rooms, 256);
            let turn = turn % rooms.len();
            rooms.rotate_left(turn);
            prop_assert_eq!(place(&rooms, 256), before);
            prop_assert_eq!(before.is_some(), memories.iter().any(|m| *m >= 256));
        }
    }
}
