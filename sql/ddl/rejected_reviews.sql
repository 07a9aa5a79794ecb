-- Generated from jobs/lake/schemas.py: change it there.
-- Key: source_checksum, source_line (unique; see sql/checks).
create table if not exists rejected_reviews (
    ingest_id string not null comment 'The first 16 digits of source_checksum; a partition.',
    source_checksum string not null comment 'sha256 of the source file; see sources.',
    source_file string not null comment 'The file\'s name, without its folder.',
    source_line bigint not null comment 'Line of the source file, the header being line 1.',
    reason string not null comment
        'blank_line, not_utf8, repeated_header, too_few_fields, too_many_fields, bad_quoting, or bad_ and a column.',
    detail string comment 'The value at fault or the number of fields found.',
    raw_line string not null comment 'The line; bytes that are not UTF-8 are shown as U+FFFD.',
    raw_line_base64 string comment 'The line\'s exact bytes in base64, where they are not UTF-8.',
    run_id string not null comment 'The run that wrote the row; see job_runs.'
)
using delta
partitioned by (ingest_id)
comment 'Source lines that are no valid review, each with its reason. One row per source file and line.';
