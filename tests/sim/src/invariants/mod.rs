//! What must hold, one promise a file, named as its sentence. `on_*` functions are called when something happens, `check`
//! functions at the end of a phase; what they find goes into the ledger.

pub mod a_2xx_ran_a_configuration_that_was_serving_during_the_call;
pub mod a_sandbox_never_has_two_events;
pub mod acknowledged_writes_are_never_lost_and_reads_never_go_back;
pub mod an_accepted_event_is_run_to_its_end;
pub mod every_invocation_ends_in_one_answer;
pub mod grants_never_exceed_limits_in_any_replica;
pub mod in_flight_is_never_above_a_reserved_limit;
pub mod in_flight_is_never_above_the_account_limit_by_more_than_silent_workers_share;
pub mod no_event_enters_a_sandbox_of_another_function;
pub mod no_permit_is_leaked;
pub mod replicas_of_the_same_log_are_equal;
pub mod the_healed_cluster_serves;
