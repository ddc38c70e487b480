//! The table of what several policies come to, and properties that hold of all of them.

use proptest::prelude::*;

use super::*;

const USER: &str = "arn:aws:iam::123456789012:user/u";
const SESSION: &str = "arn:aws:sts::123456789012:assumed-role/r/s";
const ROLE: &str = "arn:aws:iam::123456789012:role/r";
const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:f";

fn identity(effect: &str) -> Option<Policy> {
    let statement = match effect {
        "" => return None,
        "other" => r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#.to_owned(),
        effect => format!(r#"{{"Effect":"{effect}","Action":"lambda:*","Resource":"*"}}"#),
    };
    let text = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
    Some(Policy::of_identity(&text).unwrap())
}

fn resource(effect: &str, principal: &str) -> Policy {
    let text = format!(
        r#"{{"Statement":[{{"Effect":"{effect}","Principal":{principal},"Action":"lambda:*","Resource":"{ARN}"}}]}}"#
    );
    Policy::parse(&text, ARN).unwrap()
}

fn request<'a>(callers: &'a [&'a str]) -> Request<'a> {
    Request {
        callers,
        action: "lambda:InvokeFunction",
        resource: ARN,
        context: &[],
    }
}

/// Identity, boundary, session, resource ("effect principal"), own account -> the end of the text, or nothing.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    bool,
    &'static str,
);

fn check(callers: &[&str], case: Case) {
    let (own, boundary, session, of_resource, is_own, expected) = case;
    let (own, boundary, session) = (identity(own), identity(boundary), identity(session));
    let resource = of_resource.split_once(' ').map(|(e, p)| resource(e, p));
    let policies = Policies {
        identity: own.iter().collect(),
        boundary: boundary.as_ref().map(|policy| vec![policy]),
        session: session.as_ref().map(|policy| vec![policy]),
        resource: resource.as_ref(),
        is_own,
    };
    let request = request(callers);
    match policies.decide(&request) {
        Decision::Allowed => assert_eq!("", expected, "{case:?}"),
        Decision::Refused(refusal) => {
            let text = refusal.text(&request);
            let begin = format!(
                "User: {} is not authorized to perform: lambda:InvokeFunction on resource: {ARN} ",
                callers[0]
            );
            assert_eq!(text.strip_prefix(&begin), Some(expected), "{case:?}");
        }
    }
}

const NO_IDENTITY: &str =
    "because no identity-based policy allows the lambda:InvokeFunction action";
const NO_BOUNDARY: &str = "because no permissions boundary allows the lambda:InvokeFunction action";
const NO_SESSION: &str = "because no session policy allows the lambda:InvokeFunction action";
const NO_RESOURCE: &str =
    "because no resource-based policy allows the lambda:InvokeFunction action";

#[test]
fn what_a_user_may_do() {
    let me = r#"Allow {"AWS":"arn:aws:iam::123456789012:user/u"}"#;
    let account = r#"Allow {"AWS":"123456789012"}"#;
    for case in [
        ("", "", "", "", true, NO_IDENTITY),
        ("other", "", "", "", true, NO_IDENTITY),
        ("Allow", "", "", "", true, ""),
        (
            "Deny",
            "",
            "",
            me,
            true,
            "with an explicit deny in an identity-based policy",
        ),
        ("Allow", "other", "", "", true, NO_BOUNDARY),
        ("Allow", "Allow", "", "", true, ""),
        (
            "Allow",
            "Deny",
            "",
            "",
            true,
            "with an explicit deny in a permissions boundary",
        ),
        ("Allow", "", "other", "", true, NO_SESSION),
        (
            "Allow",
            "",
            "Deny",
            me,
            true,
            "with an explicit deny in a session policy",
        ),
        // A resource that names the user is enough, past its boundary too; one that names the account is not.
        ("", "other", "", me, true, ""),
        ("", "", "", "Allow \"*\"", true, ""),
        ("", "", "", account, true, NO_IDENTITY),
        (
            "Allow",
            "",
            "",
            "Deny \"*\"",
            true,
            "with an explicit deny in a resource-based policy",
        ),
        ("Allow", "", "", r#"Deny {"AWS":"999999999999"}"#, true, ""),
        // In another account both have to allow it.
        ("Allow", "", "", "", false, NO_RESOURCE),
        ("", "", "", me, false, NO_IDENTITY),
        ("Allow", "", "", me, false, ""),
        ("Allow", "", "", account, false, ""),
        ("Allow", "other", "", me, false, NO_BOUNDARY),
    ] {
        check(&[USER], case);
    }
}

#[test]
fn what_the_session_of_a_role_may_do() {
    let role = r#"Allow {"AWS":"arn:aws:iam::123456789012:role/r"}"#;
    let session = r#"Allow {"AWS":"arn:aws:sts::123456789012:assumed-role/r/s"}"#;
    for case in [
        ("", "", "", role, true, ""),
        ("", "other", "", role, true, NO_BOUNDARY),
        ("", "", "other", role, true, NO_SESSION),
        ("", "other", "other", session, true, ""),
        ("", "", "", role, false, NO_IDENTITY),
        ("Allow", "", "", role, false, ""),
        (
            "Allow",
            "",
            "",
            r#"Deny {"AWS":"arn:aws:iam::123456789012:role/r"}"#,
            true,
            "with an explicit deny in a resource-based policy",
        ),
    ] {
        check(&[SESSION, ROLE], case);
    }
}

fn effects() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "other", "Allow", "Deny"])
}

