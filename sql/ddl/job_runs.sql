-- Generated from jobs/lake/schemas.py: change it there.
-- Key: run_id (unique; see sql/checks).
create table if not exists job_runs (
    run_id string not null comment 'The run that wrote the row; see job_runs.',
    command string not null comment
        'ingest, train, retrain, promote, retire, thresholds, merge, push, compile, score, explain or report.',
    status string not null comment 'succeeded or failed.',
    started_at timestamp not null comment 'Start of the run.',
    finished_at timestamp not null comment 'End of the run.',
    wall_seconds double not null comment 'Seconds between the two.',
    model_version string comment 'The model, where the run had one.',
    rows_read bigint comment 'Rows looked at.',
    rows_written bigint comment 'Rows new or changed.',
    rows_failed bigint comment 'Rows rejected or with an error.',
    details string not null comment 'JSON object with the run\'s own figures.',
    error string comment 'Why it failed.'
)
using delta
comment 'What ran. One row per finished run of a command that changes the root, failed ones included, killed ones not.';
