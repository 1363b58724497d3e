"""Backup, restore and rollback of collections (spec section 8).

failures     what can go wrong, one sentence each
definitions  how a collection is made: options and indexes, as mongodump writes them down
folder       a backup on disk: its files, their checksums, and the check of all of it
saving       back up: collections into a folder
restoring    restore: a folder into collections that do not exist yet
rollback     drop what the setup has made, after a backup of it

A folder is what `mongodump --gzip` makes, so that `mongorestore --gzip` reads it as well:
`<database>/<collection>.bson.gz` and `.metadata.json.gz`; `backup.json` and `SHA256SUMS` beside it.
"""
