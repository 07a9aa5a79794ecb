-- A row is a source whose lines are not exactly accepted + rejected + superseded, or with a negative count.
select
    source_checksum,
    source_file,
    rows_read,
    rows_accepted,
    rows_rejected,
    rows_superseded
from sources
where
    rows_read <> rows_accepted + rows_rejected + rows_superseded
    or least(rows_accepted, rows_rejected, rows_superseded) < 0
