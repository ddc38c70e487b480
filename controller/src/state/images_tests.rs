//! Functions of container images: what they may be updated with, and that their code is nobody's blob.

use hearth_core::function::{CodeRef, ConfigPatch, PackageType, StateReason};
use hearth_core::ids::Digest;
use hearth_core::image;

use super::State;
use super::command::{Command, Settled};
use super::reply::Reply;
use super::tests::{account, configured, create, name, settle, update_code};

fn image_code(byte: u8) -> CodeRef {
    CodeRef {
        digest: Digest([byte; 32]),
        size_bytes: 0,
        unpacked_bytes: 0,
        image: Some("r.example.com/a:1".into()),
    }
}

fn with_image() -> State {
    let mut state = configured();
    let Command::CreateFunction {
        mut config,
        tags,
        revision_id,
        at,
        ..
    } = create("f")
    else {
        unreachable!("create makes this command")
    };
    config.package_type = PackageType::Image;
    let command = Command::CreateFunction {
        account: account(),
        name: name("f"),
        config,
        code: image_code(7),
        tags,
        code_signing: None,
        revision_id,
        at,
    };
    assert!(matches!(state.apply(2, &command).0, Reply::Function(_)));
    let end = settle("f", 2, Settled::Successful);
    state.apply(3, &end);
    state
}

fn with_code(mut command: Command, new: &CodeRef) -> Command {
    if let Command::UpdateFunctionCode { code, .. } = &mut command {
        *code = new.clone();
    }
    command
}

fn refusal(state: &mut State, command: &Command) -> String {
    match state.apply(9, command).0 {
        Reply::Refused(error) => error.message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn images_are_no_blobs_and_take_no_storage() {
    let mut state = with_image();
    assert!(state.digests().is_empty());
    assert_eq!(state.account(&account()).code_bytes, 0);
    let update = with_code(update_code("f", None), &image_code(8));
    assert!(matches!(state.apply(4, &update).0, Reply::Function(_)));
    let reason = StateReason {
        code: "ImageDeleted".into(),
        message: "gone".into(),
    };
    state.apply(5, &settle("f", 4, Settled::Failed(reason)));
    let function = state.functions.function(&account(), &name("f")).unwrap();
    let serving = function.serving.as_ref().unwrap();
    assert_eq!(
        serving.code.digest,
        Digest([7; 32]),
        "the one before serves"
    );
    assert!(state.digests().is_empty());
}

#[test]
fn a_function_of_images_stays_one_and_one_of_archives_too() {
    let mut state = with_image();
    let zip = update_code("f", None);
    assert_eq!(refusal(&mut state, &zip), image::ZIP_FOR_IMAGE);
    let mut state = configured();
    state.apply(2, &create("f"));
    state.apply(3, &settle("f", 2, Settled::Successful));
    let update = with_code(update_code("f", None), &image_code(8));
    assert_eq!(refusal(&mut state, &update), image::IMAGE_FOR_ZIP);
}

#[test]
fn an_image_has_no_runtime_handler_or_layers() {
    let mut state = with_image();
    let update = |patch: ConfigPatch| Command::UpdateFunctionConfiguration {
        account: account(),
        name: name("f"),
        patch: Box::new(patch),
        expected_revision: None,
        revision_id: "r".into(),
        at: hearth_core::ids::UnixMs(1),
    };
    let runtime = ConfigPatch {
        runtime: Some("python3.11".into()),
        ..ConfigPatch::default()
    };
    let layers = |layers: Vec<String>| ConfigPatch {
        layers: Some(layers),
        ..ConfigPatch::default()
    };
    for refused in [runtime, layers(vec!["arn".into()])] {
        assert_eq!(refusal(&mut state, &update(refused)), image::NOT_FOR_IMAGES);
    }
    let none = update(layers(Vec::new()));
    assert!(matches!(state.apply(9, &none).0, Reply::Function(_)));
}
