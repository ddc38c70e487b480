//! A rehearsal: the runtime of a pack that is being built is started once, in its root, with a Runtime API that hands out
//! the recipe's events. A pack whose runtime does not start is never put in place.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::process::Output;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::inside;
use super::install::{InstallError, Workshop};
use super::recipe::{Recipe, Rehearsal, Tree};

/// Longest time from the start to the last answer. Ours: a start is seconds even on a slow machine.
const ANSWERS_LIMIT: Duration = Duration::from_secs(120);

/// Longest time it may take to end, which includes the writing of what it keeps.
const END_LIMIT: Duration = Duration::from_secs(120);

/// Memory the rehearsed function is told it has, MiB.
const MEMORY_MIB: u32 = 1_024;

/// Most characters of the runtime's output that are told.
const OUTPUT_MAX: usize = 2_000;

/// Starts the runtime, has it answer every event, and ends it by SIGTERM.
pub(super) async fn run(
    work: &Workshop,
    recipe: &Recipe,
    plan: &Rehearsal,
) -> Result<(), InstallError> {
    let failed = |output: String| InstallError::Step {
        step: "starting the runtime once".to_owned(),
        output,
    };
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(|e| failed(e.to_string()))?;
    let address = listener.local_addr().map_err(|e| failed(e.to_string()))?;
    let api = Arc::new(Api::new(plan));
    let serving = tokio::spawn(serve(listener, Arc::clone(&api)));
    let task = work.work().join(&plan.task);
    let mut command = inside::command(work, Tree::Root, Some(&task));
    command.args(["/usr/bin/env", "--chdir=/var/task"]);
    let mut manifest = recipe.manifest();
    for arg in &mut manifest.argv {
        if let Some(other) = plan.replace.get(arg) {
            arg.clone_from(other);
        }
    }
    command.args(manifest.fill(&plan.handler, "", MEMORY_MIB));
    command.envs(environment(recipe, plan, &address.to_string()));
    command
        .process_group(0)
        .kill_on_drop(true)
        .stdin(std::process::Stdio::null());
    let child = command.spawn().map_err(|source| InstallError::NoProgram {
        program: "unshare".to_owned(),
        advice: "it is part of util-linux",
        source,
    })?;
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    let ending = async {
        // The runtime's own end comes first when it fails.
        let answered = tokio::time::timeout(ANSWERS_LIMIT, api.done.notified()).await;
        if let Some(group) = group {
            // An error means that it has ended.
            let _ = killpg(Pid::from_raw(group), Signal::SIGTERM);
        }
        answered.is_ok()
    };
    let limit = ANSWERS_LIMIT + END_LIMIT;
    let ended = tokio::time::timeout(limit, async {
        tokio::join!(async { output_or_done(child, &api).await }, ending).0
    });
    let output = ended.await;
    serving.abort();
    let said = |output: &Output| {
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let skipped = text.chars().count().saturating_sub(OUTPUT_MAX);
        text.chars().skip(skipped).collect::<String>()
    };
    let output = match output {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed("it did not end".to_owned())),
    };
    if let Some(problem) = api.problem() {
        return Err(failed(format!("{problem}\n{}", said(&output))));
    }
    match &plan.makes {
        Some(path) if !work.root().join(path).is_file() => {
            Err(failed(format!("it left no {path}\n{}", said(&output))))
        }
        _ => Ok(()),
    }
}

/// Waits for the process; its end ends the wait for answers too.
async fn output_or_done(child: tokio::process::Child, api: &Api) -> std::io::Result<Output> {
    let output = child.wait_with_output().await;
    api.done.notify_one();
    output
}

fn environment(recipe: &Recipe, plan: &Rehearsal, api: &str) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = [
        ("_HANDLER", plan.handler.as_str()),
        ("AWS_LAMBDA_RUNTIME_API", api),
        ("AWS_LAMBDA_FUNCTION_NAME", "rehearsal"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/rehearsal"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "rehearsal"),
        ("AWS_REGION", "us-east-1"),
        ("LAMBDA_TASK_ROOT", "/var/task"),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
        ("LANG", "en_US.UTF-8"),
        ("TZ", ":UTC"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    env.push((
        "AWS_EXECUTION_ENV".to_owned(),
        format!("AWS_Lambda_{}", recipe.name),
    ));
    let own = recipe.env.iter();
    env.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    env
}

/// What the runtime has been given and has answered.
struct Api {
    state: Mutex<State>,
    /// All events are answered, or one cannot be any more.
    done: Notify,
}

struct State {
    events: VecDeque<String>,
    given: usize,
    answered: usize,
    problem: Option<String>,
}

impl Api {
    fn new(plan: &Rehearsal) -> Self {
        Self {
            state: Mutex::new(State {
                events: plan.events.iter().cloned().collect(),
                given: 0,
                answered: 0,
                problem: None,
            }),
            done: Notify::new(),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What went wrong.
    fn problem(&self) -> Option<String> {
        self.with(|state| {
            let unanswered = state.events.len() + state.given - state.answered;
            let silent =
                || (unanswered > 0).then(|| format!("{unanswered} events were not answered"));
            state.problem.take().or_else(silent)
        })
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let is_get = request.method() == Method::GET;
        let body = request
            .into_body()
            .collect()
            .await
            .map(|body| body.to_bytes());
        if is_get && path.ends_with("/invocation/next") {
            return self.next().await;
        }
        if path.ends_with("/response") {
            self.with(|state| state.answered += 1);
        } else if path.ends_with("/error") {
            let body = body.unwrap_or_default();
            let text = format!("it reported an error: {}", String::from_utf8_lossy(&body));
            self.with(|state| state.problem = Some(text));
            self.done.notify_one();
        }
        let mut response = Response::new(Full::new(Bytes::from_static(b"{\"status\":\"OK\"}\n")));
        *response.status_mut() = StatusCode::ACCEPTED;
        response
    }

    async fn next(&self) -> Response<Full<Bytes>> {
        let event = self.with(|state| {
            let event = state.events.pop_front();
            state.given += usize::from(event.is_some());
            event
        });
        let Some(event) = event else {
            self.done.notify_one();
            // As in life, the runtime waits here until it is ended.
            return std::future::pending().await;
        };
        let response = Response::builder()
            .header("Content-Type", "application/json")
            .header(
                "Lambda-Runtime-Aws-Request-Id",
                "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
            )
            .header("Lambda-Runtime-Deadline-Ms", "4102444800000")
            .header(
                "Lambda-Runtime-Trace-Id",
                "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0",
            )
            .header(
                "Lambda-Runtime-Invoked-Function-Arn",
                "arn:aws:lambda:us-east-1:000000000000:function:rehearsal",
            );
        response.body(Full::new(event.into())).unwrap_or_default()
    }
}

async fn serve(listener: TcpListener, api: Arc<Api>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let api = Arc::clone(&api);
        connections.spawn(async move {
            let service = service_fn(|request| {
                let api = Arc::clone(&api);
                async move { Ok::<_, Infallible>(api.answer(request).await) }
            });
            // The runtime sees a broken connection itself.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        // Those that ended are let go of.
        while connections.try_join_next().is_some() {}
    }
}
