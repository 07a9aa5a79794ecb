-- Generated from jobs/lake/schemas.py: change it there.
-- Key: model_version (unique; see sql/checks).
create table if not exists models (
    model_version string not null comment 'The model; see models.',
    status string not null comment 'candidate, champion or retired.',
    trained_at timestamp not null comment 'Start of the run that trained and registered it.',
    promoted_at timestamp comment 'When it became champion.',
    score_since date comment 'Reviews before this day are not scored by this model; null: all are.',
    backbone string not null comment 'Name of the pretrained encoder.',
    backbone_revision string not null comment 'Hub commit, or sha256 of the weights.',
    pooling string not null comment 'cls or mean.',
    max_length int not null comment 'Tokens per review; longer texts are truncated.',
    lora_rank int not null comment 'Rank of the adapter.',
    lora_alpha double not null comment 'Scale numerator of the adapter.',
    lora_targets string not null comment 'Targeted modules.',
    trainable_parameters bigint not null comment 'Parameters that were trained: LoRA and head.',
    total_parameters bigint not null comment 'Distinct parameters.',
    calibration string not null comment 'Calibrator: none, prior_shift, temperature, beta or isotonic.',
    data_version string not null comment 'Fingerprint of the rows it was trained and tested on.',
    train_rows bigint not null comment 'Labelled training rows used.',
    validation_rows bigint not null comment 'Labelled validation rows.',
    test_rows bigint not null comment 'Labelled test rows (3 stars excluded); the denominator of all test_ columns.',
    test_auc double not null comment 'Area under the ROC curve on test.',
    test_average_precision double not null comment 'Average precision on test.',
    test_f1 double not null comment 'F1 of the dissatisfied class on test, at the default threshold of its training.',
    test_ece double not null comment 'Expected calibration error on test, equal-width bins of the probability.',
    test_brier double not null comment 'Brier score on test.',
    test_log_loss double not null comment 'Log-loss on test, in nats.',
    baseline_auc double not null comment 'AUC of TF-IDF + logistic regression on the same rows.',
    baseline_f1 double not null comment
        'F1 of TF-IDF + logistic regression on the same rows, at a threshold of its own, fitted alike.',
    row_filter string comment
        'Column=value that all its training, validation and test reviews have; null: it was made for all reviews.',
    test_f1_low double comment
        'Lower limit of test_f1\'s interval (bootstrap of whole products; see model.thresholds.confidence).',
    test_f1_high double comment 'Its upper limit.',
    f1_gain double comment 'test_f1 - baseline_f1.',
    f1_gain_low double comment
        'Lower limit of f1_gain\'s interval (paired bootstrap of whole products; see model.thresholds.confidence).',
    f1_gain_high double comment 'Its upper limit.',
    beats_baseline boolean comment 'f1_gain_low is above 0: the gain over TF-IDF is more than chance.',
    test_f1_ratings_masked double comment 'test_f1 with phrases that state the rating masked in headline and body.',
    test_ece_debiased double comment 'Expected calibration error less what chance adds, bins of equal mass.',
    promotion_reason string comment
        'Why it was promoted against the rules (`models promote --override`); null: by the rules.',
    bundle_path string not null comment 'Folder of the bundle, relative to the root.',
    bundle_checksum string not null comment 'sha256 of the bundle\'s manifest.json.',
    run_id string not null comment 'The run that wrote the row; see job_runs.'
)
using delta
comment 'Trained models with the test figures of their training. One row per model_version; at most one is champion.';
