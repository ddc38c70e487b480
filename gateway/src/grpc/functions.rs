//! `hearth.v1.Functions`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hearth_proto::v1 as pb;
use http::Method;
use pb::functions_server::Functions as Service;
use serde_json::{Map, Value, json};
use tonic::{Request, Response, Status};

use super::aws::{call, segment};
use super::{caller, place};
use crate::app::App;
use crate::caller::Caller;

const FUNCTIONS: &str = "/2015-03-31/functions";

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Functions {
    app: Arc<App>,
}

impl Functions {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    async fn configuration(
        &self,
        caller: Caller,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Response<pb::Function>, Status> {
        let document = call(&self.app, caller, method, path, body).await?;
        Ok(Response::new(function(&document)))
    }

    async fn get(&self, caller: Caller, name: &str) -> Result<Response<pb::Function>, Status> {
        let path = format!("{FUNCTIONS}/{}", segment(name));
        let document = call(&self.app, caller, Method::GET, &path, &Value::Null).await?;
        let mut found = function(&document["Configuration"]);
        let reserved = document["Concurrency"]["ReservedConcurrentExecutions"].as_u64();
        found.reserved_concurrency = reserved.and_then(|n| u32::try_from(n).ok());
        found.tags = strings(&document["Tags"]);
        found.image_uri = text(&document["Code"], "ImageUri");
        found.resolved_image_uri = text(&document["Code"], "ResolvedImageUri");
        Ok(Response::new(found))
    }
}

/// Members that were sent: empty texts and zeros stand for absent ones.
#[derive(Default)]
struct Members(Map<String, Value>);

impl Members {
    fn put(&mut self, name: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value);
        }
    }
    fn text(&mut self, name: &str, text: String) {
        self.put(
            name,
            Some(text).filter(|t| !t.is_empty()).map(Value::String),
        );
    }
    fn number(&mut self, name: &str, number: u32) {
        self.put(name, Some(number).filter(|n| *n > 0).map(Value::from));
    }
    fn environment(&mut self, environment: Option<pb::Environment>) {
        self.put(
            "Environment",
            environment.map(|e| json!({ "Variables": e.variables })),
        );
    }
    fn image_config(&mut self, config: Option<pb::ImageConfig>) {
        let document = |config: pb::ImageConfig| {
            json!({
                "EntryPoint": config.entry_point,
                "Command": config.command,
                "WorkingDirectory": config.working_directory,
            })
        };
        self.put("ImageConfig", config.map(document));
    }
    /// An archive, an image, or both, which is refused as it is over REST.
    fn code(&mut self, zip_file: &[u8], image_uri: String) {
        if image_uri.is_empty() || !zip_file.is_empty() {
            self.put("ZipFile", Some(STANDARD.encode(zip_file).into()));
        }
        self.text("ImageUri", image_uri);
    }
}

#[tonic::async_trait]
impl Service for Functions {
    async fn create_function(
        &self,
        request: Request<pb::CreateFunctionRequest>,
    ) -> Result<Response<pb::Function>, Status> {
        let (caller, _place) = (caller(&request)?, place(&self.app)?);
        let input = request.into_inner();
        let (mut members, mut code) = (Members::default(), Members::default());
        if !input.image_uri.is_empty() {
            members.put("PackageType", Some("Image".into()));
        }
        code.code(&input.zip_file, input.image_uri);
        members.put("Code", Some(Value::Object(code.0)));
        members.image_config(input.image_config);
        members.text("FunctionName", input.name);
        members.text("Runtime", input.runtime);
        members.text("Handler", input.handler);
        members.text("Role", input.role);
        members.text("Description", input.description);
        members.number("Timeout", input.timeout_s);
        members.number("MemorySize", input.memory_mib);
        members.environment(input.environment);
        members.put("Tags", Some(json!(input.tags)));
        self.configuration(caller, Method::POST, FUNCTIONS, &Value::Object(members.0))
            .await
    }

    async fn get_function(
        &self,
        request: Request<pb::GetFunctionRequest>,
    ) -> Result<Response<pb::Function>, Status> {
        let (caller, _place) = (caller(&request)?, place(&self.app)?);
        self.get(caller, &request.get_ref().name).await
    }

