-- A row is a key (model_version) that more than one row of models has.
select
    model_version,
    count(*) as row_count
from models
group by model_version
having count(*) > 1
