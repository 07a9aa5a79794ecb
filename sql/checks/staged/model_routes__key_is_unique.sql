-- A row is a key (route_value) that more than one row of model_routes has.
select
    route_value,
    count(*) as row_count
from model_routes
group by route_value
having count(*) > 1
