-- A row is a route to a model_version that has no row in models.
select
    model_routes.route_column,
    model_routes.route_value,
    model_routes.model_version
from model_routes
left join models
    on model_routes.model_version = models.model_version
where models.model_version is null
