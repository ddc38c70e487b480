import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.HashMap;
import java.util.Map;

public class App implements RequestHandler<Map<String, Object>, Map<String, Object>> {
    private final PrintStream connection;
    private final BufferedReader otherEnd;
    private int count;

    public App() throws Exception {
        InetAddress here = InetAddress.getByName("127.0.0.1");
        ServerSocket listener = new ServerSocket(0, 1, here);
        connection = new PrintStream(new Socket(here, listener.getLocalPort()).getOutputStream(), true);
        otherEnd = new BufferedReader(new InputStreamReader(listener.accept().getInputStream()));
    }

    @Override
    public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
        Object what = event.get("do");
        if ("raise".equals(what)) {
            throw new IllegalArgumentException("no way \u00e9");
        }
        if ("exit".equals(what)) {
            Runtime.getRuntime().halt(3);
        }
        try {
            if ("sleep".equals(what)) {
                Thread.sleep(30_000);
            }
            context.getLogger().log("a line from the function \u00e9\n");
            count += 1;
            connection.println(count);
            Map<String, Object> answer = new HashMap<>();
            answer.put("event", event);
            answer.put("count", Integer.parseInt(otherEnd.readLine()));
            answer.put("id", context.getAwsRequestId());
            answer.put("left", context.getRemainingTimeInMillis());
            answer.put("name", context.getFunctionName());
            answer.put("version", context.getFunctionVersion());
            answer.put("arn", context.getInvokedFunctionArn());
            answer.put("custom", context.getClientContext() == null ? null : context.getClientContext().getCustom());
            answer.put("trace", System.getProperty("com.amazonaws.xray.traceHeader"));
            answer.put("memory", context.getMemoryLimitInMB());
            answer.put("group", context.getLogGroupName());
            return answer;
        } catch (InterruptedException | java.io.IOException error) {
            throw new RuntimeException(error);
        }
    }
}
