"""The `accounting` command: what operators and cron call."""
