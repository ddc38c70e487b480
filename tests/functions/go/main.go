package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

var (
	connection net.Conn
	otherEnd   *bufio.Reader
	count      int
)

func connect() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if connection, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		return err
	}
	accepted, err := listener.Accept()
	otherEnd = bufio.NewReader(accepted)
	return err
}

func handler(ctx context.Context, event map[string]any) (map[string]any, error) {
	switch event["do"] {
	case "raise":
		return nil, errors.New("no way é")
	case "panic":
		panic("no way é")
	case "exit":
		os.Exit(3)
	case "sleep":
		time.Sleep(30 * time.Second)
	}
	fmt.Println("a line from the function é")
	count++
	fmt.Fprintln(connection, count)
	line, err := otherEnd.ReadString('\n')
	if err != nil {
		return nil, err
	}
	seen, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return nil, err
	}
	known, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	var custom json.RawMessage
	if known.ClientContext.Custom != nil {
		custom, _ = json.Marshal(known.ClientContext.Custom)
	}
	return map[string]any{
		"event": event, "count": seen, "id": known.AwsRequestID, "left": time.Until(deadline).Milliseconds(),
		"name": lambdacontext.FunctionName, "version": lambdacontext.FunctionVersion, "arn": known.InvokedFunctionArn,
		"custom": custom, "trace": ctx.Value("x-amzn-trace-id"), "memory": lambdacontext.MemoryLimitInMB,
		"group": lambdacontext.LogGroupName,
	}, nil
}

func main() {
	if err := connect(); err != nil {
		panic(err)
	}
	lambda.Start(handler)
}
