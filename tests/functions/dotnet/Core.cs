// The parts of Amazon.Lambda.Core that the function uses, as its assembly declares them: the real one is on NuGet alone.
using System;
using System.Collections.Generic;
using System.IO;

namespace Amazon.Lambda.Core {
    public interface ILambdaLogger {
        void Log(string message);
        void LogLine(string message);
    }

    public interface IClientContext {
        IDictionary<string, string> Custom { get; }
        IDictionary<string, string> Environment { get; }
    }

    public interface ILambdaContext {
        string AwsRequestId { get; }
        IClientContext ClientContext { get; }
        string FunctionName { get; }
        string FunctionVersion { get; }
        string InvokedFunctionArn { get; }
        ILambdaLogger Logger { get; }
        string LogGroupName { get; }
        string LogStreamName { get; }
        int MemoryLimitInMB { get; }
        TimeSpan RemainingTime { get; }
    }

    public interface ILambdaSerializer {
        T Deserialize<T>(Stream requestStream);
        void Serialize<T>(T response, Stream responseStream);
    }

    [AttributeUsage(AttributeTargets.Method | AttributeTargets.Assembly)]
    public sealed class LambdaSerializerAttribute : Attribute {
        public LambdaSerializerAttribute(Type serializerType) { SerializerType = serializerType; }
        public Type SerializerType { get; set; }
    }
}
