-- A row lacks a value in a column that may not be null.
select
    source_checksum,
    source_line
from rejected_reviews
where
    ingest_id is null
    or source_checksum is null
    or source_file is null
    or source_line is null
    or reason is null
    or raw_line is null
    or run_id is null
