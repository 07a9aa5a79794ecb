-- A row lacks a value in a column that may not be null.
select route_value
from model_routes
where
    route_column is null
    or route_value is null
    or model_version is null
    or set_at is null
    or run_id is null
