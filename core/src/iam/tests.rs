//! Tables of what changes make of entities.

use super::*;
use crate::error::{ErrorCode, Result};

const UUID: &str = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0ff";

fn stamp(index: u64) -> Stamp<'static> {
    Stamp {
        index,
        id: UUID,
        at: UnixMs(7),
    }
}

fn create(key: IamKey, document: Option<&str>) -> IamChange {
    IamChange::Create {
        key,
        path: "/a/".into(),
        description: String::new(),
        tags: BTreeMap::new(),
        document: document.map(Into::into),
        max_session_s: 3_600,
        boundary: None,
    }
}

fn made(key: IamKey) -> IamEntity {
    create(key, Some("{}")).made(&stamp(1)).unwrap().unwrap()
}

#[test]
fn ids_say_what_they_are_of_and_differ() {
    let account: AccountId = "123456789012".parse().unwrap();
    let role = made(IamKey::Role("R".into()));
    assert!(
        role.id.starts_with("AROA") && role.id.len() == 21,
        "{}",
        role.id
    );
    assert!(
        role.id
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
    );
    assert_eq!(role.arn(&account), "arn:aws:iam::123456789012:role/a/R");
    assert_eq!(role.key().folded(), IamKey::Role("r".into()));
    let other = unique_id("AROA", "1f1e2d3c-4b5a-4978-8695-a4b3c2d1e0fe");
    assert_ne!(role.id, other);
    let policy = made(IamKey::Policy("P".into()));
    let arn = policy.arn(&account);
    assert_eq!(policy_named(&account, &arn), Some(policy.key()));
    for other in [
        "arn:aws:iam::aws:policy/P",
        "arn:aws:iam::210987654321:policy/P",
        "arn:aws:iam::123456789012:role/P",
        "arn:aws:iam::123456789012:policy/",
    ] {
        assert_eq!(policy_named(&account, other), None, "{other}");
    }
    assert!(check_arn_of_policy(&arn).is_ok());
    assert!(check_arn_of_policy("arn:aws:iam::aws:policy/service-role/X").is_ok());
    assert!(check_arn_of_policy("arn:aws:iam::12:policy/x").is_err());
}

fn all(entity: &mut IamEntity, changes: impl IntoIterator<Item = IamChange>) -> Result<()> {
    let mut changes = changes.into_iter().zip(2..);
    changes.try_for_each(|(change, index)| entity.change(&change, &stamp(index)))
}

#[test]
fn rights_come_and_go_within_their_limits() {
    let key = IamKey::Role("r".into());
    let put = |policy: &str, document: String| IamChange::PutInline {
        key: key.clone(),
        policy: policy.into(),
        document,
    };
    let mut role = made(key.clone());
    all(
        &mut role,
        [put("p", "{ }".repeat(5_000)), put("p", "{}".into())],
    )
    .unwrap();
    assert_eq!((role.rights().unwrap().inline.len(), role.changed), (1, 3));
    let error = all(&mut role.clone(), [put("q", "x".repeat(10_239))]).unwrap_err();
    assert_eq!(
        error.message,
        "Maximum policy size of 10240 bytes exceeded for role r"
    );
    let delete = |policy: &str| IamChange::DeleteInline {
        key: key.clone(),
        policy: policy.into(),
    };
    let error = all(&mut role, [delete("p"), delete("p")]).unwrap_err();
    assert_eq!(
        error.message,
        "The role policy with name p cannot be found."
    );
    let attach = |n: usize| IamChange::Attach {
        key: key.clone(),
        arn: format!("arn:{n}"),
    };
    all(&mut role, (0..10).chain([9]).map(attach)).unwrap();
    let error = all(&mut role.clone(), [attach(10)]).unwrap_err();
    assert_eq!(error.message, "Cannot exceed quota for PoliciesPerRole: 10");
    let detach = IamChange::Detach {
        key: key.clone(),
        arn: "arn:0".into(),
    };
    let error = all(&mut role, [detach.clone(), detach]).unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (ErrorCode::NotFound, "Policy arn:0 was not found.")
    );
    assert!(role.uses("arn:1") && !role.uses("arn:0"));
}

