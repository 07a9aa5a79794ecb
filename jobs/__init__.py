"""Everything that knows Spark, tables or the command line."""
