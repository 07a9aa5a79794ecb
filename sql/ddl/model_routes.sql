-- Generated from jobs/lake/schemas.py: change it there.
-- Key: route_value (unique; see sql/checks).
create table if not exists model_routes (
    route_column string not null comment 'The column of reviews that is compared: product_category or marketplace.',
    route_value string not null comment
        'Its value in lower case without outer blanks; unknown: reviews that have none.',
    model_version string not null comment 'The model that decides for these reviews; see models.',
    set_at timestamp not null comment 'When the route came into force, which is after its reviews were scored.',
    run_id string not null comment 'The run that wrote the row; see job_runs.'
)
using delta
comment 'Which reviews another model than the champion decides for. One row per route_value; all share a route_column.';
