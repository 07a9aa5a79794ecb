-- Key: model_version, threshold_name (unique; see sql/checks). Generated from jobs/schemas.py: change it there.
create table if not exists model_thresholds (
    model_version string not null comment 'The model; see models.',
    threshold_name string not null comment 'What the threshold is fitted for, such as f1_max.',
    threshold double not null comment 'A review is flagged where its probability is at least this.',
    is_default boolean not null comment 'The one threshold of the model that reports use.',
    is_active boolean not null comment 'Reviews above any active threshold are explained.',
    precision double comment 'Share of dissatisfied among flagged, on labelled test rows; null where none is flagged.',
    recall double not null comment 'Share of flagged among dissatisfied, on labelled test rows.',
    f1 double not null comment 'F1 of the dissatisfied class on labelled test rows.',
    flagged_share double not null comment 'Share of flagged among labelled test rows.',
    run_id string not null comment 'The run that wrote the row; see job_runs.'
)
using delta
partitioned by (model_version)
comment 'Decision thresholds on the calibrated probability. One row per model_version and threshold_name.';
