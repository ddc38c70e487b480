//! Every limit a user or operator can meet, in one place, with its source.
//! Source unless said otherwise: the Lambda service model and the "Lambda quotas" page of AWS's guide.

/// Smallest memory of a function, MB.
pub const MEMORY_MIN_MIB: u32 = 128;
/// Largest memory of a function, MB.
pub const MEMORY_MAX_MIB: u32 = 10_240;
/// Memory of a function that names none, MB.
pub const MEMORY_DEFAULT_MIB: u32 = 128;
/// Memory at which a function has one whole vCPU, MB. "At 1,769 MB, a function has the equivalent of one vCPU."
pub const MEMORY_PER_VCPU_MIB: u32 = 1_769;
/// Timeout of a function that names none, seconds.
pub const TIMEOUT_DEFAULT_S: u32 = 3;
/// Longest timeout, seconds.
pub const TIMEOUT_MAX_S: u32 = 900;
/// Longest init phase outside of an invocation, milliseconds.
pub const INIT_TIMEOUT_MS: u64 = 10_000;
/// Size of /tmp of a function that names none, MB.
pub const EPHEMERAL_STORAGE_DEFAULT_MIB: u32 = 512;
/// Largest /tmp.
pub const EPHEMERAL_STORAGE_MAX_MIB: u32 = 10_240;
/// Layers of a function.
pub const LAYERS_MAX: usize = 5;
/// Largest synchronous request payload, bytes.
pub const SYNC_REQUEST_MAX_BYTES: usize = 6_291_456;
/// Largest synchronous response payload, bytes. Recorded from AWS: 6 MiB and 100 bytes.
pub const SYNC_RESPONSE_MAX_BYTES: usize = 6_291_556;
/// "Maximum response payload size for streamed responses: 200 MB."
pub const STREAMED_RESPONSE_MAX_BYTES: usize = 200 << 20;
/// Largest asynchronous request payload, bytes.
pub const ASYNC_REQUEST_MAX_BYTES: usize = 1_048_576;
/// Retries of an event after function errors unless the function says otherwise, and the most it may ask for. "Lambda
/// retries function errors twice"; `MaximumRetryAttempts` is 0 to 2 in the service model.
pub const EVENT_RETRIES_MAX: u32 = 2;
/// Shortest life of an event that a function may ask for, seconds: `MaximumEventAgeInSeconds` in the service model.
pub const EVENT_AGE_MIN_S: u32 = 60;
/// Longest life of an event in the queue, seconds, and what it is unless the function says otherwise. "up to 6 hours".
pub const EVENT_AGE_MAX_S: u32 = 21_600;
/// Wait before the first retry after a function error, milliseconds; before the second it is twice that. "with a one-minute
/// wait between the first two attempts, and two minutes between the second and third attempts".
pub const EVENT_RETRY_DELAY_MS: u64 = 60_000;
/// Shortest wait after a throttle or system error, milliseconds. "from 1 second after the first attempt to a maximum of 5
/// minutes".
pub const EVENT_BACKOFF_MIN_MS: u64 = 1_000;
/// Longest of them, milliseconds.
pub const EVENT_BACKOFF_MAX_MS: u64 = 300_000;
/// Events of one function that may wait or be under way, unless the operator says otherwise. Ours: AWS names none.
pub const EVENTS_PER_FUNCTION_DEFAULT: u32 = 100_000;
/// Bytes of one group of the event log, payloads and entries, unless the operator says otherwise. Ours: bounds disk and memory.
pub const EVENT_BYTES_PER_GROUP_DEFAULT: u64 = 256 << 20;
/// What an event's entry takes beside its payload, bytes, about. Ours: bounds how many small ones there are.
pub const EVENT_ENTRY_BYTES: u64 = 512;
/// Longest request id of an event, bytes. Ours; a UUID has 36.
pub const EVENT_REQUEST_ID_MAX_BYTES: usize = 64;
/// Error message of a dead letter, bytes. "ErrorMessage (String): The first 1 KB of the error message."
pub const DEAD_LETTER_MESSAGE_MAX_BYTES: usize = 1_024;
/// Largest archive in a request, bytes.
pub const ZIPPED_MAX_BYTES: usize = 52_428_800;
/// Largest unpacked code and layers together, bytes.
pub const UNZIPPED_MAX_BYTES: u64 = 262_144_000;
/// Largest number of entries in an archive. Ours: bounds the work of a hostile archive.
pub const ZIP_ENTRIES_MAX: usize = 100_000;
/// Largest container image unpacked, bytes. "Container image code package size: 10 GB (maximum uncompressed image size)".
pub const IMAGE_MAX_BYTES: u64 = 10 * 1024 * 1024 * 1024;
/// Largest number of files, directories and links in all layers of an image. Ours: bounds the work of a hostile image.
pub const IMAGE_ENTRIES_MAX: u64 = 1_000_000;
/// Layers of a container image. Source: Docker's own limit.
pub const IMAGE_LAYERS_MAX: usize = 127;
/// Largest manifest of a container image, bytes. "Registries SHOULD enforce some limit": 4 MiB, of the OCI specification.
pub const IMAGE_MANIFEST_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Largest request to the control API, bytes (base64 of the largest archive and the document around it).
pub const CONTROL_REQUEST_MAX_BYTES: usize = 70_167_211;
/// Largest environment, bytes of its JSON.
pub const ENVIRONMENT_MAX_BYTES: usize = 4_096;
/// Largest client context, bytes of base64.
pub const CLIENT_CONTEXT_MAX_BYTES: usize = 3_583;
/// Log bytes returned with `LogType=Tail`.
pub const LOG_TAIL_BYTES: usize = 4_096;
/// Largest resource policy of a function, version or alias, bytes. "Function resource-based policy: 20 KB".
pub const POLICY_MAX_BYTES: usize = 20_480;
/// Tags of one resource.
pub const TAGS_MAX: usize = 50;
/// Roles of an account. This and what follows: "IAM and AWS STS quotas" of IAM's guide.
pub const IAM_ROLES_MAX: usize = 1_000;
/// Users of an account.
pub const IAM_USERS_MAX: usize = 5_000;
/// Groups of an account.
pub const IAM_GROUPS_MAX: usize = 300;
/// Policies that an account made.
pub const IAM_POLICIES_MAX: usize = 1_500;
/// Versions of one of them.
pub const IAM_POLICY_VERSIONS_MAX: usize = 5;
/// Policies attached to one role, user or group.
pub const IAM_ATTACHED_MAX: usize = 10;
/// Groups that a user is in.
pub const IAM_GROUPS_PER_USER_MAX: usize = 10;
/// Access keys of a user.
pub const IAM_KEYS_PER_USER_MAX: usize = 2;
/// Characters of a managed policy, white space left out.
pub const IAM_POLICY_MAX_CHARS: usize = 6_144;
/// Characters of all of a role's own policies.
pub const IAM_INLINE_ROLE_MAX_CHARS: usize = 10_240;
/// Characters of all of a user's own policies.
pub const IAM_INLINE_USER_MAX_CHARS: usize = 2_048;
/// Characters of all of a group's own policies.
pub const IAM_INLINE_GROUP_MAX_CHARS: usize = 5_120;
/// Characters of the document that says whom a role trusts: AWS's default is 2,048, and it gives up to this when asked.
pub const IAM_TRUST_MAX_CHARS: usize = 4_096;
/// Characters of a policy that a session is made with.
pub const SESSION_POLICY_MAX_CHARS: usize = 2_048;
/// Longest session of a role that names none, seconds.
pub const SESSION_DEFAULT_S: u32 = 3_600;
/// Shortest session, seconds.
pub const SESSION_MIN_S: u32 = 900;
/// Longest session, seconds.
pub const SESSION_MAX_S: u32 = 43_200;
/// Items in a page of IAM's lists unless asked otherwise.
pub const IAM_LIST_DEFAULT: usize = 100;
/// Largest request to IAM or STS, bytes. Ours: three times the largest document, which a form may triple.
pub const QUERY_REQUEST_MAX_BYTES: usize = 1 << 20;
/// Concurrent executions of an account unless the operator says otherwise.
pub const ACCOUNT_CONCURRENCY_DEFAULT: u32 = 1_000;
/// Concurrent executions that always stay unreserved.
pub const UNRESERVED_MIN: u32 = 100;
/// Environments a function may add in [`SCALE_OUT_SPAN_MS`], unless the operator says otherwise. "1,000 execution
/// environment instances every 10 seconds", refilled continuously, for each function.
pub const SCALE_OUT_DEFAULT: u32 = 1_000;
/// See [`SCALE_OUT_DEFAULT`], milliseconds.
pub const SCALE_OUT_SPAN_MS: u64 = 10_000;
/// Requests a second for each unit of concurrency, unless the operator says otherwise. "10 times your concurrency".
pub const REQUESTS_PER_UNIT_DEFAULT: u32 = 10;
/// Code storage of an account unless the operator says otherwise, bytes (75 GB).
pub const CODE_STORAGE_DEFAULT_BYTES: u64 = 80_530_636_800;
/// Open file descriptors of a sandbox.
pub const SANDBOX_DESCRIPTORS: u64 = 1_024;
/// Processes and threads of a sandbox.
pub const SANDBOX_PIDS: u32 = 1_024;

