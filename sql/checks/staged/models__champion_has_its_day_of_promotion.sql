-- A row is a champion without the time of its promotion.
select model_version
from models
where
    status = 'champion'
    and promoted_at is null
