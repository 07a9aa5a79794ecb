-- A row is a key (source_checksum) that more than one row of sources has.
select
    source_checksum,
    count(*) as row_count
from sources
group by source_checksum
having count(*) > 1
