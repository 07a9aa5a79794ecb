-- A row lacks a value in a column that may not be null.
select run_id
from job_runs
where
    run_id is null
    or command is null
    or status is null
    or started_at is null
    or finished_at is null
    or wall_seconds is null
    or details is null
