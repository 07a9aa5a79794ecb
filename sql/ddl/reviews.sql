-- Generated from jobs/lake/schemas.py: change it there.
-- Key: review_id (unique; see sql/checks).
create table if not exists reviews (
    marketplace string comment 'Country code of the shop, such as US.',
    customer_id string comment 'Who wrote the review.',
    review_id string not null comment 'The review; see reviews.',
    product_id string comment 'The product (ASIN).',
    product_parent string comment 'Groups variants of one product.',
    product_title string comment 'The product\'s name.',
    product_category string comment 'As the source wrote it; compare it without regard to case.',
    star_rating int not null comment '1 to 5. 1-2 is dissatisfied, 4-5 satisfied; 3 is neither and has no label.',
    helpful_votes int comment 'Votes that found the review helpful.',
    total_votes int comment 'All votes on the review.',
    vine boolean comment 'Written in the Vine programme.',
    verified_purchase boolean comment 'The shop knows of the purchase.',
    review_headline string comment 'The headline as written, HTML leftovers included; null where empty.',
    review_body string comment 'The text as written, HTML leftovers included; null where empty.',
    review_date date not null comment 'The day of the review.',
    split string not null comment
        'train, validation, test or live, by review_date; see splits. `retrain` uses live ones too. A partition.',
    review_month date not null comment 'First day of the month of review_date; a partition.',
    text_hash string not null comment 'sha256 of the stored headline and body: tells whether the text changed.',
    source_checksum string not null comment 'sha256 of the source file; see sources.',
    source_order bigint not null comment 'The source\'s place in the order of first ingestion.',
    source_line bigint not null comment 'Line of the source file, the header being line 1.',
    ingested_at timestamp not null comment 'Start of the run that ingested this version of the review.',
    run_id string not null comment 'The run that wrote the row; see job_runs.'
)
using delta
partitioned by (split, review_month)
comment 'The latest version of each review, as it was written (no cleaning). One row per review_id.';
