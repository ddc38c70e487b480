//! The users who publish versions of a function, move its alias to them, and have sandboxes of the alias kept.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{self, Answer};
use super::load::{Users, pause};
use super::now_ms;
use crate::chance::Chance;
use crate::ledger::qualified;
use crate::plan::{ALIAS, FunctionPlan};

/// Tries to publish: a configuration that was just changed is in progress for a while.
const TRIES: u32 = 20;
/// Sandboxes kept at the end.
pub(crate) const LAST_KEPT: u64 = 2;

/// A version that was published.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    value: u64,
    version: String,
}

fn provisioned_path(name: &str) -> String {
    format!("/2019-09-30/functions/{name}/provisioned-concurrency?Qualifier={ALIAS}")
}

impl Users {
    async fn ask_any(
        &self,
        f: &FunctionPlan,
        method: &str,
        path: &str,
        body: &Value,
        chance: &mut Chance,
    ) -> Option<Answer> {
        let gateway = self.gateway(chance);
        client::call(&gateway, f.account, method, path, body).await
    }

    /// Publishes versions and moves the alias to each, one after the other; one with weights keeps a part of the calls on the one
    /// before, or gives all to the new one.
    pub(crate) async fn vary_alias(self, f: FunctionPlan, mut chance: Chance) {
        let mut before = None;
        let path = format!("{}/configuration", client::function_path(f.name));
        for value in 2.. {
            pause(chance.between(500, 4_000)).await;
            if self.control.phase().is_load_over {
                return;
            }
            let environment = client::environment(f.account, f.name, value, f.init_ms);
            let body = json!({ "Environment": environment });
            if self.put(f.account, &path, &body, &mut chance).await {
                let also = before
                    .take()
                    .filter(|_| f.is_weighted && chance.below(3) > 0);
                before = self.move_alias(&f, (value, also), &mut chance).await;
            }
        }
    }

    /// Publishes what the function is now, and points the alias to it and to another version; the new one if that is known to be
    /// done.
    pub(crate) async fn move_alias(
        &self,
        f: &FunctionPlan,
        (value, also): (u64, Option<Published>),
        chance: &mut Chance,
    ) -> Option<Published> {
        let version = self.publish(f, value, chance).await?;
        let aliases = format!("{}/aliases", client::function_path(f.name));
        let key = qualified(&(f.account.to_owned(), f.name.to_owned()), ALIAS);
        let began = now_ms();
        let values = (value, also.as_ref().map(|also| also.value));
        self.note_values(&key, values, began, None);
        let weights = also.map(|also| json!({ also.version: 0.5 }));
        let weights = weights.unwrap_or_else(|| json!({}));
        let mut body = json!({
            "FunctionVersion": version,
            "RoutingConfig": { "AdditionalVersionWeights": weights },
        });
        let is_done = if value == 1 {
            body["Name"] = ALIAS.into();
            let made = self.ask_any(f, "POST", &aliases, &body, chance).await;
            made.is_some_and(|a| matches!(a.status, 201 | 409))
        } else {
            let path = format!("{aliases}/{ALIAS}");
            self.put(f.account, &path, &body, chance).await
        };
        is_done.then(|| {
            self.note_values(&key, values, began, Some(now_ms()));
            Published { value, version }
        })
    }

    /// The number of the version that has this value.
    async fn publish(&self, f: &FunctionPlan, value: u64, chance: &mut Chance) -> Option<String> {
        let path = format!("{}/versions", client::function_path(f.name));
        for _ in 0..TRIES {
            let answer = self.ask_any(f, "POST", &path, &json!({}), chance).await?;
            if answer.status == 201 {
                let document = answer.json();
                let is_it = client::value_of(&document) == Some(value);
                let version = document["Version"].as_str().map(str::to_owned);
                return version.filter(|_| is_it);
            }
            pause(200).await;
        }
        None
    }

    /// Changes how many sandboxes of the alias are kept.
    pub(crate) async fn vary_provisioned(self, f: FunctionPlan, mut chance: Chance) {
        loop {
            pause(chance.between(1_000, 6_000)).await;
            if self.control.phase().is_load_over {
                return;
            }
            let kept = chance.below(4);
            self.keep(&f, kept, &mut chance).await;
        }
    }

    /// Has so many sandboxes of the alias kept.
    async fn keep(&self, f: &FunctionPlan, kept: u64, chance: &mut Chance) -> bool {
        let path = provisioned_path(f.name);
        let body = json!({ "ProvisionedConcurrentExecutions": kept });
        let answer = if kept == 0 {
            self.ask_any(f, "DELETE", &path, &Value::Null, chance).await
        } else {
            self.ask_any(f, "PUT", &path, &body, chance).await
        };
        let status = answer.map(|answer| answer.status);
        let line = format!("keep {kept} of {}: {status:?}", f.name);
        self.ledger.trace(now_ms(), &line);
        status.is_some_and(|status| matches!(status, 202 | 204))
    }

    /// Asks for sandboxes to be kept, until they are or it is too late.
    pub(crate) async fn kept_sandboxes_are_ready(
        &self,
        f: &FunctionPlan,
        until_ms: u64,
        chance: &mut Chance,
    ) -> bool {
        let again = Duration::from_millis(250);
        while !self.keep(f, LAST_KEPT, chance).await {
            if now_ms() > until_ms {
                return false;
            }
            tokio::time::sleep(again).await;
        }
        loop {
            let path = provisioned_path(f.name);
            let answer = self.ask_any(f, "GET", &path, &Value::Null, chance).await;
            let document = answer.map_or(Value::Null, |answer| answer.json());
            let allocated = &document["AllocatedProvisionedConcurrentExecutions"];
            if document["Status"] == "READY" && *allocated == LAST_KEPT {
                return true;
            }
            if now_ms() > until_ms {
                self.ledger.trace(now_ms(), &format!("kept: {document}"));
                return false;
            }
            tokio::time::sleep(again).await;
        }
    }
}
