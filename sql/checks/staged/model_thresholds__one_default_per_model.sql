-- A row is a model that has no default threshold, or more than one.
select
    model_version,
    count(*) filter (where is_default) as default_count
from model_thresholds
group by model_version
having count(*) filter (where is_default) <> 1
