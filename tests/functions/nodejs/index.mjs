import { once } from "node:events";
import net from "node:net";

const server = net.createServer().listen(0, "127.0.0.1");
await once(server, "listening");
const connection = net.connect(server.address().port, "127.0.0.1");
const [otherEnd] = await once(server, "connection");
let count = 0;

export const handler = async (event, context) => {
  if (event.do === "raise") throw new RangeError("no way é");
  if (event.do === "exit") process.exit(3);
  if (event.do === "sleep") await new Promise((resolve) => setTimeout(resolve, 30_000));
  console.log("a line from the function é");
  count += 1;
  connection.write(`${count}\n`);
  const [seen] = await once(otherEnd, "data");
  return {
    event, count: Number(seen), id: context.awsRequestId, left: context.getRemainingTimeInMillis(),
    name: context.functionName, version: context.functionVersion, arn: context.invokedFunctionArn,
    custom: context.clientContext?.custom ?? null,
    trace: process.env._X_AMZN_TRACE_ID, memory: Number(context.memoryLimitInMB), group: context.logGroupName,
  };
};