    async fn list_functions(
        &self,
        request: Request<pb::ListFunctionsRequest>,
    ) -> Result<Response<pb::ListFunctionsResponse>, Status> {
        let (caller, _place) = (caller(&request)?, place(&self.app)?);
        let input = request.into_inner();
        let mut path = format!("{FUNCTIONS}/?");
        if input.page_size > 0 {
            path.push_str(&format!("MaxItems={}&", input.page_size));
        }
        if !input.page_token.is_empty() {
            path.push_str(&format!("Marker={}", segment(&input.page_token)));
        }
        let page = call(&self.app, caller, Method::GET, &path, &Value::Null).await?;
        let functions = page["Functions"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        Ok(Response::new(pb::ListFunctionsResponse {
            functions: functions.iter().map(function).collect(),
            next_page_token: text(&page, "NextMarker"),
        }))
    }

    async fn update_function_code(
        &self,
        request: Request<pb::UpdateFunctionCodeRequest>,
    ) -> Result<Response<pb::Function>, Status> {
        let (caller, _place) = (caller(&request)?, place(&self.app)?);
        let input = request.into_inner();
        let mut members = Members::default();
        members.code(&input.zip_file, input.image_uri);
        members.text("RevisionId", input.revision_id);
        let path = format!("{FUNCTIONS}/{}/code", segment(&input.name));
        self.configuration(caller, Method::PUT, &path, &Value::Object(members.0))
            .await
    }

    async fn update_function_configuration(
        &self,
        request: Request<pb::UpdateFunctionConfigurationRequest>,
    ) -> Result<Response<pb::Function>, Status> {
        let (caller, _place) = (caller(&request)?, place(&self.app)?);
        let input = request.into_inner();
        let mut members = Members::default();
        members.put("Runtime", input.runtime.map(Value::String));
        members.put("Handler", input.handler.map(Value::String));
        members.put("Role", input.role.map(Value::String));
        members.put("Description", input.description.map(Value::String));
        members.put("Timeout", input.timeout_s.map(Value::from));
        members.put("MemorySize", input.memory_mib.map(Value::from));
        members.environment(input.environment);
        members.image_config(input.image_config);
        members.text("RevisionId", input.revision_id);
        let path = format!("{FUNCTIONS}/{}/configuration", segment(&input.name));
        self.configuration(caller, Method::PUT, &path, &Value::Object(members.0))
            .await
    }

    async fn delete_function(
        &self,
        request: Request<pb::DeleteFunctionRequest>,
    ) -> Result<Response<pb::DeleteFunctionResponse>, Status> {
        let (caller, _place) = (caller(&request)?, place(&self.app)?);
        let path = format!("{FUNCTIONS}/{}", segment(&request.get_ref().name));
        call(&self.app, caller, Method::DELETE, &path, &Value::Null).await?;
        Ok(Response::new(pb::DeleteFunctionResponse {}))
    }

    async fn put_function_concurrency(
        &self,
        request: Request<pb::PutFunctionConcurrencyRequest>,
    ) -> Result<Response<pb::Function>, Status> {
        let (caller, _place) = (caller(&request)?, place(&self.app)?);
        let input = request.into_inner();
        let path = format!("/2017-10-31/functions/{}/concurrency", segment(&input.name));
        let (method, body) = match input.reserved_concurrency {
            Some(reserved) => (
                Method::PUT,
                json!({ "ReservedConcurrentExecutions": reserved }),
            ),
            None => (Method::DELETE, Value::Null),
        };
        call(&self.app, caller.clone(), method, &path, &body).await?;
        self.get(caller, &input.name).await
    }
}

fn text(document: &Value, name: &str) -> String {
    document[name].as_str().unwrap_or_default().to_owned()
}

fn strings(map: &Value) -> std::collections::HashMap<String, String> {
    let entries = map.as_object().into_iter().flatten();
    entries
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn words(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|word| Some(word.as_str()?.to_owned()))
        .collect()
}

/// AWS's document as a message.
fn function(document: &Value) -> pb::Function {
    let number = |value: &Value| {
        value
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or_default()
    };
    let environment = document["Environment"]["Variables"].is_object();
    let image = &document["ImageConfigResponse"]["ImageConfig"];
    pb::Function {
        name: text(document, "FunctionName"),
        arn: text(document, "FunctionArn"),
        runtime: text(document, "Runtime"),
        handler: text(document, "Handler"),
        role: text(document, "Role"),
        description: text(document, "Description"),
        timeout_s: number(&document["Timeout"]),
        memory_mib: number(&document["MemorySize"]),
        ephemeral_storage_mib: number(&document["EphemeralStorage"]["Size"]),
        environment: environment.then(|| pb::Environment {
            variables: strings(&document["Environment"]["Variables"]),
        }),
        code_sha256: text(document, "CodeSha256"),
        code_size_bytes: document["CodeSize"].as_u64().unwrap_or_default(),
        version: text(document, "Version"),
        revision_id: text(document, "RevisionId"),
        state: text(document, "State"),
        state_reason: text(document, "StateReason"),
        last_update_status: text(document, "LastUpdateStatus"),
        // RFC 3339 wants a colon or a Z in the offset.
        last_modified: text(document, "LastModified").replace("+0000", "Z"),
        reserved_concurrency: None,
        tags: std::collections::HashMap::new(),
        package_type: text(document, "PackageType"),
        image_uri: String::new(),
        resolved_image_uri: String::new(),
        image_config: image.is_object().then(|| pb::ImageConfig {
            entry_point: words(&image["EntryPoint"]),
            command: words(&image["Command"]),
            working_directory: text(image, "WorkingDirectory"),
        }),
    }
}
