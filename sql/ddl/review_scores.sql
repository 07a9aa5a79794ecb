-- Generated from jobs/lake/schemas.py: change it there.
-- Key: model_version, review_id (unique; see sql/checks).
create table if not exists review_scores (
    model_version string not null comment 'The model; see models.',
    review_id string not null comment 'The review; see reviews.',
    review_month date not null comment 'First day of the month of review_date; a partition.',
    text_hash string not null comment 'sha256 of the stored headline and body: tells whether the text changed.',
    logit double comment 'Log-odds of dissatisfaction before calibration; null where error is set.',
    raw_probability double comment 'Sigmoid of logit; null where error is set.',
    probability double comment 'Calibrated probability of 1-2 stars, given not 3; null where error is set.',
    token_count int comment 'Tokens before truncation, [CLS] and [SEP] included; counting stops at 8,192.',
    is_truncated boolean comment 'The text was longer than the model reads.',
    has_rating_phrase boolean comment
        'Headline or body states the rating itself (One Star, 5 out of 5): the label read back.',
    engine string not null comment 'What computed it, such as torch; tfidf: the baseline (score.cascade).',
    precision string not null comment 'Its arithmetic: float32, bfloat16, float16, int8; float64 of tfidf.',
    error string comment 'Why there is no score (no_text: the model reads nothing); else null.',
    scored_at timestamp not null comment 'Start of the run that scored the row.',
    run_id string not null comment 'The run that wrote the row; see job_runs.'
)
using delta
partitioned by (model_version, review_month)
comment 'What a model says of a review. One row per model_version and review_id; 3-star and empty reviews included.';
