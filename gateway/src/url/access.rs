//! Who may call a function through its URL. "Your function's resource-based policy is always in effect and must grant public
//! access before your function URL can receive requests": of `NONE` too. Who signed is decided elsewhere.
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html>

use hearth_core::attached::UrlAuth;
use hearth_core::policy::Request;

use crate::caller::Caller;
use crate::catalog::Url;
use crate::iam::authority::{self, Wish};
use crate::iam::directory::Directory;

const CALL_URL: &str = "lambda:InvokeFunctionUrl";
const INVOKE: &str = "lambda:InvokeFunction";
/// Who did not sign, in a policy's eyes: nobody's account, so that only `*` is about them.
const ANONYMOUS: &str = "arn:aws:iam::anonymous:anonymous";

/// What the decision needs to know beside the URL and the caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) region: &'a str,
    /// "new function URLs will require both `lambda:InvokeFunctionUrl` and `lambda:InvokeFunction` permissions".
    pub(crate) both: bool,
    pub(crate) directory: &'a Directory,
    pub(crate) unix_ms: u64,
}

/// Whether the caller may call; `None` is somebody who did not sign.
pub(crate) fn may_call(url: &Url, caller: Option<&Caller>, rules: &Rules<'_>) -> bool {
    let (auth, caller) = match (url.config.auth, caller) {
        (UrlAuth::None, _) => ("NONE", None),
        (UrlAuth::AwsIam, Some(caller)) => ("AWS_IAM", Some(caller)),
        (UrlAuth::AwsIam, None) => return false,
    };
    let context = [
        ("lambda:functionurlauthtype", auth),
        ("lambda:invokedviafunctionurl", "true"),
    ];
    let may = |action| match caller {
        None => stranger_may(url, (ANONYMOUS, None), action, &context, rules.region),
        // Its own root may do everything, as ever; for another's the function's policy says so.
        Some(caller) if caller.is_root() && caller.account != url.function.account => {
            let account = caller.account.as_str();
            let who = (&*caller.arn(), Some(account));
            stranger_may(url, who, action, &context, rules.region)
        }
        Some(caller) => {
            let wish = Wish {
                action,
                resource: &url.function.arn(rules.region),
                policy: url.record.policy(url.function.qualifier.as_ref()),
                is_own: caller.account == url.function.account,
                context: &context,
                unix_ms: rules.unix_ms,
            };
            authority::check(rules.directory, caller, &wish).is_ok()
        }
    };
    may(CALL_URL) && (!rules.both || may(INVOKE))
}

/// Whether the function's policy lets somebody who has no identity here, of an account or of none.
fn stranger_may(
    url: &Url,
    (arn, account): (&str, Option<&str>),
    action: &str,
    context: &[(&str, &str)],
    region: &str,
) -> bool {
    let mut context = context.to_vec();
    context.extend(account.map(|account| ("aws:principalaccount", account)));
    let request = Request {
        callers: &[arn],
        action,
        resource: &url.function.arn(region),
        context: &context,
    };
    url.record.allows(url.function.qualifier.as_ref(), &request)
}

#[cfg(test)]
mod tests {
    use hearth_core::attached::{InvokeMode, LATEST, UrlConfig};
    use hearth_core::ids::UnixMs;
    use hearth_core::policy::{Permission, Policy};

    use super::*;
    use crate::caller::Identity;
    use crate::catalog::Catalog;

    const REGION: &str = "us-east-1";

    fn may(url: &Url, caller: Option<&Caller>, both: bool) -> bool {
        let rules = Rules {
            region: REGION,
            both,
            directory: &Directory::default(),
            unix_ms: 0,
        };
        may_call(url, caller, &rules)
    }

