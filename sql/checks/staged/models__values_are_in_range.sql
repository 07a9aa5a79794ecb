-- A row is a model with an unknown status or method, or with a figure outside its range.
select
    model_version,
    status,
    pooling,
    calibration,
    test_auc,
    test_average_precision,
    test_f1,
    test_ece,
    test_brier,
    test_log_loss,
    baseline_auc,
    baseline_f1,
    test_f1_low,
    test_f1_high,
    f1_gain_low,
    f1_gain_high,
    beats_baseline,
    test_f1_ratings_masked,
    test_ece_debiased
from models
where
    status not in ('candidate', 'champion', 'retired')
    or pooling not in ('cls', 'mean')
    or calibration not in ('none', 'prior_shift', 'temperature', 'beta', 'isotonic')
    or test_auc not between 0 and 1
    or test_average_precision not between 0 and 1
    or test_f1 not between 0 and 1
    or test_ece not between 0 and 1
    or test_brier not between 0 and 1
    or baseline_auc not between 0 and 1
    or baseline_f1 not between 0 and 1
    or test_log_loss < 0
    or test_f1_low > test_f1_high
    or f1_gain_low > f1_gain_high
    or beats_baseline <> (f1_gain_low > 0)
    or test_f1_ratings_masked not between 0 and 1
    or test_ece_debiased not between 0 and 1
    or least(train_rows, validation_rows, test_rows) < 0
    or least(max_length, lora_rank) < 1
    or trainable_parameters not between 1 and total_parameters
