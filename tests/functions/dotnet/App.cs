using System;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Threading.Tasks;
using Amazon.Lambda.Core;

[assembly: LambdaSerializer(typeof(Functions.Json))]

namespace Functions {
    public sealed class Json : ILambdaSerializer {
        public T Deserialize<T>(Stream stream) {
            var bytes = new MemoryStream();
            stream.CopyTo(bytes);
            return JsonSerializer.Deserialize<T>(bytes.ToArray(), null);
        }

        public void Serialize<T>(T response, Stream stream) {
            var bytes = JsonSerializer.SerializeToUtf8Bytes(response, typeof(T), null);
            stream.Write(bytes, 0, bytes.Length);
        }
    }

    public class App {
        readonly StreamWriter connection;
        readonly StreamReader otherEnd;
        int count;

        public App() {
            var listener = new TcpListener(IPAddress.Loopback, 0);
            listener.Start();
            var client = new TcpClient("127.0.0.1", ((IPEndPoint)listener.LocalEndpoint).Port);
            connection = new StreamWriter(client.GetStream()) { AutoFlush = true };
            otherEnd = new StreamReader(listener.AcceptTcpClient().GetStream());
        }

        public async Task<Dictionary<string, object>> Handle(Dictionary<string, JsonElement> input, ILambdaContext context) {
            JsonElement given;
            var what = input.TryGetValue("do", out given) ? given.GetString() : null;
            if (what == "raise") throw new ArgumentException("no way \u00e9");
            if (what == "exit") Environment.Exit(3);
            if (what == "sleep") await Task.Delay(30000);
            context.Logger.LogLine("a line from the function \u00e9");
            count += 1;
            connection.WriteLine(count);
            return new Dictionary<string, object> {
                { "event", input }, { "count", int.Parse(otherEnd.ReadLine()) }, { "id", context.AwsRequestId },
                { "left", (long)context.RemainingTime.TotalMilliseconds }, { "name", context.FunctionName },
                { "version", context.FunctionVersion }, { "arn", context.InvokedFunctionArn },
                { "custom", context.ClientContext == null ? null : context.ClientContext.Custom },
                { "trace", Environment.GetEnvironmentVariable("_X_AMZN_TRACE_ID") },
                { "memory", context.MemoryLimitInMB }, { "group", context.LogGroupName },
            };
        }
    }
}
