-- Generated from jobs/lake/schemas.py: change it there.
-- Key: model_version, threshold_name (unique; see sql/checks).
create table if not exists model_thresholds (
    model_version string not null comment 'The model; see models.',
    threshold_name string not null comment
        'f1_max, cost_<missed>_<false alarm>, precision_<p>, recall_<r>, review_low, review_high.',
    threshold double not null comment 'A review is flagged where its probability is at least this.',
    is_default boolean not null comment 'The one threshold of the model that reports use.',
    is_active boolean not null comment 'Reviews above any active threshold are explained.',
    precision double comment 'Share of dissatisfied among flagged, on labelled test rows; null where none is flagged.',
    recall double not null comment 'Share of flagged among dissatisfied, on labelled test rows.',
    f1 double not null comment 'F1 of the dissatisfied class on labelled test rows.',
    flagged_share double not null comment 'Share of flagged among labelled test rows.',
    precision_low double comment
        'Lower limit of precision\'s interval (bootstrap of whole products; see model.thresholds.confidence).',
    precision_high double comment 'Its upper limit.',
    recall_low double comment 'Lower limit of recall\'s interval, alike.',
    recall_high double comment 'Its upper limit.',
    flagged_share_low double comment 'Lower limit of flagged_share\'s interval, alike.',
    flagged_share_high double comment 'Its upper limit.',
    purpose string comment
        'What it is for, in words; a guarantee is for reviews and products like those of validation.',
    run_id string not null comment 'The run that wrote the row; see job_runs.'
)
using delta
partitioned by (model_version)
comment 'Decision thresholds on the calibrated probability. One row per model_version and threshold_name.';
