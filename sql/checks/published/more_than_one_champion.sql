-- A row is a champion beside another one: a root has one at most.
with champions as (
    select
        model_version,
        count(*) over () as champion_count
    from models
    where status = 'champion'
)

select *
from champions
where champion_count > 1
