"""Creates and invokes a function over Hearth's gRPC API. Needs: pip install grpcio grpcio-tools"""
import base64, io, json, os, pathlib, sys, time, urllib.parse, zipfile
import grpc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "proto/proto"))  # where hearth/v1/*.proto are
messages, services = grpc.protos_and_services("hearth/v1/functions.proto")
invoke_messages, invoke_services = grpc.protos_and_services("hearth/v1/invoke.proto")

name = sys.argv[1] if len(sys.argv) > 1 else "grpc-hello"
keys = f"{os.environ['AWS_ACCESS_KEY_ID']}:{os.environ['AWS_SECRET_ACCESS_KEY']}"
auth = [("authorization", "Basic " + base64.b64encode(keys.encode()).decode())]
channel = grpc.insecure_channel(urllib.parse.urlparse(os.environ["AWS_ENDPOINT_URL"]).netloc)
functions = services.FunctionsStub(channel)
package = io.BytesIO()
with zipfile.ZipFile(package, "w") as archive:
    archive.writestr("app.py", "def handler(event, context):\n    return f'Hello, {event}!'\n")
functions.CreateFunction(messages.CreateFunctionRequest(
    name=name, runtime="python3.11", handler="app.handler", role="arn:aws:iam::000000000000:role/demo",
    zip_file=package.getvalue()), metadata=auth, timeout=30)
while functions.GetFunction(messages.GetFunctionRequest(name=name), metadata=auth, timeout=10).state == "Pending":
    time.sleep(0.05)
answer = invoke_services.InvocationStub(channel).Invoke(
    invoke_messages.InvokeRequest(function_name=name, payload=json.dumps("gRPC").encode()), metadata=auth, timeout=30)
print(answer.request_id, json.loads(answer.payload))
