//! The open-loop load: invocations and calls to the metadata at times that do not wait for answers, and the probes of
//! the healed cluster.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{self, Answer};
use super::now_ms;
use super::script::{self, Event, Then};
use crate::chance::Chance;
use crate::history::{Answer as Said, Ask, Call};
use crate::invariants;
use crate::invariants::a_2xx_ran_a_configuration_that_was_serving_during_the_call::Disturbed;
use crate::ledger::{Ending, Invocation, Key, Ledger, Written, qualified};
use crate::plan::{ACCOUNTS, ALIAS, FunctionPlan, Plan};

/// What the world and its users tell each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Control(Arc<Mutex<Phase>>);

#[derive(Debug, Default)]
pub(crate) struct Phase {
    /// The functions are there.
    pub(crate) is_ready: bool,
    /// No more is to be sent.
    pub(crate) is_load_over: bool,
    /// When nodes may not have been told of changes.
    pub(crate) disturbed: Disturbed,
    /// The probes may begin.
    pub(crate) may_probe: bool,
    /// The probes have ended.
    pub(crate) is_probed: bool,
    next_nonce: u64,
}

impl Phase {
    pub(crate) fn nonce(&mut self) -> u64 {
        self.next_nonce += 1;
        self.next_nonce
    }
}

impl Control {
    pub(crate) fn phase(&self) -> MutexGuard<'_, Phase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn until(&self, done: impl Fn(&Phase) -> bool) {
        while !done(&self.phase()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Everybody who uses the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Users {
    pub(crate) plan: Arc<Plan>,
    pub(crate) ledger: Ledger,
    pub(crate) control: Control,
    pub(crate) zip: Arc<str>,
}

pub(crate) async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

impl Users {
    /// The life of the clients' host.
    pub(crate) async fn run(self) {
        let mut chance = Chance::new(self.plan.seed ^ 0xC11E);
        self.set_up().await;
        self.control.phase().is_ready = true;
        tokio::spawn(self.clone().invoke_load(chance.fork()));
        tokio::spawn(self.clone().bursts(chance.fork()));
        if self.plan.has_events {
            let sending = super::events::load(self.clone(), Chance::new(self.plan.seed ^ 0xE7E7));
            tokio::spawn(sending);
        }
        tokio::spawn(self.clone().metadata_load(chance.fork()));
        for function in &self.plan.functions {
            if function.value_varies {
                let varying = self.clone().vary_value(function.clone(), chance.fork());
                tokio::spawn(varying);
            }
            if function.is_aliased {
                let varying = self.clone().vary_alias(function.clone(), chance.fork());
                tokio::spawn(varying);
            }
            if function.is_aliased && !function.is_weighted {
                let varying = self.clone();
                let varying = varying.vary_provisioned(function.clone(), chance.fork());
                tokio::spawn(varying);
            }
            if function.limit_varies {
                let varying = self.clone().vary_limit(function.clone(), chance.fork());
                tokio::spawn(varying);
            }
        }
        self.control.until(|phase| phase.may_probe).await;
        super::probe::run(&self).await;
        self.control.phase().is_probed = true;
        std::future::pending().await
    }

    pub(crate) fn gateway(&self, chance: &mut Chance) -> String {
        chance.pick(&Plan::names('g', self.plan.gateways)).clone()
    }

    /// Until the functions are there and active.
    async fn set_up(&self) {
        let mut chance = Chance::new(self.plan.seed ^ 0x5E70);
        for f in &self.plan.functions {
            let environment = client::environment(f.account, f.name, 1, f.init_ms);
            let body = client::creation(f.name, &environment, f.timeout_s, &self.zip);
            loop {
                let gateway = self.gateway(&mut chance);
                let path = "/2015-03-31/functions";
                let made = client::call(&gateway, f.account, "POST", path, &body).await;
                if made.is_some_and(|a| matches!(a.status, 201 | 409)) {
                    break;
                }
                pause(200).await;
            }
            let key = (f.account.to_owned(), f.name.to_owned());
            self.note_value(&key, 1, 0, Some(now_ms()));
            if let Some(limit) = f.reserved {
                let body = json!({"ReservedConcurrentExecutions": limit});
                let path = client::set_limit_path(f.name);
                while !self.put(f.account, &path, &body, &mut chance).await {
                    pause(200).await;
                }
                self.note_limit(&key, limit, 0, Some(now_ms()));
            }
        }
        for f in self.plan.functions.iter().filter(|f| f.is_aliased) {
            while self.move_alias(f, (1, None), &mut chance).await.is_none() {
                pause(200).await;
            }
        }
        for f in &self.plan.functions {
            while !self.invoke(f, 1, Then::Answer, &mut chance).await {
                pause(200).await;
            }
        }
    }

    pub(crate) async fn put(
        &self,
        account: &str,
        path: &str,
        body: &Value,
        chance: &mut Chance,
    ) -> bool {
        let gateway = self.gateway(chance);
        let answer = client::call(&gateway, account, "PUT", path, body).await;
        answer.is_some_and(|a| a.status == 200)
    }

    pub(crate) fn note_value(&self, key: &Key, value: u64, began_ms: u64, acked_ms: Option<u64>) {
        self.note_values(key, (value, None), began_ms, acked_ms);
    }

    /// `also` serves beside the value.
    pub(crate) fn note_values(
        &self,
        key: &Key,
        (value, also): (u64, Option<u64>),
        began_ms: u64,
        acked_ms: Option<u64>,
    ) {
        let mut seen = self.ledger.seen();
        let written = Written {
            value,
            also,
            began_ms,
            acked_ms,
        };
        seen.trace(now_ms(), &format!("value of {key:?}: {written:?}"));
        note(seen.values.entry(key.clone()).or_default(), written);
    }

    fn note_limit(&self, key: &Key, value: u64, began_ms: u64, acked_ms: Option<u64>) {
        let mut seen = self.ledger.seen();
        let written = Written {
            value,
            also: None,
            began_ms,
            acked_ms,
        };
        seen.trace(now_ms(), &format!("limit of {key:?}: {written:?}"));
        note(seen.limits.entry(key.clone()).or_default(), written);
    }

    async fn invoke_load(self, mut chance: Chance) {
        while !self.control.phase().is_load_over {
            pause(chance.pause_ms(self.plan.invoke_pause_ms)).await;
            let function = chance.pick(&self.plan.functions).clone();
            let then = match chance.below(40) {
                0 => Then::Fail,
                1 => Then::Crash,
                2 => Then::Hang,
                _ => Then::Answer,
            };
            let work_ms = chance.below(self.plan.work_ms);
            let (users, mut chance) = (self.clone(), chance.fork());
            tokio::spawn(async move { users.invoke(&function, work_ms, then, &mut chance).await });
        }
    }

    async fn bursts(self, mut chance: Chance) {
        let Some(function) = self.plan.functions.last().cloned() else {
            return;
        };
        for _ in 0..self.plan.bursts {
            pause(chance.between(500, 6_000)).await;
            for _ in 0..self.plan.account_limit + 40 {
                let (users, function, mut chance) = (self.clone(), function.clone(), chance.fork());
                tokio::spawn(async move {
                    users
                        .invoke(&function, 900, Then::Answer, &mut chance)
                        .await
                });
            }
        }
    }

    /// One invocation; true if it ran and answered.
    pub(crate) async fn invoke(
        &self,
        function: &FunctionPlan,
        work_ms: u64,
        then: Then,
        chance: &mut Chance,
    ) -> bool {
        let gateway = self.gateway(chance);
        self.invoke_through(&gateway, function, work_ms, then).await
    }

    /// As [`Users::invoke`], through this gateway.
    pub(crate) async fn invoke_through(
        &self,
        gateway: &str,
        function: &FunctionPlan,
        work_ms: u64,
        then: Then,
    ) -> bool {
        let nonce = self.control.phase().nonce();
        let event = Event {
            nonce,
            account: function.account.to_owned(),
            function: function.name.to_owned(),
            work_ms,
            then,
        };
        let key = (event.account.clone(), event.function.clone());
        let invocation = Invocation {
            gateway: gateway.to_owned(),
            function: key.clone(),
            target: if function.is_aliased {
                qualified(&key, ALIAS)
            } else {
                key
            },
            began_ms: now_ms(),
            ended_ms: None,
            runs: 0,
            ending: None,
        };
        self.ledger.seen().invocations.insert(nonce, invocation);
        let mut path = format!("{}/invocations", client::function_path(function.name));
        if function.is_aliased {
            path.push_str(&format!("?Qualifier={ALIAS}"));
        }
        let body = serde_json::to_value(&event).unwrap_or_default();
        let answer = client::call(gateway, function.account, "POST", &path, &body).await;
        let ending = self.ending(nonce, answer);
        let has_run = matches!(ending, Ending::Ran { .. });
        self.note_ending(nonce, ending);
        has_run
    }

    fn ending(&self, nonce: u64, answer: Option<Answer>) -> Ending {
        match answer {
            None => Ending::NoAnswer,
            Some(answer) if answer.status != 200 => Ending::Refused(answer.status),
            Some(answer) if answer.is_function_error => Ending::Failed,
            Some(answer) => match serde_json::from_slice::<script::Answer>(&answer.body) {
                Ok(own) if own.nonce == nonce => Ending::Ran { value: own.value },
                other => {
                    let detail = format!("invocation {nonce} was answered {other:?}");
                    let promise = "an answer is that of its own invocation";
                    self.ledger.seen().violate(promise, now_ms(), &detail);
                    Ending::Failed
                }
            },
        }
    }

    fn note_ending(&self, nonce: u64, ending: Ending) {
        let at = now_ms();
        let known_since = self.control.phase().disturbed.known_since(at);
        let mut seen = self.ledger.seen();
        seen.trace(at, &format!("end {nonce} {ending:?}"));
        let Some(invocation) = seen.invocations.get_mut(&nonce) else {
            return;
        };
        invocation.ended_ms = Some(at);
        invocation.ending = Some(ending);
        let invocation = invocation.clone();
        invariants::a_2xx_ran_a_configuration_that_was_serving_during_the_call::on_end(
            &mut seen,
            &invocation,
            known_since,
            at,
        );
    }

    /// Changes a function's value, one change at a time.
    async fn vary_value(self, f: FunctionPlan, mut chance: Chance) {
        let key = (f.account.to_owned(), f.name.to_owned());
        let path = format!("{}/configuration", client::function_path(f.name));
        for value in 2.. {
            pause(chance.between(1_000, 5_000)).await;
            if self.control.phase().is_load_over {
                return;
            }
            let environment = client::environment(f.account, f.name, value, f.init_ms);
            let body = json!({ "Environment": environment });
            let began = now_ms();
            self.note_value(&key, value, began, None);
            if self.put(f.account, &path, &body, &mut chance).await {
                self.note_value(&key, value, began, Some(now_ms()));
            }
        }
    }

    /// Changes a function's limit, one change at a time.
    async fn vary_limit(self, f: FunctionPlan, mut chance: Chance) {
        loop {
            pause(chance.between(500, 4_000)).await;
            if self.control.phase().is_load_over {
                return;
            }
            let limit = chance.between(1, 8);
            self.set_limit(&f, limit, &mut chance).await;
        }
    }

    pub(crate) async fn set_limit(
        &self,
        f: &FunctionPlan,
        limit: u64,
        chance: &mut Chance,
    ) -> bool {
        let key = (f.account.to_owned(), f.name.to_owned());
        let path = client::set_limit_path(f.name);
        let body = json!({"ReservedConcurrentExecutions": limit});
        let began = now_ms();
        self.note_limit(&key, limit, began, None);
        let is_done = self.put(f.account, &path, &body, chance).await;
        if is_done {
            self.note_limit(&key, limit, began, Some(now_ms()));
        }
        is_done
    }

    /// Calls to functions that are only talked about, many at a time.
    async fn metadata_load(self, mut chance: Chance) {
        let mut value = 0;
        while !self.control.phase().is_load_over {
            pause(chance.pause_ms(self.plan.metadata_pause_ms)).await;
            value += 1;
            let account = *chance.pick(&ACCOUNTS);
            let name = *chance.pick(&["m1", "m2"]);
            let ask = match chance.below(10) {
                0 | 1 => Ask::Create(value),
                2 | 3 => Ask::Update(value),
                4 => Ask::SetLimit(chance.between(1, 3)),
                5 => Ask::Delete,
                6 => Ask::GetLimit,
                _ => Ask::Get,
            };
            let gateway = self.gateway(&mut chance);
            // Some look at once, elsewhere, for what they were told is done.
            let reader = chance.percent(50).then(|| self.gateway(&mut chance));
            let users = self.clone();
            tokio::spawn(async move {
                let said = users.ask(&gateway, account, name, ask).await;
                if let (Some(Said::Done), Some(reader)) = (said, reader) {
                    users.ask(&reader, account, name, Ask::Get).await;
                }
            });
        }
    }

    /// One call to the metadata, recorded.
    pub(crate) async fn ask(
        &self,
        gateway: &str,
        account: &str,
        name: &str,
        ask: Ask,
    ) -> Option<Said> {
        let environment = |value| client::environment(account, name, value, 5);
        let own = client::function_path(name);
        let (method, path, body) = match ask {
            Ask::Create(value) => {
                let body = client::creation(name, &environment(value), 3, &self.zip);
                ("POST", "/2015-03-31/functions".to_owned(), body)
            }
            Ask::Get => ("GET", format!("{own}/configuration"), Value::Null),
            Ask::GetLimit => ("GET", client::get_limit_path(name), Value::Null),
            Ask::Update(value) => {
                let body = json!({"Environment": environment(value)});
                ("PUT", format!("{own}/configuration"), body)
            }
            Ask::SetLimit(limit) => {
                let body = json!({"ReservedConcurrentExecutions": limit});
                ("PUT", client::set_limit_path(name), body)
            }
            Ask::Delete => ("DELETE", own, Value::Null),
        };
        let began_ms = now_ms();
        let key = (account.to_owned(), name.to_owned());
        // Noted from the start: one that is still under way when the run ends may have been carried out.
        let at = {
            let mut seen = self.ledger.seen();
            let calls = seen.calls.entry(key.clone()).or_default();
            calls.push(Call {
                ask,
                answer: None,
                began_ms,
                ended_ms: u64::MAX,
            });
            calls.len() - 1
        };
        let answer = client::call(gateway, account, method, &path, &body).await;
        let answer = answer.and_then(|answer| said(ask, &answer));
        let ended_ms = now_ms();
        let mut seen = self.ledger.seen();
        seen.trace(
            ended_ms,
            &format!("{account}/{name} {ask:?} since {began_ms}: {answer:?}"),
        );
        if let Some(call) = seen.calls.get_mut(&key).and_then(|calls| calls.get_mut(at)) {
            (call.answer, call.ended_ms) = (answer, ended_ms);
        }
        answer
    }
}

/// Adds a write, or the end of one that was added when it was sent.
fn note(writes: &mut Vec<Written>, written: Written) {
    let same = |w: &&mut Written| w.value == written.value && w.began_ms == written.began_ms;
    match writes.iter_mut().find(same) {
        Some(known) => *known = written,
        None => writes.push(written),
    }
}

/// What an answer says. `None`: nothing is known.
fn said(ask: Ask, answer: &Answer) -> Option<Said> {
    match (ask, answer.status) {
        (_, 404) => Some(Said::Missing),
        (_, 409) => Some(Said::Conflict),
        (_, 400..500) => Some(Said::Refused),
        (Ask::Get, 200) => client::value_of(&answer.json()).map(Said::Value),
        (Ask::GetLimit, 200) => {
            let limit = &answer.json()["ReservedConcurrentExecutions"];
            Some(Said::Limit(limit.as_u64()))
        }
        (_, 200..300) => Some(Said::Done),
        _ => None,
    }
}
