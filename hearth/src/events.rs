//! `hearth events`: event invocations that the log has, and failed ones taken up again.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hearth_core::events::{End, EventEntry, Phase};
use hearth_core::telemetry::event::timestamp;
use hearth_node::grpc::{ClusterChannel, with_deadline};
use hearth_proto::internal::v1 as pb;
use pb::event_log_client::EventLogClient;
use tonic::{Response, Status};

use crate::cli::{EventSelection, EventsCommand, MembersArgs};
use crate::members::find;

/// How long the controllers may take to answer; a leader may have to be elected.
const DEADLINE: Duration = Duration::from_secs(8);
/// Events taken up again by one request.
const REDRIVEN: u32 = 1_000;

pub(crate) async fn run(command: EventsCommand) -> anyhow::Result<()> {
    match command {
        EventsCommand::List {
            selection,
            failed,
            limit,
            json,
            at,
        } => {
            let mut log = Log::find(&at).await?;
            let (entries, truncated) = log.list(&selection, failed, limit).await?;
            print!("{}", shown(&entries, json)?);
            if truncated {
                eprintln!(
                    "hearth: there are more; name a --function, or raise --limit (1000 at most)"
                );
            }
        }
        EventsCommand::Show {
            request_id,
            json,
            at,
        } => {
            let mut log = Log::find(&at).await?;
            let entry = log.show(&request_id).await?;
            print!("{}", shown(&[entry], json)?);
        }
        EventsCommand::Redrive {
            request_ids,
            selection,
            at,
        } => {
            let mut log = Log::find(&at).await?;
            let wanted = if request_ids.is_empty() {
                let (failed, _) = log.list(&selection, true, REDRIVEN).await?;
                failed.into_iter().map(|entry| entry.request_id).collect()
            } else {
                request_ids
            };
            let redriven = log.redrive(wanted.clone()).await?;
            for request_id in &redriven {
                println!("{request_id} waits again");
            }
            if let Some(other) = wanted.iter().find(|id| !redriven.contains(id)) {
                bail!(
                    "event {other} was not taken up again: it has not failed, is gone, or its function's line is full"
                );
            }
            if redriven.is_empty() {
                println!("no event has failed");
            }
        }
    }
    Ok(())
}

/// The event log, at one controller.
struct Log {
    addr: String,
    client: EventLogClient<ClusterChannel>,
}

impl Log {
    async fn find(at: &MembersArgs) -> anyhow::Result<Self> {
        let (addr, channel) = find(at).await?;
        let client = EventLogClient::new(channel);
        Ok(Self { addr, client })
    }

    async fn answer<T>(
        addr: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> anyhow::Result<T> {
        match with_deadline(call, DEADLINE).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => bail!("controller {addr} answers: {}", status.message()),
        }
    }

    async fn list(
        &mut self,
        selection: &EventSelection,
        failed: bool,
        limit: u32,
    ) -> anyhow::Result<(Vec<EventEntry>, bool)> {
        let request = pb::ListEventsRequest {
            account: selection.account.clone().unwrap_or_default(),
            function: selection.function.clone().unwrap_or_default(),
            failed,
            limit,
        };
        let reply = Self::answer(&self.addr, self.client.list(request)).await?;
        let entries = reply.entries.iter().map(|json| read(json));
        Ok((entries.collect::<anyhow::Result<_>>()?, reply.truncated))
    }

    async fn show(&mut self, request_id: &str) -> anyhow::Result<EventEntry> {
        let request = pb::FindEventRequest {
            request_id: request_id.to_owned(),
        };
        let reply = Self::answer(&self.addr, self.client.find(request)).await?;
        match reply.entry {
            Some(entry) => read(&entry),
            None => bail!(
                "there is no event {request_id}: it was never accepted, or has ended and is forgotten"
            ),
        }
    }

    async fn redrive(&mut self, request_ids: Vec<String>) -> anyhow::Result<Vec<String>> {
        let request = pb::RedriveEventsRequest { request_ids };
        let reply = Self::answer(&self.addr, self.client.redrive(request)).await?;
        Ok(reply.request_ids)
    }
}

fn read(json: &[u8]) -> anyhow::Result<EventEntry> {
    serde_json::from_slice(json).context("an event cannot be read")
}

fn shown(entries: &[EventEntry], json: bool) -> anyhow::Result<String> {
    if json {
        return Ok(serde_json::to_string_pretty(entries)? + "\n");
    }
    let mut table = format!(
        "{:<36}  {:<24}  {:<20}  {:>8}  STATE\n",
        "REQUEST ID", "ACCEPTED", "FUNCTION", "ATTEMPTS"
    );
    for entry in entries {
        let qualifier = entry.qualifier.as_ref().map(|q| format!(":{q}"));
        let function = format!(
            "{}{}",
            entry.function.function,
            qualifier.unwrap_or_default()
        );
        writeln!(
            table,
            "{:<36}  {:<24}  {function:<20}  {:>8}  {}",
            entry.request_id,
            timestamp(entry.accepted.0),
            entry.progress.attempts,
            state(&entry.phase),
        )?;
    }
    Ok(table)
}

fn state(phase: &Phase) -> String {
    match phase {
        Phase::Queued { due } => format!("waits until {}", timestamp(due.0)),
        Phase::Leased { holder, .. } => format!("runs, sent by gateway {holder}"),
        Phase::Settled { at, end } => {
            let end = match end {
                End::Delivered(condition) => condition.as_str(),
                End::Dropped => "dropped: its function is gone",
            };
            format!("{end} at {}", timestamp(at.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_each_event_waits_for() {
        let entry = br#"{"number":1,"request_id":"r-1","function":{"account":"123456789012","function":"f"},"qualifier":"live","payload":{"index":4,"bytes":2},"accepted":1574632367333,"progress":{"counted_from":1574632367333,"attempts":1,"setbacks":0},"epoch":7,"phase":{"Settled":{"at":1574632367999,"end":{"Delivered":"RetriesExhausted"}}}}"#;
        let entry = read(entry).unwrap();
        let table = shown(&[entry], false).unwrap();
        let line = table.lines().nth(1).unwrap();
        assert!(line.starts_with("r-1 "), "{line}");
        assert!(line.contains("f:live "), "{line}");
        assert!(
            line.ends_with("RetriesExhausted at 2019-11-24T21:52:47.999Z"),
            "{line}"
        );
        assert!(read(b"{}").is_err());
    }
}
