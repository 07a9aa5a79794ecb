-- A row lacks a value in a column that may not be null.
select
    model_version,
    threshold_name
from model_thresholds
where
    model_version is null
    or threshold_name is null
    or threshold is null
    or is_default is null
    or is_active is null
    or recall is null
    or f1 is null
    or flagged_share is null
    or run_id is null
