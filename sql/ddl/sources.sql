-- Generated from jobs/lake/schemas.py: change it there.
-- Key: source_checksum (unique; see sql/checks).
create table if not exists sources (
    source_checksum string not null comment 'sha256 of the file as it lies, compressed or not.',
    source_file string not null comment 'The file\'s name, without its folder.',
    source_bytes bigint not null comment 'Size of the file as it lies.',
    source_order bigint not null comment
        'Place in the order of first ingestion, never given twice; later wins between equal review dates.',
    rows_read bigint not null comment 'Lines after the header, blank ones included; accepted + rejected + superseded.',
    rows_accepted bigint not null comment 'Lines that are the latest version of their review.',
    rows_rejected bigint not null comment 'Lines in rejected_reviews.',
    rows_superseded bigint not null comment 'Valid lines older than another version of the same review.',
    first_review_date date comment 'Earliest date among valid lines.',
    last_review_date date comment 'Latest date among valid lines.',
    ingested_at timestamp not null comment 'Start of the run that published the file.',
    run_id string not null comment 'The run that wrote the row; see job_runs.'
)
using delta
comment 'Ingested files. One row per file content; its presence means that the file\'s rows are all published.';
