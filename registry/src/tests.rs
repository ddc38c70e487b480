//! Registries that refuse, lie, redirect and stumble: a scripted one on loopback. Real ones are asked in `tests/e2e/test_images.py`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use hearth_core::ids::Digest;
use hearth_core::image::{Descriptor, Reference};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::{Registry, RegistryError, RegistryOptions};

/// Path of the request, with `authorization` if there was one -> answers, the last one for good.
type Script = BTreeMap<String, VecDeque<Answer>>;

#[derive(Clone)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn answer(status: u16, body: impl Into<Vec<u8>>) -> Answer {
    Answer {
        status,
        headers: Vec::new(),
        body: body.into(),
    }
}

impl Answer {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

#[derive(Clone, Default)]
struct Scripted {
    script: Arc<Mutex<Script>>,
    host: String,
}

impl Scripted {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let this = Self {
            host: listener.local_addr().unwrap().to_string(),
            ..Self::default()
        };
        let script = Arc::clone(&this.script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer_one(stream, Arc::clone(&script)));
            }
        });
        this
    }

    /// Answers to a path, and to a path with an authorization after it.
    fn on(&self, key: &str, answers: impl IntoIterator<Item = Answer>) -> &Self {
        let answers = answers.into_iter().collect();
        self.script.lock().unwrap().insert(key.to_owned(), answers);
        self
    }

    fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.host).parse().unwrap()
    }

    fn options(&self) -> RegistryOptions {
        RegistryOptions {
            plain_http: vec![self.host.clone()],
            ..RegistryOptions::default()
        }
    }
}

/// Hangs up on whoever does not speak plain HTTP.
async fn answer_one(mut stream: TcpStream, script: Arc<Mutex<Script>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) if !head.is_empty() || byte == b'G' => head.push(byte),
            Ok(_) | Err(_) => return,
        }
    }
    let said = reply(&script, &String::from_utf8(head).unwrap());
    let _ = stream.write_all(&said).await;
}

fn reply(script: &Mutex<Script>, head: &str) -> Vec<u8> {
    let path = head.split(' ').nth(1).unwrap();
    let authorization = head
        .lines()
        .find_map(|line| line.strip_prefix("authorization: "));
    let key = match authorization {
        Some(value) => format!("{path} {value}"),
        None => path.to_owned(),
    };
    let mut script = script.lock().unwrap();
    let said = match script.get_mut(&key) {
        Some(answers) if answers.len() > 1 => answers.pop_front().unwrap(),
        Some(answers) => answers[0].clone(),
        None => answer(404, ""),
    };
    let mut text = format!(
        "HTTP/1.1 {} x\r\nconnection: close\r\ncontent-length: {}\r\n",
        said.status,
        said.body.len()
    );
    for (name, value) in &said.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    [text.as_bytes(), b"\r\n", &said.body].concat()
}

fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// A manifest without layers, and its configuration at its place in `fn`.
fn image(registry: &Scripted) -> Vec<u8> {
    let file = br#"{"os":"linux","architecture":"amd64","rootfs":{"diff_ids":[]}}"#;
    let config = digest(file);
    registry.on(
        &format!("/v2/fn/blobs/sha256:{config}"),
        [answer(200, *file)],
    );
    format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{config}","size":{}}},"layers":[]}}"#,
        file.len()
    )
    .into_bytes()
}

async fn pull(options: RegistryOptions, reference: &Reference) -> Result<Digest, RegistryError> {
    let registry = Registry::new(options);
    registry
        .image(reference, "amd64")
        .await
        .map(|image| image.digest)
}

#[tokio::test]
async fn a_tag_becomes_a_digest_and_a_false_one_is_refused() {
    let registry = Scripted::start().await;
    let manifest = image(&registry);
    let (wanted, other) = (digest(&manifest), digest(b"other"));
    registry
        .on("/v2/fn/manifests/1", [answer(200, manifest.clone())])
        .on(
            "/v2/fn/manifests/2",
            [answer(200, manifest.clone())
                .with("Docker-Content-Digest", format!("sha256:{other}"))],
        )
        .on(
            &format!("/v2/fn/manifests/sha256:{other}"),
            [answer(200, manifest)],
        );
    let options = registry.options();
    assert_eq!(
        pull(options.clone(), &registry.reference("fn:1"))
            .await
            .unwrap(),
        wanted
    );
    for lie in ["fn:2".to_owned(), format!("fn@sha256:{other}")] {
        let error = pull(options.clone(), &registry.reference(&lie))
            .await
            .unwrap_err();
        assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
    }
    let error = pull(options, &registry.reference("fn:3"))
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
    let tls = pull(RegistryOptions::default(), &registry.reference("fn:1"))
        .await
        .unwrap_err();
    assert!(
        matches!(tls, RegistryError::Unreachable { .. }),
        "plain HTTP only where it is allowed"
    );
}

