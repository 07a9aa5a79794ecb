-- A row is a place in the order of ingestion that more than one source has: between equal review dates neither would
-- be the later.
select
    source_order,
    count(*) as source_count
from sources
group by source_order
having count(*) > 1
