-- A row lacks a value in a column that may not be null.
select split
from splits
where
    split is null
    or origin is null
    or run_id is null
