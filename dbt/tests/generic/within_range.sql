{#
    A row is a value outside minimum to maximum, both of which are allowed. Null passes: not_null is a test of its own.
#}
{% test within_range(model, column_name, minimum, maximum) %}

select {{ column_name }}
from {{ model }}
where {{ column_name }} not between {{ minimum }} and {{ maximum }}

{% endtest %}
