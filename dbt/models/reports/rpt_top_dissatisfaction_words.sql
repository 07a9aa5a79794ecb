with attributions as (

    select * from {{ ref('fct_token_attributions') }}

),

-- Words that pushed a flagged review towards dissatisfied; a word holds a letter, so punctuation stays out.
pushing as (

    select
        category_key,
        word_key,
        review_id,
        review_month,
        attribution
    from attributions
    where
        is_flagged
        and attribution > 0
        and regexp_matches(word_key, '\p{L}')

),

newest as (

    select max(review_month) as newest_month
    from pushing

),

counted as (

    select
        pushing.category_key,
        pushing.word_key as word,
        count(distinct pushing.review_id) as review_count,
        count(distinct pushing.review_id) filter (
            where pushing.review_month >= newest.newest_month - interval '2' month
        ) as recent_review_count,
        count(*) as occurrence_count,
        sum(pushing.attribution) as total_attribution,
        avg(pushing.attribution) as mean_attribution
    from pushing
    cross join newest
    group by pushing.category_key, pushing.word_key

),

ranked as (

    select
        category_key,
        row_number() over (
            partition by category_key
            order by total_attribution desc, word asc
        ) as word_rank,
        word,
        review_count,
        recent_review_count,
        occurrence_count,
        total_attribution,
        mean_attribution
    from counted

),

kept as (

    select *
    from ranked
    where word_rank <= {{ var('top_words') }}

)

select * from kept
