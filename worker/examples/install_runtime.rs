//! Builds a runtime pack without a cluster: `cargo run -p hearth-worker --example install_runtime -- python3.11 DIR`.

use std::path::Path;

use hearth_worker::runtimes::install::install;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(dir)) = (args.next(), args.next()) else {
        return Err("usage: install_runtime NAME DIR".into());
    };
    install(&name, Path::new(&dir), |line| println!("{line}")).await?;
    Ok(())
}
