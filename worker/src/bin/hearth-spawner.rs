//! The helper processes of sandboxes as a program of its own, for the tests of the drivers: `hearth __spawner` and
//! `hearth __oci-shim` run the same code.

fn main() -> std::process::ExitCode {
    if std::env::args()
        .nth(1)
        .is_some_and(|role| role == "oci-shim")
    {
        return hearth_worker::sandbox::oci::shim::main();
    }
    hearth_worker::sandbox::native::spawner::main()
}
