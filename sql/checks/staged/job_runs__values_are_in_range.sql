-- A row is a run with an unknown status, an end before its start, an error that does not fit its status, or details
-- that are no JSON.
select
    run_id,
    command,
    status,
    started_at,
    finished_at,
    wall_seconds,
    error
from job_runs
where
    status not in ('succeeded', 'failed')
    or finished_at < started_at
    or wall_seconds < 0
    or (status = 'failed') <> (error is not null)
    or not json_valid(details)