/// Largest command in the metadata log, bytes. Ours: a log entry is split into values of 4 KiB on disk.
pub const COMMAND_MAX_BYTES: usize = 65_536;
/// Metadata of one function's published versions and aliases together, bytes. Ours: a function is one document, which
/// travels whole to every gateway and worker. Some 3,000 versions, or 400 with the largest environments.
pub const PUBLISHED_MAX_BYTES: usize = 2 * 1024 * 1024;
/// Functions in a page of `ListFunctions` unless asked otherwise.
pub const LIST_DEFAULT: usize = 50;
/// Requests one function may have waiting in one gateway. Ours: the account limit, so that a burst waits
/// for its cold starts and a flood is refused.
pub const QUEUE_PER_FUNCTION: usize = 1_000;
/// Requests that may wait in one gateway, over all functions. Ours: bounds memory at 6 MB payloads.
pub const QUEUE_PER_GATEWAY: usize = 10_000;
/// Bytes of payload that may be held in one gateway. Ours.
pub const PAYLOAD_BYTES_PER_GATEWAY: usize = 1 << 30;
/// Payload bytes per frame between gateway and worker. Ours: a 6 MB payload never stalls small ones.
pub const FRAME_BYTES: usize = 65_536;
/// A worker that has not renewed for this long serves no reserved pool (TTL_w), milliseconds.
pub const WORKER_LEASE_MS: u64 = 30_000;
