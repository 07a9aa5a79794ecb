-- A row is a model without exactly one default threshold: reports could not tell which of its reviews are flagged.
select
    models.model_version,
    count(*) filter (where model_thresholds.is_default) as default_count
from models
left join model_thresholds
    on models.model_version = model_thresholds.model_version
group by models.model_version
having count(*) filter (where model_thresholds.is_default) <> 1
