//! Event invocations of the load: sent, and forgotten by their clients once they are accepted.

use super::client;
use super::load::{Users, pause};
use super::now_ms;
use super::script::{Event, Then};
use crate::chance::Chance;
use crate::ledger::EventSent;
use crate::plan::FunctionPlan;

/// Mean pause between two, milliseconds.
const PAUSE_MS: u64 = 150;

/// Until the load is over.
pub(crate) async fn load(users: Users, mut chance: Chance) {
    while !users.control.phase().is_load_over {
        pause(chance.pause_ms(PAUSE_MS)).await;
        let function = chance.pick(&users.plan.functions).clone();
        let work_ms = chance.below(users.plan.work_ms);
        let gateway = users.gateway(&mut chance);
        let users = users.clone();
        tokio::spawn(async move { send(&users, &gateway, &function, work_ms).await });
    }
}

async fn send(users: &Users, gateway: &str, function: &FunctionPlan, work_ms: u64) {
    let nonce = users.control.phase().nonce();
    let event = Event {
        nonce,
        account: function.account.to_owned(),
        function: function.name.to_owned(),
        work_ms,
        then: Then::Answer,
    };
    let sent = EventSent {
        function: (event.account.clone(), event.function.clone()),
        accepted_ms: None,
        runs: 0,
        done: 0,
    };
    users.ledger.seen().events.insert(nonce, sent);
    let path = format!("/2014-11-13/functions/{}/invoke-async/", function.name);
    let body = serde_json::to_value(&event).unwrap_or_default();
    let answer = client::call(gateway, function.account, "POST", &path, &body).await;
    let at = now_ms();
    let mut seen = users.ledger.seen();
    let status = answer.map(|answer| answer.status);
    seen.trace(at, &format!("event {nonce} answered {status:?}"));
    if status == Some(202)
        && let Some(sent) = seen.events.get_mut(&nonce)
    {
        sent.accepted_ms = Some(at);
    }
}
