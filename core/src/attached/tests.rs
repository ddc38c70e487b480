//! Tables of what each change makes of a function, and what is refused in AWS's words.

use super::*;
use crate::function::{CodeRef, FunctionConfig, FunctionVersion, State, UpdateStatus};
use crate::ids::Digest;
use crate::policy::Permission;
use crate::versions::{Alias, PublishedVersion};

const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:f";

/// A function with version 1 and the alias `live`.
fn function() -> Function {
    let snapshot = |version| FunctionVersion {
        version,
        generation: 1,
        config: FunctionConfig::with_defaults("role".into()),
        code: CodeRef {
            digest: Digest([0; 32]),
            size_bytes: 1,
            unpacked_bytes: 0,
            image: None,
        },
        last_modified: UnixMs(0),
        revision_id: "r0".into(),
    };
    let published = PublishedVersion {
        snapshot: snapshot(Version::Number(1)),
        source: 1,
        state: State::Active,
    };
    let alias = Alias {
        version: Version::Number(1),
        description: String::new(),
        weights: BTreeMap::new(),
        revision_id: "r0".into(),
    };
    Function {
        account: "123456789012".parse().unwrap(),
        name: "f".parse().unwrap(),
        latest: snapshot(Version::Latest),
        serving: None,
        state: State::Active,
        update: UpdateStatus::Successful,
        reserved_concurrency: None,
        tags: BTreeMap::new(),
        versions: BTreeMap::from([(1, published)]),
        last_version: 1,
        aliases: BTreeMap::from([("live".into(), alias)]),
        provisioned: BTreeMap::new(),
        attached: Attached::default(),
        changed: 0,
    }
}

fn q(text: &str) -> Option<Qualifier> {
    (!text.is_empty()).then(|| text.parse().unwrap())
}

fn attach(function: &mut Function, change: &AttachedChange) -> Result<()> {
    let stamp = Stamp {
        region: "us-east-1",
        revision_id: "0a-1b",
        at: UnixMs(7),
    };
    function.attach(change, &stamp)
}

fn text(function: &mut Function, change: &AttachedChange) -> String {
    attach(function, change).unwrap_err().message
}

fn permit(qualifier: &str, sid: &str, revision_id: Option<&str>) -> AttachedChange {
    let permission = Permission {
        statement_id: sid.into(),
        action: "lambda:InvokeFunction".into(),
        principal: "*".into(),
        ..Permission::default()
    };
    AttachedChange::Permit {
        qualifier: q(qualifier),
        statement: Box::new(permission.statement(ARN.into()).unwrap()),
        revision_id: revision_id.map(str::to_owned),
    }
}

fn revoke(qualifier: &str, sid: &str, revision_id: Option<&str>) -> AttachedChange {
    AttachedChange::Revoke {
        qualifier: q(qualifier),
        sid: sid.into(),
        revision_id: revision_id.map(str::to_owned),
    }
}

#[test]
fn each_version_and_alias_has_a_policy_of_its_own_revision() {
    for qualifier in ["", "1", "live"] {
        let mut f = function();
        let of = q(qualifier);
        let old = "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest Revision Id";
        assert_eq!(text(&mut f, &permit(qualifier, "a", Some("r9"))), old);
        attach(&mut f, &permit(qualifier, "a", Some("r0"))).unwrap();
        assert_eq!(f.revision_of(of.as_ref()), Some("0a-1b"), "{qualifier}");
        let others = ["", "1", "live"]
            .into_iter()
            .filter(|other| *other != qualifier);
        for other in others {
            assert_eq!(f.revision_of(q(other).as_ref()), Some("r0"));
            assert_eq!(f.policy(q(other).as_ref()), None);
        }
        assert_eq!(
            text(&mut f, &permit(qualifier, "a", None)),
            "The statement id (a) provided already exists. Please provide a new statement id, or remove the existing statement."
        );
        attach(&mut f, &permit(qualifier, "b", None)).unwrap();
        assert_eq!(
            text(&mut f, &revoke(qualifier, "c", None)),
            "Statement c is not found in resource policy."
        );
        assert_eq!(text(&mut f, &revoke(qualifier, "a", Some("r0"))), old);
        attach(&mut f, &revoke(qualifier, "a", Some("0a-1b"))).unwrap();
        attach(&mut f, &revoke(qualifier, "b", None)).unwrap();
        assert_eq!(f.policy(of.as_ref()), None, "an empty policy is none");
        let none = "No policy is associated with the given resource.";
        assert_eq!(text(&mut f, &revoke(qualifier, "b", None)), none);
    }
}

