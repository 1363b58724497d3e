"""The database: the only package that knows the driver (spec section 1).

client     connection, codec options, what the server must be able to do
failures   what the driver says went wrong, as a sentence for an operator
privileges what our user may do, as the server states it
roles      roles and users on a server
database   Database.run: one use case, one transaction, jobs after the commit
document   the base documents: camelCase names, guarded changes
fields     how ids, money, days and instants are stored
schema     a document class as $jsonSchema validator and indexes
setup      plan, apply and verify those on a server
backup     save and restore collections, and drop what the setup has made
"""
