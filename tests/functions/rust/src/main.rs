//! The function of all runtimes, in Rust.

use std::sync::atomic::{AtomicU64, Ordering};

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

struct State {
    connection: Mutex<TcpStream>,
    other_end: Mutex<BufReader<TcpStream>>,
    count: AtomicU64,
}

async fn handler(state: &State, event: LambdaEvent<Value>) -> Result<Value, Error> {
    match event.payload["do"].as_str() {
        Some("raise") => return Err(std::io::Error::other("no way é").into()),
        Some("exit") => std::process::exit(3),
        Some("sleep") => tokio::time::sleep(std::time::Duration::from_secs(30)).await,
        _ => {}
    }
    println!("a line from the function é");
    let count = state.count.fetch_add(1, Ordering::Relaxed) + 1;
    let line = format!("{count}\n");
    state.connection.lock().await.write_all(line.as_bytes()).await?;
    let mut seen = String::new();
    state.other_end.lock().await.read_line(&mut seen).await?;
    let context = event.context;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(json!({
        "event": event.payload, "count": seen.trim().parse::<u64>()?, "id": context.request_id,
        "left": i64::try_from(context.deadline)? - i64::try_from(now.as_millis())?,
        "name": context.env_config.function_name, "version": context.env_config.version,
        "arn": context.invoked_function_arn,
        "custom": context.client_context.map(|context| context.custom),
        "trace": context.xray_trace_id, "memory": context.env_config.memory, "group": context.env_config.log_group,
    }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let connection = TcpStream::connect(listener.local_addr()?).await?;
    let (other_end, _) = listener.accept().await?;
    let state = State {
        connection: Mutex::new(connection),
        other_end: Mutex::new(BufReader::new(other_end)),
        count: AtomicU64::new(0),
    };
    run(service_fn(|event| handler(&state, event))).await
}
