-- Generated from jobs/lake/schemas.py: change it there.
-- Key: model_version, review_id, attribution_rank (unique; see sql/checks).
create table if not exists token_attributions (
    model_version string not null comment 'The model; see models.',
    review_id string not null comment 'The review; see reviews.',
    review_month date not null comment 'First day of the month of review_date; a partition.',
    text_hash string not null comment 'sha256 of the stored headline and body: tells whether the text changed.',
    attribution_rank int not null comment
        '1 is the greatest absolute attribution; 0 is the one row of a review without words.',
    word string comment 'The word as it stands in the text; null at rank 0, as is all that tells of it.',
    field string comment 'headline or body.',
    char_start int comment 'First character of the word in the stored field, from 0.',
    char_end int comment 'One past the word\'s last character.',
    attribution double comment 'Share of the logit: above 0 towards dissatisfied, below 0 towards satisfied.',
    word_kind string comment 'rating (it states the stars), negation, function (article, pronoun …) or content.',
    phrase string comment 'The word with those beside it that push towards dissatisfied too: fell apart.',
    method string not null comment 'integrated_gradients.',
    nodes int comment 'Places of the path whose gradients the last quadrature used; null where the computing failed.',
    convergence_delta double comment
        'Sum of all attributions minus the change in logit; null where the computing failed.',
    is_converged boolean not null comment
        '|convergence_delta| is below the limit; else the cap of nodes was reached or computing failed.',
    error string comment
        'Why the review has no words (rank 0); tried again where its text changes, or by --retry-failed.',
    explained_at timestamp not null comment 'Start of the run that computed the row.',
    run_id string not null comment 'The run that wrote the row; see job_runs.'
)
using delta
partitioned by (model_version, review_month)
comment
    'The words that moved a flagged review\'s logit most. One row per model_version, review_id and attribution_rank.';
