//! Manifests of builders and of attackers, against the rules of `manifest`.

use serde_json::{Value, json};

use super::*;

const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn docker() -> Value {
    json!({
        "schemaVersion": 2, "mediaType": MANIFESTS[1],
        "config": {"mediaType": CONFIGS[1], "digest": A, "size": 7},
        "layers": [{"mediaType": GZIPPED[1], "digest": B, "size": 9}],
    })
}

fn oci() -> Value {
    json!({
        "schemaVersion": 2,
        "config": {"mediaType": CONFIGS[0], "digest": A, "size": 7},
        "layers": [{"mediaType": GZIPPED[0], "digest": B, "size": 9}, {"mediaType": PLAIN[0], "digest": A, "size": 9}],
    })
}

fn read_value(value: &Value) -> Result<Document, ManifestError> {
    read(value.to_string().as_bytes())
}

fn manifest(value: &Value) -> Manifest {
    match read_value(value).unwrap() {
        Document::Image(manifest) => manifest,
        Document::Index(index) => panic!("{index:?}"),
    }
}

fn one(os: &str, architecture: &str, digest: &str) -> Value {
    json!({"mediaType": MANIFESTS[0], "digest": digest, "size": 3,
           "platform": {"os": os, "architecture": architecture}})
}

fn index(images: &[Value]) -> Index {
    let value = json!({"schemaVersion": 2, "mediaType": INDEXES[0], "manifests": images});
    match read_value(&value).unwrap() {
        Document::Index(index) => index,
        Document::Image(manifest) => panic!("{manifest:?}"),
    }
}

#[test]
fn manifests_of_docker_and_of_oci_are_read_alike() {
    let docker = manifest(&docker());
    assert_eq!(docker.config.digest, parse_digest(A).unwrap());
    assert!(docker.layers[0].is_gzip && docker.layers[0].blob.size_bytes == 9);
    let gzipped: Vec<bool> = manifest(&oci()).layers.iter().map(|l| l.is_gzip).collect();
    assert_eq!(gzipped, [true, false]);
}

#[test]
fn of_an_index_the_image_of_the_platform_is_chosen() {
    let attestation = one("unknown", "unknown", B);
    let many = index(&[
        attestation.clone(),
        one("linux", "arm64", B),
        one("linux", "amd64", A),
    ]);
    assert_eq!(
        many.choose("amd64").unwrap().digest,
        parse_digest(A).unwrap()
    );
    let error = index(&[
        one("linux", "arm64", A),
        one("windows", "amd64", A),
        attestation,
    ])
    .choose("amd64");
    assert_eq!(
        error.unwrap_err().to_string(),
        "it has no image for linux/amd64, only for linux/arm64, windows/amd64"
    );
    assert!(
        index(&[])
            .choose("amd64")
            .unwrap_err()
            .to_string()
            .ends_with("only for nothing")
    );
    let mut nested = one("linux", "amd64", A);
    nested["mediaType"] = INDEXES[0].into();
    assert!(matches!(
        index(&[nested]).choose("amd64"),
        Err(ManifestError::MediaType(_))
    ));
}

#[test]
fn what_is_not_understood_is_refused() {
    let change = |path: &str, value: Value| {
        let mut wire = docker();
        *wire.pointer_mut(path).unwrap() = value;
        read_value(&wire).unwrap_err()
    };
    for (path, value) in [
        ("/schemaVersion", json!(1)),
        ("/mediaType", json!("application/vnd.docker.plugin.v1+json")),
        (
            "/config/mediaType",
            json!("application/vnd.cncf.helm.config.v1+json"),
        ),
        (
            "/layers/0/mediaType",
            json!("application/vnd.oci.image.layer.v1.tar+zstd"),
        ),
        (
            "/layers/0/mediaType",
            json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
        ),
    ] {
        assert!(
            matches!(change(path, value), ManifestError::MediaType(_)),
            "{path}"
        );
    }
    for (path, value) in [
        ("/layers/0/digest", json!("sha256:../../etc")),
        ("/layers/0/digest", json!("md5:00")),
        ("/layers/0/size", json!(-1)),
        ("/config", Value::Null),
    ] {
        assert!(
            matches!(change(path, value), ManifestError::Unreadable { .. }),
            "{path}"
        );
    }
    for bytes in [&b""[..], b"{}", b"[]", b"<html>"] {
        assert!(read(bytes).is_err());
    }
    let many: Vec<Value> = vec![docker()["layers"][0].clone(); IMAGE_LAYERS_MAX + 1];
    assert!(matches!(
        change("/layers", many.into()),
        ManifestError::TooManyLayers(_)
    ));
    let huge = json!([{"mediaType": GZIPPED[0], "digest": A, "size": u64::MAX}, {"mediaType": GZIPPED[0], "digest": A, "size": 2}]);
    assert!(matches!(
        change("/layers", huge),
        ManifestError::TooLarge(_)
    ));
}

#[test]
fn a_configuration_file_fits_its_manifest_and_the_platform() {
    let manifest = manifest(&docker());
    let file = json!({
        "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
        "config": {"Entrypoint": ["/e"], "Cmd": null, "Env": ["PATH=/bin"], "WorkingDir": "/w", "User": "x"},
        "rootfs": {"type": "layers", "diff_ids": [A]},
    });
    let read = |file: &Value| read_file(file.to_string().as_bytes(), &manifest, "amd64");
    let found = read(&file).unwrap();
    assert_eq!(
        (found.entrypoint, found.cmd),
        (vec!["/e".to_owned()], vec![])
    );
    assert_eq!(
        (found.env, &*found.working_dir),
        (vec!["PATH=/bin".to_owned()], "/w")
    );
    let with = |path: &str, value: Value| {
        let mut file = file.clone();
        *file.pointer_mut(path).unwrap() = value;
        read(&file)
    };
    assert_eq!(with("/config", Value::Null).unwrap().entrypoint, [""; 0]);
    assert!(matches!(
        with("/architecture", json!("arm64")),
        Err(ManifestError::Platform { .. })
    ));
    assert!(
        with("/rootfs/diff_ids", json!([A, B]))
            .unwrap_err()
            .to_string()
            .contains("2 layers")
    );
    assert!(with("/rootfs/diff_ids", json!(["x"])).is_err());
}
