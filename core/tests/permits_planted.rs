//! The permits simulation against rules that are broken inside the product's own code (`hearth_core::planted`), where
//! `permits_simulation` breaks them from outside. Needs the feature `planted-bugs`; run by `make sim-mutants`.

#![cfg(feature = "planted-bugs")]
#![expect(
    dead_code,
    reason = "the world can be sabotaged from outside too, which another test does"
)]

#[path = "permits/invariants.rs"]
mod invariants;
#[path = "permits/parts.rs"]
mod parts;
#[path = "permits/world.rs"]
mod world;

#[cfg(test)]
mod tests {
    use hearth_core::planted::{Bug, plant};

    use super::invariants;
    use super::parts::Sabotage;
    use super::world::World;

    /// Steps with faults; each is 20 ms of simulated time.
    const FAULTY_STEPS: u32 = 3_000;
    const SEEDS: u64 = 400;

    fn run(seed: u64) -> Result<(), String> {
        let mut world = World::new(seed, Sabotage::None);
        for _ in 0..FAULTY_STEPS {
            world.step()?;
        }
        world.heal();
        world.converge()?;
        world.accepted.clear();
        for _ in 0..500 {
            world.step()?;
        }
        invariants::every_pool_with_a_limit_serves(&world)
    }

    /// One test, as a bug is planted for the whole process.
    #[test]
    fn every_broken_rule_of_permits_is_noticed() {
        let mut missed = Vec::new();
        for bug in [
            Bug::StaleGrantAccepted,
            Bug::ShrinkBaseIgnored,
            Bug::ShrinkBelowInFlight,
            Bug::ReleaseByHeartbeat,
            Bug::ReuseBeforeWait,
            Bug::NoSelfFence,
            Bug::IncarnationIgnored,
            Bug::SessionIgnored,
            Bug::GrantsAboveLimit,
        ] {
            plant(bug);
            let caught =
                |seed: &u64| std::panic::catch_unwind(|| run(*seed)).is_ok_and(|r| r.is_ok());
            match (0..SEEDS).find(|seed| !caught(seed)) {
                Some(seed) => println!("| {bug:?} | {} |", seed + 1),
                None => missed.push(bug),
            }
        }
        assert!(missed.is_empty(), "never noticed: {missed:?}");
    }
}
