"""The warehouse that dbt builds from the tables, and its headline figures."""