#[test]
fn a_user_has_keys_and_groups() {
    let mut user = made(IamKey::User("u".into()));
    let key = |n: usize| IamChange::CreateKey {
        user: "u".into(),
        id: format!("AKIA{n}"),
        sealed: "s".into(),
    };
    all(&mut user, [key(1), key(2)]).unwrap();
    let error = all(&mut user.clone(), [key(3)]).unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (
            ErrorCode::LimitExceeded,
            "Cannot exceed quota for AccessKeysPerUser: 2"
        )
    );
    let off = IamChange::SetKey {
        user: "u".into(),
        id: "AKIA1".into(),
        is_active: false,
    };
    let delete = IamChange::DeleteKey {
        user: "u".into(),
        id: "AKIA2".into(),
    };
    let error = all(&mut user, [off, delete.clone(), delete]).unwrap_err();
    assert_eq!(
        error.message,
        "The Access Key with id AKIA2 cannot be found."
    );
    let IamKind::User { keys, .. } = &user.kind else {
        panic!()
    };
    assert!(keys.len() == 1 && !keys["AKIA1"].is_active);
    let join = IamChange::Join {
        user: "u".into(),
        group: "g".into(),
    };
    let leave = IamChange::Leave {
        user: "u".into(),
        group: "g".into(),
    };
    all(&mut user, [join.clone(), join]).unwrap();
    assert_eq!(user.groups().collect::<Vec<_>>(), ["g"]);
    assert_eq!(
        all(&mut user, [leave.clone(), leave]).unwrap_err().message,
        "User u is not in group g."
    );
}

#[test]
fn a_policy_has_up_to_five_versions_of_which_one_counts() {
    let mut policy = made(IamKey::Policy("p".into()));
    let version = |document: &str, is_default| IamChange::CreateVersion {
        name: "p".into(),
        document: document.into(),
        is_default,
    };
    all(
        &mut policy,
        [
            version("2", true),
            version("3", false),
            version("4", false),
            version("5", false),
        ],
    )
    .unwrap();
    assert_eq!(policy.document().unwrap().document, "2");
    assert!(all(&mut policy.clone(), [version("6", false)]).is_err());
    let delete = |version| IamChange::DeleteVersion {
        name: "p".into(),
        version,
    };
    let error = all(&mut policy.clone(), [delete(2)]).unwrap_err();
    assert_eq!(error.code, ErrorCode::DeleteConflict);
    all(
        &mut policy,
        [
            delete(1),
            version("6", false),
            IamChange::SetDefault {
                name: "p".into(),
                version: 6,
            },
        ],
    )
    .unwrap();
    assert_eq!(policy.document().unwrap().document, "6");
    let error = all(&mut policy, [delete(1)]).unwrap_err();
    assert_eq!(
        error.message,
        "Policy p version v1 does not exist or is not attachable."
    );
    let long = all(
        &mut policy.clone(),
        [delete(2), version(&"x".repeat(6_145), false)],
    )
    .unwrap_err();
    assert_eq!(long.message, "Cannot exceed quota for PolicySize: 6144");
}

/// What the first release with IAM wrote; a log on somebody's disk looks like this.
#[test]
fn changes_keep_their_form() {
    let change = create(IamKey::Role("r".into()), Some("d"));
    let text = r#"{"Create":{"key":{"Role":"r"},"path":"/a/","description":"","tags":{},"document":"d","max_session_s":3600,"boundary":null}}"#;
    assert_eq!(serde_json::to_string(&change).unwrap(), text);
    let key = r#"{"CreateKey":{"user":"u","id":"AKIA1","sealed":"s"}}"#;
    let change: IamChange = serde_json::from_str(key).unwrap();
    let mut user = made(IamKey::User("u".into()));
    user.change(&change, &stamp(9)).unwrap();
    let text = serde_json::to_string(&user).unwrap();
    let known = r#"{"name":"u","path":"/a/","id":"AIDA@","created":7,"changed":9,"kind":{"User":{"groups":[],"keys":{"AKIA1":{"sealed":"s","created":7,"is_active":true}},"rights":{}}}}"#;
    assert_eq!(text, known.replace("AIDA@", &user.id));
}
