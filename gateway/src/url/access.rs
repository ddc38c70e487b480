//! Who may call a function through its URL. "Your function's resource-based policy is always in effect and must grant public
//! access before your function URL can receive requests": of `NONE` too. Who signed is decided elsewhere.
//! Source: <https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html>

use hearth_core::attached::UrlAuth;
use hearth_core::ids::AccountId;
use hearth_core::policy::Request;

use crate::catalog::Url;

const CALL_URL: &str = "lambda:InvokeFunctionUrl";
const INVOKE: &str = "lambda:InvokeFunction";
/// Who did not sign, in a policy's eyes: nobody's account, so that only `*` is about them.
const ANONYMOUS: &str = "arn:aws:iam::anonymous:anonymous";

/// Whether the caller may call; `None` is somebody who did not sign. `both`: "new function URLs will require both
/// `lambda:InvokeFunctionUrl` and `lambda:InvokeFunction` permissions".
pub(crate) fn may_call(url: &Url, caller: Option<&AccountId>, region: &str, both: bool) -> bool {
    let (auth, account) = match (url.config.auth, caller) {
        (UrlAuth::None, _) => ("NONE", None),
        // Its own root may do everything, as ever.
        (UrlAuth::AwsIam, Some(account)) if *account == url.function.account => return true,
        (UrlAuth::AwsIam, Some(account)) => ("AWS_IAM", Some(account)),
        (UrlAuth::AwsIam, None) => return false,
    };
    let mut context = vec![
        ("lambda:functionurlauthtype", auth),
        ("lambda:invokedviafunctionurl", "true"),
    ];
    context.extend(account.map(|account| ("aws:principalaccount", account.as_str())));
    let root = account.map(|account| format!("arn:aws:iam::{account}:root"));
    let resource = url.function.arn(region);
    let allows = |action| {
        let request = Request {
            callers: &[root.as_deref().unwrap_or(ANONYMOUS)],
            action,
            resource: &resource,
            context: &context,
        };
        url.record.allows(url.function.qualifier.as_ref(), &request)
    };
    allows(CALL_URL) && (!both || allows(INVOKE))
}

#[cfg(test)]
mod tests {
    use hearth_core::attached::{InvokeMode, LATEST, UrlConfig};
    use hearth_core::ids::UnixMs;
    use hearth_core::policy::{Permission, Policy};

    use super::*;
    use crate::catalog::Catalog;

    const REGION: &str = "us-east-1";

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
        let both = |url: &Url| [false, true].map(|both| may_call(url, None, REGION, both));
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

    #[test]
    fn who_signed_is_the_owner_or_of_an_account_that_a_statement_lets() {
        let owner: AccountId = "000000000000".parse().unwrap();
        let other: AccountId = "210987654321".parse().unwrap();
        let may = |url: &Url, caller| may_call(url, caller, REGION, false);
        let closed = url(UrlAuth::AwsIam, &[]);
        assert!(may(&closed, Some(&owner)));
        assert!(!may(&closed, Some(&other)) && !may(&closed, None));
        let open = url(
            UrlAuth::AwsIam,
            &[(CALL_URL, "210987654321", Some("AWS_IAM"), None)],
        );
        assert!(may(&open, Some(&other)) && !may(&open, None));
        assert!(!may_call(&open, Some(&other), REGION, true));
        let anonymous = url(UrlAuth::AwsIam, &[(CALL_URL, "*", Some("NONE"), None)]);
        assert!(
            !may(&anonymous, Some(&other)),
            "a statement about another auth type"
        );
    }
}
