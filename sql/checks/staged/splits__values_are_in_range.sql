-- A row is a split with an unknown name or origin, or one that ends before it begins.
select
    split,
    first_date,
    last_date,
    origin
from splits
where
    split not in ('train', 'validation', 'test', 'live')
    or origin not in ('given', 'auto')
    or first_date > last_date
