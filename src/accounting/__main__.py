"""`python -m accounting` is the `accounting` command."""

from accounting.cli.main import main

main()
