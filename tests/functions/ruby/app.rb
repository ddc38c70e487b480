# frozen_string_literal: true

require 'socket'

LISTENER = TCPServer.new('127.0.0.1', 0)
CONNECTION = TCPSocket.new('127.0.0.1', LISTENER.addr[1])
OTHER_END = LISTENER.accept
$count = 0

def handler(event:, context:)
  raise ArgumentError, 'no way é' if event['do'] == 'raise'

  exit!(3) if event['do'] == 'exit'
  sleep(30) if event['do'] == 'sleep'
  puts 'a line from the function é'
  $count += 1
  CONNECTION.puts($count)
  {
    event: event, count: OTHER_END.gets.to_i, id: context.aws_request_id, left: context.get_remaining_time_in_millis,
    name: context.function_name, version: context.function_version, arn: context.invoked_function_arn,
    custom: context.client_context && context.client_context['custom'],
    trace: ENV['_X_AMZN_TRACE_ID'], memory: context.memory_limit_in_mb.to_i, group: context.log_group_name
  }
end

# Handlers may be methods of a class as well.
module Things
  class Echo
    def self.process(event:, context:)
      handler(event: event, context: context)
    end
  end
end
