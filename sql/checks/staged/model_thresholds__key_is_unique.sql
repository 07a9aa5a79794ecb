-- A row is a key (model_version, threshold_name) that more than one row of model_thresholds has.
select
    model_version,
    threshold_name,
    count(*) as row_count
from model_thresholds
group by
    model_version,
    threshold_name
having count(*) > 1
