with attributions as (

    select * from {{ ref('fct_token_attributions') }}

),

scores as (

    select * from {{ ref('fct_review_scores') }}

),

reviews as (

    select * from {{ ref('stg_reviews') }}

),

-- Words that pushed a flagged review towards dissatisfied; a word holds a letter, so punctuation stays out. Rows of an
-- older code have no kind.
pushing as (

    select
        category_key,
        word_key,
        coalesce(phrase, word_key) as phrase,
        coalesce(word_kind, 'content') as word_kind,
        review_id,
        review_month,
        attribution
    from attributions
    where
        is_flagged
        and attribution > 0
        and regexp_matches(word_key, '\p{L}')

),

terms as (

    select
        category_key,
        word_key as word,
        false as is_phrase,
        review_id,
        review_month,
        attribution
    from pushing
    where
        word_kind = 'content'
        or {{ var('all_words') }}

    union all

    select
        category_key,
        phrase as word,
        true as is_phrase,
        review_id,
        review_month,
        attribution
    from pushing
    where phrase <> word_key

),

newest as (

    select max(review_month) as newest_month
    from pushing

),

counted as (

    select
        terms.category_key,
        terms.word,
        terms.is_phrase,
        count(distinct terms.review_id) as review_count,
        count(distinct terms.review_id) filter (
            where terms.review_month >= newest.newest_month - interval '2' month
        ) as recent_review_count,
        max(terms.review_month) as newest_month,
        count(*) as occurrence_count,
        sum(terms.attribution) as total_attribution,
        avg(terms.attribution) as mean_attribution
    from terms
    cross join newest
    group by terms.category_key, terms.word, terms.is_phrase

),

-- A phrase needs two reviews; a word gives way to a phrase that holds it in half of its reviews or more.
together as (

    select
        category_key,
        word_key as word,
        phrase,
        count(distinct review_id) as review_count
    from pushing
    where phrase <> word_key
    group by category_key, word_key, phrase

),

candidates as (

    select counted.*
    from counted
    left join together
        on
            counted.category_key = together.category_key
            and counted.word = together.word
            and not counted.is_phrase
            and together.review_count >= 2
            and together.review_count * 2 >= counted.review_count
    where
        together.phrase is null
        and (counted.review_count >= 2 or not counted.is_phrase)
    qualify
        row_number() over (
            partition by counted.category_key
            order by counted.total_attribution desc, counted.word asc
        ) <= 2 * {{ var('top_words') }}

),

texts as (

    select
        scores.review_id,
        scores.category_key,
        scores.is_flagged,
        scores.is_dissatisfied is not null and not scores.is_dissatisfied as is_satisfied,
        {{ spaced("concat_ws(' ', reviews.review_headline, reviews.review_body)") }} as spaced_text
    from scores
    inner join reviews
        on scores.review_id = reviews.review_id
    where
        scores.is_flagged
        or not scores.is_dissatisfied

),

matched as (

    select
        candidates.category_key,
        candidates.word,
        candidates.is_phrase,
        texts.is_flagged,
        texts.is_satisfied,
        contains(texts.spaced_text, {{ spaced('candidates.word') }}) as has_word
    from candidates
    inner join texts
        on candidates.category_key = texts.category_key

),

-- Half a review more with the word and half a one without keep the lift finite.
lifted as (

    select
        category_key,
        word,
        is_phrase,
        count(*) filter (where is_flagged) as flagged_count,
        count(*) filter (where is_satisfied and has_word) as satisfied_review_count,
        case
            when count(*) filter (where is_satisfied) > 0
                then
                    round(
                        (count(*) filter (where is_flagged and has_word) + 0.5)
                        / (count(*) filter (where is_flagged) + 1.0)
                        / (count(*) filter (where is_satisfied and has_word) + 0.5)
                        * (count(*) filter (where is_satisfied) + 1.0),
                        2
                    )
        end as lift
    from matched
    group by category_key, word, is_phrase

),

explained as (

    select
        category_key,
        count(distinct review_id) as explained_count
    from attributions
    where is_flagged
    group by category_key

),

ranked as (

    select
        candidates.category_key,
        row_number() over (
            partition by candidates.category_key
            order by candidates.total_attribution desc, candidates.word asc
        ) as word_rank,
        candidates.word,
        candidates.is_phrase,
        candidates.review_count,
        candidates.recent_review_count,
        candidates.newest_month,
        candidates.occurrence_count,
        candidates.total_attribution,
        candidates.mean_attribution,
        lifted.lift,
        lifted.satisfied_review_count,
        explained.explained_count,
        lifted.flagged_count
    from candidates
    inner join lifted
        on
            candidates.category_key = lifted.category_key
            and candidates.word = lifted.word
            and candidates.is_phrase = lifted.is_phrase
    inner join explained
        on candidates.category_key = explained.category_key
    where
        coalesce(lifted.lift > 1, true)
        or {{ var('all_words') }}

),

kept as (

    select *
    from ranked
    where word_rank <= {{ var('top_words') }}

)

select * from kept
