//! The spawner as a program of its own, for the tests of the native driver. `hearth __spawner` runs the same code.

fn main() -> std::process::ExitCode {
    hearth_worker::sandbox::native::spawner::main()
}