proptest! {
    /// A deny anywhere wins; and what is allowed stays so when more is allowed.
    #[test]
    fn denies_win_and_allows_only_add(
        own in effects(), boundary in effects(), session in effects(),
        names in prop::sample::select(vec![
            "", "Allow \"*\"", "Deny \"*\"", "Allow {\"AWS\":\"123456789012\"}", "Allow {\"AWS\":\"arn:aws:iam::123456789012:role/r\"}",
        ]),
        is_own: bool,
    ) {
        let (own_policy, boundary_policy, session_policy) = (identity(own), identity(boundary), identity(session));
        let of_resource = names.split_once(' ').map(|(e, p)| resource(e, p));
        let request = request(&[SESSION, ROLE]);
        let policies = Policies {
            identity: own_policy.iter().collect(),
            boundary: boundary_policy.as_ref().map(|policy| vec![policy]),
            session: session_policy.as_ref().map(|policy| vec![policy]),
            resource: of_resource.as_ref(),
            is_own,
        };
        let decision = policies.decide(&request);
        let is_denied = [own, boundary, session].contains(&"Deny") || names.starts_with("Deny");
        if is_denied {
            let is_explicit = matches!(decision, Decision::Refused(Refusal { is_explicit: true, .. }));
            prop_assert!(is_explicit);
        } else {
            let all = identity("Allow").unwrap();
            let mut more = policies.clone();
            more.identity.push(&all);
            if decision == Decision::Allowed {
                prop_assert_eq!(more.decide(&request), Decision::Allowed);
            }
            let nobody = Policies { boundary: Some(Vec::new()), is_own: false, ..more };
            prop_assert_ne!(nobody.decide(&request), Decision::Allowed);
        }
    }

    /// No text makes a pattern or a document panic, and a text matches itself.
    #[test]
    fn any_text_can_be_asked_for(text in ".{0,40}", other in ".{0,40}") {
        let pattern = super::super::Pattern::exact(&text, &request(&[USER]), false).unwrap();
        prop_assert!(pattern.matches(&text));
        let _ = super::super::Pattern::new(&text, &request(&[USER]), true).map(|p| p.matches(&other));
        let _ = Policy::of_identity(&text);
        let _ = Policy::of_trust(&text);
    }
}
