"""The embedded development and test stack: real servers from wheels, demo data, `accounting dev`.

An edge package: only the command line and the tests import it, and it needs the `dev` extra.
"""