    /// A URL of `f` whose policy has these statements: action, principal, auth type, whether through a URL.
    fn url(auth: UrlAuth, said: &[(&str, &str, Option<&str>, Option<bool>)]) -> Url {
        let mut function = crate::testing::function("f", 1);
        let arn = function.arn_named(None, REGION);
        let statements = said.iter().enumerate().map(|(n, said)| {
            let (action, principal, url_auth_type, invoked_via_url) = *said;
            let permission = Permission {
                statement_id: n.to_string(),
                action: action.into(),
                principal: principal.into(),
                url_auth_type: url_auth_type.map(str::to_owned),
                invoked_via_url,
                ..Permission::default()
            };
            permission.statement(arn.clone()).unwrap()
        });
        let mut statements = statements.collect::<Vec<_>>().into_iter();
        if let Some(first) = statements.next() {
            let mut policy = Policy::of(first);
            policy.statement.extend(statements);
            function.attached.policies.insert(LATEST, policy);
        }
        let config = UrlConfig {
            id: "a".into(),
            auth,
            cors: None,
            mode: InvokeMode::Buffered,
            created: UnixMs(0),
            last_modified: UnixMs(0),
        };
        function.attached.urls.insert(LATEST, config);
        let catalog = Catalog::new(REGION.into());
        catalog.merge([&function]);
        catalog.url("a").unwrap()
    }

    #[test]
    fn everybody_may_call_what_a_statement_about_everybody_lets() {
        let both = |url: &Url| [false, true].map(|both| may(url, None, both));
        let public = (CALL_URL, "*", Some("NONE"), None);
        for (said, expected) in [
            (vec![], [false, false]),
            (vec![public], [true, false]),
            (vec![public, (INVOKE, "*", None, Some(true))], [true, true]),
            (vec![public, (INVOKE, "*", None, None)], [true, true]),
            (vec![(INVOKE, "*", None, Some(true))], [false, false]),
            (vec![(CALL_URL, "*", None, None)], [true, false]),
            (vec![(CALL_URL, "*", Some("AWS_IAM"), None)], [false, false]),
            (
                vec![(CALL_URL, "210987654321", Some("NONE"), None)],
                [false, false],
            ),
        ] {
            assert_eq!(both(&url(UrlAuth::None, &said)), expected, "{said:?}");
        }
    }

    /// Of the function's account, but without a policy of its own.
    #[test]
    fn a_user_needs_a_policy_of_its_own_or_of_the_function() {
        let user = Caller {
            account: "000000000000".parse().unwrap(),
            identity: Identity::User {
                name: "u".into(),
                path: "/".into(),
                id: "AIDAU".into(),
                is_session: false,
            },
            source: None,
        };
        assert!(!may(&url(UrlAuth::AwsIam, &[]), Some(&user), false));
        let arn = user.arn();
        let lets = |auth| url(UrlAuth::AwsIam, &[(CALL_URL, &arn, Some(auth), None)]);
        assert!(may(&lets("AWS_IAM"), Some(&user), false));
        assert!(!may(&lets("NONE"), Some(&user), false));
        assert!(!may(&lets("AWS_IAM"), Some(&user), true));
    }

    #[test]
    fn who_signed_is_the_owner_or_of_an_account_that_a_statement_lets() {
        let root = |account: &str| Caller::root(account.parse().unwrap());
        let (owner, other) = (root("000000000000"), root("210987654321"));
        let may = |url: &Url, caller| may(url, caller, false);
        let closed = url(UrlAuth::AwsIam, &[]);
        assert!(may(&closed, Some(&owner)));
        assert!(!may(&closed, Some(&other)) && !may(&closed, None));
        let open = url(
            UrlAuth::AwsIam,
            &[(CALL_URL, "210987654321", Some("AWS_IAM"), None)],
        );
        assert!(may(&open, Some(&other)) && !may(&open, None));
        assert!(!super::tests::may(&open, Some(&other), true));
        let anonymous = url(UrlAuth::AwsIam, &[(CALL_URL, "*", Some("NONE"), None)]);
        assert!(
            !may(&anonymous, Some(&other)),
            "a statement about another auth type"
        );
    }
}
