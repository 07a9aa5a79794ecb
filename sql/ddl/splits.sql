-- Generated from jobs/lake/schemas.py: change it there.
-- Key: split (unique; see sql/checks).
create table if not exists splits (
    split string not null comment 'train, validation, test or live.',
    first_date date comment 'First day of the split; null: open.',
    last_date date comment 'Last day of the split; null: open.',
    origin string not null comment 'given (dates in the config) or auto (resolved from shares of rows).',
    run_id string not null comment 'The run that wrote the row; see job_runs.'
)
using delta
comment 'The temporal splits, fixed when the corpus was built. One row per split. `retrain` cuts live by time again.';
