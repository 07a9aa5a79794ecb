-- A row is a number of trials whose interval, without or with only successes, leaves the observed share outside by rounding.
with extremes as (

    select
        trials,
        successes
    from (select unnest(range(1, 2001)) as trials) as counted
    cross join (select unnest([0, 1]) as is_all) as sides
    cross join lateral (select trials * is_all as successes) as chosen

),

computed as (

    select
        *,
        successes / trials as observed,
        {{ wilson_limit('successes', 'trials', 'lower') }} as lower_limit,
        {{ wilson_limit('successes', 'trials', 'upper') }} as upper_limit
    from extremes

),

crossed as (

    select * from computed
    where lower_limit > observed or upper_limit < observed

)

select * from crossed
