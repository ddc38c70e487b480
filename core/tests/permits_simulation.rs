//! The admission protocol under lost, repeated and reordered messages, worker crashes, partitions, leader
//! changes with a deposed leader that goes on, changing limits and clocks that run at different rates.
//! The real table, leader and worker halves run; network, log and clocks are simulated (`permits/world.rs`).
//! One seed gives one run. Each promise is a sentence in `permits/invariants.rs`.
//!
//! A simulation that finds nothing proves nothing, so each safeguard is taken away in turn
//! ([`Sabotage`]) and the same invariants must then fail.

#[path = "permits/invariants.rs"]
mod invariants;
#[path = "permits/parts.rs"]
mod parts;
#[path = "permits/world.rs"]
mod world;

use parts::Sabotage;
use world::World;

/// Steps with faults; each is 20 ms of simulated time.
const FAULTY_STEPS: u32 = 3_000;

fn run(seed: u64, sabotage: Sabotage) -> Result<World, String> {
    let mut world = World::new(seed, sabotage);
    for _ in 0..FAULTY_STEPS {
        world.step()?;
    }
    Ok(world)
}

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("HEARTH_SIM_SEEDS")
        .ok()
        .and_then(|s| s.parse().ok());
    0..count.unwrap_or(40)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_hold_under_faults_and_permits_come_back_after_them() {
        let mut accepted = 0;
        for seed in seeds() {
            let result = run(seed, Sabotage::None).and_then(|mut world| {
                world.heal();
                world.converge()?;
                world.accepted.clear();
                for _ in 0..500 {
                    world.step()?;
                }
                invariants::every_pool_with_a_limit_serves(&world)?;
                Ok(world.accepted.values().sum::<u64>())
            });
            accepted += result.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        }
        assert!(
            accepted > seeds().end * 100,
            "only {accepted} invocations ran"
        );
    }

    #[test]
    fn one_seed_gives_one_run() {
        let log = |seed| run(seed, Sabotage::None).map(|world| world.log);
        assert_eq!(log(7), log(7));
    }

    /// The first seed that notices that a safeguard is missing.
    fn first_to_notice(sabotage: Sabotage) -> Option<u64> {
        (0..200).find(|seed| run(*seed, sabotage).is_err())
    }

    #[test]
    fn each_missing_safeguard_is_noticed() {
        for sabotage in [
            Sabotage::ReclaimEarly,
            Sabotage::UnconfirmedLeader,
            Sabotage::ForgetSessions,
            Sabotage::ForgetSequences,
            Sabotage::ShrinkUnderInFlight,
            Sabotage::NoFence,
            Sabotage::ForgetWhole,
        ] {
            let seed = first_to_notice(sabotage);
            assert!(seed.is_some(), "{sabotage:?} is never noticed");
        }
    }
}
