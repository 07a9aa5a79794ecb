-- A row is a key (split) that more than one row of splits has.
select
    split,
    count(*) as row_count
from splits
group by split
having count(*) > 1
