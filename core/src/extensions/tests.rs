//! Tests of who is ready, who is told what, and what is refused.

use super::*;

fn names(names: &[&str]) -> Extensions {
    Extensions::external(
        names
            .iter()
            .map(|name| ((*name).to_owned(), format!("id-{name}"))),
    )
}

fn events(events: &[&str]) -> Vec<String> {
    events.iter().map(|event| (*event).to_owned()).collect()
}

const BOTH: &[&str] = &["INVOKE", "SHUTDOWN"];

fn ready(extensions: &mut Extensions) {
    for extension in extensions.list().to_vec() {
        extensions.next(&extension.identifier).unwrap();
    }
    extensions.on_runtime_next();
}

#[test]
fn init_is_over_when_the_runtime_and_every_extension_wait() {
    let mut all = names(&["a", "b"]);
    all.register("a", &events(BOTH), String::new()).unwrap();
    assert!(!all.is_registered(), "the runtime waits for b to register");
    all.register("b", &events(&[]), String::new()).unwrap();
    assert!(all.is_registered());
    all.register("inside", &events(&["INVOKE"]), "id-inside".to_owned())
        .unwrap();
    all.on_runtime_next();
    for id in ["id-a", "id-b", "id-inside"] {
        assert!(!all.is_ready());
        all.next(id).unwrap();
    }
    assert!(all.is_ready());
    assert_eq!(
        all.register("late", &[], "id".to_owned()),
        Err(Refusal::RegistrationClosed)
    );
}

#[test]
fn an_invocation_goes_to_those_who_want_it_and_ends_with_the_last_of_them() {
    let mut all = names(&["a", "b"]);
    all.register("a", &events(BOTH), String::new()).unwrap();
    all.register("b", &events(&["SHUTDOWN"]), String::new())
        .unwrap();
    ready(&mut all);
    assert_eq!(all.on_invoke(), [0]);
    assert!(!all.is_ready());
    all.next("id-a").unwrap();
    assert!(!all.is_ready(), "the runtime is still at work");
    all.on_runtime_next();
    assert!(all.is_ready());
    assert_eq!(all.on_shutdown(), [0, 1]);
    assert!(!all.is_over());
    all.on_exit(0);
    all.on_exit(1);
    assert!(all.is_over());
}

#[test]
fn one_that_is_at_work_hears_of_the_end_when_it_asks() {
    let mut all = names(&["a"]);
    all.register("a", &events(BOTH), String::new()).unwrap();
    ready(&mut all);
    all.on_invoke();
    assert_eq!(all.on_shutdown(), [] as [usize; 0]);
    let place = all.next("id-a").unwrap();
    assert!(all.is_told_of_end(place));
    assert_eq!(all.list()[0].state, State::Running);
    let place = all.next("id-a").unwrap();
    assert!(!all.is_told_of_end(place), "told once");
}

#[test]
fn refusals_have_the_types_and_texts_of_aws() {
    let mut all = names(&["a"]);
    let check = |all: &mut Extensions, name: &str, wanted: &[&str], kind: &str, text: &str| {
        let refusal = all
            .register(name, &events(wanted), "id-x".to_owned())
            .unwrap_err();
        assert_eq!(
            (refusal.error_type(), refusal.to_string().as_str()),
            (kind, text)
        );
    };
    check(
        &mut all,
        "",
        &[],
        "Extension.InvalidExtensionName",
        "Empty extension name",
    );
    let invalid = "Extension.InvalidEventType";
    check(
        &mut all,
        "a",
        &["START"],
        invalid,
        "START: ErrorInvalidEventType",
    );
    let internal = "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension";
    check(&mut all, "inside", BOTH, invalid, internal);
    all.register("a", &events(BOTH), String::new()).unwrap();
    let state = "Extension.InvalidExtensionState";
    let twice = "State transition from Registered to Registered failed for extension a. Error: State transition is not allowed";
    check(&mut all, "a", &[], state, twice);
    for place in 1..EXTENSIONS_MAX {
        all.register(&format!("i{place}"), &[], format!("id-{place}"))
            .unwrap();
    }
    check(
        &mut all,
        "eleven",
        &[],
        "Extension.TooManyExtensions",
        "Extension limit (10) reached",
    );
    let unknown = all.next("id-nobody").unwrap_err();
    assert_eq!(unknown.error_type(), "Extension.UnknownExtensionIdentifier");
    let mut few = names(&[]);
    few.register("i", &[], "id".to_owned()).unwrap();
    check(
        &mut few,
        "i",
        &[],
        state,
        "Extension with this name already registered",
    );
}

#[test]
fn an_extension_takes_its_sandbox_down_under_its_own_name() {
    let start = || {
        let mut all = names(&["a"]);
        all.register("a", &[], String::new()).unwrap();
        all
    };
    assert_eq!(start().on_exit(0).error_type(), "Extension.Crash");
    let mut init = start();
    init.init_error("id-a", "Extension.NoConfig").unwrap();
    assert_eq!(
        init.list()[0].error_type.as_deref(),
        Some("Extension.NoConfig")
    );
    assert!(init.next("id-a").is_err(), "no further API calls succeed");
    assert_eq!(init.on_exit(0).error_type(), "Extension.InitError");
    let mut exit = start();
    exit.next("id-a").unwrap();
    assert!(exit.init_error("id-a", "x").is_err(), "init is over for it");
    exit.exit_error("id-a", "x").unwrap();
    assert_eq!(exit.on_exit(0).error_type(), "Extension.ExitError");
    let mut launch = names(&["a"]);
    launch.on_launch_error(0);
    assert_eq!(launch.on_exit(0).error_type(), "Extension.LaunchError");
}

#[test]
fn a_second_next_is_refused_while_the_first_waits() {
    let mut all = names(&["a"]);
    assert!(all.next("id-a").is_err(), "not registered");
    all.register("a", &events(BOTH), String::new()).unwrap();
    all.next("id-a").unwrap();
    let refusal = all.next("id-a").unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "State transition from Ready to Ready failed for extension id-a. Error: State transition is not allowed"
    );
}

#[test]
fn a_permit_is_kept_while_extensions_may_be_at_work() {
    assert_eq!(permit_back(None), PermitBack::WithAnswer);
    let some = names(&["a"]);
    assert_eq!(permit_back(Some(&some)), PermitBack::WhenReady);
}