#[test]
fn what_does_not_exist_is_named() {
    let mut f = function();
    assert_eq!(
        text(&mut f, &permit("next", "a", None)),
        format!("Cannot find alias arn: {ARN}:next")
    );
    assert_eq!(
        text(&mut f, &permit("9", "a", None)),
        format!("Function not found: {ARN}:9")
    );
}

#[test]
fn a_policy_stays_below_its_limit() {
    let mut f = function();
    let sids = (0..200).map(|n| format!("{n:0>90}"));
    let refused = sids
        .map(|sid| attach(&mut f, &permit("", &sid, None)))
        .find_map(Result::err);
    assert_eq!(refused.unwrap().code, ErrorCode::PolicyTooLong);
    assert!(f.policy(None).unwrap().text().len() <= crate::limits::POLICY_MAX_BYTES);
}

#[test]
fn whole_policies_replace_and_are_taken_away() {
    let mut f = function();
    attach(&mut f, &permit("", "a", None)).unwrap();
    let text_of = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":"*","Action":"lambda:*","Resource":"{ARN}"}}]}}"#
    );
    let set = |policy: Option<Policy>| AttachedChange::SetPolicy {
        qualifier: None,
        policy: policy.map(Box::new),
        revision_id: None,
    };
    let policy = Policy::parse(&text_of, ARN).unwrap();
    attach(&mut f, &set(Some(policy))).unwrap();
    assert_eq!(f.policy(None).unwrap().text(), text_of);
    attach(&mut f, &set(None)).unwrap();
    assert_eq!(
        text(&mut f, &set(None)),
        "No policy is associated with the given resource."
    );
}

fn events(qualifier: &str, members: EventInvokeMembers, is_update: bool) -> AttachedChange {
    AttachedChange::SetEventInvoke {
        qualifier: q(qualifier),
        members,
        is_update,
    }
}

fn retries(n: u32) -> EventInvokeMembers {
    EventInvokeMembers {
        retries: Some(n),
        ..EventInvokeMembers::default()
    }
}

#[test]
fn put_replaces_how_events_are_tried_and_update_changes_what_was_sent() {
    let mut f = function();
    let missing = format!("The function {ARN}:$LATEST doesn't have an EventInvokeConfig");
    assert_eq!(text(&mut f, &events("", retries(1), true)), missing);
    attach(&mut f, &events("", retries(1), false)).unwrap();
    let age = EventInvokeMembers {
        max_age_s: Some(60),
        ..EventInvokeMembers::default()
    };
    attach(&mut f, &events("", age.clone(), true)).unwrap();
    let both = &f.attached.event_invoke[&LATEST].members;
    assert_eq!((both.retries, both.max_age_s), (Some(1), Some(60)));
    attach(&mut f, &events("", age, false)).unwrap();
    assert_eq!(f.attached.event_invoke[&LATEST].members.retries, None);
    assert_eq!(
        text(&mut f, &events("next", retries(1), false)),
        "The function doesn't exist."
    );
    attach(&mut f, &events("live", retries(0), false)).unwrap();
    let delete = AttachedChange::DeleteEventInvoke { qualifier: None };
    attach(&mut f, &delete).unwrap();
    assert_eq!(text(&mut f, &delete), missing);
    f.attached.forget(&q("live").unwrap());
    assert!(f.attached.is_empty());
}

