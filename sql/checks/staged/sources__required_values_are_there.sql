-- A row lacks a value in a column that may not be null.
select source_checksum
from sources
where
    source_checksum is null
    or source_file is null
    or source_bytes is null
    or source_order is null
    or rows_read is null
    or rows_accepted is null
    or rows_rejected is null
    or rows_superseded is null
    or ingested_at is null
    or run_id is null
