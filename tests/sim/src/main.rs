//! The command line of the simulation. `hearth-sim one SEED` runs one seed, `many FROM COUNT JOBS` many, each in a process
//! of its own, `known FILE JOBS` those of a file, `same FROM COUNT JOBS` each twice and compares their traces, `mutants`
//! looks for planted bugs.

fn main() -> std::process::ExitCode {
    #[cfg(tokio_unstable)]
    return hearth_sim::command::main();
    #[cfg(not(tokio_unstable))]
    {
        eprintln!(
            "the simulation needs a build with --cfg tokio_unstable: run `make sim SEEDS=20`"
        );
        std::process::ExitCode::from(2)
    }
}