#[tokio::test]
async fn a_token_is_fetched_with_the_password_of_the_registry() {
    let registry = Scripted::start().await;
    let manifest = image(&registry);
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"s\"",
        registry.host
    );
    let token = "/token?service=s&scope=repository%3Afn%3Apull";
    registry
        .on(
            "/v2/fn/manifests/1",
            [answer(401, "").with("WWW-Authenticate", &challenge)],
        )
        .on(token, [answer(401, "")])
        .on(
            &format!("{token} Basic bWU6aHVzaA=="),
            [answer(200, r#"{"token":"t"}"#)],
        )
        .on("/v2/fn/manifests/1 Bearer t", [answer(200, manifest)]);
    let reference = registry.reference("fn:1");
    let mut options = registry.options();
    let denied = pull(options.clone(), &reference).await.unwrap_err();
    assert!(matches!(denied, RegistryError::Denied { .. }), "{denied}");
    let file = tempfile::NamedTempFile::new().unwrap();
    options.credentials = file.path().to_owned();
    let unusable = pull(options.clone(), &reference).await.unwrap_err();
    assert!(
        matches!(unusable, RegistryError::Credentials { .. }),
        "{unusable}"
    );
    let text = format!(
        r#"{{"auths":{{"{}":{{"username":"me","password":"hush"}}}}}}"#,
        registry.host
    );
    std::fs::write(file.path(), text).unwrap();
    pull(options, &reference).await.unwrap();
}

#[tokio::test]
async fn a_password_does_not_go_to_a_token_server_without_tls() {
    let registry = Scripted::start().await;
    let challenge = "Bearer realm=\"http://127.0.0.1:1/token\"";
    registry.on(
        "/v2/fn/manifests/1",
        [answer(401, "").with("WWW-Authenticate", challenge)],
    );
    let error = pull(registry.options(), &registry.reference("fn:1"))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("token server is not asked over plain HTTP"),
        "{error}"
    );
}

#[tokio::test]
async fn mirrors_are_asked_first_and_passed_over_when_they_fail() {
    let (mirror, registry) = (Scripted::start().await, Scripted::start().await);
    let manifest = image(&registry);
    registry.on(
        "/v2/fn/manifests/1",
        [answer(503, ""), answer(200, manifest.clone())],
    );
    let mut options = registry.options();
    options.plain_http.push(mirror.host.clone());
    options
        .mirrors
        .insert(registry.host.clone(), vec![mirror.host.clone()]);
    // The mirror has nothing and the registry stumbles once.
    assert_eq!(
        pull(options.clone(), &registry.reference("fn:1"))
            .await
            .unwrap(),
        digest(&manifest)
    );
    let other = [&manifest[..], b" "].concat();
    image(&mirror);
    mirror.on("/v2/fn/manifests/1", [answer(200, other.clone())]);
    assert_eq!(
        pull(options, &registry.reference("fn:1")).await.unwrap(),
        digest(&other)
    );
}

#[tokio::test]
async fn a_layer_is_what_its_descriptor_says_or_refused() {
    let registry = Scripted::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("layer");
    let content = vec![7; 3 << 20];
    let blob = Descriptor {
        digest: digest(&content),
        size_bytes: content.len() as u64,
    };
    let key = format!("/v2/fn/blobs/sha256:{}", blob.digest);
    let reference = registry.reference("fn:1");
    let client = Registry::new(registry.options());
    let to_store = |url: &str| answer(307, "").with("Location", url);
    registry
        .on("/store", [answer(200, content.clone())])
        .on(&key, [to_store("/store")]);
    client.layer(&reference, &blob, &path).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), content);
    for wrong in [
        content[1..].to_vec(),
        [&content[..], b"x"].concat(),
        vec![8; content.len()],
    ] {
        registry.on(&key, [answer(200, wrong)]);
        let error = client.layer(&reference, &blob, &path).await.unwrap_err();
        assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
    }
    registry.on(&key, [to_store("http://127.0.0.1:1/store")]);
    let error = client.layer(&reference, &blob, &path).await.unwrap_err();
    assert!(
        error.to_string().contains("redirect to plain HTTP"),
        "{error}"
    );
}
