-- A row is a route by an unknown column or by another column than the other routes (two models could then claim one
-- review), or with a value that is not written as reviews are compared with it.
select
    route_column,
    route_value,
    model_version
from model_routes
where
    route_column not in ('product_category', 'marketplace')
    or route_column <> (select min(all_routes.route_column) from model_routes as all_routes)
    or route_value <> coalesce(nullif(lower(trim(route_value)), ''), 'unknown')
