"""`python scripts/setup_db.py plan|apply|verify|…` is `accounting db …` (spec section 8)."""

import sys

from accounting.cli.main import main

if __name__ == "__main__":
    # `--debug` belongs to the program and stands before the group, as in `accounting --debug db`.
    sys.argv.insert(2 if sys.argv[1:2] == ["--debug"] else 1, "db")
    main()
