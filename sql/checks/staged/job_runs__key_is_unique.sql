-- A row is a key (run_id) that more than one row of job_runs has.
select
    run_id,
    count(*) as row_count
from job_runs
group by run_id
having count(*) > 1
