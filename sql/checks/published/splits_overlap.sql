-- A row is a pair of splits that share a day.
select
    earlier.split as earlier_split,
    later.split as later_split,
    earlier.last_date,
    later.first_date
from splits as earlier
inner join splits as later
    on
        earlier.split <> later.split
        and coalesce(earlier.first_date, date '0001-01-01') <= coalesce(later.first_date, date '0001-01-01')
where coalesce(earlier.last_date, date '9999-12-31') >= coalesce(later.first_date, date '0001-01-01')
