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
    baseline_f1
from models
where
    status not in ('candidate', 'champion', 'retired')
    or pooling not in ('cls', 'mean')
    or calibration not in ('none', 'isotonic')
    or test_auc not between 0 and 1
    or test_average_precision not between 0 and 1
    or test_f1 not between 0 and 1
    or test_ece not between 0 and 1
    or test_brier not between 0 and 1
    or baseline_auc not between 0 and 1
    or baseline_f1 not between 0 and 1
    or test_log_loss < 0
    or least(train_rows, validation_rows, test_rows) < 0
    or least(max_length, lora_rank) < 1
    or trainable_parameters not between 1 and total_parameters
