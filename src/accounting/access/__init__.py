"""What the service and its setup may do in the database, and whether a user may do just that."""