#[test]
fn destinations_are_of_some_kinds_and_never_the_function_itself() {
    let queue = "arn:aws:sqs:us-east-1:123456789012:q";
    let bucket = "arn:aws:s3:::b";
    let table = "arn:aws:dynamodb:us-east-1:123456789012:table/t";
    let refused = |on_success: Option<&str>, on_failure: Option<&str>| {
        let members = EventInvokeMembers {
            destinations: Some(Destinations {
                on_success: on_success.map(str::to_owned),
                on_failure: on_failure.map(str::to_owned),
            }),
            ..EventInvokeMembers::default()
        };
        members
            .check("f", |name| ["f", "g"].contains(&name))
            .err()
            .map(|e| e.message)
    };
    assert_eq!(refused(Some(queue), Some(bucket)), None);
    let other = "arn:aws:lambda:us-east-1:123456789012:function:g";
    assert_eq!(refused(Some(other), None), None);
    assert_eq!(
        refused(None, Some(ARN)).unwrap(),
        "You can't specify the function as a destination for itself."
    );
    let missing = "arn:aws:lambda:us-east-1:123456789012:function:h";
    assert_eq!(
        refused(None, Some(missing)).unwrap(),
        format!("The destination ARN {missing} is invalid.")
    );
    assert_eq!(
        refused(Some(queue), Some(table)).unwrap(),
        format!(
            "The provided destination config DestinationConfig(onSuccess=OnSuccess(destination={queue}), onFailure=OnFailure(destination={table})) is invalid."
        )
    );
    assert!(
        refused(Some(bucket), None)
            .unwrap()
            .contains("onFailure=null")
    );
}

#[test]
fn an_alias_and_the_function_have_a_url_each() {
    let mut f = function();
    let members = |auth| UrlMembers {
        auth: Some(auth),
        ..UrlMembers::default()
    };
    let create = |qualifier: &str| AttachedChange::CreateUrl {
        qualifier: q(qualifier),
        members: members(UrlAuth::None),
    };
    attach(&mut f, &create("")).unwrap();
    attach(&mut f, &create("live")).unwrap();
    assert_eq!(f.attached.urls[&LATEST].id, "0a1b");
    assert_eq!(text(&mut f, &create("next")), NO_FUNCTION);
    assert_eq!(
        text(&mut f, &create("live")),
        format!(
            "Failed to create function url config for [functionArn = {ARN}:live]. Error message:  FunctionUrlConfig exists for this Lambda function"
        )
    );
    let update = |qualifier: &str, members| AttachedChange::UpdateUrl {
        qualifier: q(qualifier),
        members,
    };
    let cors = UrlMembers {
        cors: Some(Cors {
            credentials: Some(true),
            ..Cors::default()
        }),
        ..UrlMembers::default()
    };
    attach(&mut f, &update("", cors)).unwrap();
    let url = &f.attached.urls[&LATEST];
    assert_eq!((url.auth, url.cors.is_some()), (UrlAuth::None, true));
    attach(&mut f, &update("", members(UrlAuth::AwsIam))).unwrap();
    let url = &f.attached.urls[&LATEST];
    assert_eq!((url.auth, url.cors.is_some()), (UrlAuth::AwsIam, true));
    let delete = AttachedChange::DeleteUrl { qualifier: None };
    attach(&mut f, &delete).unwrap();
    assert_eq!(text(&mut f, &delete), NO_URL);
    assert_eq!(text(&mut f, &update("", UrlMembers::default())), NO_URL);
    assert_eq!(
        text(&mut f, &update("next", UrlMembers::default())),
        NO_FUNCTION
    );
}

#[test]
fn runtimes_are_managed_by_version() {
    let mut f = function();
    let set = |qualifier: &str| AttachedChange::SetRuntimeManagement {
        qualifier: q(qualifier),
        management: RuntimeManagement {
            update_on: "FunctionUpdate".into(),
            runtime_version_arn: None,
        },
    };
    attach(&mut f, &set("1")).unwrap();
    assert!(!f.attached.runtime_management.contains_key(&LATEST));
    attach(&mut f, &set("")).unwrap();
    assert!(f.attached.runtime_management.contains_key(&LATEST));
    assert_eq!(
        text(&mut f, &set("2")),
        format!("Function not found: {ARN}:2")
    );
}
